package mesh

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"sluice.dev/sluice/internal/names"
	"sluice.dev/sluice/internal/proxy/snapshot"
	"sluice.dev/sluice/internal/route"
	"sluice.dev/sluice/internal/wire"
)

// listed is the endpoints of one service; each is called "service-version/n".
func listed(service names.Name, versions ...string) *wire.Endpoints {
	all := &wire.Endpoints{Service: service}
	count := make(map[string]int)
	for _, version := range versions {
		count[version]++
		all.Endpoints = append(all.Endpoints, endpoint(fmt.Sprintf("%.7s-%s/%d", service, version, count[version]), version))
	}
	return all
}

// balanced is a snapshot with these endpoints and the route rules of details.
func balanced(t testing.TB, rules []route.Rule, all ...*wire.Endpoints) *snapshot.Snapshot {
	t.Helper()
	directory := &wire.Directory{Domain: "cluster.local"}
	for _, of := range all {
		directory.Services = append(directory.Services, wire.Service{Name: of.Service, Ports: []wire.ServicePort{{Port: 9080}, {Port: 9090}}})
	}
	s, err := snapshot.Build(&wire.Snapshot{
		Version: "test", Created: time.Now(), Mesh: &wire.Mesh{OutboundDefault: "Deny", MaxStale: time.Hour}, Policies: []*wire.Policy{{}},
		Routes:    &wire.Routes{Services: []route.Rules{{Service: details, Rules: rules}}},
		Directory: directory, Endpoints: all,
	}, snapshot.View{Namespace: "default"})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// next is the instance that the next call to a service goes to.
func next(t *testing.T, w *Way, s *snapshot.Snapshot, service names.Name) string {
	t.Helper()
	d := w.decide(s, Target{Service: service, Port: 9080}, route.Request{Path: "/"})
	if !d.Verdict.Passes() || d.Why != nil {
		t.Fatalf("%+v", d)
	}
	return d.Endpoint.Instance
}

// A page that calls details and then reviews, over and over, reaches both endpoints of
// each, in turn: a call to one service moves the turn of no other.
func TestTheEndpointsOfEachServiceTakeTurnsOfTheirOwn(t *testing.T) {
	w := New(Config{})
	s := balanced(t, nil, listed(details, "v1", "v2"), listed(reviews, "v1", "v1"))
	for i, want := range []string{"details-v1/1", "details-v2/1", "details-v1/1", "details-v2/1"} {
		if got := next(t, w, s, details); got != want {
			t.Errorf("call %d of details goes to %s, not %s", i, got, want)
		}
		if got, want := next(t, w, s, reviews), fmt.Sprint("reviews-v1/", i%2+1); got != want {
			t.Errorf("call %d of reviews goes to %s, not %s", i, got, want)
		}
	}
}

func TestThePortsOfAServiceTakeTurnsOfTheirOwn(t *testing.T) {
	w, of := New(Config{}), listed(details, "v1", "v1")
	for i := range of.Endpoints {
		of.Endpoints[i].Ports = []uint16{9080, 9090}
	}
	s := balanced(t, nil, of)
	for _, want := range []string{"details-v1/1", "details-v1/2", "details-v1/1"} {
		for _, port := range []uint16{9080, 9090} {
			if d := w.decide(s, Target{Service: details, Port: port}, route.Request{}); d.Endpoint.Instance != want {
				t.Errorf("port %d goes to %s, not %s", port, d.Endpoint.Instance, want)
			}
		}
	}
}

// Whatever the weights draw, each version's endpoints take turns among themselves.
func TestInsideEachWeightedDestinationTheEndpointsTakeTurns(t *testing.T) {
	half := route.Rule{ID: "half", Targets: []route.Weighted{
		{Labels: map[string]string{"version": "v1"}, Weight: 50}, {Labels: map[string]string{"version": "v2"}, Weight: 50},
	}}
	w := New(Config{})
	s := balanced(t, []route.Rule{half}, listed(details, "v1", "v2", "v1", "v2", "v1"))
	last := map[string]int{"v1": 0, "v2": 0}
	for range 1000 {
		var version string
		var n int
		got := next(t, w, s, details)
		if _, err := fmt.Sscanf(got, "details-%2s/%d", &version, &n); err != nil {
			t.Fatal(err)
		}
		if want := last[version]%map[string]int{"v1": 3, "v2": 2}[version] + 1; n != want {
			t.Fatalf("%s after %s/%d", got, version, last[version])
		}
		last[version] = n
	}
	if last["v1"] == 0 || last["v2"] == 0 {
		t.Errorf("one version was never drawn: %v", last)
	}
}

func TestATurnOutlivesASnapshot(t *testing.T) {
	w := New(Config{})
	for _, want := range []string{"details-v1/1", "details-v1/2", "details-v1/3", "details-v1/1"} {
		s := balanced(t, nil, listed(details, "v1", "v1", "v1"), listed(reviews, "v1")) // the same content, built anew
		w.Recheck(s)
		if got := next(t, w, s, details); got != want {
			t.Errorf("after another snapshot: %s, not %s", got, want)
		}
	}
	s := balanced(t, nil, listed(details, "v1", "v2"))
	if got := []string{next(t, w, s, details), next(t, w, s, details)}; !slices.Contains(got, "details-v1/1") || !slices.Contains(got, "details-v2/1") {
		t.Errorf("of other endpoints two calls reach %q", got)
	}
	w.Recheck(balanced(t, nil, listed(reviews, "v1")))
	if n := len(*w.balance.sets.Load()); n != 0 {
		t.Errorf("%d sets of a service that is gone are kept", n)
	}
}

func TestCallsAtOnceAreSharedOutEvenly(t *testing.T) {
	w, s := New(Config{}), balanced(t, nil, listed(details, "v1", "v1", "v1"), listed(reviews, "v1"))
	const callers, calls = 8, 300
	var mu sync.Mutex
	count := make(map[string]int)
	var all sync.WaitGroup
	for range callers {
		all.Go(func() {
			for range calls {
				d := w.decide(s, Target{Service: details, Port: 9080}, route.Request{})
				mu.Lock()
				count[d.Endpoint.Instance]++
				mu.Unlock()
			}
		})
	}
	all.Wait()
	for instance, n := range count {
		if n != callers*calls/3 {
			t.Errorf("%s has %d calls of %d", instance, n, callers*calls)
		}
	}
}

func TestTheSetsThatAreKeptAreBoundedAndAPortThatNobodyServesTakesNone(t *testing.T) {
	w := New(Config{})
	b := &w.balance
	all := listed(details, "v1", "v1").Endpoints
	for port := range uint16(3000) {
		if f, _ := w.turn(setKey{details, port, "", ""}, all, new(route.Destination)); len(f.fit) > 0 {
			t.Fatalf("port %d leads to %s", port, f.fit[0].Instance)
		}
	}
	if b.sets.Load() != nil {
		t.Errorf("%d sets are kept", len(*b.sets.Load()))
	}
	for i := range 2 * MaxSets {
		if f, _ := w.turn(setKey{details, 9080, fmt.Sprint(i), ""}, all, new(route.Destination)); len(f.fit) == 0 {
			t.Fatal("no endpoint")
		}
		if n := len(*b.sets.Load()); n > MaxSets {
			t.Fatalf("%d sets, the bound is %d", n, MaxSets)
		}
	}
}

func TestADecisionAllocatesNothing(t *testing.T) {
	rule := route.Rule{ID: "v1", Targets: []route.Weighted{{Labels: map[string]string{"version": "v1"}, Weight: 100}}}
	w, s := New(Config{}), balanced(t, []route.Rule{rule}, listed(details, "v1", "v2", "v1"))
	if n := testing.AllocsPerRun(200, func() { w.decide(s, Target{Service: details, Port: 9080}, route.Request{}) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkDecide(b *testing.B) {
	of := &wire.Endpoints{Service: details}
	for i := range 10 {
		of.Endpoints = append(of.Endpoints, endpoint(fmt.Sprint("details-v1/", i+1), fmt.Sprint("v", i%2+1)))
	}
	rule := route.Rule{ID: "v1", Targets: []route.Weighted{{Labels: map[string]string{"version": "v1"}, Weight: 100}}}
	w, s := New(Config{}), balanced(b, []route.Rule{rule}, of)
	for b.Loop() {
		w.decide(s, Target{Service: details, Port: 9080}, route.Request{})
	}
}

func TestALabelThatIsAbsentIsNotAnEmptyOne(t *testing.T) {
	bare, empty := wire.Endpoint{Ports: []uint16{80}}, wire.Endpoint{Ports: []uint16{80}, Labels: map[string]string{"version": ""}}
	wanted := map[string]string{"version": ""}
	if fits(&bare, wanted, 80) || !fits(&empty, wanted, 80) || fits(&empty, wanted, 81) || !fits(&bare, nil, 80) {
		t.Error("an endpoint takes part by a label that it has not, or not by one that it has")
	}
}
