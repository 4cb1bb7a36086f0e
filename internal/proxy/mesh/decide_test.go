package mesh

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"sluice.dev/sluice/internal/names"
	"sluice.dev/sluice/internal/policy"
	"sluice.dev/sluice/internal/proxy/carry"
	"sluice.dev/sluice/internal/proxy/pools"
	"sluice.dev/sluice/internal/proxy/share"
	"sluice.dev/sluice/internal/proxy/snapshot"
	"sluice.dev/sluice/internal/proxy/upstream"
	"sluice.dev/sluice/internal/refusal"
	"sluice.dev/sluice/internal/route"
	"sluice.dev/sluice/internal/wire"
)

var (
	details = names.MustParse("details.default.svc.cluster.local")
	reviews = names.MustParse("reviews.default.svc.cluster.local")
	at9080  = []wire.ServicePort{{Port: 9080}}
)

// endpoint is one that serves port 9080 as a version.
func endpoint(instance, version string) wire.Endpoint {
	return wire.Endpoint{Instance: instance, Labels: map[string]string{"version": version}, Ports: []uint16{9080}, Proxy: "far"}
}

// meshed is a snapshot of a mesh with two services and the route rules for one of them.
func meshed(t *testing.T, rules ...route.Rule) *snapshot.Snapshot {
	t.Helper()
	s, err := snapshot.Build(&wire.Snapshot{
		Version: "test", Created: time.Now(), Mesh: &wire.Mesh{OutboundDefault: "Deny", MaxStale: time.Hour},
		Policies: []*wire.Policy{{}}, Routes: &wire.Routes{Services: []route.Rules{{Service: details, Rules: rules}}},
		Directory: &wire.Directory{Domain: "cluster.local", Services: []wire.Service{{Name: details, Ports: at9080}, {Name: reviews, Ports: at9080}}},
		Endpoints: []*wire.Endpoints{
			{Service: details, Endpoints: []wire.Endpoint{endpoint("details-v1/1", "v1"), endpoint("details-v1/2", "v1"), endpoint("details-v2/1", "v2")}},
			{Service: reviews, Endpoints: []wire.Endpoint{endpoint("reviews-v1/1", "v1")}},
		},
	}, snapshot.View{Namespace: "default"})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// chosen is the instances that so many decisions chose, sorted.
func chosen(t *testing.T, w *Way, s *snapshot.Snapshot, n int) []string {
	t.Helper()
	var all []string
	for range n {
		d := w.decide(s, Target{Service: details, Port: 9080}, route.Request{Path: "/"})
		if !d.Verdict.Passes() || d.Why != nil {
			t.Fatalf("%+v", d)
		}
		all = append(all, d.Endpoint.Instance)
	}
	slices.Sort(all)
	return all
}

func TestARouteRuleChoosesAmongEndpointsAndServices(t *testing.T) {
	to := func(target route.Weighted) route.Rule {
		target.Weight = 100
		return route.Rule{ID: "route-rule/default/details", Targets: []route.Weighted{target}}
	}
	w := New(Config{})
	for what, x := range map[string]struct {
		rule route.Rule
		want []string
	}{
		"a version":       {to(route.Weighted{Labels: map[string]string{"version": "v1"}}), []string{"details-v1/1", "details-v1/2"}},
		"another service": {to(route.Weighted{Service: reviews}), []string{"reviews-v1/1", "reviews-v1/1"}},
	} {
		s := meshed(t, x.rule)
		if got := chosen(t, w, s, 2); !slices.Equal(got, x.want) {
			t.Errorf("%s: %q", what, got)
		}
		if d := w.decide(s, Target{Service: details, Port: 9080}, route.Request{}); d.Rule != x.rule.ID || d.Verdict.Treatment != policy.Mesh {
			t.Errorf("%s: %+v", what, d)
		}
	}
}

func TestWhatNoEndpointFitsIsAFailureThatSaysWhat(t *testing.T) {
	w := New(Config{})
	v3 := route.Rule{ID: "route-rule/default/v3", Targets: []route.Weighted{{Labels: map[string]string{"version": "v3"}, Weight: 100}}}
	d := w.decide(meshed(t, v3), Target{Service: details, Port: 9080}, route.Request{})
	if d.Why == nil || d.Why.Reason != refusal.NoHealthyUpstream || d.Why.Denied() || !strings.Contains(d.Why.Error(), "v3") || d.Rule != v3.ID {
		t.Errorf("a version that nobody is: %+v", d)
	}
	if d := w.decide(meshed(t), Target{Service: details, Port: 9999}, route.Request{}); d.Why == nil || d.Why.Reason != refusal.NoSuchPort || !strings.Contains(d.Why.Error(), "does not serve port 9999; it serves 9080") {
		t.Errorf("a port that the service does not serve: %+v", d)
	}
}

func TestNothingIsChosenWithoutRules(t *testing.T) {
	none := snapshot.NewHolder(snapshot.HolderConfig{}).Load()
	if d := New(Config{}).decide(none, Target{Service: details, Port: 9080}, route.Request{}); d.Verdict.Passes() || d.Endpoint != nil || d.Verdict.Reason != refusal.NoSnapshot {
		t.Errorf("%+v", d)
	}
}

func TestAnEndpointThatIsNoPodIsNotReachedAndSaysSo(t *testing.T) {
	refused := errors.New("nobody listens")
	w := New(Config{Inward: func(instance string) (Inward, bool) {
		return func(context.Context, Caller, uint16) (*net.TCPConn, error) { return nil, refused }, instance == "details-v1/1"
	}})
	far, near := endpoint("details-v2/1", "v2"), endpoint("details-v1/1", "v1")
	if _, err := w.dial(t.Context(), &far, 9080); refusal.Of(err).Reason != refusal.NoHealthyUpstream || !strings.Contains(err.Error(), `"far"`) {
		t.Errorf("of another proxy, without an address: %v", err)
	}
	if _, err := w.dial(t.Context(), &near, 9080); refusal.Of(err).Reason != refusal.UpstreamConnect || !errors.Is(err, refused) {
		t.Errorf("one that does not listen: %v", err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	came := make(chan struct{}, 8)
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			came <- struct{}{}
			conn.Close()
		}
	}()
	port := listener.Addr().(*net.TCPAddr).AddrPort().Port()
	// What somebody wrote into an EndpointSlice, of no Pod of the mesh.
	stranger := wire.Endpoint{Instance: "192.0.2.7", Ports: []uint16{port}, Addresses: []netip.Addr{netip.MustParseAddr("127.0.0.1")}}
	if _, err := w.dial(t.Context(), &stranger, port); refusal.Of(err).Reason != refusal.NoHealthyUpstream || !strings.Contains(err.Error(), "not a Pod with a sidecar") {
		t.Errorf("an address that is no Pod's: %v", err)
	}
	// A Pod with a sidecar, at its second address, on another port than its service's.
	pod := wire.Endpoint{Instance: "details-1.default", Proxy: "details-1.default", Ports: []uint16{80}, Targets: map[uint16]uint16{80: port},
		Addresses: []netip.Addr{netip.MustParseAddr("127.0.0.2"), netip.MustParseAddr("127.0.0.1")}}
	conn, err := w.dial(t.Context(), &pod, 80)
	if err != nil {
		t.Fatal(err)
	}
	conn.Close()
	<-came
	select {
	case <-came:
		t.Error("the address of no Pod was connected to")
	default:
	}
	bare, moved, second := pod, pod, pod
	bare.Proxy, moved.Addresses = "", pod.Addresses[1:]
	second.Addresses = []netip.Addr{pod.Addresses[0], netip.MustParseAddr("127.0.0.3")}
	for what, again := range map[string]*wire.Endpoint{"at another address": &moved, "at another second address": &second, "without a sidecar": &bare} {
		if keyOf(&pod, 80, upstream.HTTP11) == keyOf(again, 80, upstream.HTTP11) {
			t.Errorf("a Pod %s gets the connections to the one before", what)
		}
	}
}

func TestAPoolLastsAsLongAsItsEndpoint(t *testing.T) {
	one := share.NewStock(share.Config{Units: 1, Alone: true}).Join(0, nil)
	kit := &carry.Kit{Upstream: upstream.Allowance{Open: one, Handshakes: one}}
	w := New(Config{Kit: kit, Inward: func(string) (Inward, bool) { return nil, false }})
	there, gone := endpoint("details-v1/1", "v1"), endpoint("details-v1/9", "v1")
	kept, err := w.pool(&there, 9080, upstream.HTTP11, nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	ended, err := w.pool(&gone, 9080, upstream.HTTP11, nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	w.Recheck(meshed(t))
	if kept.Closed() || !ended.Closed() || w.pools.Len() != 1 {
		t.Errorf("kept is closed: %v, ended is closed: %v, %d of %d pools", kept.Closed(), ended.Closed(), w.pools.Len(), pools.MaxPools)
	}
	if again, err := w.pool(&there, 9080, upstream.HTTP11, nil, 0); again != kept || err != nil {
		t.Errorf("another pool for the same port: %v", err)
	}
	w.Recheck(snapshot.NewHolder(snapshot.HolderConfig{}).Load())
	if !kept.Closed() {
		t.Error("it outlives the rules")
	}
}
