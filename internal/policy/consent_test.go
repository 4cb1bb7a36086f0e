package policy

import (
	"net/netip"
	"testing"
)

func TestAnswersThatAreNotPublicNeedConsent(t *testing.T) {
	public := NewConsent(nil, nil)
	for _, a := range []string{
		"127.0.0.1", "127.255.255.254", "::1", "0.0.0.0", "0.1.2.3", "::",
		"10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1", "100.64.0.1", "100.127.255.255",
		"169.254.169.254", "169.254.170.2", "fe80::1", "fec0::1", "fc00::1", "fd00:ec2::254", "fd12::1",
		"224.0.0.1", "239.1.1.1", "ff02::1", "255.255.255.255", "240.0.0.1",
		"198.18.0.1", "198.19.0.7", "2001:2::7", "fd00:5c::1", "fd00:5c:1::2",
		"192.0.2.1", "198.51.100.1", "203.0.113.1", "2001:db8::1", "3fff::1", "192.0.0.8", "192.88.99.1",
		"::ffff:8.8.4.4", "::ffff:127.0.0.1", "::127.0.0.1", "64:ff9b::7f00:1", "64:ff9b::808:404", "64:ff9b:1::1",
		"2002:7f00:1::1", "2001::1", "2001:10::1", "100::1", "5f00::1", "4000::1",
		"168.63.129.16", "192.31.196.1", "192.52.193.1", "192.175.48.1", "2620:4f:8000::1",
	} {
		if public.Judge(netip.MustParseAddr(a)) == "" {
			t.Errorf("%s may be dialled", a)
		}
	}
	for _, a := range []string{
		"8.8.4.4", "1.1.1.1", "172.15.255.255", "172.32.0.1", "100.63.255.255", "100.128.0.1", "11.0.0.1", "198.17.0.1", "198.20.0.1",
		"142.250.74.74", "2a00:1450:4001:82a::200a", "2606:4700::1", "2003::1",
	} {
		if public.Judge(netip.MustParseAddr(a)) != "" {
			t.Errorf("%s may not be dialled", a)
		}
	}
	if public.Judge(netip.Addr{}) == "" || public.Judge(netip.MustParseAddr("2a00::1%eth0")) == "" {
		t.Error("no address, or one with a zone, may be dialled")
	}
}

func TestConsentOpensItsPrefixAndNoMore(t *testing.T) {
	for _, c := range []struct {
		addr, consent string
		want          bool
	}{
		{"10.1.2.3", "10.1.0.0/16", true},
		{"10.2.2.3", "10.1.0.0/16", false},
		{"127.0.0.1", "127.0.0.0/8", true},
		{"169.254.169.254", "169.254.169.254/32", true},
		{"fd12::1", "fd00::/8", true},
		{"10.1.2.3", "10.0.0.0/7", false},
		{"10.1.2.3", "0.0.0.0/1", false},
		{"169.254.169.254", "169.254.0.0/15", false},
		{"64:ff9b::808:404", "64:ff9b::/96", true},
		{"::ffff:10.1.2.3", "10.0.0.0/8", false},
		{"::ffff:10.1.2.3", "::ffff:0:0/96", false},
		{"::ffff:169.254.169.254", "::/0", false},
		{"::ffff:198.19.0.1", "::/0", false},
		{"198.19.0.1", "0.0.0.0/0", false},
		{"2001:2::1", "::/0", false},
		{"fd00:5c::1", "fd00::/8", false},
		{"0.0.0.0", "0.0.0.0/0", false},
		{"224.0.0.1", "0.0.0.0/0", false},
		{"255.255.255.255", "0.0.0.0/0", false},
		{"::", "::/0", false},
		{"ff02::1", "::/0", false},
	} {
		consent := NewConsent(nil, []netip.Prefix{netip.MustParsePrefix(c.consent)})
		if got := consent.Judge(netip.MustParseAddr(c.addr)) == ""; got != c.want {
			t.Errorf("%s with consent to %s: %v, want %v", c.addr, c.consent, got, c.want)
		}
	}
}
