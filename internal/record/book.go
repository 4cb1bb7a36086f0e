package record

import (
	"cmp"
	"slices"
	"sync"
)

// Recorder takes records from whoever carries connections.
type Recorder interface {
	// Open takes a record that begins. The entry is its owner's until Close.
	Open(e *Entry)
	// Close takes a record that has ended. Each entry that was opened is closed
	// once; then its owner may use it for another record.
	Close(e *Entry)
}

// Sink is given each record once, when it is closed. Closed must not block and
// must not keep r; what it cannot take it drops and counts.
type Sink interface {
	Closed(r *Record)
	Dropped() uint64
}

// Entry is a record that is open. Its owner changes it by Edit; whoever lists what
// is open reads a copy. The zero Entry is ready. It must not be copied.
type Entry struct {
	mu     sync.Mutex
	record Record
	moving Moving // nil: nothing moves but by Edit

	newer, older *Entry // in the book; under the lock of the shard
	in           *shard // nil: in no book
}

// Edit changes the record. It calls change at once, under the entry's lock.
func (e *Entry) Edit(change func(r *Record)) {
	e.mu.Lock()
	change(&e.record)
	e.mu.Unlock()
}

// Moving counts bytes while they are carried. Its methods may be called at any time
// and never block.
type Moving interface {
	Sent() int64
	Received() int64
}

// Count adds what m counts to the bytes of the record, as they are whenever it is
// read. What was counted by the one before stays in it; nil: nothing is counted any
// more.
func (e *Entry) Count(m Moving) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.record, e.moving = e.read(), m
}

// Copy returns the record as it is.
func (e *Entry) Copy() Record {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.read()
}

// read is the record with the bytes that move. The lock is held.
func (e *Entry) read() Record {
	r := e.record
	if e.moving != nil {
		r.Sent += e.moving.Sent()
		r.Received += e.moving.Received()
	}
	return r
}

// shards spread the lock of the open records.
const shards = 16

// Book is a Recorder: it knows what is open and hands each closed record to its
// sinks, in their order. Opening and closing allocate nothing. The open records
// are bounded by what opens them: one for each live connection. The Book must not
// be copied.
type Book struct {
	sinks []Sink
	open  [shards]shard
}

// shard is the open records of some IDs, newest first.
type shard struct {
	mu     sync.Mutex
	newest *Entry
}

// NewBook returns a Book that hands on to sinks.
func NewBook(sinks ...Sink) *Book { return &Book{sinks: sinks} }

// Open implements Recorder. The record's ID must be set.
func (b *Book) Open(e *Entry) {
	s := &b.open[e.record.ID%shards]
	s.mu.Lock()
	defer s.mu.Unlock()
	e.in, e.newer, e.older = s, nil, s.newest
	if s.newest != nil {
		s.newest.newer = e
	}
	s.newest = e
}

// Close implements Recorder. An entry that is not open is left alone.
func (b *Book) Close(e *Entry) {
	if !e.leave() {
		return
	}
	for _, sink := range b.sinks {
		sink.Closed(&e.record) // nobody but the owner reaches it any more
	}
}

// leave takes the entry out of its book.
func (e *Entry) leave() bool {
	s := e.in
	if s == nil {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if e.newer != nil {
		e.newer.older = e.older
	} else {
		s.newest = e.older
	}
	if e.older != nil {
		e.older.newer = e.newer
	}
	e.in, e.newer, e.older = nil, nil, nil
	return true
}

// Also returns a Recorder that does as b does, and hands the records that it closes
// to sink too, behind b's own sinks. It allocates nothing for a record.
func (b *Book) Also(sink Sink) Recorder { return also{b, sink} }

type also struct {
	*Book
	sink Sink
}

// Close implements Recorder.
func (a also) Close(e *Entry) {
	if e.in == nil {
		return
	}
	a.Book.Close(e)
	a.sink.Closed(&e.record)
}

// Live returns copies of the open records that the filter lets through, at most n,
// the newest of them, the oldest first. It is for people who ask, not for the data
// path.
func (b *Book) Live(n int, filter Filter) []Record {
	var found []Record
	for i := range b.open {
		s := &b.open[i]
		s.mu.Lock()
		for e := s.newest; e != nil; e = e.older {
			if r := e.Copy(); filter.Match(&r) {
				found = append(found, r)
			}
		}
		s.mu.Unlock()
	}
	slices.SortFunc(found, func(a, b Record) int {
		return cmp.Or(a.Start.Compare(b.Start), cmp.Compare(a.ID, b.ID))
	})
	return found[max(0, len(found)-n):]
}

// Dropped returns how many records the sinks could not take.
func (b *Book) Dropped() uint64 {
	var sum uint64
	for _, sink := range b.sinks {
		sum += sink.Dropped()
	}
	return sum
}
