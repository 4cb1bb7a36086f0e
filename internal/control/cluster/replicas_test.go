package cluster

import (
	"testing"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// said is the lease of another server.
func said(name, version, standing string) *coordinationv1.Lease {
	return &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{
		Name: replicaPrefix + name, ResourceVersion: version, Annotations: map[string]string{standingKey: standing},
	}}
}

func TestAServerCountsWhileItSpeaksAndWhoeverRunsOtherRulesRunsNoneOfThese(t *testing.T) {
	r := known(t).Replicas("sluice-system", "one")
	now := time.Unix(1_000_000, 0)
	r.now = func() time.Time { return now }
	say := func(lease *coordinationv1.Lease) {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.put(lease)
	}
	if all, _, _ := r.Programmed("rules"); !all {
		t.Error("a server alone waits for others")
	}
	say(said("one", "1", `{"rules":"other"}`)) // our own, of an earlier run
	say(said("two", "1", `not JSON`))
	if all, _, _ := r.Programmed("rules"); !all {
		t.Error("it waits for itself, or for what nobody can read")
	}
	for standing, want := range map[string]bool{
		`{"rules":"rules","programmed":true}`: true, `{"rules":"rules","programmed":false}`: false, `{"rules":"other","programmed":true}`: false,
	} {
		_, changed := r.Leads()
		say(said("two", standing, standing))
		if got, _, _ := r.Programmed("rules"); got != want {
			t.Errorf("%s: %v", standing, got)
		}
		select {
		case <-changed:
		default:
			t.Errorf("%s: nobody is woken", standing)
		}
	}
	for standing, want := range map[string][3]any{
		`{"rules":"rules","programmed":false,"running":2,"connected":3}`: {false, 2, 3},
		`{"rules":"other","programmed":true,"running":3,"connected":3}`:  {false, 0, 3},
		`{"rules":"rules","programmed":true,"running":3,"connected":3}`:  {true, 3, 3},
	} {
		say(said("two", standing, standing))
		if all, running, connected := r.Programmed("rules"); [3]any{all, running, connected} != want {
			t.Errorf("%s: %v, %d of %d", standing, all, running, connected)
		}
	}
	say(said("two", "9", `{"rules":"other"}`))
	now = now.Add(replicaLife + time.Second)
	say(said("two", "9", `{"rules":"other"}`)) // listed anew: it said nothing meanwhile
	ended, _ := r.ended()
	if all, _, _ := r.Programmed("rules"); len(ended) != 1 || !all {
		t.Errorf("a server that says nothing for %s counts: %q", replicaLife, ended)
	}
}
