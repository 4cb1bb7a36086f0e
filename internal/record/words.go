package record

import "sluice.dev/sluice/internal/word"

// Direction is which way a connection or request went.
type Direction uint8

const (
	NoDirection Direction = iota
	Egress                // from a workload to a destination outside the mesh
	Mesh                  // from a workload to a service of the mesh
	Ingress               // from outside the mesh to a service of the mesh
)

var directionWords = word.List{"", "egress", "mesh", "ingress"}

// String returns the word in records: "egress".
func (d Direction) String() string { return directionWords.Of(uint8(d)) }

// MarshalText implements encoding.TextMarshaler.
func (d Direction) MarshalText() ([]byte, error) { return directionWords.Marshal(uint8(d)) }

// UnmarshalText implements encoding.TextUnmarshaler.
func (d *Direction) UnmarshalText(text []byte) error {
	return word.Unmarshal(directionWords, "direction", text, d)
}

// Verdict is what became of a connection or request.
type Verdict uint8

const (
	Pending Verdict = iota // nothing was decided yet
	Allowed
	Audited // no rule allows it; it passed because the mesh asks to see that
	Denied
	Failed // allowed, and the destination was not reached, or the exchange broke
)

var verdictWords = word.List{"", "allow", "audit", "deny", "error"}

// String returns the word in records: "deny".
func (v Verdict) String() string { return verdictWords.Of(uint8(v)) }

// MarshalText implements encoding.TextMarshaler.
func (v Verdict) MarshalText() ([]byte, error) { return verdictWords.Marshal(uint8(v)) }

// UnmarshalText implements encoding.TextUnmarshaler.
func (v *Verdict) UnmarshalText(text []byte) error {
	return word.Unmarshal(verdictWords, "verdict", text, v)
}
