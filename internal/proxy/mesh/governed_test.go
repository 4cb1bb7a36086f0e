package mesh

import (
	"fmt"
	"testing"

	"sluice.dev/sluice/internal/names"
	"sluice.dev/sluice/internal/policy"
	"sluice.dev/sluice/internal/proxy/carry"
	"sluice.dev/sluice/internal/proxy/gate"
	"sluice.dev/sluice/internal/proxy/share"
	"sluice.dev/sluice/internal/proxy/snapshot"
	"sluice.dev/sluice/internal/proxy/upstream"
	"sluice.dev/sluice/internal/refusal"
	"sluice.dev/sluice/internal/route"
	"sluice.dev/sluice/internal/wire"
)

// governing is balanced, with policies of destinations.
func governing(t testing.TB, policies []route.DestinationPolicy, rules []route.Rule, all ...*wire.Endpoints) *snapshot.Snapshot {
	t.Helper()
	s := balanced(t, rules, all...)
	table, err := route.NewTable([]route.Rules{{Service: details, Rules: rules}}, policies...)
	if err != nil {
		t.Fatal(err)
	}
	s.Routes = table
	return s
}

func by(service names.Name, labels map[string]string, b route.Balance) route.DestinationPolicy {
	return route.DestinationPolicy{ID: "policy", Service: service, Labels: labels, Balance: b}
}

// one is a request's only header.
type one struct{ name, value string }

func (o one) Values(lower string, yield func(string) bool) {
	if lower == o.name {
		yield(o.value)
	}
}

func TestTheEndpointWithFewerCallsUnderWayGetsTheNext(t *testing.T) {
	w := New(Config{})
	s := governing(t, []route.DestinationPolicy{by(details, nil, route.Balance{By: route.LeastLoaded})}, nil, listed(details, "v1", "v1"))
	// Of two endpoints both are drawn: calls that do not end go to each in turn.
	counts := make(map[string]int)
	var open []hold
	for i := range 40 {
		d := w.decide(s, Target{Service: details, Port: 9080}, route.Request{})
		counts[d.Endpoint.Instance]++
		open = append(open, d.hold)
		if i%2 == 1 && counts["details-v1/1"] != counts["details-v1/2"] {
			t.Fatalf("after %d calls that are under way: %v", i+1, counts)
		}
	}
	for i := range open {
		if open[i].member == nil {
			t.Fatal("a call is not counted")
		}
		open[i].release()
		open[i].release() // once counts once
	}
	for _, m := range w.members() {
		if n := m.load.Load(); n != 0 {
			t.Errorf("%d calls are left", n)
		}
	}
}

// members is all members of sets with a policy.
func (w *Way) members() (all []*member) {
	if sets := w.balance.sets.Load(); sets != nil {
		for _, s := range *sets {
			for _, m := range s.members {
				all = append(all, m)
			}
		}
	}
	return all
}

// What is no request on a port of requests goes nowhere, and counts nowhere.
func TestAConnectionThatIsDeniedLeavesNoCallCounted(t *testing.T) {
	s := governing(t, []route.DestinationPolicy{by(details, nil, route.Balance{By: route.LeastLoaded})}, nil, listed(details, "v1", "v1"))
	s.Service(details).Ports[0].Protocol = policy.ProtocolHTTP
	holder := snapshot.NewHolder(snapshot.HolderConfig{})
	holder.Swap(s)
	conn, _, why := gate.New(gate.Config{Holder: holder, Share: share.NewStock(share.Config{Units: 1, Alone: true}).Join(0, nil)}).Admit(t.Context(), nil)
	if why != nil {
		t.Fatal(why)
	}
	w := New(Config{})
	c := &connection{way: w, conn: conn, to: Target{Service: details, Port: 9080}}
	if r := c.reach(t.Context()); r.Verdict.Reason != refusal.ProtocolMismatch {
		t.Fatalf("%+v", r.Verdict)
	}
	if len(w.members()) != 2 {
		t.Fatalf("%d members are counted for", len(w.members()))
	}
	for _, m := range w.members() {
		if n := m.load.Load(); n != 0 {
			t.Errorf("%d calls are left", n)
		}
	}
}

func TestAPolicyHoldsForExactlyItsLabels(t *testing.T) {
	v1 := map[string]string{"version": "v1"}
	rule := route.Rule{ID: "v1", Targets: []route.Weighted{{Labels: v1, Weight: 100}}}
	for _, x := range []struct {
		policy map[string]string
		rules  []route.Rule
		want   bool
	}{
		{nil, nil, true}, {v1, nil, false}, {v1, []route.Rule{rule}, true}, {nil, []route.Rule{rule}, false},
	} {
		w := New(Config{})
		s := governing(t, []route.DestinationPolicy{by(details, x.policy, route.Balance{By: route.Random})}, x.rules, listed(details, "v1", "v1"))
		d := w.decide(s, Target{Service: details, Port: 9080}, route.Request{})
		if got := d.hold.member != nil; got != x.want {
			t.Errorf("a policy for %v, routed by %v: holds %t", x.policy, x.rules, got)
		}
	}
}

// draw draws where a request goes by its plan, and lets an endpoint be picked by key.
func draw(w *Way, d *Decision, k *key) {
	chosen := d.Plan.Draw(0)
	w.pick(d, &chosen, "", 9080, true, k)
}

