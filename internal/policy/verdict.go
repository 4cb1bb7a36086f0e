package policy

import (
	"net/netip"

	"sluice.dev/sluice/internal/names"
)

// Action is what a verdict comes to.
type Action uint8

const (
	Deny Action = iota // the zero Verdict denies
	Allow
)

// Treatment is how an allowed connection or request is carried.
type Treatment uint8

const (
	Refuse      Treatment = iota
	Forward               // plain HTTP to a plain HTTP upstream
	Originate             // plain HTTP in, TLS out, verified
	Passthrough           // TLS passed by SNI, undecrypted
	Relay                 // bytes of TCP
)

// Verdict is what Decide says. The zero value denies.
type Verdict struct {
	Action    Action
	Reason    Reason // why it was denied; "" when allowed
	Rule      *Rule  // the rule that allowed; on a denial the one that came closest, or nil
	Treatment Treatment
	Name      names.Name // the name that was decided on; zero when only an address was
	Addr      netip.Addr // the address, when no name was
	Port      uint16
	Protocol  Protocol       // of the rule's port that matched
	Within    []netip.Prefix // not nil: dial only answers inside (a name that only address rules allow); shared, not to be changed

	// ECH says that the ClientHello carried encrypted_client_hello although the
	// names agree. It may pass as GREASE only if a handshake of our own that
	// sends GREASE too gets no retry_configs; else deny EncryptedHello.
	ECH bool

	consent []netip.Prefix // the ranges of rules that Within was cut from
}

// ConsentsTo reports whether the rule that allowed consents to an answer that is
// not public: it lists it under privateAnswers, or is itself a rule on addresses
// that hold it. A range of all addresses is no such consent: it says "anywhere",
// not "here".
func (v *Verdict) ConsentsTo(answer netip.Addr) bool {
	answer = answer.Unmap()
	if v.Action != Allow || v.Rule == nil {
		return false
	}
	return holds(v.Rule.PrivateAnswers, answer) || holds(v.Rule.CIDRs, answer) || holds(v.consent, answer) || v.Addr == answer
}

func holds(ranges []netip.Prefix, addr netip.Addr) bool {
	for _, r := range ranges {
		if r = unmapPrefix(r); r.Bits() > 0 && r.Contains(addr) {
			return true
		}
	}
	return false
}
