package policy

import (
	"net/netip"
	"time"

	"sluice.dev/sluice/internal/names"
	"sluice.dev/sluice/internal/refusal"
)

// Action is what a verdict comes to.
type Action uint8

const (
	Deny  Action = iota // the zero Verdict denies
	Audit               // no rule allows it; it passes because the mesh asks to see what rules would deny
	Allow
)

// Treatment is how a connection or request that passes is carried.
type Treatment uint8

const (
	Refuse      Treatment = iota
	Forward               // plain HTTP to a plain HTTP upstream
	Originate             // plain HTTP in, TLS out, verified
	Passthrough           // TLS passed by SNI, undecrypted
	Relay                 // bytes of TCP
	Mesh                  // to a workload of the mesh
)

// Obligation is something that must be done before what a verdict allows may go
// on, such as to take from a quota. Whoever acts on a verdict refuses it where it
// does not know an obligation of it.
type Obligation struct {
	Kind string // none is supported yet
	Rule string // that asks for it
}

// Verdict is what Decide says: all that anybody needs further down. The zero value
// denies.
type Verdict struct {
	Action    Action
	Reason    refusal.Reason // why it was denied, or would be (Audit); "" when allowed
	Rule      *Rule          // that let it pass; on a denial the one that came closest, or nil
	Treatment Treatment
	Name      names.Name // the name that was decided on; zero when only an address was
	Addr      netip.Addr // the address, when no name was
	Port      uint16
	Upstream  uint16 // the port that is dialled in its place; 0: that
	Transport Transport
	Protocol  Protocol // of the rule's port that matched
	Consent   Consent  // what may be dialled

	// IdleTimeout is how long what is carried as bytes may move nothing; 0 is the default.
	IdleTimeout time.Duration

	// ECH says that the ClientHello carried encrypted_client_hello although the
	// names agree. It may pass as GREASE only if a handshake of our own that
	// sends GREASE too gets no retry_configs; else deny EncryptedHello.
	ECH bool

	Obligations []Obligation // shared, not to be changed
}

// DialPort is the port that is dialled.
func (v *Verdict) DialPort() uint16 {
	if v.Upstream != 0 {
		return v.Upstream
	}
	return v.Port
}

// Passes reports whether the connection or request may go on.
func (v *Verdict) Passes() bool { return v.Action != Deny }
