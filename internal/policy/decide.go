// Package policy decides. It holds compiled rules and Decide, a pure function of
// rules and what one connection or request showed: no I/O, no clock, no logging.
// The proxy, `sluice why` and the tests call the same function, so what a denial
// says is what the gate did.
package policy

import (
	"net/netip"

	"sluice.dev/sluice/internal/names"
)

// Decide says what becomes of a connection or request. It does not allocate and
// keeps nothing of c.
//
// The links of the chain must tell one story (destination). Then, of the rules
// that hold the port, the most specific tier on the destination decides, and in
// it the union of its rules. A name that no rule on names holds is allowed by
// rules on addresses, within them.
func (s *Set) Decide(c *Chain) Verdict {
	v := Verdict{Port: c.Port}
	if s.deny != "" {
		v.Name, v.Addr, _ = c.destination()
		v.Reason = s.deny
		return v
	}
	v.Name, v.Addr, v.Reason = c.destination()
	if v.Reason != "" {
		return v
	}
	table := s.ports[c.Port]
	switch {
	case table == nil:
		v.Reason = nothingMatches(c, &v, false)
	case !v.Name.IsZero():
		if t, ok := table.names.Lookup(v.Name); ok {
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
			v.Reason = nothingMatches(c, &v, table.names.Len() > 0)
		}
	}
	if v.Action == Allow && c.Sniffed == Unseen && s.Expect(c.Port, c.Dialled, c.Addr) == Sniff {
		return Verdict{Reason: ProtocolMismatch, Rule: v.Rule, Name: v.Name, Addr: v.Addr, Port: v.Port, Protocol: v.Protocol}
	}
	v.ECH = v.Action == Allow && c.ECH && !v.Name.IsZero()
	return v
}

// nothingMatches returns the reason when no rule holds the destination.
func nothingMatches(c *Chain, v *Verdict, namesOnPort bool) Reason {
	switch {
	case c.Sniffed == ClientHello && c.SNI.IsZero():
		return NoServerName
	case c.Sniffed == HTTP && v.Name.IsZero() && !c.Host.Addr.IsValid():
		return NoHost
	case v.Name.IsZero() && namesOnPort:
		return AddressLiteral
	default:
		return NoRule
	}
}

// settle writes a tier's judgement into the verdict.
func (v *Verdict) settle(j judgement) {
	v.Rule, v.Protocol, v.Reason, v.Within, v.consent = j.rule, j.protocol, j.reason, j.within, j.consent
	if j.reason == "" {
		v.Action, v.Treatment = Allow, j.treatment
	}
}

// Expectation is what to expect of a connection before a byte of it was read.
type Expectation uint8

const (
	// Sniff: read what the client sends first, then Decide.
	Sniff Expectation = iota
	// ServerFirst: only tcp rules can match, so dial at once, for the server may
	// speak first; Decide with Unseen says by which rule.
	ServerFirst
)

// String returns the expectation's word.
func (e Expectation) String() string {
	if e == ServerFirst {
		return "server-first"
	}
	return "sniff"
}

// Expect tells the gate at connection time whether a server-first protocol is
// the only one that could be meant by a connection to port, given the name
// behind the synthetic address, or else the address that was dialled.
func (s *Set) Expect(port uint16, name names.Name, addr netip.Addr) Expectation {
	table := s.ports[port]
	if s.deny != "" || table == nil {
		return Sniff
	}
	if !name.IsZero() {
		t, ok := table.names.Lookup(name)
		if ok && t.protocols.only(tcpFamily) || !ok && table.hasAddrs() && table.addrProtocols.only(tcpFamily) {
			return ServerFirst
		}
		return Sniff
	}
	// A hard-coded address: an SNI or Host could still name anything on the port.
	if t, ok := table.lookupAddr(addr.Unmap()); ok && t.protocols.only(tcpFamily) && table.nameProtocols.only(tcpFamily) {
		return ServerFirst
	}
	return Sniff
}
