// Package report says what became of all that one command tried: what was denied,
// what was not reached, and what passed by audit alone. `sluice run` and, for the
// workloads that it serves, the resident proxy collect records by it. It decides
// nothing, and nothing that a command chose is obeyed by a terminal or a shell.
package report

import (
	"net"
	"net/netip"
	"strconv"

	"sluice.dev/sluice/internal/record"
	"sluice.dev/sluice/internal/refusal"
	"sluice.dev/sluice/internal/word"
)

// Outcome is what became of a connection or request, as a user counts it.
type Outcome uint8

const (
	Undecided  Outcome = iota // it ended before anything was decided
	Allowed                   // a rule allows it, and it was carried
	Audited                   // no rule allows it; it passed because it is only audited
	Denied                    // the rules forbid it, or the message was not taken
	NotReached                // a rule allows it, and the destination was not reached
	ClientLeft                // the command itself broke it off
)

var outcomeWords = word.List{"undecided", "allowed", "audited", "denied", "not-reached", "client-left"}

// String returns the word in reports: "not-reached".
func (o Outcome) String() string { return outcomeWords.Of(uint8(o)) }

// MarshalText implements encoding.TextMarshaler.
func (o Outcome) MarshalText() ([]byte, error) { return outcomeWords.Marshal(uint8(o)) }

// UnmarshalText implements encoding.TextUnmarshaler.
func (o *Outcome) UnmarshalText(text []byte) error {
	return word.Unmarshal(outcomeWords, "outcome", text, o)
}

// OutcomeOf says what became of a record.
func OutcomeOf(r *record.Record) Outcome {
	switch r.Verdict {
	case record.Allowed:
		return Allowed
	case record.Audited:
		return Audited
	case record.Denied:
		return Denied
	case record.Failed:
		if r.Reason.Group() == refusal.ClientsDoing {
			return ClientLeft
		}
		return NotReached
	}
	return Undecided
}

// Destination returns where a record led, as --allow takes it: the name that was
// dialled or, where an address was, the name that the client then sent. Of a question to
// DNS it is the name alone.
func Destination(r *record.Record) string {
	if r.Question != "" {
		return r.Dialled // no connection led there
	}
	host := r.Dialled
	if _, err := netip.ParseAddr(host); err == nil {
		switch {
		case r.SNI != "":
			host = r.SNI
		case r.Host != "":
			host = hostOf(r.Host)
		}
	}
	return net.JoinHostPort(host, strconv.Itoa(int(r.Port)))
}

// hostOf is an authority without its port.
func hostOf(authority string) string {
	if host, _, err := net.SplitHostPort(authority); err == nil {
		return host
	}
	if n := len(authority); n > 2 && authority[0] == '[' && authority[n-1] == ']' {
		return authority[1 : n-1]
	}
	return authority
}

// Text is why it did not come about, as a sentence: what is known of the case, or
// what the reason means where that says all of it.
func Text(r *record.Record) string {
	switch r.Reason {
	case refusal.NoSuchName, refusal.NoAddress, refusal.ConnectRefused, refusal.ConnectTimeout, refusal.UpstreamTimeout:
		return r.Reason.Text() // the line names the destination and the address
	}
	if r.Detail != "" {
		return r.Detail
	}
	return r.Reason.Text()
}
