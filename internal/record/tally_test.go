package record

import (
	"fmt"
	"sync"
	"testing"
	"time"
)

func closedAt(hour int64, workload, host string, verdict Verdict) *Record {
	return &Record{
		ID: NewID(), Start: time.Unix(hour*3600, 0), Duration: time.Second, Workload: workload, Host: host, Dialled: "192.0.2.1", Port: 443,
		Verdict: verdict, Sent: 1, Received: 2, Source: NewEnd(Party{Namespace: "default"}),
	}
}

func sumOf(b *Batch) (all Counts) {
	for _, s := range b.Sums {
		all.Add(s.Counts)
	}
	return all
}

func TestATallySumsUpWhoWentWhereAndWhatCameOfIt(t *testing.T) {
	tally := NewTally()
	if b := tally.Batch(); b != nil {
		t.Fatalf("of nothing: %+v", b)
	}
	for range 3 {
		tally.Closed(closedAt(5, "details-v2/1", "a.example.com:443", Allowed))
		tally.Closed(closedAt(5, "details-v2/2", "a.example.com", Allowed)) // the same, of another instance
	}
	tally.Closed(closedAt(5, "details-v2/1", "a.example.com", Denied))
	tally.Closed(closedAt(6, "details-v2/1", "a.example.com", Denied))
	late := closedAt(5, "details-v2/1", "[::1]:443", Allowed)
	late.Duration = time.Hour // it ended in the next
	tally.Closed(late)
	key := func(hour int64, host string, verdict Verdict) SumKey {
		return SumKey{Hour: hour, Namespace: "default", Workload: "details-v2", Host: host, Port: 443, Verdict: verdict}
	}
	want := map[SumKey]Counts{
		key(5, "a.example.com", Allowed): {6, 6, 12}, key(5, "a.example.com", Denied): {1, 1, 2}, key(6, "a.example.com", Denied): {1, 1, 2}, key(6, "::1", Allowed): {1, 1, 2},
	}
	b := tally.Batch()
	if len(b.Sums) != len(want) || len(b.Flows) != 9 || b.Lost != (Losses{}) {
		t.Fatalf("%+v", b)
	}
	for _, s := range b.Sums {
		if want[s.SumKey] != s.Counts {
			t.Errorf("%+v, want %v", s, want[s.SumKey])
		}
	}
}

func TestABatchIsHandedOutUntilItIsStored(t *testing.T) {
	tally := NewTally()
	tally.Closed(closedAt(5, "a-v1/1", "a", Allowed))
	first := tally.Batch()
	tally.Closed(closedAt(5, "a-v1/1", "a", Allowed))
	tally.Stored(first.Number + 1)
	if again := tally.Batch(); again != first || sumOf(again).Count != 1 {
		t.Fatalf("%+v", again)
	}
	tally.Stored(first.Number)
	second := tally.Batch()
	if second == nil || second.Number == first.Number || sumOf(second).Count != 1 {
		t.Fatalf("%+v", second)
	}
	tally.Stored(second.Number)
	if b := tally.Batch(); b != nil {
		t.Errorf("%+v", b)
	}
}

// Nor are there more sums where many workloads have many.
func TestATallyOfManyWorkloadsIsBounded(t *testing.T) {
	tally := NewTally()
	for i := range 3 * MaxSums {
		tally.Closed(closedAt(5, fmt.Sprintf("w%d-v1/1", i), "a.example.com", Allowed))
	}
	if b := tally.Batch(); len(b.Sums) != MaxSums*3/2+1 || sumOf(b).Count != 3*MaxSums {
		t.Errorf("%d sums of %d", len(b.Sums), sumOf(b).Count)
	}
}

// A million hosts leave the memory bounded, and no record uncounted; denials find a place
// behind what was allowed.
func TestATallyOfManyHostsIsBoundedAndCountsWhatItLeavesOut(t *testing.T) {
	const many = 200_000
	tally := NewTally()
	r := closedAt(5, "a-v1/1", "", Allowed)
	for i := range many {
		r.Host = fmt.Sprintf("h%d.example.com", i)
		tally.Closed(r)
	}
	denied := closedAt(5, "a-v1/1", "denied.example.com", Denied)
	tally.Closed(denied)
	b := tally.Batch()
	if sum := sumOf(b); sum.Count != many+1 || sum.Received != 2*(many+1) {
		t.Errorf("%+v are counted", sum)
	}
	if len(b.Sums) > MaxSums+2 || b.Lost.Folded != many-MaxSums+1 || len(b.Flows) != maxKeptAllowed+1 || b.Lost.NotKept != many-maxKeptAllowed || b.Flows[maxKeptAllowed].ID != denied.ID {
		t.Errorf("%d sums, %d flows, %+v", len(b.Sums), len(b.Flows), b.Lost)
	}
}

func TestNoRecordIsLostThatIsClosedWhileABatchIsTaken(t *testing.T) {
	tally := NewTally()
	var work sync.WaitGroup
	for w := range 4 {
		work.Go(func() {
			for range 1000 {
				tally.Closed(closedAt(5, fmt.Sprintf("a-v%d/1", w), "a", Allowed))
			}
		})
	}
	var all Counts
	for range 100 {
		if b := tally.Batch(); b != nil {
			all.Add(sumOf(b))
			tally.Stored(b.Number)
		}
	}
	work.Wait()
	if b := tally.Batch(); b != nil {
		all.Add(sumOf(b))
	}
	if all.Count != 4000 {
		t.Errorf("%+v", all)
	}
}

func TestASumThatIsThereTakesNoAllocation(t *testing.T) {
	tally, r := NewTally(), closedAt(5, "a-v1/1", "a.example.com:443", Allowed)
	for range maxKeptAllowed {
		tally.Closed(r)
	}
	if n := testing.AllocsPerRun(100, func() { tally.Closed(r) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkTally(b *testing.B) {
	tally, r := NewTally(), closedAt(5, "a-v1/1", "a.example.com:443", Allowed)
	r.Rule = "egress-policy/default/one"
	b.ReportAllocs()
	for b.Loop() {
		tally.Closed(r)
	}
}

// A batch of many sums takes a while to copy: what closes meanwhile is in the next.
func TestWhatClosesDoesNotWaitUntilABatchIsMade(t *testing.T) {
	tally := NewTally()
	tally.Closed(closedAt(5, "a-v1/1", "a", Allowed))
	meanwhile := 0
	tally.copying = func() {
		meanwhile++
		tally.Closed(closedAt(5, "a-v1/1", "b", Denied))
	}
	first := tally.Batch()
	if meanwhile != 1 || len(first.Sums) != 1 || first.Sums[0].Host != "a" {
		t.Fatalf("%d, %+v", meanwhile, first)
	}
	tally.copying = nil
	tally.Stored(first.Number)
	if next := tally.Batch(); next == nil || len(next.Sums) != 1 || next.Sums[0].Host != "b" || len(next.Flows) != 1 {
		t.Errorf("%+v", next)
	}
}
