package dnsserver

import (
	"encoding/hex"
	"net/netip"
	"strings"

	"sluice.dev/sluice/internal/names"
)

// isLocalhost reports whether n is localhost or below it (RFC 6761, section 6.3).
func isLocalhost(n names.Name) bool {
	s := n.String()
	return s == "localhost" || strings.HasSuffix(s, ".localhost")
}

// parseReverse returns the address whose PTR name n is. ok says that n lies in
// one of the two reverse trees; the address is then the zero one when n is no
// whole address.
func parseReverse(n names.Name) (a netip.Addr, ok bool) {
	s := n.String()
	if s == "in-addr.arpa" || s == "ip6.arpa" {
		return netip.Addr{}, true
	}
	if octets, ok := strings.CutSuffix(s, ".in-addr.arpa"); ok {
		return parseReverse4(octets), true
	}
	if nibbles, ok := strings.CutSuffix(s, ".ip6.arpa"); ok {
		return parseReverse6(nibbles), true
	}
	return netip.Addr{}, false
}

func parseReverse4(octets string) netip.Addr {
	parts := strings.Split(octets, ".")
	if len(parts) != 4 {
		return netip.Addr{}
	}
	parts[0], parts[1], parts[2], parts[3] = parts[3], parts[2], parts[1], parts[0]
	a, _ := netip.ParseAddr(strings.Join(parts, ".")) // the zero Addr on an error
	return a
}

func parseReverse6(nibbles string) netip.Addr {
	if len(nibbles) != 63 { // 32 digits and the dots between them
		return netip.Addr{}
	}
	var digits [32]byte
	for i := range digits {
		digits[31-i] = nibbles[2*i]
		if i > 0 && nibbles[2*i-1] != '.' {
			return netip.Addr{}
		}
	}
	var b [16]byte
	if _, err := hex.Decode(b[:], digits[:]); err != nil {
		return netip.Addr{}
	}
	return netip.AddrFrom16(b)
}
