package report

import (
	"sync"
	"sync/atomic"

	"sluice.dev/sluice/internal/record"
)

// MaxWaiting is how many records may wait for the reader of a Collector; what comes
// on top is counted alone.
const MaxWaiting = 4096

// Collector is the record.Sink of one command: it counts at once, and hands each
// record on where somebody wants it. Nothing in it waits for a terminal, a disk or
// another process.
type Collector struct {
	tally  Tally
	each   func(*record.Record) error
	feed   *record.Feed // nil: the sums are enough
	failed atomic.Uint64
	read   sync.WaitGroup
	ended  sync.Once
}

// NewCollector returns a Collector that calls each for each record, one after the
// other, from Begin on; nil: for none. A record for which it returns an error counts
// as dropped.
func NewCollector(each func(*record.Record) error) *Collector {
	c := &Collector{each: each}
	if each != nil {
		c.feed = record.NewFeed(MaxWaiting)
	}
	return c
}

// Closed implements record.Sink.
func (c *Collector) Closed(r *record.Record) {
	c.tally.Closed(r)
	if c.feed != nil {
		c.feed.Closed(r)
	}
}

// Dropped implements record.Sink: it returns how many records each was not called
// for, or did not take.
func (c *Collector) Dropped() uint64 {
	if c.feed == nil {
		return 0
	}
	return c.feed.Dropped() + c.failed.Load()
}

// Begin begins to hand records on. It is called once, before End.
func (c *Collector) Begin() {
	if c.feed == nil {
		return
	}
	c.read.Go(func() {
		c.feed.Each(func(r *record.Record) error {
			if c.each(r) != nil {
				c.failed.Add(1)
			}
			return nil
		})
	})
}

// End returns what was counted, once each record was handed on. No record is closed
// behind it.
func (c *Collector) End() Summary {
	if c.feed != nil {
		c.ended.Do(c.feed.End)
		c.read.Wait()
	}
	return c.tally.Summary()
}
