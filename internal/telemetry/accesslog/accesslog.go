// Package accesslog writes a line for each connection and request that has ended, to a
// file, to standard output or to a collector. The proxy hands it closed records as a sink.
// It never holds up a request: what cannot be written in time is dropped and counted.
package accesslog

import (
	"errors"
	"fmt"
	"log/slog"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"sluice.dev/sluice/internal/record"
)

// Bounds of what waits to be written.
const (
	MaxWaiting = 8192               // records
	MaxAllowed = MaxWaiting / 4 * 3 // of them, as long as they were allowed: a denial finds a place still
	EndTimeout = time.Second        // for what waits when the program ends
	warnEvery  = time.Minute
)

// Output takes batches of records, one at a time. It returns how many it could not write,
// and why.
type Output interface {
	Write(batch []record.Record) (lost int, err error)
	Close() error
}

// Config says what is written. To is required.
type Config struct {
	To Output
	// Sample is the share of the records that are written where a rule allowed them and
	// nothing failed, from 0 to 1. All others are written.
	Sample float64
	Log    *slog.Logger
}

// Log is a record.Sink.
type Log struct {
	config  Config
	below   uint64 // ids of allowed records that are written
	feed    *record.Feed
	done    chan struct{}
	warn    rate.Sometimes
	endOnce sync.Once

	written, lost, sampled atomic.Uint64
}

// Open begins to write, until End.
func Open(c Config) (*Log, error) {
	if c.Sample < 0 || c.Sample > 1 || math.IsNaN(c.Sample) {
		return nil, fmt.Errorf("a sample of %v is not a share from 0 to 1", c.Sample)
	}
	l := &Log{config: c, below: math.MaxUint64, feed: record.NewFeed(MaxWaiting), done: make(chan struct{}), warn: rate.Sometimes{First: 1, Interval: warnEvery}}
	if c.Sample < 1 {
		l.below = uint64(c.Sample * (1 << 63) * 2)
	}
	go l.write()
	return l, nil
}

// Closed implements record.Sink.
func (l *Log) Closed(r *record.Record) {
	most := MaxWaiting
	if r.Verdict == record.Allowed {
		if uint64(r.ID) >= l.below && l.below != math.MaxUint64 {
			l.sampled.Add(1)
			return
		}
		most = MaxAllowed
	}
	l.feed.Offer(r, most)
}

// Dropped implements record.Sink: what found no place to wait.
func (l *Log) Dropped() uint64 { return l.feed.Dropped() }

// Counts is what became of records: written; lost by the output; dropped because too many
// waited; left out by the sample.
type Counts struct{ Written, Lost, Dropped, Sampled uint64 }

// Counts returns them.
func (l *Log) Counts() Counts {
	return Counts{l.written.Load(), l.lost.Load(), l.Dropped(), l.sampled.Load()}
}

func (l *Log) write() {
	defer close(l.done)
	l.feed.Batches(func(batch []record.Record) error { //nolint:errcheck // it returns none
		lost, err := l.config.To.Write(batch)
		l.lost.Add(uint64(lost))
		l.written.Add(uint64(len(batch) - lost))
		if err != nil {
			l.warn.Do(func() {
				l.config.Log.Warn("lines of the access log are lost", "error", err, "lost so far", l.lost.Load())
			})
		}
		return nil
	})
}

// errLate says that the output did not take what waited.
var errLate = errors.New("the output does not take what waits")

// End writes what waits, for EndTimeout at most. Nothing may be closed after it.
func (l *Log) End() (err error) {
	l.endOnce.Do(func() {
		l.feed.End()
		select {
		case <-l.done:
			err = l.config.To.Close()
		case <-time.After(EndTimeout):
			err = errLate
		}
	})
	return err
}
