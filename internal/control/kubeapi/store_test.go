package kubeapi

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"sluice.dev/sluice/api"
	"sluice.dev/sluice/api/v1alpha1"
)

// told is what Objects said after one change.
type told struct {
	objects  []api.Object
	revision int64
	at       time.Time
}

// follow starts a Store on s and returns what it tells.
func follow(t testing.TB, s *testServer) (*Store, chan told) {
	t.Helper()
	calls := make(chan told, 10_000)
	store, err := NewStore(StoreConfig{
		API: s.Loopback(), Kinds: api.Kinds(), Log: testLog(),
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { store.Run(ctx) })
	running.Go(func() {
		for {
			objects, revision, changed, ready := store.Objects()
			if ready {
				calls <- told{objects, revision, time.Now()}
			}
			select {
			case <-changed:
			case <-ctx.Done():
				return
			}
		}
	})
	t.Cleanup(func() { cancel(); running.Wait() })
	return store, calls
}

// next waits for the next call for which ok is true.
func next(t testing.TB, calls chan told, what string, ok func(told) bool) told {
	t.Helper()
	deadline := time.After(60 * time.Second)
	for {
		select {
		case call := <-calls:
			if ok(call) {
				return call
			}
		case <-deadline:
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

func names(objects []api.Object) (all []string) {
	for i := range objects {
		all = append(all, objects[i].ID())
	}
	slices.Sort(all)
	return all
}

func holds(ids ...string) func(told) bool {
	return func(call told) bool { return slices.Equal(names(call.objects), ids) }
}

func TestStoreTellsEveryChangeWithItsRevision(t *testing.T) {
	s := start(t, "", acceptAll)
	_, calls := follow(t, s)
	empty := next(t, calls, "the first call", holds())
	s.create(t, "googleapis", "*.googleapis.com")
	created := next(t, calls, "the rule", holds("egress-rule/default/googleapis"))
	if created.revision <= empty.revision {
		t.Errorf("revision %d after %d", created.revision, empty.revision)
	}
	if code, body := s.do(t, "DELETE", egressRules+"/googleapis", "", ""); code != 200 {
		t.Fatalf("delete: %d %s", code, body)
	}
	if gone := next(t, calls, "the deletion", holds()); gone.revision <= created.revision {
		t.Errorf("revision %d after %d", gone.revision, created.revision)
	}
}

func TestAStatusIsWrittenOnceAndIsNoChange(t *testing.T) {
	s := start(t, "", acceptAll)
	store, calls := follow(t, s)
	s.create(t, "one", "one.example.com")
	s.create(t, "two", "two.example.com")
	both := next(t, calls, "both rules", holds("egress-rule/default/one", "egress-rule/default/two"))
	report := Report{Revision: both.revision, Problems: map[string]string{"egress-rule/default/two": "rule two conflicts"}}
	store.Report(report)
	var one, two string
	waitFor(t, "the statuses", func() bool {
		_, one = s.do(t, "GET", egressRules+"/one", "", "")
		_, two = s.do(t, "GET", egressRules+"/two", "", "")
		return strings.Contains(one, `"reason":"Acknowledged"`) && strings.Contains(two, `"message":"rule two conflicts"`)
	})
	version := decode[api.Object](t, one).Metadata.ResourceVersion
	store.Report(report)
	s.create(t, "three", "three.example.com") // written after the report was handed in
	next(t, calls, "the third rule", func(call told) bool { return len(call.objects) == 3 })
	time.Sleep(2 * statusSettle) // for a write that must not come
	_, one = s.do(t, "GET", egressRules+"/one", "", "")
	if again := decode[api.Object](t, one).Metadata.ResourceVersion; again != version {
		t.Errorf("the same report wrote the status again: %s, then %s", version, again)
	}
	for len(calls) > 0 {
		if call := <-calls; len(call.objects) == 3 {
			t.Errorf("a status was told as a change")
		}
	}
}

func TestWritesOfStatusesAreBounded(t *testing.T) {
	s := start(t, "", acceptAll)
	store, calls := follow(t, s)
	const rules = 3 * statusBurst // takes a second
	for i := range rules {
		s.create(t, fmt.Sprintf("rule-%03d", i), fmt.Sprintf("h%d.example.com", i))
	}
	all := next(t, calls, "all rules", func(call told) bool { return len(call.objects) == rules })
	begin := time.Now()
	store.Report(Report{Revision: all.revision})
	waitFor(t, "every status", func() bool {
		written := store.written()
		// The time is taken after the count: a slow machine only makes the bound larger.
		if limit := int(time.Since(begin).Seconds()*statusRate) + statusBurst + 1; written > limit {
			t.Fatalf("%d statuses written in %v, the bound is %d", written, time.Since(begin), limit)
		}
		return written == rules
	})
}

func TestAStatusIsWrittenThoughOthersWriteToo(t *testing.T) {
	s := start(t, "", acceptAll)
	store, calls := follow(t, s)
	s.create(t, "rule", "one.example.com")
	created := next(t, calls, "the rule", holds("egress-rule/default/rule"))
	held := stored{Object: created.objects[0]}
	label := func(n int) {
		if code, body := s.do(t, "PATCH", egressRules+"/rule", "application/merge-patch+json", fmt.Sprintf(`{"metadata":{"labels":{"n":"%d"}}}`, n)); code != 200 {
			t.Fatalf("label: %d %s", code, body)
		}
	}
	label(0)
	if err := store.writeStatus(t.Context(), &held, v1alpha1.Status{ObservedGeneration: 1}); !apierrors.IsConflict(err) {
		t.Errorf("a status over a version that is gone: %v", err)
	}
	held.Metadata.Name = "other"
	if err := store.writeStatus(t.Context(), &held, v1alpha1.Status{}); !apierrors.IsNotFound(err) {
		t.Errorf("the status of nothing: %v", err)
	}
	for n := range 20 {
		store.Report(Report{Revision: created.revision + 1000})
		label(n)
	}
	waitFor(t, "the status", func() bool {
		_, body := s.do(t, "GET", egressRules+"/rule", "", "")
		return strings.Contains(body, `"n":"19"`) && strings.Contains(body, `"reason":"Acknowledged"`)
	})
}

func TestAnotherObjectOfTheNameGetsAStatusOfItsOwn(t *testing.T) {
	s := start(t, "", acceptAll)
	store, calls := follow(t, s)
	s.create(t, "rule", "one.example.com")
	created := next(t, calls, "the rule", holds("egress-rule/default/rule"))
	before := stored{Object: created.objects[0]}
	if code, body := s.do(t, "DELETE", egressRules+"/rule", "", ""); code != 200 {
		t.Fatalf("delete: %d %s", code, body)
	}
	s.create(t, "rule", "two.example.com")
	if err := store.writeStatus(t.Context(), &before, v1alpha1.Status{ObservedGeneration: 1}); !apierrors.IsConflict(err) {
		t.Errorf("the status of the one before: %v", err)
	}
	if _, body := s.do(t, "GET", egressRules+"/rule", "", ""); strings.Contains(body, `"status"`) {
		t.Errorf("the new one has it: %s", body)
	}
}

// written counts the objects that have a status.
func (s *Store) written() (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range s.objects {
		if len(s.objects[i].status.Conditions) > 0 {
			n++
		}
	}
	return n
}

func waitFor(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(60 * time.Second); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

// BenchmarkCreateToChange measures from the call of create to the change that the
// loop of the control plane sees.
func BenchmarkCreateToChange(b *testing.B) {
	s := start(b, "", acceptAll)
	_, calls := follow(b, s)
	next(b, calls, "the first call", holds())
	var after []time.Duration
	i := 0
	for b.Loop() {
		i++
		begin := time.Now()
		s.create(b, fmt.Sprintf("rule-%06d", i), "one.example.com")
		call := next(b, calls, "the rule", func(call told) bool { return len(call.objects) == i })
		after = append(after, call.at.Sub(begin))
		time.Sleep(5 * time.Millisecond) // a change in a quiet moment is what is measured
	}
	slices.Sort(after)
	b.ReportMetric(float64(after[len(after)/2].Microseconds()), "µs-p50")
	b.ReportMetric(float64(after[len(after)*99/100].Microseconds()), "µs-p99")
}
