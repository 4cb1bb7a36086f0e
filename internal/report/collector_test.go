package report

import (
	"errors"
	"testing"

	"sluice.dev/sluice/internal/record"
	"sluice.dev/sluice/internal/refusal"
)

func TestACollectorCountsWhatItsReaderDoesNotTake(t *testing.T) {
	taken := 0
	c := NewCollector(func(r *record.Record) error {
		if r.ID%2 == 0 {
			return errors.New("gone")
		}
		taken++
		return nil
	})
	closed := &record.Record{Verdict: record.Denied, Reason: refusal.NoRule}
	for id := range record.ID(MaxWaiting + 10) { // before Begin nothing is read
		closed.ID = id
		c.Closed(closed)
	}
	c.Begin()
	summary := c.End()
	if taken != MaxWaiting/2 || c.Dropped() != MaxWaiting/2+10 || summary.Counts.Denied != MaxWaiting+10 {
		t.Errorf("%d taken, %d dropped, %d counted", taken, c.Dropped(), summary.Counts.Denied)
	}
}

func TestWithoutAReaderTheSumsAreAll(t *testing.T) {
	c := NewCollector(nil)
	c.Closed(&record.Record{Verdict: record.Allowed})
	c.Begin()
	if summary := c.End(); summary.Counts.Allowed != 1 || c.Dropped() != 0 {
		t.Errorf("%+v, %d dropped", summary.Counts, c.Dropped())
	}
}

func TestCountingOneMoreOfItsKindAllocatesNothing(t *testing.T) {
	c := NewCollector(nil)
	r := &record.Record{Dialled: "a.example", Port: 443, Verdict: record.Denied, Reason: refusal.NoRule}
	c.Closed(r)
	if n := testing.AllocsPerRun(100, func() { c.Closed(r) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
