package record

import (
	"sync"
	"sync/atomic"
)

// Feed is a Sink that hands each record to one reader, in the order in which they
// were closed. At most a bound of them wait for it; what comes on top is dropped
// and counted. Its memory grows only as far as its reader is behind.
type Feed struct {
	bound   int
	dropped atomic.Uint64
	wake    chan struct{} // holds one: there is something to read, or the end

	mu      sync.Mutex
	waiting []Record
	ended   bool
}

// NewFeed returns a Feed for which at most bound records wait.
func NewFeed(bound int) *Feed {
	return &Feed{bound: max(bound, 1), wake: make(chan struct{}, 1)}
}

// Closed implements Sink. After End it drops.
func (f *Feed) Closed(r *Record) { f.Offer(r, f.bound) }

// Offer is Closed for a record that waits only where fewer than most do.
func (f *Feed) Offer(r *Record, most int) {
	f.mu.Lock()
	full := f.ended || len(f.waiting) >= min(most, f.bound)
	if !full {
		f.waiting = append(f.waiting, *r)
	}
	f.mu.Unlock()
	if full {
		f.dropped.Add(1)
		return
	}
	f.signal()
}

// Dropped implements Sink.
func (f *Feed) Dropped() uint64 { return f.dropped.Load() }

// Waiting returns how many records wait, those that are being read not among them.
func (f *Feed) Waiting() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.waiting)
}

// End ends Each once it has read what waits.
func (f *Feed) End() {
	f.mu.Lock()
	f.ended = true
	f.mu.Unlock()
	f.signal()
}

func (f *Feed) signal() {
	select {
	case f.wake <- struct{}{}:
	default:
	}
}

// Each calls do with each record until End, or until do returns an error, which it
// returns. There may be one call of it at a time; do must not keep the record.
func (f *Feed) Each(do func(r *Record) error) error {
	return f.Batches(func(batch []Record) error {
		for i := range batch {
			if err := do(&batch[i]); err != nil {
				return err
			}
		}
		return nil
	})
}

// Batches is Each with all records that wait at a time. do must not keep the batch.
func (f *Feed) Batches(do func(batch []Record) error) error {
	var batch []Record
	for {
		f.mu.Lock()
		batch, f.waiting = f.waiting, batch[:0]
		ended := f.ended
		f.mu.Unlock()
		if len(batch) > 0 { // more may come meanwhile
			if err := do(batch); err != nil {
				return err
			}
			continue
		}
		switch {
		case ended:
			return nil
		default:
			<-f.wake
		}
	}
}
