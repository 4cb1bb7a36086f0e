package addresses

import (
	"net/netip"
	"strings"
	"testing"
)

// Every row of the table, and whether a rule on just that block is consent to it.
var everyRow = []struct {
	prefix, name, source string
	noConsent            bool
}{
	{"0.0.0.0/8", "This network", "RFC 791 section 3.2", false},
	{"0.0.0.0/32", "This host on this network", "RFC 1122 section 3.2.1.3", false},
	{"10.0.0.0/8", "Private-Use", "RFC 1918", false},
	{"100.64.0.0/10", "Shared Address Space", "RFC 6598", false},
	{"127.0.0.0/8", "Loopback", "RFC 1122 section 3.2.1.3", false},
	{"169.254.0.0/16", "Link Local", "RFC 3927", false},
	{"172.16.0.0/12", "Private-Use", "RFC 1918", false},
	{"192.0.0.0/24", "IETF Protocol Assignments", "RFC 6890 section 2.1", false},
	{"192.0.0.0/29", "IPv4 Service Continuity Prefix", "RFC 7335", false},
	{"192.0.0.8/32", "IPv4 dummy address", "RFC 7600", false},
	{"192.0.0.9/32", "Port Control Protocol Anycast", "RFC 7723", false},
	{"192.0.0.10/32", "Traversal Using Relays around NAT Anycast", "RFC 8155", false},
	{"192.0.0.170/32", "NAT64/DNS64 Discovery", "RFC 8880", false},
	{"192.0.0.171/32", "NAT64/DNS64 Discovery", "RFC 8880", false},
	{"192.0.2.0/24", "Documentation (TEST-NET-1)", "RFC 5737", false},
	{"192.31.196.0/24", "AS112-v4", "RFC 7535", false},
	{"192.52.193.0/24", "AMT", "RFC 7450", false},
	{"192.88.99.0/24", "Deprecated (6to4 Relay Anycast)", "RFC 7526", false},
	{"192.88.99.2/32", "6a44-relay anycast address", "RFC 6751", false},
	{"192.168.0.0/16", "Private-Use", "RFC 1918", false},
	{"192.175.48.0/24", "Direct Delegation AS112 Service", "RFC 7534", false},
	{"198.18.0.0/15", "Benchmarking", "RFC 2544", false},
	{"198.51.100.0/24", "Documentation (TEST-NET-2)", "RFC 5737", false},
	{"203.0.113.0/24", "Documentation (TEST-NET-3)", "RFC 5737", false},
	{"240.0.0.0/4", "Reserved", "RFC 1112 section 4", false},
	{"255.255.255.255/32", "Limited Broadcast", "RFC 919 section 7", false},
	{"::1/128", "Loopback Address", "RFC 4291", false},
	{"::/128", "Unspecified Address", "RFC 4291", false},
	{"::ffff:0:0/96", "IPv4-mapped Address", "RFC 4291", false},
	{"64:ff9b::/96", "IPv4-IPv6 Translation", "RFC 6052", false},
	{"64:ff9b:1::/48", "IPv4-IPv6 Translation", "RFC 8215", false},
	{"100::/64", "Discard-Only Address Block", "RFC 6666", false},
	{"100:0:0:1::/64", "Dummy IPv6 Prefix", "RFC 9780", false},
	{"2001::/23", "IETF Protocol Assignments", "RFC 2928", false},
	{"2001::/32", "Teredo", "RFC 4380", false},
	{"2001:1::1/128", "Port Control Protocol Anycast", "RFC 7723", false},
	{"2001:1::2/128", "Traversal Using Relays around NAT Anycast", "RFC 8155", false},
	{"2001:1::3/128", "DNS-SD Service Registration Protocol Anycast", "RFC 9665", false},
	{"2001:2::/48", "Benchmarking", "RFC 5180", false},
	{"2001:3::/32", "AMT", "RFC 7450", false},
	{"2001:4:112::/48", "AS112-v6", "RFC 7535", false},
	{"2001:10::/28", "Deprecated (previously ORCHID)", "RFC 4843", false},
	{"2001:20::/28", "ORCHIDv2", "RFC 7343", false},
	{"2001:30::/28", "Drone Remote ID Protocol Entity Tags (DETs) Prefix", "RFC 9374", false},
	{"2001:db8::/32", "Documentation", "RFC 3849", false},
	{"2002::/16", "6to4", "RFC 3056", false},
	{"2620:4f:8000::/48", "Direct Delegation AS112 Service", "RFC 7534", false},
	{"3fff::/20", "Documentation", "RFC 9637", false},
	{"5f00::/16", "Segment Routing (SRv6) SIDs", "RFC 9602", false},
	{"fc00::/7", "Unique-Local", "RFC 4193", false},
	{"fe80::/10", "Link-Local Unicast", "RFC 4291", false},

	{"224.0.0.0/4", "Multicast", "RFC 5771", false},
	{"ff00::/8", "Multicast", "RFC 4291", false},

	{"::/8", "Reserved by IETF", "RFC 4291", true},
	{"100::/8", "Reserved by IETF", "RFC 4291", true},
	{"200::/7", "Reserved by IETF (previously NSAP)", "RFC 4048", false},
	{"400::/6", "Reserved by IETF", "RFC 4291", false},
	{"800::/5", "Reserved by IETF", "RFC 4291", false},
	{"1000::/4", "Reserved by IETF", "RFC 4291", false},
	{"4000::/3", "Reserved by IETF", "RFC 4291", true},
	{"6000::/3", "Reserved by IETF", "RFC 4291", false},
	{"8000::/3", "Reserved by IETF", "RFC 4291", false},
	{"a000::/3", "Reserved by IETF", "RFC 4291", false},
	{"c000::/3", "Reserved by IETF", "RFC 4291", false},
	{"e000::/4", "Reserved by IETF", "RFC 4291", false},
	{"f000::/5", "Reserved by IETF", "RFC 4291", false},
	{"f800::/6", "Reserved by IETF", "RFC 4291", false},
	{"fe00::/9", "Reserved by IETF", "RFC 4291", false},

	{"::/96", "Deprecated (IPv4-compatible Address)", "RFC 4291 section 2.5.5.1", false},
	{"::ffff:0:0:0/96", "IPv4-translated Address", "RFC 2765", false},
	{"fec0::/10", "Deprecated (Site-Local)", "RFC 3879", false},

	{"168.63.129.16/32", "Azure platform", "learn.microsoft.com/azure/virtual-network/what-is-ip-address-168-63-129-16", false},
	{"161.26.0.0/16", "IBM Cloud infrastructure services", "cloud.ibm.com/docs/vpc", false},
	{"166.8.0.0/14", "IBM Cloud service endpoints", "cloud.ibm.com/docs/vpc", false},
	{"35.199.192.0/19", "Google Cloud DNS and proxies", "cloud.google.com/vpc/docs/routes", false},
}

