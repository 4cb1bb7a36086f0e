package resolve

import (
	"errors"
	"net/netip"
	"slices"
	"testing"

	"sluice.dev/sluice/internal/policy"
)

// special is every entry of IANA's registries of special-purpose addresses (RFC
// 6890) and of multicast, and whether a name may lead into it: never, with the
// rule's consent, or always (those that the registry calls globally reachable and
// that hold ordinary servers).
var special = []struct {
	prefix, name string
	outcome      outcome
}{
	{"0.0.0.0/8", "this network", never},
	{"0.0.0.0/32", "this host on this network", never},
	{"10.0.0.0/8", "private use", withConsent},
	{"100.64.0.0/10", "shared address space", withConsent},
	{"127.0.0.0/8", "loopback", withConsent},
	{"169.254.0.0/16", "link local", withConsent},
	{"172.16.0.0/12", "private use", withConsent},
	{"192.0.0.0/24", "IETF protocol assignments", withConsent},
	{"192.0.0.0/29", "IPv4 service continuity", withConsent},
	{"192.0.0.8/32", "IPv4 dummy address", withConsent},
	{"192.0.0.9/32", "port control protocol anycast", withConsent},
	{"192.0.0.10/32", "TURN anycast", withConsent},
	{"192.0.0.170/31", "NAT64/DNS64 discovery", withConsent},
	{"192.0.2.0/24", "documentation", withConsent},
	{"192.31.196.0/24", "AS112-v4", always},
	{"192.52.193.0/24", "AMT", always},
	{"192.88.99.0/24", "6to4 relay anycast", withConsent},
	{"192.168.0.0/16", "private use", withConsent},
	{"192.175.48.0/24", "direct delegation AS112", always},
	{"198.18.0.0/15", "benchmarking, ours", never},
	{"198.51.100.0/24", "documentation", withConsent},
	{"203.0.113.0/24", "documentation", withConsent},
	{"224.0.0.0/4", "multicast", never},
	{"240.0.0.0/4", "reserved", withConsent},
	{"255.255.255.255/32", "limited broadcast", never},

	{"::/128", "unspecified", never},
	{"::1/128", "loopback", withConsent},
	{"::/96", "IPv4-compatible", withConsent},
	{"::ffff:0:0/96", "IPv4-mapped", never},
	{"::ffff:0:0:0/96", "IPv4-translated (SIIT)", withConsent},
	{"64:ff9b::/96", "IPv4-IPv6 translation", withConsent},
	{"64:ff9b:1::/48", "local IPv4-IPv6 translation", withConsent},
	{"100::/64", "discard only", withConsent},
	{"100:0:0:1::/64", "dummy prefix", withConsent},
	{"2001::/23", "IETF protocol assignments", withConsent},
	{"2001::/32", "Teredo", withConsent},
	{"2001:1::1/128", "port control protocol anycast", withConsent},
	{"2001:1::2/128", "TURN anycast", withConsent},
	{"2001:1::3/128", "DNS-SD SRP anycast", withConsent},
	{"2001:2::/48", "benchmarking, ours", never},
	{"2001:3::/32", "AMT", withConsent},
	{"2001:4:112::/48", "AS112-v6", withConsent},
	{"2001:10::/28", "ORCHID", withConsent},
	{"2001:20::/28", "ORCHIDv2", withConsent},
	{"2001:30::/28", "drone remote ID", withConsent},
	{"2001:db8::/32", "documentation", withConsent},
	{"2002::/16", "6to4", withConsent},
	{"2002:7f00:1::/48", "6to4 that embeds loopback", withConsent},
	{"2002:a9fe:a9fe::/48", "6to4 that embeds a metadata service", withConsent},
	{"2620:4f:8000::/48", "direct delegation AS112", always},
	{"3fff::/20", "documentation", withConsent},
	{"4000::/3", "not assigned", withConsent},
	{"5f00::/16", "segment routing SIDs", withConsent},
	{"fc00::/7", "unique local", withConsent},
	{"fd00:5c::/32", "unique local, ours", never},
	{"fe80::/10", "link-local unicast", withConsent},
	{"fec0::/10", "site local", withConsent},
	{"ff00::/8", "multicast", never},
}

