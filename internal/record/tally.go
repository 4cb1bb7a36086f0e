package record

import (
	"math/rand/v2"
	"strings"
	"sync"

	"sluice.dev/sluice/internal/refusal"
)

// Bounds of a Tally between two batches.
const (
	MaxSums = 16384 // what comes on top is summed up under the host Other
	MaxKept = 1024  // records one by one
	// maxKeptAllowed is how many of those were allowed: denials and failures find a place
	// behind them.
	maxKeptAllowed = MaxKept / 2
)

// Other is the host of sums of those hosts for which there is no place.
const Other = "(other)"

// SumKey is whose records a Sum counts: of who went where, and what came of it.
type SumKey struct {
	Hour      int64          `json:"hour"` // in which they ended, since 1970
	Namespace string         `json:"namespace,omitempty"`
	Workload  string         `json:"workload"` // without its instance: "details-v2"
	Direction Direction      `json:"direction,omitempty"`
	Host      string         `json:"host"`
	Port      uint16         `json:"port,omitempty"`
	Verdict   Verdict        `json:"verdict,omitempty"`
	Reason    refusal.Reason `json:"reason,omitempty"`
	Rule      string         `json:"rule,omitempty"`
}

// Counts is what records came to.
type Counts struct {
	Count    int64 `json:"count"`
	Sent     int64 `json:"sent"`
	Received int64 `json:"received"`
}

// Add adds other.
func (c *Counts) Add(other Counts) {
	c.Count += other.Count
	c.Sent += other.Sent
	c.Received += other.Received
}

// Sum is the sum of some records.
type Sum struct {
	SumKey
	Counts
}

// Losses is what of records is not in a batch as it could be.
type Losses struct {
	Folded  int64 `json:"folded,omitempty"`  // records that are in the sums of Other
	NotKept int64 `json:"notKept,omitempty"` // records that are in the sums alone
}

// Batch is what was closed in a time.
type Batch struct {
	Number uint64 // unlike that of any other
	Sums   []Sum
	Flows  []Record
	Lost   Losses
}

// Tally is a Sink that sums up what is closed, and keeps some of it, until somebody who
// stores it says that he has. It never waits for that: its memory is bounded, and what is
// left out is counted. A sum that is there takes no allocation.
type Tally struct {
	batching sync.Mutex         // held by who makes a batch; taken before mu
	spare    map[SumKey]*Counts // empty: the next sums, so that its memory is used again
	copying  func()             // nil but in a test: called while a batch is made

	mu      sync.Mutex // never held for longer than one record takes
	sums    map[SumKey]*Counts
	kept    []Record
	lost    Losses
	pending *Batch // handed out, and not stored yet; not changed
}

// NewTally returns an empty Tally.
func NewTally() *Tally { return &Tally{sums: make(map[SumKey]*Counts)} }

// KeyOf returns whose sum a record belongs to.
func KeyOf(r *Record) SumKey {
	workload, _, _ := strings.Cut(r.Workload, "/")
	return SumKey{
		Hour: r.Start.Add(r.Duration).Unix() / 3600, Namespace: r.Source.Party().Namespace, Workload: workload, Direction: r.Direction,
		Host: hostOf(r), Port: r.Port, Verdict: r.Verdict, Reason: r.Reason, Rule: r.Rule,
	}
}

// hostOf is where the workload wanted to go, without a port: see appendDestination.
func hostOf(r *Record) string {
	name := r.SNI
	if name == "" {
		name = r.Dialled
	}
	if r.Host != "" {
		name = r.Host
	}
	if endsInPort(name) {
		name = name[:strings.LastIndexByte(name, ':')]
	}
	return strings.Trim(name, "[]")
}

// Closed implements Sink.
func (t *Tally) Closed(r *Record) {
	key := KeyOf(r)
	t.mu.Lock()
	defer t.mu.Unlock()
	of := t.sums[key]
	if of == nil && len(t.sums) >= MaxSums {
		t.lost.Folded++
		key.Host, key.Port, key.Reason, key.Rule = Other, 0, "", "" // of these there are few: as many as workloads
		if of = t.sums[key]; of == nil && len(t.sums) >= MaxSums*3/2 {
			key = SumKey{Hour: key.Hour, Host: Other, Direction: key.Direction, Verdict: key.Verdict}
			of = t.sums[key]
		}
	}
	if of == nil {
		of = new(Counts)
		t.sums[key] = of
	}
	of.Add(Counts{1, r.Sent, r.Received})
	most := MaxKept
	if r.Verdict == Allowed {
		most = maxKeptAllowed
	}
	if len(t.kept) >= most {
		t.lost.NotKept++
		return
	}
	t.kept = append(t.kept, *r)
}

// Dropped implements Sink: a Tally counts every record.
func (*Tally) Dropped() uint64 { return 0 }

// Batch returns what was handed out and is not stored yet, or else what was closed since;
// nil: nothing was. The caller does not change it.
func (t *Tally) Batch() *Batch {
	t.batching.Lock()
	defer t.batching.Unlock()
	t.mu.Lock()
	if t.pending != nil || len(t.sums) == 0 {
		defer t.mu.Unlock()
		return t.pending
	}
	if t.spare == nil {
		t.spare = make(map[SumKey]*Counts)
	}
	sums, batch := t.sums, &Batch{Number: rand.Uint64(), Flows: t.kept, Lost: t.lost}
	t.sums, t.spare, t.kept, t.lost = t.spare, nil, nil, Losses{}
	t.mu.Unlock()
	// What closes meanwhile does not wait until all is copied.
	batch.Sums = make([]Sum, 0, len(sums))
	for key, counts := range sums {
		batch.Sums = append(batch.Sums, Sum{key, *counts})
	}
	clear(sums)
	t.spare = sums
	if t.copying != nil {
		t.copying()
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.pending = batch
	return batch
}

// Stored says that a batch is stored. Of any but the one that Batch returns it means
// nothing.
func (t *Tally) Stored(number uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.pending != nil && t.pending.Number == number {
		t.pending = nil
	}
}
