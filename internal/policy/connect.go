package policy

import (
	"net/netip"
	"slices"

	"sluice.dev/sluice/internal/names"
	"sluice.dev/sluice/internal/refusal"
)

// Connect is what the rules say of a connection before a byte of it was read.
type Connect struct {
	// Possible: something that the client may say can be allowed. Where it is
	// false, nothing that the client says opens anything.
	Possible bool
	// AsBytes: only tcp rules can match, so nothing of an HTTP request is looked
	// at: no rule on names of that port could claim it by its Host.
	AsBytes bool
	// ServerFirst: dial before the client has said anything, for the server may
	// speak first; Decide with Unseen says by which rule.
	ServerFirst bool
	// Hello: some rule of the port may let TLS pass that the client begins.
	Hello bool
	// Watch: some rule of the port is about requests or names, so that a client which
	// says too little to be known must be looked at when it says more. Bytes that
	// nobody looks at would walk around that rule.
	Watch bool
}

// AtConnect says what to do with a connection to a port, given the name behind the
// synthetic address, or else the address that was dialled. Decide keeps to what it
// says.
func (s *Set) AtConnect(transport Transport, port uint16, dialled names.Name, addr netip.Addr) Connect {
	if s.deny != "" {
		return Connect{}
	}
	key := portOf(transport, port)
	table := s.ports[key]
	if table == nil {
		return Connect{Possible: s.audits(), Hello: s.audits()}
	}
	bytes := s.asBytes(key, table, dialled, addr)
	return Connect{
		Possible: s.audits() || s.mayAllow(key, table, dialled), AsBytes: bytes, ServerFirst: bytes,
		Hello: s.audits() || (table.nameProtocols | table.addrProtocols).holdsAny(takesHello),
		Watch: !bytes && !(table.nameProtocols | table.addrProtocols).only(tcpFamily),
	}
}

// RelaysOn reports whether some rule relays any bytes to a port: elsewhere AtConnect says
// of nothing that its server is to speak first.
func (s *Set) RelaysOn(transport Transport, port uint16) bool {
	table := s.ports[portOf(transport, port)]
	return table != nil && (table.nameProtocols | table.addrProtocols).holdsAny(tcpFamily)
}

// mayAllow reports whether some chain to the port that begins with the name can be
// allowed.
func (s *Set) mayAllow(key portKey, t *portTable, dialled names.Name) bool {
	switch {
	case t.hasAddrs():
		return true // whatever name there is may lead into them
	case dialled.IsZero():
		return t.nameProtocols != 0 // an SNI or Host can still be such a name
	}
	_, ok := s.nameTier(key, dialled)
	return ok
}

// asBytes reports whether only tcp rules hold the destination, and no rule on names
// for HTTP or TLS could claim what is said to it. Whoever dials chooses the name under
// a wildcard, or one that leads into a range, and with it the address: only a name that
// a tcp rule spells out is taken at its word.
func (s *Set) asBytes(key portKey, t *portTable, dialled names.Name, addr netip.Addr) bool {
	if !(t.nameProtocols | t.addrProtocols).holdsAny(tcpFamily) {
		return false
	}
	if !dialled.IsZero() {
		at, ok := s.nameTier(key, dialled)
		if ok {
			return at.protocols.only(tcpFamily) && (t.nameProtocols.only(tcpFamily) || at.spellsOut(dialled))
		}
		return t.hasAddrs() && t.addrProtocols.only(tcpFamily) && t.nameProtocols.only(tcpFamily)
	}
	// A hard-coded address: an SNI or Host could still name anything on the port
	// that a rule on names for HTTP or TLS holds.
	at, ok := t.lookupAddr(addr.Unmap())
	return ok && at.protocols.only(tcpFamily) && t.nameProtocols.only(tcpFamily)
}

// spellsOut reports whether the tier of a name is that of the name itself, and not of a
// wildcard.
func (t *tier) spellsOut(name names.Name) bool {
	return slices.ContainsFunc(t.candidates, func(c candidate) bool { return c.rule.SpellsOut(name) })
}

// DeniesAll returns the reason with which s denies everything, whatever its rules
// say, or "". It counts for calls inside the mesh too, about which there is
// nothing else to decide.
func (s *Set) DeniesAll() refusal.Reason { return s.deny }
