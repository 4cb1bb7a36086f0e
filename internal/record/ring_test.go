package record

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func TestTheRingKeepsTheLastFlowsAndForgetsOlderOnes(t *testing.T) {
	r := NewRing()
	for i := 1; i <= RingSize+10; i++ {
		r.Closed(&Record{ID: ID(i)})
	}
	if _, ok := r.Get(10); ok {
		t.Errorf("flow 10 should have been forgotten")
	}
	for _, id := range []ID{11, RingSize, RingSize + 10} {
		if f, ok := r.Get(id); !ok || f.ID != id {
			t.Errorf("Get(%d) = %v, %v", id, f.ID, ok)
		}
	}
	all := r.Recent(RingSize*2, Filter{})
	if len(all) != RingSize || all[0].ID != 11 || all[len(all)-1].ID != RingSize+10 {
		t.Errorf("Recent gives %d flows from %d to %d", len(all), all[0].ID, all[len(all)-1].ID)
	}
	if last := r.Recent(3, Filter{}); len(last) != 3 || last[0].ID != RingSize+8 {
		t.Errorf("the last three: %+v", last)
	}
	if r.Added() != RingSize+10 {
		t.Errorf("Added() = %d", r.Added())
	}
}

func TestAnEmptyRingHoldsNothing(t *testing.T) {
	r := NewRing()
	if _, ok := r.Get(0); ok {
		t.Error("an empty ring holds flow 0")
	}
	if got := r.Recent(5, Filter{}); len(got) != 0 {
		t.Errorf("an empty ring holds %v", got)
	}
}

func TestALateWriterDoesNotOverwriteANewerFlow(t *testing.T) {
	r := newRing(4)
	r.Closed(&Record{ID: 1})
	s := &r.slots[1]
	s.number, s.flow = 5, Record{ID: 5} // number 5 overtook number 2 in the same slot
	r.Closed(&Record{ID: 99})           // the writer that had drawn number 2 arrives
	if _, ok := r.Get(5); !ok {
		t.Error("the newer flow was overwritten")
	}
}

func TestARecordCountsAsAddedOnceItMayBeRead(t *testing.T) {
	r := newRing(4)
	s := &r.slots[0]
	s.mu.Lock() // the writer has its slot and cannot write it
	done := make(chan struct{})
	go func() {
		defer close(done)
		r.Closed(&Record{ID: 7})
	}()
	for taken := 0; taken == 0; runtime.Gosched() {
		r.mu.Lock()
		taken = r.next
		r.mu.Unlock()
	}
	if n := r.Added(); n != 0 {
		t.Errorf("%d are added before the first is written", n)
	}
	s.mu.Unlock()
	<-done
	if n := r.Added(); n != 1 {
		t.Errorf("Added() = %d", n)
	}
}

// Two workloads whose connections are denied as fast as they are made do not make the
// third's be forgotten.
func TestAWorkloadKeepsItsLastFlowsBesideTwoThatMakeMany(t *testing.T) {
	r := NewRing()
	const kept = 1000
	id := ID(0)
	add := func(workload string, n int) {
		for range n {
			id++
			r.Closed(&Record{ID: id, Workload: workload})
		}
	}
	add("quiet/1", 500)
	for range 500 { // each of its flows among many of theirs
		add("loud/1", 40)
		add("quiet/1", 1)
		add("louder/1", 100)
	}
	quiet := r.Recent(RingSize, Filter{Workload: "quiet"})
	if len(quiet) != kept || quiet[0].ID != 1 {
		t.Fatalf("%d of its flows are left, want %d", len(quiet), kept)
	}
	for _, f := range quiet {
		if got, ok := r.Get(f.ID); !ok || got.Workload != "quiet/1" {
			t.Fatalf("flow %d is not there: %+v", f.ID, got)
		}
	}
	loud, louder := len(r.Recent(RingSize, Filter{Workload: "loud"})), len(r.Recent(RingSize, Filter{Workload: "louder"}))
	if loud != louder || loud+louder+kept != RingSize {
		t.Errorf("%d and %d flows of the others, want them alike and the ring full", loud, louder)
	}
	if newest := r.Recent(1, Filter{}); newest[0].ID != id {
		t.Errorf("the newest is %d, want %d", newest[0].ID, id)
	}
}

