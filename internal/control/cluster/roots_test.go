package cluster

import (
	"errors"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"
)

// rootsOf is the roots of a cluster, listed, with how often a namespace was written.
func rootsOf(t *testing.T, fail func() error) (r *Roots, writes *int) {
	t.Helper()
	c := known(t, podNamed("web", "10.1.0.1", nil))
	r = c.Roots(func() []byte { return []byte("ours") }, func() (bool, <-chan struct{}) { return true, nil })
	r.listed, writes = true, new(int)
	c.client.(*fake.Clientset).PrependReactor("patch", "configmaps", func(clienttesting.Action) (bool, runtime.Object, error) {
		*writes++
		return fail() != nil, nil, fail()
	})
	return r, writes
}

func TestANamespaceInWhichNothingCanBeWrittenIsTriedLessAndLess(t *testing.T) {
	var failed error = errors.New("a quota")
	r, writes := rootsOf(t, func() error { return failed })
	want := rootsSoon
	for range 9 {
		if soon := r.look(t.Context(), []string{"shop"}, true); soon != want {
			t.Errorf("it is tried again after %s, want %s", soon, want)
		}
		r.failed["shop"] = failure{time.Now(), r.failed["shop"].pause} // that time is over
		want = min(2*want, rootsEvery)
	}
	if *writes != 9 {
		t.Errorf("%d writes", *writes)
	}
	r.failed["shop"] = failure{time.Now().Add(time.Hour), rootsEvery}
	if r.look(t.Context(), []string{"shop"}, true); *writes != 9 {
		t.Error("it is tried before its time")
	}
	r.look(t.Context(), nil, true) // its last Pod left
	if len(r.failed) > 0 {
		t.Error("a namespace without sidecars is kept in mind")
	}
	failed = nil
	if r.look(t.Context(), []string{"shop"}, true); *writes != 10 || len(r.failed) > 0 {
		t.Errorf("%d writes", *writes)
	}
}

func TestWhatIsWrongIsWrittenByTheServerThatLeadsAlone(t *testing.T) {
	r, writes := rootsOf(t, func() error { return nil })
	r.put(&corev1.ConfigMap{ObjectMeta: meta(RootsConfigMap, nil), Data: map[string]string{rootsKey: "another's"}})
	r.look(t.Context(), []string{"shop"}, false)
	if *writes != 0 {
		t.Error("a server that does not lead undoes what another one wrote")
	}
	if r.look(t.Context(), []string{"shop"}, true); *writes != 1 {
		t.Error("the leader does not put it right")
	}
	r.remove(key{"shop", RootsConfigMap})
	if r.look(t.Context(), []string{"shop"}, false); *writes != 2 {
		t.Error("what is missing waits for the leader")
	}
}

func TestNamespacesWithSidecarsAreCountedByTheirPods(t *testing.T) {
	c := known(t)
	all, changed := c.joining()
	if len(all) != 0 {
		t.Fatal(all)
	}
	put(t, c, podNamed("a", "10.1.0.1", nil), podNamed("b", "10.1.0.2", nil))
	select {
	case <-changed:
	default:
		t.Error("nobody is woken")
	}
	bare := podNamed("a", "10.1.0.1", nil)
	bare.Spec.Volumes = nil
	put(t, c, bare)
	all, changed = c.joining()
	if len(all) != 1 {
		t.Error(all)
	}
	c.mu.Lock()
	c.removePod(key{"shop", "b"})
	c.removePod(key{"shop", "a"})
	c.mu.Unlock()
	select {
	case <-changed:
	default:
		t.Error("nobody is woken")
	}
	if all, _ := c.joining(); len(all) != 0 {
		t.Error(all)
	}
}
