package snapshot

import (
	"net/netip"
	"testing"

	"sluice.dev/sluice/internal/names"
	"sluice.dev/sluice/internal/wire"
)

func TestPlacesAreFoundByNamesAndByAddressesOfPodsWithASidecarAlone(t *testing.T) {
	address := netip.MustParseAddr
	endpoint := func(instance, proxy, hostname, at string, target uint16) wire.Endpoint {
		return wire.Endpoint{Instance: instance, Proxy: proxy, Hostname: hostname, Ports: []uint16{80}, Addresses: []netip.Addr{address(at)}, Targets: map[uint16]uint16{80: target}}
	}
	a, b := names.MustParse("a.shop.svc.cluster.local"), names.MustParse("b.shop.svc.cluster.local")
	s := none()
	s.services = newServices(
		&wire.Directory{Domain: "cluster.local", Services: []wire.Service{
			{Name: b, Short: "b", Namespace: "shop", Addresses: []netip.Addr{address("10.0.0.2"), address("fd00::2")}},
			{Name: a, Short: "a", Namespace: "shop"},
			{Name: names.MustParse("x.a.shop.svc.cluster.local")},
		}},
		[]*wire.Endpoints{
			{Service: b, Endpoints: []wire.Endpoint{endpoint("one.shop", "one.shop", "one", "10.1.0.1", 8080), endpoint("away", "", "away", "10.1.0.9", 8080)}},
			{Service: a, Endpoints: []wire.Endpoint{endpoint("one.shop", "one.shop", "x", "10.1.0.1", 8080), endpoint("two.shop", "two.shop", "not a name!", "10.1.0.2", 9090)}},
			{Service: names.MustParse("gone.shop.svc.cluster.local"), Endpoints: []wire.Endpoint{endpoint("three.shop", "three.shop", "three", "10.1.0.3", 80)}},
		})
	for _, x := range []struct {
		at, service, instance string
		port                  uint16
	}{
		{"10.0.0.2:80", "b", "", 80}, {"[fd00::2]:9", "b", "", 9}, {"[::ffff:10.0.0.2]:80", "b", "", 80},
		{"10.1.0.1:8080", "a", "one.shop", 80}, {"10.1.0.2:9090", "a", "two.shop", 80},
		{"10.1.0.1:80", "", "", 0}, {"10.1.0.9:8080", "", "", 0}, {"10.1.0.3:80", "", "", 0}, {"10.0.0.3:80", "", "", 0},
	} {
		p, ok := s.At(netip.MustParseAddrPort(x.at))
		if ok != (x.service != "") || ok && (p.Service.Short != x.service || p.Instance != x.instance || p.Port != x.port) {
			t.Errorf("%s: %+v, %v", x.at, p, ok)
		}
	}
	for name, instance := range map[string]string{"one.b": "one.shop", "away.b": "away", "x.a": "", "two.a": "none", "three.gone": "none", "b": ""} {
		p, ok := s.Named(names.MustParse(name+".shop.svc.cluster.local"), 7)
		if ok != (instance != "none") || ok && (p.Instance != instance || p.Port != 7) {
			t.Errorf("%s: %+v, %v", name, p, ok)
		}
	}
}