// Whoever comes and goes, no slot is lost, and each workload has its newest flows.
func TestTheSharesOfTheRingAddUp(t *testing.T) {
	const size = 64
	r := newRing(size)
	random := rand.New(rand.NewPCG(1, 2))
	last := make(map[string][]ID)
	for id := ID(1); id <= 20_000; id++ {
		workload := fmt.Sprintf("w%d/1", random.IntN(1+random.IntN(100)))
		r.Closed(&Record{ID: id, Workload: workload})
		last[workload] = append(last[workload], id)
		sum := 0
		for i, of := range r.heap {
			sum += of.count
			if of.at != i || of.count < 1 || r.shares[of.workload] != of || i > 0 && r.heap[(i-1)/2].count < of.count {
				t.Fatalf("after %d: the heap is wrong at %d: %+v", id, i, of)
			}
		}
		if sum != min(int(id), size) || len(r.shares) != len(r.heap) {
			t.Fatalf("after %d: %d slots are somebody's, of %d workloads", id, sum, len(r.shares))
		}
		if id%500 != 0 {
			continue
		}
		for _, of := range r.heap {
			var held []ID
			for _, f := range r.Recent(size, Filter{Workload: of.workload}) {
				held = append(held, f.ID)
			}
			if all := last[of.workload]; !slices.Equal(held, all[len(all)-of.count:]) {
				t.Fatalf("after %d: %s has %v, want its last %d", id, of.workload, held, of.count)
			}
		}
	}
}

func TestAddingAllocatesNothing(t *testing.T) {
	r := NewRing()
	f := Record{ID: 1, Workload: "details-v2/1", Host: "www.googleapis.com"}
	if n := testing.AllocsPerRun(1000, func() { r.Closed(&f) }); n != 0 {
		t.Errorf("Add allocates %v times", n)
	}
	follower, err := r.Follow(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	if n := testing.AllocsPerRun(1000, func() { r.Closed(&f) }); n != 0 {
		t.Errorf("Add with a follower allocates %v times", n)
	}
	if follower.Dropped() == 0 {
		t.Error("a follower that never reads dropped nothing")
	}
}

func TestManyMayAddWhileOthersRead(t *testing.T) {
	const writers, each = 8, 2000
	r := newRing(64) // small, so that writers meet
	ctx, stop := context.WithCancel(t.Context())
	follower, err := r.Follow(ctx, 16)
	if err != nil {
		t.Fatal(err)
	}
	var reading, writing sync.WaitGroup
	received := uint64(0)
	reading.Go(func() {
		for {
			f, err := follower.Next()
			if err != nil {
				return
			}
			received++
			if want := fmt.Sprint(uint64(f.ID)); f.Host != want {
				t.Errorf("torn flow: %d has host %s", f.ID, f.Host)
			}
		}
	})
	reading.Go(func() {
		for ctx.Err() == nil {
			for _, f := range r.Recent(64, Filter{}) {
				if want := fmt.Sprint(uint64(f.ID)); f.Host != want {
					t.Errorf("torn flow: %d has host %s", f.ID, f.Host)
				}
			}
			r.Get(5)
		}
	})
	for w := range writers {
		writing.Go(func() {
			for i := range each {
				id := ID(w*each + i + 1)
				r.Closed(&Record{ID: id, Host: fmt.Sprint(uint64(id))})
			}
		})
	}
	writing.Wait()
	stop()
	reading.Wait()
	if received+follower.Dropped() != writers*each {
		t.Errorf("received %d and dropped %d of %d", received, follower.Dropped(), writers*each)
	}
}

func TestAFollowerSeesWhatIsAddedAndCountsWhatItLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := NewRing()
		r.Closed(&Record{ID: 1}) // before it followed
		ctx, stop := context.WithCancel(t.Context())
		follower, err := r.Follow(ctx, 2)
		if err != nil {
			t.Fatal(err)
		}
		for id := ID(2); id <= 5; id++ {
			r.Closed(&Record{ID: id})
		}
		if follower.Dropped() != 2 {
			t.Errorf("dropped %d, want 2", follower.Dropped())
		}
		stop()
		synctest.Wait()
		r.Closed(&Record{ID: 6}) // after it ended
		for _, want := range []ID{2, 3} {
			if f, err := follower.Next(); err != nil || f.ID != want {
				t.Errorf("Next() = %v, %v, want %v", f.ID, err, want)
			}
		}
		if _, err := follower.Next(); !errors.Is(err, context.Canceled) {
			t.Errorf("after the end Next returns %v", err)
		}
		if set := r.followers.set.Load(); set != nil {
			t.Errorf("%d followers are left", len(*set))
		}
	})
}

func TestFollowersAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := NewRing()
		ctx, stop := context.WithCancel(t.Context())
		for range MaxFollowers {
			if _, err := r.Follow(ctx, 1); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := r.Follow(ctx, 1); !errors.Is(err, ErrTooManyFollowers) {
			t.Errorf("one more gives %v", err)
		}
		stop()
		synctest.Wait()
		if _, err := r.Follow(t.Context(), MaxFollowBuffer); err != nil {
			t.Errorf("after the others left: %v", err)
		}
		for _, buffer := range []int{0, MaxFollowBuffer + 1} {
			if _, err := r.Follow(t.Context(), buffer); err == nil {
				t.Errorf("a buffer of %d was taken", buffer)
			}
		}
	})
}

func TestAFilterWantsAllOfItsFields(t *testing.T) {
	start := time.Date(2026, 11, 23, 0, 0, 0, 0, time.UTC)
	f := Record{Workload: "details-v2/1", Verdict: Denied, Reason: "no-rule", Host: "WWW.Example.com:443", SNI: "sni.example.com", Rule: "r", Start: start}
	for name, c := range map[string]struct {
		filter Filter
		want   bool
	}{
		"everything":           {Filter{}, true},
		"instance":             {Filter{Workload: "details-v2/1"}, true},
		"workload":             {Filter{Workload: "details-v2"}, true},
		"part of a name":       {Filter{Workload: "details"}, false},
		"verdict":              {Filter{Verdict: Denied}, true},
		"other verdict":        {Filter{Verdict: Allowed}, false},
		"reason":               {Filter{Reason: "name-mismatch"}, false},
		"rule":                 {Filter{Rule: "r"}, true},
		"other rule":           {Filter{Rule: "s"}, false},
		"host without port":    {Filter{Host: "www.example.com"}, true},
		"host by SNI":          {Filter{Host: "sni.example.com"}, true},
		"other host":           {Filter{Host: "example.com"}, false},
		"since its start":      {Filter{Since: start}, true},
		"since later":          {Filter{Since: start.Add(1)}, false},
		"two, one of them not": {Filter{Workload: "details-v2", Verdict: Allowed}, false},
	} {
		if got := c.filter.Match(&f); got != c.want {
			t.Errorf("%s: Match = %v", name, got)
		}
	}
	v6 := Record{Dialled: "2001:db8::1", Host: "[2001:db8::2]:443"}
	for host, want := range map[string]bool{"2001:db8::1": true, "2001:DB8::2": true, "[2001:db8::2]": true, "2001": false, "[2001": false, "": true} {
		if got := (Filter{Host: host}).Match(&v6); got != want {
			t.Errorf("host %q: Match = %v", host, got)
		}
	}
	r := NewRing()
	r.Closed(&f)
	r.Closed(&Record{Workload: "x/1"})
	if got := r.Recent(10, Filter{Workload: "details-v2"}); len(got) != 1 || got[0] != f {
		t.Errorf("Recent with a filter: %+v", got)
	}
}

func BenchmarkAdd(b *testing.B) {
	r := NewRing()
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		f := Record{Workload: "details-v2/1", Host: "www.googleapis.com", Verdict: Allowed}
		for pb.Next() {
			f.ID = NewID()
			r.Closed(&f)
		}
	})
}

func BenchmarkNewID(b *testing.B) {
	for b.Loop() {
		NewID()
	}
}
