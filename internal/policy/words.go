package policy

import (
	"strconv"

	"sluice.dev/sluice/internal/word"
)

// String returns "allow", "audit" or "deny".
func (a Action) String() string {
	switch a {
	case Allow:
		return "allow"
	case Audit:
		return "audit"
	default:
		return "deny"
	}
}

var treatmentWords = word.List{"", "forward", "originate", "passthrough", "relay", "mesh"}

// String returns the treatment's word in records: "originate"; "" for Refuse.
func (t Treatment) String() string { return treatmentWords.Of(uint8(t)) }

// MarshalText implements encoding.TextMarshaler.
func (t Treatment) MarshalText() ([]byte, error) { return treatmentWords.Marshal(uint8(t)) }

// UnmarshalText implements encoding.TextUnmarshaler.
func (t *Treatment) UnmarshalText(text []byte) error {
	return word.Unmarshal(treatmentWords, "treatment", text, t)
}

var sniffedWords = word.List{"", "http", "tls", "opaque"}

// String returns the word of records: "http", "tls", "opaque"; "" when unseen.
func (s Sniffed) String() string { return sniffedWords.Of(uint8(s)) }

// MarshalText implements encoding.TextMarshaler.
func (s Sniffed) MarshalText() ([]byte, error) { return sniffedWords.Marshal(uint8(s)) }

// UnmarshalText implements encoding.TextUnmarshaler.
func (s *Sniffed) UnmarshalText(text []byte) error {
	return word.Unmarshal(sniffedWords, "kind of first bytes", text, s)
}

var transportWords = word.List{"tcp", "udp"}

// String returns "tcp" or "udp".
func (t Transport) String() string { return transportWords.Of(uint8(t)) }

// MarshalText implements encoding.TextMarshaler.
func (t Transport) MarshalText() ([]byte, error) { return transportWords.Marshal(uint8(t)) }

// UnmarshalText implements encoding.TextUnmarshaler.
func (t *Transport) UnmarshalText(text []byte) error {
	return word.Unmarshal(transportWords, "transport", text, t)
}

// Destination returns what was decided on: "www.googleapis.com:443",
// "192.0.2.1:443", "[2001:db8::1]:443"; ":443" where nothing was named.
func (v *Verdict) Destination() string {
	host := v.Name.String()
	if host == "" && v.Addr.IsValid() {
		if host = v.Addr.String(); v.Addr.Is6() {
			host = "[" + host + "]"
		}
	}
	return host + ":" + strconv.Itoa(int(v.Port))
}

// String returns the verdict in one line, such as
// "allow www.googleapis.com:443 by egress-rule/default/googleapis (originate)" or
// "deny www.google.com:443: no-rule".
func (v Verdict) String() string {
	line := v.Action.String() + " " + v.Destination()
	if !v.Passes() {
		return line + ": " + string(v.Reason)
	}
	if v.Rule != nil {
		line += " by " + v.Rule.ID
	}
	return line + " (" + v.Treatment.String() + ")"
}
