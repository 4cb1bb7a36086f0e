package report

import (
	"cmp"
	"strings"
	"sync"

	"sluice.dev/sluice/internal/record"
	"sluice.dev/sluice/internal/refusal"
)

// MaxEntries bounds how many different destinations, reasons and rules a Tally
// keeps apart.
const MaxEntries = 1024

// Tally is a record.Sink that counts what became of all records. What is counted is
// exact, however many there are; which destinations they had is bounded.
type Tally struct {
	mu      sync.Mutex
	entries map[key]*Entry
	order   []*Entry
	asked   map[string]bool // hosts of questions that had no answer; true: see wentOn
	counts  Counts
	more    Counts
}

// Counts is how many records had each outcome.
type Counts struct {
	Allowed    uint64 `json:"allowed"`    // flows that were allowed, those without a line too
	Audited    uint64 `json:"audited"`    // flows that passed by audit alone
	Denied     uint64 `json:"denied"`     // flows that were denied
	NotReached uint64 `json:"notReached"` // flows that did not reach their destination
	ClientLeft uint64 `json:"clientLeft"` // flows that the command broke off
	Undecided  uint64 `json:"undecided"`  // flows that ended before a decision
}

// of is where an outcome is counted.
func (c *Counts) of(o Outcome) *uint64 {
	switch o {
	case Allowed:
		return &c.Allowed
	case Audited:
		return &c.Audited
	case Denied:
		return &c.Denied
	case NotReached:
		return &c.NotReached
	case ClientLeft:
		return &c.ClientLeft
	}
	return &c.Undecided
}

// Entry is what did not simply pass: one destination with one reason and rule.
type Entry struct {
	Outcome Outcome       `json:"outcome"`
	Count   uint64        `json:"count"`
	Last    record.Record `json:"last"` // the newest of them
}

// Summary is what a Tally counted.
type Summary struct {
	Counts  Counts
	Entries []Entry // denied, not reached or audited, in the order in which they first came; see Tally.wentOn
	More    Counts  // of those beyond MaxEntries
}

// key is what makes an entry one.
type key struct {
	outcome Outcome
	dialled string
	name    string // that the client sent, or the type of a question to DNS
	port    uint16
	reason  refusal.Reason
	rule    string
}

// Closed implements record.Sink. Only the first of its kind allocates.
func (t *Tally) Closed(r *record.Record) {
	outcome := OutcomeOf(r)
	t.mu.Lock()
	defer t.mu.Unlock()
	*t.counts.of(outcome)++
	t.wentOn(r)
	switch outcome {
	case Denied, NotReached, Audited:
	default:
		return
	}
	k := key{outcome: outcome, dialled: r.Dialled, name: r.SNI, port: r.Port, reason: r.Reason, rule: r.Rule}
	if k.name == "" {
		k.name = cmp.Or(r.Host, r.Question)
	}
	e := t.entries[k]
	switch {
	case e != nil:
	case len(t.order) >= MaxEntries:
		*t.more.of(outcome)++
		return
	default:
		if t.entries == nil {
			t.entries = make(map[key]*Entry)
		}
		e = &Entry{Outcome: outcome}
		t.entries[k] = e
		t.order = append(t.order, e)
	}
	e.Count++
	e.Last = *r
	if host, ok := askedHost(r); ok {
		if t.asked == nil {
			t.asked = make(map[string]bool)
		}
		if _, known := t.asked[host]; !known { // at most one for each entry
			t.asked[host] = false
		}
	}
}

// wentOn notes that a client connected to a host of which it had asked a question that
// had no answer, as apt does with the SRV records of its mirror: it does without, and
// what became of the connection has a line of its own where it needs one.
func (t *Tally) wentOn(r *record.Record) {
	if len(t.asked) == 0 || r.Question != "" {
		return
	}
	if _, ok := t.asked[r.Dialled]; ok {
		t.asked[r.Dialled] = true
	}
}

// askedHost is the host of a question about one of its services, "_http._tcp.HOST".
func askedHost(r *record.Record) (host string, ok bool) {
	if r.Question == "" || !strings.HasPrefix(r.Dialled, "_") {
		return "", false
	}
	host = r.Dialled
	for strings.HasPrefix(host, "_") {
		_, host, _ = strings.Cut(host, ".")
	}
	return host, true
}

// Dropped implements record.Sink: it drops none.
func (t *Tally) Dropped() uint64 { return 0 }

// Summary returns what was counted so far.
func (t *Tally) Summary() Summary {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := Summary{Counts: t.counts, More: t.more, Entries: make([]Entry, 0, len(t.order))}
	for _, e := range t.order {
		if host, ok := askedHost(&e.Last); !ok || !t.asked[host] {
			s.Entries = append(s.Entries, *e)
		}
	}
	return s
}
