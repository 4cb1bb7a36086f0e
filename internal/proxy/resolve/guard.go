package resolve

import "net/netip"

// Guard knows the addresses that a resolved name must not lead to. The zero
// value knows all but Own.
type Guard struct {
	// Own is further addresses that are nobody else's, such as those on which
	// this machine serves: they are treated as private ones.
	Own []netip.Prefix
}

// neverDialled is not to be had by consent either: Sluice's own addresses, and
// what is no single host.
var neverDialled = prefixes(
	"0.0.0.0/8",          // "this network"; 0.0.0.0 is this host (RFC 6890)
	"198.18.0.0/15",      // ours: gates, workloads, synthetic addresses (RFC 2544)
	"224.0.0.0/4",        // multicast (RFC 5771)
	"255.255.255.255/32", // broadcast (RFC 919)
	"::/128",             // unspecified
	"2001:2::/48",        // ours: synthetic addresses (RFC 5180)
	"fd00:5c::/32",       // ours: gates and workloads
	"ff00::/8",           // multicast (RFC 4291)
)

// private is what only a rule's consent opens. In v6, everything outside 2000::/3
// is private besides (RFC 4291, section 2.4).
var private = prefixes(
	"10.0.0.0/8",      // private (RFC 1918)
	"100.64.0.0/10",   // behind a carrier's NAT (RFC 6598)
	"127.0.0.0/8",     // loopback
	"169.254.0.0/16",  // link-local, metadata services (RFC 3927)
	"172.16.0.0/12",   // private
	"192.0.0.0/24",    // protocol assignments (RFC 6890)
	"192.0.2.0/24",    // documentation (RFC 5737)
	"192.88.99.0/24",  // 6to4 relays (RFC 7526)
	"192.168.0.0/16",  // private
	"198.51.100.0/24", // documentation
	"203.0.113.0/24",  // documentation
	"240.0.0.0/4",     // reserved (RFC 1112)
	"2001::/23",       // protocol assignments: Teredo, ORCHID (RFC 2928)
	"2001:db8::/32",   // documentation (RFC 3849)
	"2002::/16",       // 6to4: holds an IPv4 address (RFC 3056)
	"3fff::/20",       // documentation (RFC 9637)
)

// globalUnicast holds all public IPv6 addresses. Outside it lie loopback,
// v4-compatible addresses, NAT64 (64:ff9b::/96, 64:ff9b:1::/48),
// unique local, link-local and site-local ones.
var globalUnicast = netip.MustParsePrefix("2000::/3")

func prefixes(texts ...string) []netip.Prefix {
	all := make([]netip.Prefix, len(texts))
	for i, text := range texts {
		all[i] = netip.MustParsePrefix(text)
	}
	return all
}

// Dialable reports whether a may be dialled: a public address, or one that lies
// in a prefix of consent. Sluice's own addresses, multicast, broadcast and
// unspecified ones never are. Nor is a v4-mapped address, whatever it holds: the
// kernel dials the IPv4 address inside, to which consent in IPv6 ("::/0") was not
// given.
func (g *Guard) Dialable(a netip.Addr, consent ...[]netip.Prefix) bool {
	if !a.IsValid() || a.Zone() != "" || a.Is4In6() || holds(neverDialled, a) {
		return false
	}
	if !g.isPrivate(a) {
		return true
	}
	for _, prefixes := range consent {
		if holds(prefixes, a) {
			return true
		}
	}
	return false
}

func (g *Guard) isPrivate(a netip.Addr) bool {
	return a.Is6() && !globalUnicast.Contains(a) || holds(private, a) || holds(g.Own, a)
}

// holds is false for a v4-mapped address and an IPv4 prefix, as Contains is.
func holds(prefixes []netip.Prefix, a netip.Addr) bool {
	for _, p := range prefixes {
		if p.Contains(a) {
			return true
		}
	}
	return false
}