type outcome uint8

const (
	never outcome = iota
	withConsent
	always
)

// Exceptions inside a range that is otherwise to be had with consent.
var neverInside = prefixes("::/128", "::ffff:0:0/96", "255.255.255.255/32", "2001:2::/48", "fd00:5c::/32")

func TestSpecialAddressesAreDialledWithConsentOrNever(t *testing.T) {
	g := new(Guard)
	for _, c := range special {
		prefix := netip.MustParsePrefix(c.prefix)
		for _, a := range []netip.Addr{prefix.Addr(), middle(prefix), last(prefix)} {
			want := c.outcome
			if want == withConsent && holds(neverInside, a) {
				want = never
			}
			if got := g.Dialable(a); got != (want == always) {
				t.Errorf("%s (%s, %s): %v without consent", a, c.prefix, c.name, got)
			}
			for _, consent := range []netip.Prefix{prefix, netip.PrefixFrom(a, a.BitLen()), netip.PrefixFrom(a, 0).Masked()} {
				if got := g.Dialable(a, []netip.Prefix{consent}); got != (want != never) {
					t.Errorf("%s (%s, %s): %v with consent to %s", a, c.prefix, c.name, got, consent)
				}
			}
			// Consent to the other family never counts.
			other := prefixes("0.0.0.0/0")
			if a.Is4() {
				other = prefixes("::/0")
			}
			if got := g.Dialable(a, other); got != (want == always) {
				t.Errorf("%s (%s, %s): %v with consent to %v", a, c.prefix, c.name, got, other)
			}
		}
	}
}

// The guard stands before connect itself, whatever was resolved or proved before.
func TestNoSpecialAddressIsGivenToConnect(t *testing.T) {
	for _, c := range special {
		if c.outcome == always {
			continue
		}
		var sources []netip.Addr
		d := NewDialer(DialerConfig{Sockets: sourceSockets{&sources}})
		prefix := netip.MustParsePrefix(c.prefix)
		for _, a := range []netip.Addr{prefix.Addr(), middle(prefix), last(prefix)} {
			_, err := d.DialAddr(t.Context(), Target{Name: www, Port: 443}, netip.AddrPortFrom(a, 443))
			var e *Error
			if !errors.As(err, &e) || e.Reason() != string(policy.PrivateAddress) || len(sources) != 0 {
				t.Errorf("%s (%s): %v, connect was called %d times", a, c.name, err, len(sources))
			}
		}
	}
}

// Beside each range of IPv4 the public internet begins at once.
func TestTheNeighboursOfSpecialAddressesArePublic(t *testing.T) {
	g := new(Guard)
	for _, a := range []string{
		"1.0.0.0", "9.255.255.255", "11.0.0.0", "100.63.255.255", "100.128.0.0", "126.255.255.255", "128.0.0.0",
		"169.253.255.255", "169.255.0.0", "172.15.255.255", "172.32.0.0", "191.255.255.255", "192.0.1.0", "192.0.3.0",
		"192.88.98.255", "192.88.100.0", "192.167.255.255", "192.169.0.0", "198.17.255.255", "198.20.0.0",
		"198.51.99.255", "198.51.101.0", "203.0.112.255", "203.0.114.0", "223.255.255.255",
		"2001:200::", "2001:db7:ffff:ffff:ffff:ffff:ffff:ffff", "2001:db9::", "2003::", "3ffe:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "2000::1",
	} {
		if !g.Dialable(netip.MustParseAddr(a)) {
			t.Errorf("%s may not be dialled", a)
		}
	}
}

func last(p netip.Prefix) netip.Addr { return filled(p, 0xff) }

// middle is some address inside, neither the first nor the last where there are more.
func middle(p netip.Prefix) netip.Addr { return filled(p, 0x55) }

// filled is the prefix with the bits of a byte in place of those that it leaves open.
func filled(p netip.Prefix, with byte) netip.Addr {
	b := slices.Clone(p.Masked().Addr().AsSlice())
	for bit := p.Bits(); bit < len(b)*8; bit++ {
		b[bit/8] |= with & (1 << (7 - bit%8))
	}
	a, _ := netip.AddrFromSlice(b)
	return a
}
