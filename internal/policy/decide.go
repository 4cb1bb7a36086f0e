// Package policy decides. It holds compiled rules and Decide, a pure function of
// rules and what one connection or request showed: no I/O, no clock, no logging.
// The proxy, `sluice why` and the tests call the same function, so what a denial
// says is what the gate did.
package policy

import (
	"sluice.dev/sluice/internal/refusal"
)

// Decide says what becomes of a connection or request. It does not allocate and
// keeps nothing of c.
//
// The links of the chain must tell one story (destination). Then, of the rules
// that hold the port, the most specific tier on the destination decides, and in
// it the union of its rules. A name that no rule on names holds is allowed by
// rules on addresses, within them. Where the outbound default is Audit, what no
// rule allows passes; whatever else is wrong with it is denied all the same.
func (s *Set) Decide(c *Chain) Verdict {
	v := Verdict{Port: c.Port, Transport: c.Transport}
	key := portOf(c.Transport, c.Port)
	table := s.ports[key]
	if c.Sniffed == HTTP && table != nil && s.asBytes(key, table, c.Dialled, c.Addr) {
		bytes := c.withoutRequest()
		c = &bytes
	}
	v.Name, v.Addr, v.Reason = c.destination()
	if s.deny != "" {
		v.Reason = s.deny
		return v
	}
	if v.Reason == "" && !s.domain.IsZero() && v.Name.Within(s.domain) {
		v.Reason = refusal.MeshName
	}
	if v.Reason != "" {
		return v
	}
	switch {
	case table == nil:
		v.Reason = nothingMatches(c, &v, false)
	case !v.Name.IsZero():
		if t, ok := s.nameTier(key, v.Name); ok {
			v.settle(t.judge(c))
		} else if table.hasAddrs() {
			v.settle(table.judgeWithin(c))
		} else {
			v.Reason = nothingMatches(c, &v, true)
		}
	default:
		if t, ok := table.lookupAddr(v.Addr); ok {
			v.settle(t.judge(c))
		} else {
			v.Reason = nothingMatches(c, &v, table.nameProtocols != 0)
		}
	}
	if v.Reason == refusal.NoRule && s.audits() {
		s.audit(c, &v)
	}
	if !v.Passes() {
		return v
	}
	if c.Sniffed == Unseen && !s.AtConnect(c.Transport, c.Port, c.Dialled, c.Addr).ServerFirst {
		return v.Denied(refusal.ProtocolMismatch)
	}
	if v.Name.IsZero() {
		if reason := v.Consent.Judge(v.Addr); reason != "" {
			return v.Denied(reason)
		}
	}
	v.ECH = c.ECH && !v.Name.IsZero()
	return v
}

// withoutRequest is the chain of the same connection where nothing of HTTP is
// looked at.
func (c *Chain) withoutRequest() Chain {
	return Chain{Source: c.Source, Transport: c.Transport, Port: c.Port, Dialled: c.Dialled, Addr: c.Addr, Sniffed: Opaque}
}

// Denied is v with all that would let it pass taken away.
func (v *Verdict) Denied(reason refusal.Reason) Verdict {
	return Verdict{Reason: reason, Rule: v.Rule, Name: v.Name, Addr: v.Addr, Port: v.Port, Transport: v.Transport, Protocol: v.Protocol}
}

// nothingMatches returns the reason when no rule holds the destination.
func nothingMatches(c *Chain, v *Verdict, namesOnPort bool) refusal.Reason {
	switch {
	case c.Sniffed == ClientHello && c.SNI.IsZero():
		return refusal.NoServerName
	case c.Sniffed == HTTP && v.Name.IsZero() && !c.Host.Addr.IsValid():
		return refusal.NoHost
	case v.Name.IsZero() && namesOnPort:
		return refusal.AddressLiteral
	default:
		return refusal.NoRule
	}
}

// settle writes a tier's judgement into the verdict.
func (v *Verdict) settle(j judgement) {
	v.Rule, v.Protocol, v.Reason = j.rule, j.protocol, j.reason
	if j.reason == "" {
		v.Action, v.Treatment, v.Consent, v.IdleTimeout = Allow, j.treatment, Consent{j.consent}, j.idle
		v.Upstream = j.upstream
	}
}
