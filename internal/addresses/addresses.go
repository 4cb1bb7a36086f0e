// Package addresses holds the one table of addresses that mean something of their
// own: IANA's special-purpose blocks, the platforms of clouds, and Sluice's ranges.
// Rules, the dialer, validation and explanations ask it whether an address is
// special and whether a range is consent to it. It never decides what is allowed,
// and it never looks at this machine or at DNS.
package addresses

import "net/netip"

// Sluice's own ranges: gates, the addresses of workloads, and the synthetic ones
// that stand for names. RFC 2544 and RFC 5180 set the first two aside for
// benchmarks of network devices; the third is unique local (RFC 4193).
var (
	own4      = netip.PrefixFrom(netip.AddrFrom4([4]byte{198, 18}), 15)
	own6Bench = netip.PrefixFrom(netip.AddrFrom16([16]byte{0x20, 0x01, 0x00, 0x02}), 48)
	own6Local = netip.PrefixFrom(netip.AddrFrom16([16]byte{0: 0xfd, 3: 0x5c}), 32)
)

var (
	thisNetwork = netip.PrefixFrom(netip.IPv4Unspecified(), 8)
	multicast4  = netip.PrefixFrom(netip.AddrFrom4([4]byte{224}), 4)
	multicast6  = netip.PrefixFrom(netip.AddrFrom16([16]byte{0xff}), 8)
	mapped      = netip.PrefixFrom(netip.AddrFrom16([16]byte{10: 0xff, 11: 0xff}), 96)
	broadcast   = netip.AddrFrom4([4]byte{255, 255, 255, 255})
)

// OwnPrefixes returns Sluice's own ranges: 198.18.0.0/15, 2001:2::/48 and
// fd00:5c::/32. The slice is the caller's.
func OwnPrefixes() []netip.Prefix { return []netip.Prefix{own4, own6Bench, own6Local} }

// Own reports whether a lies in one of Sluice's own ranges. The IPv4-mapped and the
// zoned spelling of such an address are Sluice's too: a kernel that is given them
// connects to it.
func Own(a netip.Addr) bool {
	a = a.Unmap().WithZone("")
	return own4.Contains(a) || own6Bench.Contains(a) || own6Local.Contains(a)
}

// InOwn reports whether p lies wholly inside one of Sluice's own ranges, however it
// is spelled (IPv4-mapped, unmasked).
func InOwn(p netip.Prefix) bool {
	if p.Addr().Is4In6() && p.Bits() >= 96 {
		p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
	}
	return within(p, own4) || within(p, own6Bench) || within(p, own6Local)
}

// AllUndialable reports whether no address of p is ever dialled.
func AllUndialable(p netip.Prefix) bool {
	return InOwn(p) || within(p, thisNetwork) || within(p, multicast4) || within(p, multicast6) || within(p, mapped) ||
		p.IsSingleIP() && Undialable(p.Addr())
}

func within(p, outer netip.Prefix) bool {
	return p.IsValid() && outer.Bits() <= p.Bits() && outer.Contains(p.Addr())
}

// Undialable reports whether a is never dialled, not with consent either: Sluice's
// own ranges, 0.0.0.0/8 (RFC 791), multicast, broadcast, unspecified, IPv4-mapped,
// zoned and invalid addresses. Of an IPv4-mapped one the kernel would dial the IPv4
// address inside, to which consent in IPv6 was not given: who means that address
// unmaps it first.
func Undialable(a netip.Addr) bool {
	return !a.IsValid() || a.Zone() != "" || a.Is4In6() || a.IsUnspecified() || a.IsMulticast() ||
		a == broadcast || thisNetwork.Contains(a) || Own(a)
}
