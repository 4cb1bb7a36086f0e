// Package record is what is kept of one connection or request: who went where,
// what was decided, and what came of it. The proxy opens a record at the first
// byte and closes it once; the ring, `sluice flows`, `why ID` and reports read it.
// (Users call it a flow.) It decides nothing and never blocks the data path.
package record

import (
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"time"

	"sluice.dev/sluice/internal/policy"
	"sluice.dev/sluice/internal/refusal"
	"sluice.dev/sluice/internal/telemetry/trace"
)

// ID is a random 64-bit name of one decision. It stands in the 403, the log and
// the record.
type ID uint64

// NewID returns a fresh random ID, never zero. It costs a few nanoseconds: the
// generator is the runtime's own, seeded by the operating system for each
// process. An ID names a decision; it grants nothing to who knows it.
func NewID() ID {
	for {
		if id := ID(rand.Uint64()); id != 0 {
			return id
		}
	}
}

// String returns 16 hex digits.
func (id ID) String() string { return string(id.Append(make([]byte, 0, 16))) }

// Append appends the 16 hex digits of id to b.
func (id ID) Append(b []byte) []byte {
	const digits = "0123456789abcdef"
	for shift := 60; shift >= 0; shift -= 4 {
		b = append(b, digits[id>>shift&15])
	}
	return b
}

// ParseID reads what String printed.
func ParseID(s string) (ID, error) {
	n, err := strconv.ParseUint(s, 16, 64)
	if err != nil || len(s) != 16 || s[0] == '+' || s[0] == '-' {
		return 0, fmt.Errorf("%q is not a valid flow id (16 hex digits)", s)
	}
	return ID(n), nil
}

// MarshalText implements encoding.TextMarshaler.
func (id ID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (id *ID) UnmarshalText(b []byte) (err error) { *id, err = ParseID(string(b)); return err }

// Record is what is kept of one connection or request. Strings that a stranger
// chose (Host, Path) are cut at MaxText bytes before they come here.
type Record struct {
	ID        ID               `json:"id"`
	Start     time.Time        `json:"start"`
	Duration  time.Duration    `json:"duration"`            // of a closed one
	Workload  string           `json:"workload"`            // instance: "details-v2/1"
	Direction Direction        `json:"direction,omitempty"` // out of the mesh, inside it, or into it
	Dialled   string           `json:"dialled,omitempty"`   // name behind the synthetic address, or the address
	Transport policy.Transport `json:"transport,omitempty"` // absent: tcp
	Port      uint16           `json:"port"`
	SNI       string           `json:"sni,omitempty"`
	Host      string           `json:"host,omitempty"`
	Method    string           `json:"method,omitempty"`
	Path      string           `json:"path,omitempty"`
	Upgrade   string           `json:"upgrade,omitempty"`  // the protocol that the request asked to change to
	Question  string           `json:"question,omitempty"` // the type that DNS was asked for, where this is a question: "SRV"
	Sniffed   policy.Sniffed   `json:"sniffed,omitempty"`
	Verdict   Verdict          `json:"verdict,omitempty"` // absent: not decided yet
	Reason    refusal.Reason   `json:"reason,omitempty"`  // of a denial, a failure, or of what a rule is missing for (audit)
	Rule      string           `json:"rule,omitempty"`    // of egress, or the route rule inside the mesh
	Route     string           `json:"route,omitempty"`   // the route rule, where Rule is of egress
	Treatment policy.Treatment `json:"treatment,omitempty"`
	Upstream  string           `json:"upstream,omitempty"` // address or instance that was dialled; of a denial the address that was refused
	Status    int              `json:"status,omitempty"`   // HTTP status towards the workload
	Attempts  int              `json:"attempts,omitempty"` // at an upstream; absent: one, or none
	Sent      int64            `json:"sent"`               // bytes from the workload
	Received  int64            `json:"received"`           // bytes to the workload
	Detail    string           `json:"detail,omitempty"`   // a short text for people
	Timings
	trace.Context        // where it stands in a trace, where the mesh traces
	Snapshot      string `json:"snapshot,omitempty"` // version that decided

	// What the proxy itself knows besides, for its metrics and logs. A server knows of a
	// workload more than a record could say.
	Source      End `json:"-"` // Workload's
	Destination End `json:"-"` // of the mesh, once it was chosen
}

// Timings is how long what led to an answer took; 0 where it was not needed, as on a
// connection that was open already. All of it is within Duration.
type Timings struct {
	Queue     time.Duration `json:"queue,omitempty"`     // for a connection that the workload may open
	Connect   time.Duration `json:"connect,omitempty"`   // for a name's addresses and the connection
	TLS       time.Duration `json:"tls,omitempty"`       // for handshakes of ours
	FirstByte time.Duration `json:"firstByte,omitempty"` // from the start to the first byte of the answer
}

// MaxText is the bound on each string of a Record that a stranger chose, in bytes.
const MaxText = 256

// Text bounds a string that a stranger chose to MaxText bytes. What it returns
// never keeps the longer original alive.
func Text(s string) string {
	if len(s) <= MaxText {
		return s
	}
	return strings.ToValidUTF8(s[:MaxText-len("…")], "") + "…"
}

// Decide notes what a verdict says.
func (r *Record) Decide(v *policy.Verdict) {
	switch v.Action {
	case policy.Allow:
		r.Verdict = Allowed
	case policy.Audit:
		r.Verdict = Audited
	default:
		r.Verdict = Denied
	}
	r.Reason, r.Treatment = v.Reason, v.Treatment
	if v.Rule != nil {
		r.Rule = v.Rule.ID
	}
}

// Fail notes why what was allowed did not come about: a denial where the dial or
// the server's certificate forbids it, else a failure.
func (r *Record) Fail(e *refusal.Error) {
	r.Verdict = Failed
	if e.Denied() {
		r.Verdict = Denied
	}
	r.Reason, r.Detail = e.Reason, Text(e.Error())
	if tried := e.Tried(); r.Upstream == "" && tried.IsValid() {
		r.Upstream = tried.String()
	}
}
