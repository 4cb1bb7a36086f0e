package record

import (
	"fmt"
	"sync"
	"testing"
)

func TestARecordIsListedWhileItIsOpenAndKeptOnceItIsClosed(t *testing.T) {
	ring := NewRing()
	book := NewBook(ring)
	var e Entry
	e.Edit(func(r *Record) { r.ID, r.Workload = 7, "details-v2/1" })
	book.Open(&e)
	e.Edit(func(r *Record) { r.Verdict = Allowed })
	live := book.Live(10, Filter{})
	if len(live) != 1 || live[0].ID != 7 || live[0].Verdict != Allowed {
		t.Errorf("open: %+v", live)
	}
	if ring.Added() != 0 {
		t.Error("the ring has a record that is open")
	}
	book.Close(&e)
	book.Close(&e) // the second is none
	if got := book.Live(10, Filter{}); len(got) != 0 {
		t.Errorf("still open: %+v", got)
	}
	if got, ok := ring.Get(7); !ok || got.Verdict != Allowed || ring.Added() != 1 {
		t.Errorf("kept: %+v, %d in all", got, ring.Added())
	}
}

// carried counts what a test says.
type carried struct{ sent, received int64 }

func (c *carried) Sent() int64     { return c.sent }
func (c *carried) Received() int64 { return c.received }

func TestTheBytesOfAnOpenRecordAreThoseThatWereCarriedSoFar(t *testing.T) {
	ring := NewRing()
	book := NewBook(ring)
	var e Entry
	e.Edit(func(r *Record) { r.ID, r.Received = 7, 5 })
	book.Open(&e)
	count := &carried{10, 100}
	e.Count(count)
	for range 2 { // listing does not add them up
		if r := e.Copy(); r.Sent != 10 || r.Received != 105 {
			t.Errorf("it carried %d and %d", r.Sent, r.Received)
		}
	}
	count.sent, count.received = 20, 200
	if live := book.Live(1, Filter{}); len(live) != 1 || live[0].Sent != 20 || live[0].Received != 205 {
		t.Errorf("the list says %+v", live)
	}
	e.Count(nil)
	count.sent = 1000 // is counted no more
	book.Close(&e)
	if r, _ := ring.Get(7); r.Sent != 20 || r.Received != 205 {
		t.Errorf("it was closed with %d and %d", r.Sent, r.Received)
	}
}

func TestTheListOfOpenRecordsIsTheNewestThatFitTheFilter(t *testing.T) {
	book := NewBook()
	entries := make([]Entry, 40)
	for i := range entries {
		entries[i].Edit(func(r *Record) { r.ID, r.Workload = ID(i+1), fmt.Sprintf("w-v%d/1", i%2) })
		book.Open(&entries[i])
	}
	live := book.Live(3, Filter{Workload: "w-v1"})
	if len(live) != 3 || live[0].ID != 36 || live[2].ID != 40 {
		t.Errorf("%+v", live)
	}
	for i := range entries {
		book.Close(&entries[i])
	}
	if live := book.Live(100, Filter{}); len(live) != 0 {
		t.Errorf("%d stay open", len(live))
	}
}

func TestManyOpenEditListAndCloseAtOnce(t *testing.T) {
	ring := NewRing()
	book := NewBook(ring)
	var work sync.WaitGroup
	for w := range 4 {
		work.Go(func() {
			var e Entry
			for i := range 500 {
				e.Edit(func(r *Record) { *r = Record{ID: ID(w*1000 + i + 1)} })
				book.Open(&e)
				e.Edit(func(r *Record) { r.Sent++ })
				book.Close(&e)
			}
		})
	}
	for range 50 {
		for _, r := range book.Live(10, Filter{}) {
			if r.ID == 0 {
				t.Error("a record without an ID is listed")
			}
		}
	}
	work.Wait()
	if ring.Added() != 2000 {
		t.Errorf("%d of 2000 are kept", ring.Added())
	}
}

func TestOneWorkloadsRecordsGoToItsOwnSinkToo(t *testing.T) {
	ring, own := NewRing(), NewRing()
	book := NewBook(ring)
	recorder := book.Also(own)
	var mine, other Entry
	mine.Edit(func(r *Record) { r.ID, r.Workload = 7, "details-v2/1" })
	other.Edit(func(r *Record) { r.ID, r.Workload = 8, "reviews-v1/1" })
	recorder.Open(&mine)
	book.Open(&other)
	if live := book.Live(10, Filter{}); len(live) != 2 {
		t.Errorf("%d are open, want both", len(live))
	}
	recorder.Close(&mine)
	recorder.Close(&mine) // the second is none
	book.Close(&other)
	if got := own.Recent(10, Filter{}); len(got) != 1 || got[0].ID != 7 {
		t.Errorf("its own: %+v", got)
	}
	if ring.Added() != 2 {
		t.Errorf("%d of 2 are kept by the process", ring.Added())
	}
}

func TestOpeningAndClosingAllocateNothing(t *testing.T) {
	book := NewBook(NewRing()).Also(NewRing())
	var e Entry
	if n := testing.AllocsPerRun(100, func() {
		e.Edit(func(r *Record) { *r = Record{ID: 1} })
		book.Open(&e)
		e.Edit(func(r *Record) { r.Status = 200 })
		book.Close(&e)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkARecordOpenedEditedAndClosed(b *testing.B) {
	book := NewBook(NewRing())
	b.RunParallel(func(pb *testing.PB) {
		var e Entry
		for pb.Next() {
			e.Edit(func(r *Record) { *r = Record{ID: NewID()} })
			book.Open(&e)
			e.Edit(func(r *Record) { r.Status = 200 })
			book.Close(&e)
		}
	})
}
