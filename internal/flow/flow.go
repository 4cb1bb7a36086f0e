// Package flow is the account of one connection or request: who went where, what
// was decided, and what came of it. The proxy fills it once, when the account
// closes; rings, logs, `sluice flows`, `why ID` and metrics read it. It decides
// nothing.
package flow

import (
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"time"
)

// ID is a random 64-bit name of one decision. It stands in the 403, the log and
// the flow.
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
		return 0, fmt.Errorf("%q is no flow id (16 hex digits)", s)
	}
	return ID(n), nil
}

// MarshalText implements encoding.TextMarshaler.
func (id ID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (id *ID) UnmarshalText(b []byte) (err error) { *id, err = ParseID(string(b)); return err }

// Flow is one closed account. Strings that a stranger chose (Host, Path) are cut
// at MaxText bytes before they come here.
type Flow struct {
	ID        ID            `json:"id"`
	Start     time.Time     `json:"start"`
	Duration  time.Duration `json:"duration"`
	Workload  string        `json:"workload"`          // instance: "details-v2/1"
	Dialled   string        `json:"dialled,omitempty"` // name behind the synthetic address, or the address
	Port      uint16        `json:"port"`
	SNI       string        `json:"sni,omitempty"`
	Host      string        `json:"host,omitempty"`
	Method    string        `json:"method,omitempty"`
	Path      string        `json:"path,omitempty"`
	Sniffed   string        `json:"sniffed,omitempty"`   // "http", "tls", "opaque"
	Verdict   string        `json:"verdict"`             // "allow", "deny", "error" (allowed, but the upstream failed)
	Reason    string        `json:"reason,omitempty"`    // policy.Reason, or the upstream's failure
	Rule      string        `json:"rule,omitempty"`      // of egress, or the route rule inside the mesh
	Treatment string        `json:"treatment,omitempty"` // "forward", "originate", "passthrough", "relay", "mesh"
	Upstream  string        `json:"upstream,omitempty"`  // address or instance that was dialled
	Status    int           `json:"status,omitempty"`    // HTTP status towards the workload
	Sent      int64         `json:"sent"`                // bytes from the workload
	Received  int64         `json:"received"`            // bytes to the workload
	Detail    string        `json:"detail,omitempty"`    // a short text for people
	Snapshot  string        `json:"snapshot,omitempty"`  // version that decided
}

// MaxText is the bound on each string of a Flow that a stranger chose, in bytes.
const MaxText = 256

// Text bounds a string that a stranger chose to MaxText bytes. What it returns
// never keeps the longer original alive.
func Text(s string) string {
	if len(s) <= MaxText {
		return s
	}
	return strings.ToValidUTF8(s[:MaxText-len("…")], "") + "…"
}
