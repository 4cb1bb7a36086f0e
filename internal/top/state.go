// Package top is what `sluice top` shows: workloads, destinations and denials with their
// rates, as they happen. cmd/sluice-top runs it with a server's flows. It must never show
// a byte of a name that a terminal could obey, nor grow with what strangers dial.
package top

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"sluice.dev/sluice/internal/control/inspect"
	"sluice.dev/sluice/internal/record"
)

// Bounds of what is shown.
const (
	// window is over how many seconds a rate is.
	window = 10
	// MaxRows bounds the workloads, and the destinations: of more the sum is shown.
	MaxRows = 1000
	// MaxDenials is how many of the last denials are listed.
	MaxDenials = 500
	// quiet is after which time without a flow a row makes way for another.
	quiet = time.Minute
)

// State is what is known. It is safe for concurrent use.
type State struct {
	now func() time.Time

	mu           sync.Mutex
	status       *inspect.Status // nil until the server answered
	failed       string          // why the server does not answer; "" while it does
	blind        string          // why its flows are not followed; "" while they are
	workloads    table           // by instance, as it is shown
	destinations table           // by destination, as it is shown
	all          row
	denials      []record.Record // the last, oldest first
}

// NewState returns one of which nothing is known.
func NewState(now func() time.Time) *State {
	return &State{now: now, workloads: table{rows: make(map[string]*row)}, destinations: table{rows: make(map[string]*row)}}
}

// table is the rows of one list.
type table struct {
	rows  map[string]*row
	swept int64 // the second in which it was last looked for rows that are quiet
}

// row is what was counted of one workload or destination.
type row struct {
	name                           string
	flows, denied, failed          rate
	sent, received                 rate
	flowsEver, deniedEver, lastRef int64 // in all, and the second of the last
}

// rate is what was counted in each of the last seconds.
type rate struct {
	slots [window]int64
	at    int64 // the second of the newest slot
}

func (r *rate) add(second, n int64) {
	r.turn(second)
	r.slots[second%window] += n
}

// turn forgets what is older than the window.
func (r *rate) turn(second int64) {
	if second <= r.at {
		return
	}
	for s := max(r.at+1, second-window+1); s <= second; s++ {
		r.slots[s%window] = 0
	}
	r.at = second
}

// perSecond is over the whole seconds of the window.
func (r *rate) perSecond(second int64) float64 {
	r.turn(second)
	var sum int64
	for _, n := range r.slots {
		sum += n
	}
	return float64(sum) / window
}

func (r *row) count(second int64, f *record.Record) {
	r.lastRef = second
	r.flows.add(second, 1)
	r.flowsEver++
	r.sent.add(second, f.Sent)
	r.received.add(second, f.Received)
	switch f.Verdict {
	case record.Denied:
		r.denied.add(second, 1)
		r.deniedEver++
	case record.Failed:
		r.failed.add(second, 1)
	}
}

// Add counts one flow that has closed.
func (s *State) Add(f *record.Record) {
	s.mu.Lock()
	defer s.mu.Unlock()
	second := s.now().Unix()
	s.all.count(second, f)
	s.workloads.row(string(record.AppendWord(nil, f.Workload)), second).count(second, f)
	s.destinations.row(string(record.AppendDestination(nil, f)), second).count(second, f)
	if f.Verdict != record.Denied {
		return
	}
	if len(s.denials) >= MaxDenials {
		s.denials = slices.Delete(s.denials, 0, len(s.denials)-MaxDenials+1)
	}
	s.denials = append(s.denials, *f)
}

// row returns the row of a name, or that of record.Other where there are too many.
func (t *table) row(name string, second int64) *row {
	rows := t.rows
	if known := rows[name]; known != nil {
		return known
	}
	if len(rows) >= MaxRows && t.swept != second { // once a second: else each new name would cost a walk over all
		t.swept = second
		maps.DeleteFunc(rows, func(_ string, r *row) bool { return second-r.lastRef > int64(quiet.Seconds()) })
	}
	if len(rows) >= MaxRows {
		name = record.Other
		if known := rows[name]; known != nil {
			return known
		}
	}
	fresh := &row{name: name}
	rows[name] = fresh
	return fresh
}

// Answered notes what the server says of its workloads.
func (s *State) Answered(status *inspect.Status) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.status, s.failed = status, ""
}

// Failed notes that the server does not answer.
func (s *State) Failed(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.failed = err.Error()
}

// Followed notes that the flows of the server are followed, or why not.
func (s *State) Followed(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.blind = ""; err != nil {
		s.blind = err.Error()
	}
}

// line is one row at one moment.
type line struct {
	name, state                    string
	flows, denied, failed, in, out float64 // a second
	flowsEver, deniedEver          int64
}

func (r *row) line(second int64) line {
	return line{
		name: r.name, flows: r.flows.perSecond(second), denied: r.denied.perSecond(second), failed: r.failed.perSecond(second),
		in: r.received.perSecond(second), out: r.sent.perSecond(second), flowsEver: r.flowsEver, deniedEver: r.deniedEver,
	}
}

// picture is all that is shown at one moment. It shares nothing that changes.
type picture struct {
	at                      time.Time
	failed                  string // what is missing, and why; "" while nothing is
	known                   bool   // the server answered once
	connected, joined       int
	all                     line
	workloads, destinations []line          // those with most flows first
	denials                 []record.Record // the newest first
}

// Picture returns what is known now.
func (s *State) picture() picture {
	s.mu.Lock()
	defer s.mu.Unlock()
	at := s.now()
	second := at.Unix()
	p := picture{at: at, failed: s.missing(), known: s.status != nil, all: s.all.line(second), denials: slices.Clone(s.denials)}
	slices.Reverse(p.denials)
	for _, r := range s.destinations.rows {
		p.destinations = append(p.destinations, r.line(second))
	}
	there := make(map[string]bool)
	if s.status != nil {
		for i := range s.status.Workloads {
			w := &s.status.Workloads[i]
			name := string(record.AppendWord(nil, w.Instance))
			of := line{name: name}
			if r := s.workloads.rows[name]; r != nil {
				of = r.line(second)
			}
			of.state, there[name] = stateOf(w), true
			p.workloads = append(p.workloads, of)
			p.joined++
			if w.Connected {
				p.connected++
			}
		}
	}
	for name, r := range s.workloads.rows {
		if !there[name] {
			of := r.line(second)
			if of.state = "gone"; name == record.Other {
				of.state = ""
			}
			p.workloads = append(p.workloads, of)
		}
	}
	slices.SortFunc(p.workloads, byFlows)
	slices.SortFunc(p.destinations, byFlows)
	return p
}

// byFlows puts those first that have most now, then those that had most in all.
func byFlows(a, b line) int {
	return cmp.Or(cmp.Compare(b.flows, a.flows), cmp.Compare(b.flowsEver, a.flowsEver), strings.Compare(a.name, b.name))
}

// missing says what is not known now, and why. mu is held.
func (s *State) missing() string {
	switch {
	case s.failed != "":
		return "the server does not answer: " + s.failed
	case s.blind != "":
		return "the server's flows are not followed: " + s.blind
	}
	return ""
}

// stateOf is in what state a workload is, in a word or two.
func stateOf(w *inspect.WorkloadStatus) string {
	switch {
	case !w.Connected:
		return "not connected"
	case w.Nack != "":
		return "rules refused"
	case w.AckedVersion == "":
		return "no rules yet"
	case len(w.Unready) > 0:
		return "not ready"
	}
	return "current"
}
