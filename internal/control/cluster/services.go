package cluster

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"sluice.dev/sluice/internal/control/compile"
	"sluice.dev/sluice/internal/names"
	"sluice.dev/sluice/internal/policy"
	"sluice.dev/sluice/internal/wire"
)

// service is what is held of a Service.
type service struct {
	ports     []port
	selector  map[string]string
	addresses []netip.Addr
	headless  bool
	alias     string // spec.externalName
	slices    map[key]*slice
	behind    []key            // Pods that built names
	built     *compile.Service // nil before the first
}

// port is one TCP port of a Service.
type port struct {
	name     string
	number   uint16
	protocol policy.Protocol
}

// putService takes in a Service as it is now. The lock is held.
func (c *Cluster) putService(seen *corev1.Service) {
	name, spec := keyOf(seen), &seen.Spec
	fresh := &service{selector: spec.Selector, headless: spec.ClusterIP == corev1.ClusterIPNone, slices: make(map[key]*slice)}
	if spec.Type == corev1.ServiceTypeExternalName {
		fresh.alias, fresh.selector = spec.ExternalName, nil
	} else {
		for _, text := range spec.ClusterIPs {
			if address, err := netip.ParseAddr(text); err == nil { // not "None"
				fresh.addresses = append(fresh.addresses, address)
			}
		}
	}
	for i := range spec.Ports {
		if one := &spec.Ports[i]; cmp.Or(one.Protocol, corev1.ProtocolTCP) == corev1.ProtocolTCP {
			fresh.ports = append(fresh.ports, port{one.Name, uint16(one.Port), spoken(one)})
		}
	}
	if old := c.services[name]; old != nil {
		if old.same(fresh) {
			return
		}
		fresh.slices, fresh.behind = old.slices, old.behind
	} else {
		for slice, of := range c.slices {
			if of.service == name {
				fresh.slices[slice] = of
			}
		}
	}
	c.services[name] = fresh
	c.dirty[name] = true
	c.announce()
}

func (s *service) same(other *service) bool {
	return slices.Equal(s.ports, other.ports) && maps.Equal(s.selector, other.selector) && slices.Equal(s.addresses, other.addresses) &&
		s.headless == other.headless && s.alias == other.alias
}

// removeService forgets a Service. The lock is held.
func (c *Cluster) removeService(name key) {
	gone := c.services[name]
	if gone == nil {
		return
	}
	c.nameBehind(name, gone.behind, nil)
	delete(c.services, name)
	delete(c.dirty, name)
	c.announce()
}

// rebuild makes anew what the control plane knows of a Service. The lock is held.
func (c *Cluster) rebuild(name key) {
	s := c.services[name]
	if s == nil {
		return
	}
	built := &compile.Service{
		Service:  wire.Service{Short: name.name, Namespace: name.namespace, Addresses: s.addresses, Headless: s.headless},
		Selector: s.selector,
	}
	var err error
	if built.Name, err = names.Parse(name.name + "." + name.namespace + ".svc." + c.config.Domain); err != nil {
		built.Problem = err.Error()
	}
	if s.alias != "" {
		if built.Alias, err = names.Parse(s.alias); err != nil {
			built.Problem = fmt.Sprintf("spec.externalName: %v", err)
		}
	}
	var pods []key
	built.Endpoints, pods = c.endpointsOf(s)
	built.Ports = s.portsOf(built.Endpoints)
	if built.Problem != "" && (s.built == nil || s.built.Problem != built.Problem) {
		c.config.Log.Warn("a Service has no name in the mesh", "service", name.namespace+"/"+name.name, "why", built.Problem)
	}
	c.nameBehind(name, s.behind, pods)
	s.behind, s.built = pods, built
}

// portsOf returns the ports on which the service is called, sorted. Nothing translates those
// of a headless one: they are those of its Pods.
func (s *service) portsOf(endpoints []wire.Endpoint) []wire.ServicePort {
	var out []wire.ServicePort
	add := func(number uint16, protocol policy.Protocol) {
		if !slices.ContainsFunc(out, func(p wire.ServicePort) bool { return p.Port == number }) {
			out = append(out, wire.ServicePort{Port: number, Protocol: protocol})
		}
	}
	for _, p := range s.ports {
		found := false
		if s.headless {
			for _, slice := range s.slices {
				if target := slice.ports[p.name]; target != 0 {
					add(target, p.protocol)
					found = true
				}
			}
		}
		if !found {
			add(p.number, p.protocol)
		}
	}
	slices.SortFunc(out, func(a, b wire.ServicePort) int { return cmp.Compare(a.Port, b.Port) })
	return out
}

// nameBehind keeps which services each Pod is behind. The lock is held.
func (c *Cluster) nameBehind(service key, before, now []key) {
	for _, pod := range before {
		left := slices.DeleteFunc(c.behind[pod], func(one key) bool { return one == service })
		if len(left) == 0 {
			delete(c.behind, pod)
		} else {
			c.behind[pod] = left
		}
	}
	for _, pod := range now {
		c.behind[pod] = append(c.behind[pod], service)
	}
}

// spoken is what is spoken on a port of a Service, as its appProtocol says or, as Istio has
// it, the beginning of its name; none where nobody says it: then the client's bytes do.
func spoken(p *corev1.ServicePort) policy.Protocol {
	said, _, _ := strings.Cut(p.Name, "-")
	if p.AppProtocol != nil {
		said = strings.TrimPrefix(strings.ToLower(*p.AppProtocol), "kubernetes.io/")
	}
	switch said {
	case "http", "ws":
		return policy.ProtocolHTTP
	case "http2", "h2c":
		return policy.ProtocolHTTP2
	case "grpc":
		return policy.ProtocolGRPC
	case "tcp", "tls", "https", "wss", "mongo", "mysql", "redis", "postgresql", "postgres":
		return policy.ProtocolTCP
	}
	return policy.ProtocolNone
}
