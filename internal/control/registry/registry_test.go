package registry

import (
	"errors"
	"fmt"
	"testing"

	"sluice.dev/sluice/internal/wire"
)

func details() wire.Workload {
	return wire.Workload{Service: "details", Version: "v2", Namespace: "default"}
}

func join(t *testing.T, r *Registry, w wire.Workload, session string) *Member {
	t.Helper()
	member, err := r.Join(w, session, Process{})
	if err != nil {
		t.Fatal(err)
	}
	return member
}

func instances(r *Registry) []string {
	var out []string
	for _, w := range r.Now().Workloads {
		out = append(out, w.Instance)
	}
	return out
}

func TestAWorkloadGetsTheLowestFreeNumber(t *testing.T) {
	r := New(Config{})
	first, second := join(t, r, details(), "a"), join(t, r, details(), "b")
	if got := first.Workload().Instance; got != "details-v2/1" {
		t.Errorf("the first is %s", got)
	}
	if got := second.Workload().Instance; got != "details-v2/2" {
		t.Errorf("the second is %s", got)
	}
	first.Leave()
	if got := join(t, r, details(), "c").Workload().Instance; got != "details-v2/1" {
		t.Errorf("the number of one that left was not given again: %s", got)
	}
}

func TestAWorkloadThatComesBackKeepsItsInstance(t *testing.T) {
	r := New(Config{})
	for wanted, want := range map[string]string{
		"details-v2/7":        "details-v2/7",
		"reviews-v1/7":        "details-v2/1", // not its own name
		"details-v2/07":       "details-v2/1",
		"details-v2/-1":       "details-v2/1",
		"details-v2/99999999": "details-v2/1",
	} {
		w := details()
		w.Instance = wanted
		member := join(t, r, w, "a")
		if got := member.Workload().Instance; got != want {
			t.Errorf("asked for %s, got %s, want %s", wanted, got, want)
		}
		member.Leave()
	}
}

func TestTheSameSessionReplacesAndAStrangerDoesNot(t *testing.T) {
	r := New(Config{})
	old := join(t, r, details(), "secret")
	w := details()
	w.Instance = old.Workload().Instance
	stranger := join(t, r, w, "guess")
	if got := stranger.Workload().Instance; got != "details-v2/2" {
		t.Errorf("a stranger took over %s", got)
	}
	again := join(t, r, w, "secret")
	if got := again.Workload().Instance; got != "details-v2/1" {
		t.Errorf("the same session got %s", got)
	}
	select {
	case <-old.Replaced():
	default:
		t.Error("the old stream was not told")
	}
	old.Leave()
	if got := instances(r); len(got) != 2 {
		t.Errorf("the end of the old stream removed the new one: %v", got)
	}
}

func TestAnEmptySessionTakesNothingOver(t *testing.T) {
	r := New(Config{})
	old := join(t, r, details(), "")
	w := details()
	w.Instance = old.Workload().Instance
	if got := join(t, r, w, "").Workload().Instance; got == old.Workload().Instance {
		t.Errorf("%s was taken over without a secret", got)
	}
}

func TestTheRegistryIsBounded(t *testing.T) {
	r := New(Config{MaxWorkloads: 3})
	var last *Member
	for range 3 {
		last = join(t, r, details(), "s")
	}
	if _, err := r.Join(details(), "s", Process{}); !errors.Is(err, ErrFull) {
		t.Fatalf("the fourth of three joined: %v", err)
	}
	last.Leave()
	join(t, r, details(), "s")
}

func TestEveryChangeIsAnnounced(t *testing.T) {
	r := New(Config{})
	before := r.Now()
	member := join(t, r, details(), "s")
	<-before.Changed
	joined := r.Now()
	if fmt.Sprint(instances(r)) != "[details-v2/1]" {
		t.Fatalf("got %v", joined.Workloads)
	}
	if joined.Number <= before.Number || joined.Number != r.Number() {
		t.Errorf("the census before it is %d, with it %d, now %d", before.Number, joined.Number, r.Number())
	}
	member.Leave()
	<-joined.Changed
	left := r.Now()
	member.Leave()
	select {
	case <-left.Changed:
		t.Error("leaving twice is two changes")
	default:
	}
}

func TestNumbersAreAlwaysTheLowestFreeAndNothingIsKeptOfThoseThatLeft(t *testing.T) {
	r := New(Config{})
	live := make(map[int]*Member)
	for step := range 2000 {
		n := step*7919%37 + 1
		if m := live[n]; m != nil {
			m.Leave()
			delete(live, n)
			continue
		}
		lowest := 1
		for live[lowest] != nil {
			lowest++
		}
		m := join(t, r, details(), "s")
		if want := fmt.Sprint("details-v2/", lowest); m.Workload().Instance != want {
			t.Fatalf("step %d: got %s, want %s", step, m.Workload().Instance, want)
		}
		live[lowest] = m
	}
	for _, m := range live {
		m.Leave()
	}
	if len(r.members)+len(r.taken) != 0 {
		t.Errorf("%d members and %d names are kept", len(r.members), len(r.taken))
	}
}

func TestTenThousandOfOneNameJoinQuickly(t *testing.T) {
	r := New(Config{})
	for range MaxWorkloads {
		join(t, r, details(), "s")
	}
	if _, err := r.Join(details(), "s", Process{}); !errors.Is(err, ErrFull) {
		t.Errorf("one more: %v", err)
	}
}
