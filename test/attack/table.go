// Package attack is the table of attempts to get out of `sluice run`: each is made
// by a program inside, and where that cannot know the outcome it is looked at from
// outside. The command attack, the tests and the page of the guide use it. It never
// changes the machine: the outside is processes, files and a network of its own.
package attack

import (
	"errors"
	"fmt"
)

// Who says as whom the command of the sandbox runs.
type Who uint8

const (
	Root  Who = 1 << iota // uid 0, without a user namespace
	User                  // an ordinary user, who has the sandbox by a user namespace
	RunAs                 // started by root, with --run-as
	Su                    // root, who became another user inside and kept the rights over files
)

// names are those of -as.
var names = []struct {
	name string
	who  Who
}{{"root", Root}, {"user", User}, {"run-as", RunAs}, {"su", Su}}

const (
	noRoot    = User | RunAs
	notUID0   = noRoot | Su
	everybody = Root | notUID0
)

// Row is one attempt.
type Row struct {
	ID    string
	Kind  string
	Tried string // a sentence without its end: what is tried
	Right string // what is to happen

	// Bare are those who get through where there is no sandbox: for them the attempt is
	// known to be a real one.
	Bare Who
	// As are those who try it; 0 is everybody.
	As Who
	// Works is set where the attempt is to succeed: what is allowed, so that a sandbox in
	// which nothing works does not pass.
	Works bool

	// Inside makes the attempt. nil says that it succeeded. Nested makes it in its place, in
	// a process with namespaces of these flags and a user namespace, where it has every
	// capability.
	Inside func(*Inside) error
	Nested func(*Inside) error
	Flags  uintptr
	// Refused are the errors with which it may end.
	Refused []error

	// Before prepares the outside, when the sandbox runs already; After returns an error
	// where the outside was reached.
	Before, After func(*outside) error
	// Ends says that without a sandbox the attempt ends the process outside, soon.
	Ends bool
}

func (r *Row) triedBy(who Who) bool { return r.As == 0 || r.As&who != 0 }

// held is how an attempt ends that the sandbox does not refuse, but that came to
// nothing outside.
type held string

func (h held) Error() string { return string(h) }

// skipped is why an attempt cannot be made here.
type skipped string

func (s skipped) Error() string { return string(s) }

// outcome is what came of an attempt, as it goes from process to process.
type outcome struct {
	ID       string `json:"id"`
	Reached  bool   `json:"reached,omitempty"`
	Expected bool   `json:"expected,omitempty"` // it was refused in one of the ways in which it may be
	Skipped  bool   `json:"skipped,omitempty"`
	Text     string `json:"text"`
}

// try makes the attempt of a row.
func (r *Row) try(in *Inside) (o outcome) {
	o.ID = r.ID
	if r.Nested != nil && !in.Deep {
		return in.inNamespaces(r)
	}
	attempt := r.Inside
	if r.Nested != nil {
		attempt = r.Nested
	}
	err := attempt(in)
	if err == nil {
		o.Reached, o.Text = true, "it went through"
		return o
	}
	o.Text = err.Error()
	var h held
	var s skipped
	switch {
	case errors.As(err, &h):
		o.Expected = true
	case errors.As(err, &s):
		o.Skipped = true
	}
	for _, refused := range r.Refused {
		o.Expected = o.Expected || errors.Is(err, refused)
	}
	return o
}

// verdict is what an outcome means for a row in a sandbox.
func (r *Row) verdict(o outcome) (word, text string) {
	switch {
	case o.Skipped:
		return "skip", o.Text
	case r.Works && o.Reached:
		return "ok", o.Text
	case r.Works:
		return "FAIL", "it does not work: " + o.Text
	case o.Reached:
		return "FAIL", "it got out: " + o.Text
	case !o.Expected:
		return "FAIL", "it ended in another way than it should: " + o.Text
	}
	return "ok", o.Text
}

// Table returns all rows, in the order in which they are tried.
func Table() []Row {
	var all []Row
	for _, kind := range []struct {
		name string
		rows []Row
	}{
		{"What is allowed", allowedRows()},
		{"Network", networkRows()},
		{"Names and TLS", nameRows()},
		{"Unix sockets", socketRows()},
		{"Cgroups", cgroupRows()},
		{"Terminals", terminalRows()},
		{"Queues and shared memory", queueRows()},
		{"Files of Sluice", fileRows()},
		{"Processes", processRows()},
		{"Files of the kernel", kernelRows()},
		{"Capabilities and system calls", capabilityRows()},
		{"A sandbox inside", nestedRows()},
	} {
		for _, row := range kind.rows {
			row.Kind = kind.name
			all = append(all, row)
		}
	}
	return all
}

func find(id string) (*Row, error) {
	for _, row := range Table() {
		if row.ID == id {
			return &row, nil
		}
	}
	return nil, fmt.Errorf("there is no attempt %q", id)
}