func TestRequestsOfOneValueStayWithTheirEndpointWhileOthersComeAndGo(t *testing.T) {
	w := New(Config{})
	policies := []route.DestinationPolicy{by(details, nil, route.Balance{By: route.RingHash, Header: "x-user", MaxLoad: route.MaxMaxLoad})}
	var k key
	pick := func(s *snapshot.Snapshot, user string) string {
		k.fields = one{"x-user", user}
		d := w.planned(s, Target{Service: details, Port: 9080}, route.Request{})
		draw(w, &d, &k)
		d.hold.release()
		return d.Endpoint.Instance
	}
	three := governing(t, policies, nil, listed(details, "v1", "v1", "v1"))
	two := governing(t, policies, nil, notReady(listed(details, "v1", "v1", "v1"), "details-v1/3"))
	moved := 0
	for i := range 300 {
		user := fmt.Sprint("user", i)
		was := pick(three, user)
		if again := pick(three, user); again != was {
			t.Fatalf("%s went to %s and to %s", user, was, again)
		}
		is := pick(two, user)
		switch {
		case was == "details-v1/3":
			moved++
		case is != was:
			t.Errorf("%s went from %s to %s when another was not ready", user, was, is)
		}
	}
	if moved < 50 || moved > 150 {
		t.Errorf("%d of 300 belonged to one of three", moved)
	}
}

func TestADecisionUnderAPolicyAllocatesNothing(t *testing.T) {
	for _, b := range []route.Balance{{}, {By: route.Random}, {By: route.LeastLoaded}, {By: route.RingHash, Header: "x-user", MaxLoad: 125}} {
		w := New(Config{})
		s := governing(t, []route.DestinationPolicy{by(details, nil, b)}, nil, listed(details, "v1", "v2", "v1"))
		k := &key{fields: one{"x-user", "jason"}}
		if n := testing.AllocsPerRun(200, func() {
			d := w.planned(s, Target{Service: details, Port: 9080}, route.Request{})
			draw(w, &d, k)
			d.hold.release()
		}); n != 0 {
			t.Errorf("%v: %v allocations", b, n)
		}
	}
}

func BenchmarkDecideByPolicy(b *testing.B) {
	for _, by := range []route.Balance{{}, {By: route.Random}, {By: route.LeastLoaded}, {By: route.RingHash, Header: "x-user", MaxLoad: 125}} {
		b.Run(string(by.By), func(b *testing.B) {
			of := &wire.Endpoints{Service: details}
			for i := range 10 {
				of.Endpoints = append(of.Endpoints, endpoint(fmt.Sprint("details-v1/", i+1), "v1"))
			}
			w, s := New(Config{}), governing(b, []route.DestinationPolicy{{ID: "p", Service: details, Balance: by}}, nil, of)
			k := &key{fields: one{"x-user", "jason"}}
			for b.Loop() {
				d := w.planned(s, Target{Service: details, Port: 9080}, route.Request{})
				draw(w, &d, k)
				d.hold.release()
			}
		})
	}
}

// limited is a policy that bounds what is under way to details.
func limited(l route.Limits) []route.DestinationPolicy {
	return []route.DestinationPolicy{{ID: "policy", Service: details, Limits: &l}}
}

func TestARequestBeyondTheLimitIsRefusedAndAConnectionIsNoRequest(t *testing.T) {
	w := New(Config{})
	s := governing(t, limited(route.Limits{Connections: 9, Pending: 1, Requests: 2, Retries: 1}), nil, listed(details, "v1", "v1"))
	k := new(key)
	request := func() Decision {
		d := w.planned(s, Target{Service: details, Port: 9080}, route.Request{})
		draw(w, &d, k)
		return d
	}
	first, second := request(), request()
	if third := request(); third.Why == nil || third.Why.Reason != refusal.CircuitBreaker || third.Endpoint != nil || third.hold != (hold{}) {
		t.Errorf("a third request: %+v", third)
	}
	if d := w.decide(s, Target{Service: details, Port: 9080}, route.Request{}); d.Why != nil {
		t.Errorf("a connection beside two requests: %v", d.Why)
	} else {
		d.hold.release()
	}
	first.hold.release()
	third := request()
	if third.Why != nil {
		t.Errorf("a request after one has ended: %v", third.Why)
	}
	if !third.hold.again() || second.hold.again() {
		t.Error("not exactly one request may be sent again")
	}
	if !third.hold.again() {
		t.Error("a request that is sent again a second time counts twice")
	}
	second.hold.release()
	third.hold.release()
	for _, m := range w.members() {
		if !m.set.breaker.Idle() || m.load.Load() != 0 {
			t.Error("something is left")
		}
	}
}

func TestPoolsUnderLimitsAreTheirOwnAndEndWithThem(t *testing.T) {
	one := share.NewStock(share.Config{Units: 1, Alone: true}).Join(0, nil)
	w := New(Config{Kit: &carry.Kit{Upstream: upstream.Allowance{Open: one, Handshakes: one}}, Inward: func(string) (Inward, bool) { return nil, false }})
	all := listed(details, "v1")
	under := governing(t, limited(route.Limits{Connections: 1, Pending: 1, Requests: 1, Retries: 1, PerConnection: 1}), nil, all)
	d := w.decide(under, Target{Service: details, Port: 9080}, route.Request{})
	of, perConn := d.hold.pooled(nil)
	pool, err := w.pool(d.Endpoint, 9080, upstream.HTTP11, of, perConn)
	if err != nil || of == nil || perConn != 1 {
		t.Fatal(err, of, perConn)
	}
	if other, _ := w.pool(d.Endpoint, 9080, upstream.HTTP11, nil, 0); other == pool {
		t.Error("connections under limits serve calls without")
	}
	w.Recheck(under)
	if pool.Closed() {
		t.Error("a pool ends while its limits hold")
	}
	w.Recheck(governing(t, nil, nil, all))
	if !pool.Closed() || w.pools.Len() != 1 {
		t.Errorf("a pool outlives its limits; there are %d", w.pools.Len())
	}
}
