package policy

import (
	"fmt"
	"testing"

	"sluice.dev/sluice/internal/refusal"
)

func leading(id, to string, from Port) Rule {
	r := rule(id, to)
	r.Ports = []Port{from}
	return r
}

// What the workload speaks decides on which rule; where it goes outside is the rule's.
func TestAnHTTPPortMayLeadToAnotherPortOutside(t *testing.T) {
	plain, tls := Port{Port: 80, Protocol: ProtocolHTTP}, Port{Port: 80, Protocol: ProtocolHTTP}
	plain.Upstream, tls.Upstream = Upstream{8080, ProtocolHTTP}, Upstream{443, ProtocolHTTPS}
	s := newSet(t, leading("plain", "plain.example.com", plain), leading("tls", "tls.example.com", tls).requests("GET", "/a"), rule("as-is", "as-is.example.com", "80/http"))
	for _, x := range []struct {
		host, path string
		port       uint16
		said       Sniffed
		reason     refusal.Reason
		treatment  Treatment
		dial       uint16
	}{
		{"plain.example.com", "/", 80, HTTP, "", Forward, 8080},
		{"tls.example.com", "/a", 80, HTTP, "", Originate, 443},
		{"as-is.example.com", "/", 80, HTTP, "", Forward, 80},
		{"tls.example.com", "/b", 80, HTTP, refusal.MethodOrPath, Refuse, 80},
		{"tls.example.com", "/a", 443, HTTP, refusal.NoRule, Refuse, 443}, // what is opened is the port that is dialled
		{"tls.example.com", "", 80, ClientHello, refusal.ProtocolMismatch, Refuse, 80},
	} {
		c := Chain{Port: x.port, Dialled: name(x.host), Sniffed: x.said, Method: "GET", Path: x.path}
		if x.said == ClientHello {
			c.SNI = c.Dialled
		} else {
			c.Host.Name = c.Dialled
		}
		if v := s.Decide(&c); v.Reason != x.reason || v.Treatment != x.treatment || v.DialPort() != x.dial || v.Port != x.port {
			t.Errorf("%+v: %v to port %d", x, v, v.DialPort())
		}
	}
}

func TestAPortThatCannotLeadElsewhereIsRefused(t *testing.T) {
	for what, r := range map[string]Rule{
		"https inside":          leading("r", "a.example.com", Port{Port: 443, Protocol: ProtocolHTTPS, Upstream: Upstream{8443, ProtocolHTTPS}}),
		"tcp inside":            leading("r", "a.example.com", Port{Port: 5432, Protocol: ProtocolTCP, Upstream: Upstream{5433, ProtocolHTTP}}),
		"tcp outside":           leading("r", "a.example.com", Port{Port: 80, Protocol: ProtocolHTTP, Upstream: Upstream{80, ProtocolTCP}}),
		"HTTP/2 to HTTP/1.1":    leading("r", "a.example.com", Port{Port: 80, Protocol: ProtocolHTTP2, Upstream: Upstream{81, ProtocolHTTP}}),
		"HTTP/1.1 to HTTP/2":    leading("r", "a.example.com", Port{Port: 80, Protocol: ProtocolHTTP, Upstream: Upstream{81, ProtocolGRPC}}),
		"port 0 outside":        leading("r", "a.example.com", Port{Port: 80, Protocol: ProtocolHTTP, Upstream: Upstream{0, ProtocolHTTPS}}),
		"nothing is originated": leading("r", "a.example.com", Port{Port: 80, Protocol: ProtocolHTTP, Upstream: Upstream{443, ProtocolHTTPS}}).mode(TLSPassthrough),
	} {
		if _, err := NewSet([]Rule{r}, Options{}); err == nil {
			t.Errorf("%s: is not refused", what)
		}
	}
}

// A name that only rules on addresses allow goes where those lead, by requests that they list too, and never to the
// port of one rule on an address of another.
func TestAPortOfAnAddressRuleLeadsNamesWithinItsOwnRangesAlone(t *testing.T) {
	tls := Port{Port: 80, Protocol: ProtocolHTTP, Upstream: Upstream{443, ProtocolHTTPS}}
	s := newSet(t, leading("a", "198.51.100.0/24", tls), rule("b", "203.0.113.0/24", "80/http"))
	c := dialled("a.example", 80).get("a.example", "/")
	v := s.Decide(&c)
	if v.Treatment != Originate || v.DialPort() != 443 {
		t.Errorf("%v to port %d", v, v.DialPort())
	}
	if of := fmt.Sprint(v.Consent.Ranges()); of != "[198.51.100.0/24]" {
		t.Errorf("port 443 within %s", of)
	}
	s = newSet(t, leading("a", "198.51.100.0/24", tls).requests("GET", ""))
	if v := s.Decide(&c); v.Treatment != Originate || v.DialPort() != 443 {
		t.Errorf("a rule that lists requests: %v to port %d", v, v.DialPort())
	}
	other := Port{Port: 80, Protocol: ProtocolHTTP, Upstream: Upstream{8080, ProtocolHTTP}}
	s = newSet(t, leading("a", "198.51.100.0/24", other), rule("b", "203.0.113.0/24", "80/http"))
	if v := s.Decide(&c); v.DialPort() != 8080 || fmt.Sprint(v.Consent.Ranges()) != "[198.51.100.0/24]" {
		t.Errorf("%v to port %d within %v", v, v.DialPort(), v.Consent.Ranges())
	}
}
