// Package history keeps what was changed of the rules, by whom and when, in one file of
// the data folder, within bounds. The server adds each change and answers `sluice
// history` from it. It must never hold up or fail a change: a history that cannot be
// written is a warning.
package history

import (
	"cmp"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"sync"
	"time"

	"sluice.dev/sluice/internal/format"
)

// Bounds of what is kept. Beyond one, the oldest changes are forgotten.
const (
	// MaxEntries bounds the changes of one object that are kept.
	MaxEntries = 32
	// MaxObjectBytes bounds the history of one object, in bytes on disk.
	MaxObjectBytes = 256 << 10
	// MaxEntryBytes bounds one change, in bytes on disk; of a larger one the object is left
	// out.
	MaxEntryBytes = 64 << 10
	// MaxBytes bounds the history of all objects, in bytes; the file may have twice as many.
	MaxBytes = 8 << 20
)

// Format is the format of the file, and the only one that this build reads.
const Format = 1

var files = format.Kind{Name: "the history of changes", Oldest: Format, Newest: Format}

// Key is an object: its resource with the group, as in egressrules.config.istio.io.
type Key struct {
	Resource  string `json:"resource"`
	Namespace string `json:"namespace,omitempty"`
	Name      string `json:"name"`
}

// Entry is one change of one object.
type Entry struct {
	Key
	Time time.Time `json:"time"`
	Who  string    `json:"who,omitempty"`  // "" for a state that was found, and that nobody was seen to make
	Role string    `json:"role,omitempty"` // reader, editor, or admin over api.sock
	From string    `json:"from,omitempty"` // an address, or api.sock
	Verb string    `json:"verb"`           // create, update, patch, apply, delete, deletecollection, or Found
	// Revision is the object's resource version after the change; of one that was
	// deleted, the last that it had.
	Revision int64  `json:"revision"`
	UID      string `json:"uid,omitempty"`
	// Generation counts the changes of the spec of one object.
	Generation int64 `json:"generation,omitempty"`
	// State is the object after the change; nil where it was deleted or is TooLarge.
	State    *State `json:"state,omitempty"`
	TooLarge bool   `json:"tooLarge,omitempty"` // State is larger than is kept
}

// Found is the verb of a state that the server found when somebody changed it: it was
// written before there was a history, or its change is not in it.
const Found = "found"

// Deleted reports whether the object was gone after the change. (One with a finalizer is
// gone later; its removal is a change of its own.)
func (e *Entry) Deleted() bool { return e.Verb == "delete" || e.Verb == "deletecollection" }

// State is what is kept of an object.
type State struct {
	Labels      map[string]string `json:"labels,omitempty"`
	Annotations map[string]string `json:"annotations,omitempty"`
	Spec        json.RawMessage   `json:"spec,omitempty"`
}

// line is an entry as it stands in the file.
type line struct {
	key    Key
	raw    []byte // JSON of an Entry, with its newline
	number int64  // in the order of their coming
}

// object is what is kept of one object, oldest first.
type object struct {
	lines []line
	bytes int
	last  Entry // without its state
}

// Book is the history of every object. It is safe for concurrent use.
type Book struct {
	path string
	log  *slog.Logger

	mu      sync.Mutex
	file    *os.File // nil where nothing can be written
	objects map[Key]*object
	next    int64 // number of the next line
	bytes   int   // of all lines
	written int   // bytes of the file
	closed  bool
}

// Open reads the history of a file, and begins one where there is none. One that a later
// release wrote is left as it is, and then nothing is kept; one that cannot be read is
// kept beside.
func Open(path string, log *slog.Logger) *Book {
	b := &Book{path: path, log: log, objects: make(map[Key]*object)}
	for _, entry := range b.read() {
		b.add(entry)
	}
	if !b.closed {
		b.rewrite()
	}
	return b
}

// Add adds a change. before is the object as it was when it was changed: it is added
// too where the history does not have it.
func (b *Book) Add(entry Entry, before *Entry) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return
	}
	if before != nil && !b.has(before) {
		found := *before
		found.Verb, found.Who, found.Role, found.From = Found, "", "", ""
		b.add(found)
	}
	b.add(entry)
	if b.written > 2*b.bytes+(1<<20) {
		b.rewrite()
	}
}

// has reports whether the last known state of an object is that of before. Its
// revision does not tell: a status that was written moves it.
func (b *Book) has(before *Entry) bool {
	o := b.objects[before.Key]
	if o == nil {
		return false
	}
	return o.last.UID == before.UID && o.last.Generation == before.Generation && !o.last.Deleted()
}

// add writes and keeps an entry. The lock is held, or the book is not in use yet.
func (b *Book) add(entry Entry) {
	raw, err := json.Marshal(&entry)
	if err == nil && len(raw) >= MaxEntryBytes {
		entry.State, entry.TooLarge = nil, true
		raw, err = json.Marshal(&entry)
	}
	if err != nil {
		b.log.Warn("a change is not in the history", "object", entry.Name, "error", err)
		return
	}
	raw = append(raw, '\n')
	b.take(entry, raw)
	b.append(raw)
}

// take keeps an entry and forgets what is beyond the bounds.
func (b *Book) take(entry Entry, raw []byte) {
	o := b.objects[entry.Key]
	if o == nil {
		o = new(object)
		b.objects[entry.Key] = o
	}
	o.lines = append(o.lines, line{entry.Key, raw, b.next})
	o.last, o.last.State = entry, nil
	b.next++
	o.bytes += len(raw)
	b.bytes += len(raw)
	for len(o.lines) > MaxEntries || o.bytes > MaxObjectBytes {
		b.forget(o)
	}
	if b.bytes <= MaxBytes {
		return
	}
	// An eighth at once: each of the next changes finds a place without a search.
	for _, l := range b.ordered() {
		if b.bytes <= MaxBytes-MaxBytes/8 {
			break
		}
		// In an object's own list it is the oldest, since those before it went.
		if b.forget(b.objects[l.key]); len(b.objects[l.key].lines) == 0 {
			delete(b.objects, l.key)
		}
	}
}

// forget drops the oldest change of an object.
func (b *Book) forget(o *object) {
	size := len(o.lines[0].raw)
	o.lines[0] = line{}
	o.lines = o.lines[1:]
	o.bytes -= size
	b.bytes -= size
}

// ordered returns every line, the oldest first.
func (b *Book) ordered() []line {
	var all []line
	for _, o := range b.objects {
		all = append(all, o.lines...)
	}
	slices.SortFunc(all, func(x, y line) int { return cmp.Compare(x.number, y.number) })
	return all
}

// Of returns the changes of an object, oldest first.
func (b *Book) Of(key Key) []Entry {
	b.mu.Lock()
	defer b.mu.Unlock()
	o := b.objects[key]
	if o == nil {
		return nil
	}
	entries := make([]Entry, 0, len(o.lines))
	for _, l := range o.lines {
		var entry Entry
		if err := json.Unmarshal(l.raw, &entry); err != nil {
			continue // not one that add or parse let in
		}
		entries = append(entries, entry)
	}
	// Two writers at once may be added in another order than they wrote in.
	slices.SortStableFunc(entries, func(x, y Entry) int { return cmp.Compare(x.Revision, y.Revision) })
	return entries
}

// Close closes the file; what is added later is not kept.
func (b *Book) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed = true
	if b.file == nil {
		return nil
	}
	err := b.file.Close()
	b.file = nil
	if err != nil {
		return fmt.Errorf("close the history of changes: %w", err)
	}
	return nil
}
