package advice

import (
	"net/netip"
	"strings"
	"testing"

	"sluice.dev/sluice/internal/policy"
)

// The table of the name chain, row by row: what was seen, what becomes of it, and
// what the denial says. (Which address is dialled, the certificate, and calls
// inside the mesh are the proxy's; CONNECT and interception are not supported yet.)
func TestEveryRowOfTheNameChainTable(t *testing.T) {
	s := newSet(t,
		rule("apis", "*.googleapis.com", "443/https"), rule("plain", "www.example.com", "80/http"), rule("tcp", "db.example.com", "5432/tcp"),
		rule("any", "*", "8443/https"), rule("wiki", "91.198.174.192/27 208.80.152.0/22", "9443/tcp"), rule("all", "0.0.0.0/0 ::/0", "7000/tcp"))
	hidden := dialled(googleapis, 443).tls(googleapis)
	hidden.ECH = true
	outer := hidden
	outer.SNI = name("public.example")
	hard := func(addr string, c chain) chain { c.Dialled, c.Addr = name(""), netip.MustParseAddr(addr); return c }

	type cases []struct {
		chain chain
		want  string
		tells string // words of the sentence
	}
	for _, row := range []struct {
		say  string
		rows cases
	}{
		{"synthetic address of N; SNI or Host present and equal", cases{
			{dialled(googleapis, 443).tls(googleapis), "passthrough by apis", googleapis},
			{dialled(googleapis, 443).get(googleapis, "/"), "originate by apis", googleapis},
			{dialled("www.example.com", 80).get("www.example.com", "/"), "forward by plain", "plain HTTP"},
		}},
		{"SNI or Host present and different from N", cases{
			{dialled(googleapis, 443).tls("fcm.googleapis.com"), "name-mismatch", "dialled " + googleapis + ", SNI fcm.googleapis.com"},
			{dialled(googleapis, 443).get("fcm.googleapis.com", "/"), "name-mismatch", "dialled " + googleapis + ", Host fcm.googleapis.com"},
			{dialled("db.example.com", 5432).tls("other.example.com"), "name-mismatch", "SNI other.example.com"},
			{dialled("www.example.com", 80).get("192.0.2.1", "/"), "name-mismatch", "Host 192.0.2.1"},
		}},
		{"dialled address is not a synthetic one; SNI or Host present", cases{
			{hard("203.0.113.66", hidden.tls(googleapis)), "passthrough by apis", googleapis},
			{hard("203.0.113.66", dialled("", 443).get(googleapis, "/")), "originate by apis", googleapis},
			{hard("142.250.74.74", dialled("", 443).tls(google)), "no-rule", google},
		}},
		{"TLS without SNI", cases{
			{dialled("db.example.com", 5432).tls(""), "relay by tcp", "relayed"},
			{dialled(googleapis, 443).tls(""), "no-server-name", "no SNI"},
			{dialledAddr("203.0.113.66", 443).tls(""), "no-server-name", "no SNI"},
		}},
		{"HTTP without Host", cases{
			{dialled("www.example.com", 80).get("", "/"), "forward by plain", "www.example.com"},
			{dialledAddr("203.0.113.66", 80).get("", "/"), "no-host", "no Host"},
		}},
		{"Host is an address literal; or no name anywhere", cases{
			{dialledAddr("203.0.113.66", 8443).get("203.0.113.66", "/"), "address-literal", `"*"`},
			{dialledAddr("203.0.113.66", 8443).opaque(), "address-literal", "is an address"},
			{dialledAddr("208.80.152.1", 9443).get("208.80.152.1", "/"), "relay by wiki", "relayed"},
			{dialledAddr("208.80.152.1", 9443).opaque(), "relay by wiki", "208.80.152.1"},
			{dialledAddr("0.0.0.1", 9443).opaque(), "no-rule", "No rule allows 0.0.0.1:9443"},
		}},
		{"a name, no rule on names matches, but address rules exist on that port", cases{
			{dialled("www.wikipedia.org", 9443).tls("www.wikipedia.org"), "relay by wiki", "www.wikipedia.org"},
			{dialledAddr("198.19.0.7", 7000).opaque(), "no-rule", "198.19.0.7"}, // synthetic addresses never match a range
			{dialledAddr("2001:2::7", 7000).opaque(), "no-rule", "2001:2::7"},
		}},
		{"Host with a port other than the dialled one", cases{
			{dialled("www.example.com", 80).get("www.example.com:8080", "/"), "port-mismatch", "names port 8080, but port 80"},
			{dialled(googleapis, 443).get(googleapis+":443", "/"), "originate by apis", "TLS that Sluice makes"},
		}},
		{"passed-through TLS: certificate and inner Host are not seen", cases{
			{dialled(googleapis, 443).tls(googleapis), "passthrough by apis", "after the server proved its name"},
		}},
		{"intercepted TLS: inner Host must equal SNI", cases{
			{chain{policy.Chain{Port: 443, SNI: name(googleapis)}}.get("fcm.googleapis.com", "/"), "name-mismatch", "SNI " + googleapis + ", Host fcm.googleapis.com"},
		}},
		{"ECH in the ClientHello", cases{
			{hidden, "passthrough by apis", googleapis},
			{outer, "name-mismatch", "SNI public.example"},
		}},
	} {
		for _, c := range row.rows {
			v := check(t, s, row.say, c.chain, c.want)
			if e := Explain(s, &c.chain.Chain, v, detailsV2); !strings.Contains(e.Sentence, c.tells) {
				t.Errorf("%s: %q does not say %q", row.say, e.Sentence, c.tells)
			}
			if v.ECH != (c.chain.ECH && v.Action == policy.Allow) {
				t.Errorf("%s: whether it hides a name is lost", row.say)
			}
		}
	}
	for _, c := range []chain{dialled("www.wikipedia.org", 9443).opaque(), hard("208.80.152.1", dialled("", 9443).tls("www.wikipedia.org"))} {
		if v := s.Decide(&c.Chain); len(v.Consent.Ranges()) != 2 {
			t.Errorf("%s is dialled within %v", v, v.Consent.Ranges())
		}
	}
}