func TestEveryRowOfTheRegistriesIsSpecial(t *testing.T) {
	held := map[netip.Prefix]bool{}
	for _, c := range everyRow {
		prefix := netip.MustParsePrefix(c.prefix)
		held[prefix] = true
		for _, a := range []netip.Addr{prefix.Addr(), filled(prefix, 0x55), filled(prefix, 0xff)} {
			got, ok := Special(a)
			if !ok || !prefix.Overlaps(got.Prefix) || got.Prefix.Bits() < prefix.Bits() {
				t.Errorf("%s, in %s, is special: %v, of %v", a, c.prefix, ok, got)
			}
			if got.Prefix == prefix && (got.Name != c.name || got.Source != c.source) {
				t.Errorf("%s is of %v, want %s, %s", a, got, c.name, c.source)
			}
		}
		if InOneBlock(prefix) == c.noConsent {
			t.Errorf("a rule on %s is consent to it: %v", c.prefix, !c.noConsent)
		}
		if !OverlapsSpecial(prefix) {
			t.Errorf("%s overlaps no special address", c.prefix)
		}
	}
	all, err := readRows(specialCSV)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range all {
		if !held[r.Prefix] {
			t.Errorf("no test holds the row of %v", r.Block)
		}
	}
	if len(all) != len(everyRow) {
		t.Errorf("the table has %d rows, the test %d", len(all), len(everyRow))
	}
}

