package policy

import (
	"slices"
	"time"

	"sluice.dev/sluice/internal/refusal"
)

// tier is the rules that hold one destination, as specific as each other, on one
// port.
type tier struct {
	candidates []candidate // in the order of rule IDs
	protocols  protocols
}

// add puts a candidate behind the others.
func (t *tier) add(c candidate) {
	// A rule that lists the same twice: its candidates stand at the end.
	for i := len(t.candidates) - 1; i >= 0 && t.candidates[i].rule == c.rule; i-- {
		if t.candidates[i].protocol == c.protocol {
			return
		}
	}
	t.candidates = append(t.candidates, c)
	t.protocols = t.protocols.with(c.protocol)
}

// order puts candidates that were added or taken out in the order of rule IDs.
func (t *tier) order() {
	slices.SortStableFunc(t.candidates, func(a, b candidate) int { return compareRules(a.rule, b.rule) })
	t.protocols = 0
	for i := range t.candidates {
		t.protocols = t.protocols.with(t.candidates[i].protocol)
	}
}

// candidate is one rule's port in a tier.
type candidate struct {
	rule     *Rule
	protocol Protocol
	consent  *consentLists // the rule's
	idle     time.Duration // its port's
	upstream Upstream      // its port's
}

// judgement is what a tier says of a chain.
type judgement struct {
	rule      *Rule // that allows, or came closest
	protocol  Protocol
	treatment Treatment
	reason    refusal.Reason // "" allows
	consent   *consentLists
	idle      time.Duration
	upstream  uint16
}

// judge returns the first rule that carries what was sniffed, or why none does.
// Where a rule of the tier is meant for what was sniffed (http, https, http2 and
// grpc for HTTP, https and tls for TLS), those for tcp do not count: a path rule must not
// be walked around by calling the same bytes tcp.
func (t *tier) judge(c *Chain) judgement {
	denied := judgement{reason: refusal.ProtocolMismatch}
	if c.Sniffed == ClientHello && c.SNI.IsZero() {
		denied.reason = refusal.NoServerName
	}
	meant := c.Sniffed == HTTP && t.protocols.holdsAny(takesHTTP) || c.Sniffed == ClientHello && t.protocols.holdsAny(takesHello)
	for i := range t.candidates {
		candidate := &t.candidates[i]
		treatment, reason := candidate.carry(c, meant)
		if reason == "" {
			return judgement{rule: candidate.rule, protocol: candidate.protocol, treatment: treatment, consent: candidate.consent, idle: candidate.idle, upstream: candidate.upstream.Port}
		}
		if denied.rule == nil || denied.reason == refusal.ProtocolMismatch && reason != refusal.ProtocolMismatch {
			denied.rule, denied.protocol = candidate.rule, candidate.protocol
			if reason != refusal.ProtocolMismatch {
				denied.reason = reason
			}
		}
	}
	return denied
}

// carry says how this rule's port carries what was sniffed.
func (d *candidate) carry(c *Chain, meant bool) (Treatment, refusal.Reason) {
	mode := d.rule.TLS.Mode
	switch {
	case d.protocol.isTCPFamily():
		// What a rule says of requests cannot be seen in relayed bytes.
		if !meant && !d.rule.NeedsRequest() {
			return Relay, ""
		}
	case c.Sniffed == HTTP:
		treatment := Forward
		switch {
		case d.protocol == ProtocolTLS, d.protocol == ProtocolHTTPS && mode == TLSPassthrough:
			return Refuse, refusal.ProtocolMismatch
		case d.protocol == ProtocolHTTPS, d.upstream.Protocol == ProtocolHTTPS:
			treatment = Originate
		}
		if c.Host.IsZero() && c.Dialled.IsZero() {
			return Refuse, refusal.NoHost
		}
		if reason := d.rule.allowsRequest(c); reason != "" {
			return Refuse, reason
		}
		if treatment == Forward && c.HTTPS {
			return Refuse, refusal.SchemeMismatch
		}
		return treatment, ""
	case c.Sniffed == ClientHello:
		if d.protocol.TakesPlainHTTP() || mode == TLSOriginate || d.rule.NeedsRequest() {
			return Refuse, refusal.ProtocolMismatch
		}
		// No SNI exists for an address (RFC 6066 section 3): its certificate names it.
		if c.SNI.IsZero() && !c.toAddress() {
			return Refuse, refusal.NoServerName
		}
		return Passthrough, ""
	}
	return Refuse, refusal.ProtocolMismatch
}

// toAddress reports whether the connection is to an address and names nobody.
func (c *Chain) toAddress() bool { return c.Dialled.IsZero() && c.Addr.IsValid() }
