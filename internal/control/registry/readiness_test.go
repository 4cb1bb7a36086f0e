package registry

import (
	"testing"
	"testing/synctest"
	"time"

	"sluice.dev/sluice/internal/wire"
)

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

func TestReadinessIsAChangeOfTheCensusWhereItDiffers(t *testing.T) {
	r := New(Config{})
	w := details()
	w.Ports = []uint16{9080}
	w.Unready = []wire.Unready{{Port: 9080, Since: time.Unix(1, 0)}}
	member := join(t, r, w, "a")
	before := r.Now()
	if len(before.Workloads[0].Unready) != 1 {
		t.Fatalf("joined as %+v", before.Workloads[0])
	}
	member.Report([]wire.Unready{{Port: 9080, Since: time.Unix(1, 0)}})
	if isClosed(before.Changed) {
		t.Error("the same again is a change")
	}
	member.Report(nil)
	if after := r.Now(); !isClosed(before.Changed) || after.Number <= before.Number || len(after.Workloads[0].Unready) != 0 || len(member.Workload().Unready) != 0 {
		t.Errorf("ready now: %+v", after)
	}
	member.Leave()
	before = r.Now()
	member.Report(w.Unready)
	if isClosed(before.Changed) {
		t.Error("who left is still heard")
	}
}

// Whoever reports faster than its pace is said later, and the last of it is said.
func TestAWorkloadThatFlapsWakesTheCompilerAtAPace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := New(Config{})
		w := details()
		w.Ports = []uint16{9080}
		member := join(t, r, w, "a")
		first := r.Number()
		const seconds = 10
		for i := range seconds * 1000 {
			member.Report([]wire.Unready{{Port: 9080, Since: time.Unix(int64(i), 0)}})
			time.Sleep(time.Millisecond)
		}
		last := r.Now()
		member.Report(nil)
		if said := r.Number() - first; said < seconds-1 || said > seconds+wire.ReadinessBurst+1 {
			t.Errorf("%d changes in %d s", said, seconds)
		}
		time.Sleep(2 * wire.ReadinessEvery)
		if !isClosed(last.Changed) || len(r.Now().Workloads[0].Unready) != 0 {
			t.Error("the last change is not said")
		}
		// One that left while its change waited leaves nothing behind.
		for i := range 2 * wire.ReadinessBurst {
			member.Report([]wire.Unready{{Port: 9080, Since: time.Unix(int64(i), 0)}})
		}
		member.Leave()
		before := r.Number()
		time.Sleep(2 * wire.ReadinessEvery)
		if r.Number() != before {
			t.Error("a change of one that left is said")
		}
	})
}