// Where a purpose lies inside another one, the narrower is named.
func TestTheNarrowestBlockIsNamed(t *testing.T) {
	for address, want := range map[string]string{
		"10.1.2.3":          "10.0.0.0/8 (Private-Use, RFC 1918)",
		"192.0.0.8":         "192.0.0.8/32 (IPv4 dummy address, RFC 7600)",
		"192.0.0.192":       "192.0.0.0/24 (IETF Protocol Assignments, RFC 6890 section 2.1)",
		"100.100.100.200":   "100.64.0.0/10 (Shared Address Space, RFC 6598)",
		"169.254.169.254":   "169.254.0.0/16 (Link Local, RFC 3927)",
		"255.255.255.255":   "255.255.255.255/32 (Limited Broadcast, RFC 919 section 7)",
		"fd00:ec2::254":     "fc00::/7 (Unique-Local, RFC 4193)",
		"fe80::1%eth0":      "fe80::/10 (Link-Local Unicast, RFC 4291)",
		"::7f00:1":          "::/96 (Deprecated (IPv4-compatible Address), RFC 4291 section 2.5.5.1)",
		"::ffff:93.184.1.1": "::ffff:0.0.0.0/96 (IPv4-mapped Address, RFC 4291)",
		"2001::1":           "2001::/32 (Teredo, RFC 4380)",
		"2001:100::1":       "2001::/23 (IETF Protocol Assignments, RFC 2928)",
		"7fff::1":           "6000::/3 (Reserved by IETF, RFC 4291)",
	} {
		if got, ok := Special(netip.MustParseAddr(address)); !ok || got.String() != want {
			t.Errorf("%s is of %v, want %s", address, got, want)
		}
	}
}

// Beside each block the public internet begins at once.
func TestTheNeighboursOfSpecialAddressesArePublic(t *testing.T) {
	for _, a := range []string{
		"1.0.0.0", "9.255.255.255", "11.0.0.0", "35.199.191.255", "35.199.224.0", "100.63.255.255", "100.128.0.0",
		"126.255.255.255", "128.0.0.0", "161.25.255.255", "161.27.0.0", "166.7.255.255", "166.12.0.0", "168.63.129.15",
		"168.63.129.17", "169.253.255.255", "169.255.0.0", "172.15.255.255", "172.32.0.0", "191.255.255.255", "192.0.1.0",
		"192.0.3.0", "192.31.195.255", "192.31.197.0", "192.52.192.255", "192.52.194.0", "192.88.98.255", "192.88.100.0",
		"192.167.255.255", "192.169.0.0", "192.175.47.255", "192.175.49.0", "198.17.255.255", "198.20.0.0", "198.51.99.255",
		"198.51.101.0", "203.0.112.255", "203.0.114.0", "223.255.255.255",
		"2000::1", "2001:200::", "2001:db7:ffff:ffff:ffff:ffff:ffff:ffff", "2001:db9::", "2003::",
		"2620:4f:7fff:ffff:ffff:ffff:ffff:ffff", "2620:4f:8001::", "3ffe:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "3fff:1000::",
	} {
		a := netip.MustParseAddr(a)
		if block, ok := Special(a); ok || Undialable(a) {
			t.Errorf("%s is special, of %v", a, block)
		}
	}
}

