package policy

import (
	"net/netip"

	"sluice.dev/sluice/internal/names"
)

// DeniesAll returns the reason with which s denies everything, whatever its rules
// say, or "". It counts for calls inside the mesh too, about which there is
// nothing else to decide.
func (s *Set) DeniesAll() Reason { return s.deny }

// MayAllow reports whether some chain that begins with this port and the name
// behind the synthetic address, or else the address that was dialled, can be
// allowed. Where it is false, nothing that the client says opens anything.
func (s *Set) MayAllow(port uint16, name names.Name, addr netip.Addr) bool {
	table := s.ports[port]
	switch {
	case s.deny != "" || table == nil:
		return false
	case table.hasAddrs():
		return true // whatever name there is may lead into them
	case name.IsZero():
		return table.nameProtocols != 0 // an SNI or Host can still be such a name
	}
	_, ok := table.names.Lookup(name)
	return ok
}
