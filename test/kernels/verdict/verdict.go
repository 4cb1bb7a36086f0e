// Package verdict is how a booted kernel tells the harness outside what it saw: one
// line of its console for each row. The guest writes, test/kernels reads. It never
// takes a line of the kernel itself for a row.
package verdict

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
)

// The verdicts of a row.
const (
	OK   = "ok"
	Fail = "FAIL"
	Skip = "skip"
)

const (
	// marker begins a line that is ours, wherever the kernel left the cursor.
	marker = "\x02kernels:"
	// MaxRow bounds a line: what does not fit of an outcome is cut off at its start.
	MaxRow = 64 << 10
	// MaxOutcome bounds an outcome, in bytes. In JSON one takes six at most.
	MaxOutcome = 8 << 10
)

// Row is one thing that was tried.
type Row struct {
	ID       string  `json:"id"`
	Verdict  string  `json:"verdict"`
	Sentence string  `json:"sentence"`
	Outcome  string  `json:"outcome,omitempty"`
	Seconds  float64 `json:"seconds,omitempty"` // that it took
	// Last says that nothing follows: a guest that ends without it was cut off.
	Last bool `json:"last,omitempty"`
}

// Write writes a row as one line.
func Write(w io.Writer, r Row) error {
	if over := len(r.Outcome) - MaxOutcome; over > 0 {
		r.Outcome = "…" + r.Outcome[over:]
	}
	text, err := json.Marshal(r)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(w, "\n%s%s\n", marker, text)
	return err
}

// Read takes a line of a console; ours is false for one that is not a row.
func Read(line string) (r Row, ours bool, err error) {
	_, text, ours := strings.Cut(line, marker)
	if !ours {
		return r, false, nil
	}
	if err := json.Unmarshal([]byte(strings.TrimSpace(text)), &r); err != nil {
		return r, true, fmt.Errorf("a row of the guest cannot be read: %w: %.200q", err, text)
	}
	switch {
	case r.Last:
	case r.ID == "":
		return r, true, fmt.Errorf("a row of the guest has no id: %.200q", text)
	case r.Verdict != OK && r.Verdict != Fail && r.Verdict != Skip:
		return r, true, fmt.Errorf("row %s of the guest: %q is not a valid verdict", r.ID, r.Verdict)
	}
	return r, true, nil
}