func TestOnlyARangeInsideOneBlockIsConsent(t *testing.T) {
	for _, c := range []struct {
		prefix            string
		consent, overlaps bool
	}{
		{"10.1.0.0/16", true, true},
		{"10.0.0.0/8", true, true},
		{"169.254.169.254/32", true, true},
		{"168.63.129.16/32", true, true},
		{"fd12:3456::/32", true, true},
		{"200::/7", true, true},
		{"4000::/4", true, true},
		{"192.0.0.8/31", true, true}, // inside 192.0.0.0/24
		{"10.0.0.0/7", false, true},
		{"0.0.0.0/1", false, true},
		{"0.0.0.0/0", false, true},
		{"168.63.129.0/24", false, true},
		{"192.0.0.0/16", false, true},
		{"::/0", false, true},
		{"::/3", false, true},
		{"::/8", false, true},
		{"8000::/1", false, true},
		{"fe00::/7", false, true},
		{"5000::/4", false, true}, // unassigned, but segment routing lies inside
		{"2000::/3", false, true},
		{"2001::/16", false, true},
		{"93.184.216.0/24", false, false},
		{"2606:2800::/32", false, false},
		{"8.8.8.8/32", false, false},
	} {
		p := netip.MustParsePrefix(c.prefix)
		if got := InOneBlock(p); got != c.consent {
			t.Errorf("a rule on %s is consent to special addresses: %v", p, got)
		}
		if got := OverlapsSpecial(p); got != c.overlaps {
			t.Errorf("%s holds special addresses: %v", p, got)
		}
	}
	if InOneBlock(netip.Prefix{}) || OverlapsSpecial(netip.Prefix{}) {
		t.Error("an invalid prefix is consent, or holds addresses")
	}
}

// A text about a range that is too wide names a block that its reader knows.
func TestABlockInsideIsNamed(t *testing.T) {
	for text, want := range map[string]string{
		"0.0.0.0/0":        "10.0.0.0/8 (Private-Use, RFC 1918)",
		"10.0.0.0/7":       "10.0.0.0/8 (Private-Use, RFC 1918)",
		"128.0.0.0/1":      "161.26.0.0/16 (IBM Cloud infrastructure services, cloud.ibm.com/docs/vpc)",
		"168.63.129.0/24":  "168.63.129.16/32 (Azure platform, learn.microsoft.com/azure/virtual-network/what-is-ip-address-168-63-129-16)",
		"::/0":             "::1/128 (Loopback Address, RFC 4291)",
		"2000::/3":         "2001::/23 (IETF Protocol Assignments, RFC 2928)",
		"fc00::/6":         "fc00::/7 (Unique-Local, RFC 4193)",
		"224.0.0.0/4":      "",
		"93.184.216.0/24":  "",
		"200::/7":          "",
		"192.168.1.0/24":   "",
		"255.255.255.0/24": "",
	} {
		got, ok := SpecialInside(netip.MustParsePrefix(text))
		if ok != (want != "") || ok && got.String() != want {
			t.Errorf("%s holds %v, want %s", text, got, want)
		}
	}
}

func TestAFaultInTheTableIsNamed(t *testing.T) {
	for text, want := range map[string]string{
		"ipv4,10.0.0.1/8,a,b\n": `"10.0.0.1/8" is not a valid prefix`,
		"ipv4,10.0.0/8,a,b\n":   `"10.0.0/8" is not a valid prefix`,
		"# x\nipv4,::/8,a\n":    "line 2",
	} {
		if _, err := readRows(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %s", text, err, want)
		}
	}
}

// filled is the prefix with the bits of a byte in place of those that it leaves open.
func filled(p netip.Prefix, with byte) netip.Addr {
	b := p.Addr().AsSlice()
	for bit := p.Bits(); bit < len(b)*8; bit++ {
		b[bit/8] |= with & (1 << (7 - bit%8))
	}
	a, _ := netip.AddrFromSlice(b)
	return a
}
