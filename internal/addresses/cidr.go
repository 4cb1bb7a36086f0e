package addresses

import (
	"errors"
	"fmt"
	"net/netip"
)

// ParseCIDR reads a range ("10.1.0.0/16", "2001:db8::/32") or one address, which
// becomes the range of itself. It refuses zones, IPv4-mapped addresses, and ranges
// with bits set beyond their prefix, each with what to write.
func ParseCIDR(s string) (netip.Prefix, error) {
	if addr, err := netip.ParseAddr(s); err == nil {
		switch {
		case addr.Zone() != "":
			return netip.Prefix{}, errors.New("an address here has no zone")
		case addr.Is4In6():
			return netip.Prefix{}, fmt.Errorf("an IPv4-mapped address: write %s", addr.Unmap())
		}
		return netip.PrefixFrom(addr, addr.BitLen()), nil
	}
	prefix, err := netip.ParsePrefix(s)
	switch {
	case err != nil:
		return netip.Prefix{}, fmt.Errorf("%s is not a valid CIDR block or address", s)
	case prefix.Addr().Is4In6():
		return netip.Prefix{}, errors.New("IPv4-mapped addresses: write the IPv4 range")
	case prefix != prefix.Masked():
		return netip.Prefix{}, fmt.Errorf("%s has bits set beyond its prefix: write %s, or %s for the one address", s, prefix.Masked(), prefix.Addr())
	}
	return prefix, nil
}
