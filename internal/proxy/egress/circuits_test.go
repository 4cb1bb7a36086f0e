package egress

import (
	"fmt"
	"sync"
	"testing"

	"sluice.dev/sluice/internal/names"
	"sluice.dev/sluice/internal/policy"
	"sluice.dev/sluice/internal/proxy/circuit"
	"sluice.dev/sluice/internal/proxy/snapshot"
	"sluice.dev/sluice/internal/refusal"
	"sluice.dev/sluice/internal/route"
)

// Under a wildcard a workload may call any number of hosts: those with nothing under way make way,
// and where all have something, another one is refused and none is forgotten.
func TestTheHostsThatAreCountedAreBounded(t *testing.T) {
	hosts, err := names.ParseIstioPattern("*.example.com")
	if err != nil {
		t.Fatal(err)
	}
	table, err := route.NewTable(nil, route.DestinationPolicy{ID: "p", Hosts: hosts, Limits: &route.Limits{Connections: 1, Pending: 1, Requests: 1, Retries: 1}})
	if err != nil {
		t.Fatal(err)
	}
	s := &snapshot.Snapshot{Routes: table}
	w := new(Way)
	circuitOf := func(i int) (*circuit.Breaker, error) {
		name, err := names.Parse(fmt.Sprintf("h%d.example.com", i))
		if err != nil {
			t.Fatal(err)
		}
		b, _, err := w.circuitOf(s, &policy.Verdict{Name: name, Port: 443})
		return b, err
	}
	busy := make([]counted, maxCircuits)
	for i := range busy {
		b, err := circuitOf(i)
		if err != nil {
			t.Fatal(err)
		}
		if refused := busy[i].count(b); refused != nil {
			t.Fatal(refused)
		}
	}
	if _, err := circuitOf(maxCircuits); refusal.Of(err).Reason != refusal.Overflow {
		t.Errorf("one host more: %v", err)
	}
	same, err := circuitOf(7)
	if err != nil || same != busy[7].by || same.Request() == nil {
		t.Errorf("a host with a request under way is counted anew: %v", err)
	}
	old := busy[7].by
	busy[7].over()
	if _, err := circuitOf(maxCircuits); err != nil || len(w.circuits.all) != maxCircuits {
		t.Errorf("%v, %d are counted", err, len(w.circuits.all))
	}
	if !old.Retired() || old.Request() == nil {
		t.Error("what made way lets requests through still")
	}
	if other, err := circuitOf(8); err != nil || other != busy[8].by {
		t.Errorf("what has something under way made way: %v", err)
	}
}

// Whoever asked for a breaker that is given up before it counts anything asks for the next one: no
// call is refused for it.
func TestACallWhoseBreakerIsGivenUpIsCountedByTheNext(t *testing.T) {
	host, err := names.ParseIstioPattern("a.example.com")
	if err != nil {
		t.Fatal(err)
	}
	table, err := route.NewTable(nil, route.DestinationPolicy{ID: "p", Hosts: host, Limits: &route.Limits{Connections: 1, Pending: 1, Requests: 1, Retries: 1}})
	if err != nil {
		t.Fatal(err)
	}
	w := new(Way)
	c := &connection{way: w}
	d := &Decision{Snapshot: &snapshot.Snapshot{Routes: table}, Verdict: policy.Verdict{Name: names.MustParse("a.example.com"), Port: 443}}
	done := make(chan struct{})
	var all sync.WaitGroup
	all.Go(func() {
		for {
			select {
			case <-done:
				return
			default:
			}
			w.circuits.mu.Lock()
			w.circuits.makeRoom()
			w.circuits.mu.Unlock()
		}
	})
	for range 2000 {
		var under counted
		if err := c.count(&under, d); err != nil {
			t.Errorf("%v", err)
			break
		}
		w.circuits.mu.Lock()
		by := w.circuits.all[circuitKey{d.Verdict.Name, 443}]
		w.circuits.mu.Unlock()
		if by != under.by {
			t.Error("it is counted where nobody asks")
			break
		}
		under.over()
	}
	close(done)
	all.Wait()
}
