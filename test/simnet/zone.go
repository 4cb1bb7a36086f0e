package simnet

import (
	"net/netip"
	"strings"
)

// Resolver is where DNS is served. ResolverV6 serves the same.
const (
	Resolver   = "8.8.8.8:53"
	ResolverV6 = "[2001:4860:4860::8888]:53"
)

// kind is how a site behaves.
type kind uint8

const (
	website     kind = iota // HTTP on 80 and HTTPS on 443, for its own names only
	hostile                 // the same for any name, with certificates of a CA that nobody trusts
	badSSL                  // HTTPS whose certificate is wrong in the way the name says
	serverFirst             // a TCP server that speaks first, on 3306
	tarpit                  // takes connections on 80 and 443 and never says a word
	unserved                // addresses on which nobody listens
)

// site is one or more names on the same addresses.
type site struct {
	kind  kind
	names []string
	addrs []string
}

// The names of this internet, on addresses that look real.
var sites = []site{
	{website, []string{"www.googleapis.com", "fcm.googleapis.com", "www.google.com"}, []string{"142.250.74.74", "2a00:1450:4001:82a::200a"}},
	{website, []string{"googleapis.com"}, []string{"142.250.74.68", "2a00:1450:4001:82a::2004"}},
	{website, []string{"ipv6.google.com"}, []string{"2a00:1450:4001:82b::200e"}},
	{website, []string{"www.example.com", "example.com", "cdn.example.com", "many.example.com"}, []string{"93.184.215.14", "2606:2800:21f:cb07:6820:80da:af6b:8b2c"}},
	// Within 208.80.154.224/27, one of the five ranges of the walk.
	{website, []string{"www.wikipedia.org"}, []string{"208.80.154.224", "2620:0:861:ed1a::1"}},
	// Outside all five.
	{website, []string{"en.wikipedia.org"}, []string{"185.15.59.224", "2a02:ec80:300:ed1a::1"}},
	{website, []string{"httpbin.org", "www.httpbin.org"}, []string{"54.147.165.197"}},
	{website, []string{"multi.example.com"}, []string{"93.184.215.20"}},
	{website, []string{"first-dead.example.com", "many-dead.example.com"}, []string{"93.184.215.21"}},
	{hostile, []string{"evil.example.net"}, []string{"45.33.32.156", "2600:3c01::f03c:91ff:fe18:bb2f"}},
	{badSSL, []string{"expired.badssl.com", "wrong.host.badssl.com", "self-signed.badssl.com", "client.badssl.com"}, []string{"104.154.89.105"}},
	{serverFirst, []string{"db.example.com"}, []string{"104.18.20.30", "2606:4700::6812:141e"}},
	{tarpit, []string{"tarpit.example.com"}, []string{"104.18.20.31"}},
	{unserved, []string{"refused.example.com"}, []string{"104.18.20.32"}},
	{unserved, []string{"blackhole.example.com"}, []string{"104.18.21.1", "2606:4700:dead::1"}}, // see blackHoles
	// Where an answer must never lead: whoever comes there is recorded.
	{hostile, nil, []string{"169.254.169.254", "127.0.0.1", "::1", "10.0.0.1"}},
}

// extra is what DNS says beside the sites: addresses, or one CNAME. A name with
// neither exists and has no data.
var extra = map[string][]string{
	"rebind.example.com":     {"127.0.0.1", "169.254.169.254", "::1", "::ffff:127.0.0.1"},
	"intranet.example.com":   {"10.0.0.1"},
	"multi.example.com":      {"104.18.20.32", "93.184.215.20"}, // nobody listens on the first
	"first-dead.example.com": {"2606:4700:dead::1", "93.184.215.21"},
	"many-dead.example.com":  append(blackHoleAddresses(20), "93.184.215.21"),
	"cdn.example.com":        {"CNAME edge.example.net"},
	"edge.example.net":       {"CNAME edge-7.example.net"},
	"edge-7.example.net":     {"93.184.215.14", "2606:2800:21f:cb07:6820:80da:af6b:8b2c"},
	"loop.example.com":       {"CNAME loop.example.com"},
	"mail-only.example.com":  nil,
	"many.example.com":       manyAddresses(300),
}

func blackHoleAddresses(n int) []string {
	all := make([]string, n)
	for i := range all {
		all[i] = netip.AddrFrom4([4]byte{104, 18, 21, byte(i + 1)}).String()
	}
	return all
}

func manyAddresses(n int) []string {
	all := make([]string, n)
	for i := range all {
		all[i] = netip.AddrFrom4([4]byte{93, 184, 216, byte(i)}).String()
		if i > 255 {
			all[i] = netip.AddrFrom4([4]byte{93, 184, 217, byte(i)}).String()
		}
	}
	all[0] = "93.184.215.14" // the one that serves
	return all
}

// records returns what the truth is about a name in lower case, without the
// trailing dot. ok is false when it does not exist.
func records(name string) (texts []string, ok bool) {
	if texts, ok := extra[name]; ok {
		return texts, true
	}
	for _, s := range sites {
		for _, n := range s.names {
			if n == name {
				return s.addrs, true
			}
		}
	}
	for n := range extra { // an empty non-terminal exists
		if strings.HasSuffix(n, "."+name) {
			return nil, true
		}
	}
	return nil, false
}
