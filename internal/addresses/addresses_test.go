package addresses

import (
	"net/netip"
	"slices"
	"testing"
)

func TestOwnRangesHoldGatesWorkloadsAndSyntheticAddresses(t *testing.T) {
	for text, want := range map[string]bool{
		"198.18.0.1": true, "198.18.1.0": true, "198.19.255.255": true, "::ffff:198.19.0.7": true,
		"2001:2::1": true, "2001:2:0:ffff::1": true,
		"fd00:5c::1": true, "fd00:5c:0:1::7": true, "fd00:5c:ffff::1": true, "fd00:5c::1%eth0": true,
		"198.17.255.255": false, "198.20.0.0": false, "2001:2:1::": false, "2001:1:ffff::": false,
		"fd00:5d::1": false, "fd00:5b:ffff::1": false, "10.0.0.1": false, "::1": false,
	} {
		if got := Own(netip.MustParseAddr(text)); got != want {
			t.Errorf("%s is Sluice's own: %v", text, got)
		}
	}
	if Own(netip.Addr{}) {
		t.Error("the zero address is Sluice's own")
	}
	if all := OwnPrefixes(); len(all) != 3 || slices.ContainsFunc(all, func(p netip.Prefix) bool { return !p.IsValid() || p != p.Masked() }) {
		t.Errorf("own ranges: %v", all)
	}
}

func TestOnlyARangeWhollyInsideIsOwn(t *testing.T) {
	for text, want := range map[string]bool{
		"198.18.0.0/15": true, "198.19.0.0/16": true, "198.18.0.1/32": true, "198.19.7.7/20": true,
		"2001:2::/48": true, "2001:2::7/128": true, "fd00:5c::/32": true, "fd00:5c:0:2::/64": true,
		"::ffff:198.18.0.0/111": true, "::ffff:198.18.0.1/128": true,
		"198.18.0.0/14": false, "198.0.0.0/8": false, "0.0.0.0/0": false, "2001:2::/47": false, "2001::/23": false,
		"fd00:5c::/31": false, "fd00::/8": false, "::/0": false, "::ffff:0:0/96": false, "10.0.0.0/8": false,
	} {
		if got := InOwn(netip.MustParsePrefix(text)); got != want {
			t.Errorf("%s lies in Sluice's own ranges: %v", text, got)
		}
	}
	if InOwn(netip.Prefix{}) || InOwn(netip.PrefixFrom(netip.MustParseAddr("198.18.0.1"), 33)) {
		t.Error("an invalid prefix is Sluice's own")
	}
}

func TestWhatIsNeverDialled(t *testing.T) {
	for text, want := range map[string]bool{
		"0.0.0.0": true, "0.1.2.3": true, "198.18.0.1": true, "224.0.0.1": true, "239.255.255.255": true,
		"255.255.255.255": true, "::": true, "ff02::1": true, "2001:2::1": true, "fd00:5c::1": true,
		"::ffff:8.8.8.8": true, "::ffff:10.0.0.1": true, "fe80::1%eth0": true, "2606:2800::1%7": true,
		// Dialled with consent, or always.
		"10.0.0.1": false, "127.0.0.1": false, "169.254.169.254": false, "168.63.129.16": false, "240.0.0.1": false,
		"255.255.255.254": false, "::1": false, "::2": false, "fe80::1": false, "fd00::1": false, "64:ff9b::7f00:1": false,
		"8.8.8.8": false, "2606:2800::1": false,
	} {
		if got := Undialable(netip.MustParseAddr(text)); got != want {
			t.Errorf("%s is never dialled: %v", text, got)
		}
	}
	if !Undialable(netip.Addr{}) {
		t.Error("the zero address is dialled")
	}
}

func TestARangeOfWhichNothingIsDialled(t *testing.T) {
	for text, want := range map[string]bool{
		"198.19.0.0/16": true, "fd00:5c::/40": true, "0.0.0.0/8": true, "0.1.0.0/16": true, "224.0.0.0/4": true, "239.1.2.3/32": true,
		"ff00::/8": true, "ff02::/16": true, "::ffff:0:0/96": true, "::ffff:10.0.0.0/104": true, "255.255.255.255/32": true, "::/128": true,
		"0.0.0.0/7": false, "0.0.0.0/0": false, "240.0.0.0/4": false, "10.0.0.0/8": false, "192.0.0.0/3": false, "fe00::/7": false, "::/96": false,
		"::1/128": false, "8.8.8.8/32": false,
	} {
		p := netip.MustParsePrefix(text)
		if got := AllUndialable(p); got != want {
			t.Errorf("no address of %s is ever dialled: %v", p, got)
		}
	}
	if AllUndialable(netip.Prefix{}) {
		t.Error("the zero range is one of which nothing is dialled")
	}
}
