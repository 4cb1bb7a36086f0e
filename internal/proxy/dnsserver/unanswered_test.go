package dnsserver

import (
	"fmt"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"sluice.dev/sluice/internal/names"
)

// tells returns a server of newServer's rules that collects what it tells of, and its
// clock.
func tells(t *testing.T) (s *Server, said func() []Unanswered, now *time.Time) {
	s, now = newServer(t), new(time.Time)
	*now = time.Unix(1e9, 0)
	var all []Unanswered
	s.unanswered = unanswered{tell: func(u Unanswered) { all = append(all, u) }, now: func() time.Time { return *now }}
	return s, func() []Unanswered { taken := all; all = nil; return taken }, now
}

func TestAQuestionThatGotNothingForWantOfSupportIsToldOfOnce(t *testing.T) {
	s, said, now := tells(t)
	for _, c := range []struct {
		name string
		typ  dnsmessage.Type
		want Unanswered
	}{
		{"_mongodb._tcp.Cluster0.example.net.", dnsmessage.TypeSRV, Unanswered{"_mongodb._tcp.cluster0.example.net", "SRV", false}},
		{"_ldap._tcp.www.googleapis.com.", dnsmessage.TypeSRV, Unanswered{"_ldap._tcp.www.googleapis.com", "SRV", true}},
		{"example.com.", dnsmessage.TypeMX, Unanswered{"example.com", "MX", false}},
		{"example.com.", dnsmessage.TypeTXT, Unanswered{"example.com", "TXT", false}},
		{"_dmarc.googleapis.com.", dnsmessage.TypeTXT, Unanswered{"_dmarc.googleapis.com", "TXT", true}},
		{"example.com.", dnsmessage.Type(999), Unanswered{"example.com", "TYPE999", false}},
	} {
		for range 3 {
			ask(t, s, c.name, c.typ)
		}
		if got := said(); len(got) != 1 || got[0] != c.want {
			t.Errorf("%s %v: told %v, want %v once", c.name, c.typ, got, c.want)
		}
	}
	if untold := s.Stats().Untold; untold != 2*6 {
		t.Errorf("%d are counted alone, want 12", untold)
	}
	*now = now.Add(RetellUnanswered)
	if ask(t, s, "example.com.", dnsmessage.TypeMX); len(said()) != 1 {
		t.Error("it is not told of again after a while")
	}
}

func TestWhatProgramsAskBesideOrBeginWithIsNotToldOf(t *testing.T) {
	s, said, _ := tells(t)
	for _, c := range []struct {
		name string
		typ  dnsmessage.Type
	}{
		{"www.example.com.", dnsmessage.TypeA},
		{"www.example.com.", dnsmessage.TypeAAAA},
		{"www.example.com.", dnsmessage.TypeHTTPS},
		{"_dns.resolver.arpa.", dnsmessage.TypeSVCB},
		{"_mongodb._tcp.cluster0.example.net.default.svc.cluster.local.", dnsmessage.TypeSRV},
		{"cluster0.example.net.cluster.local.", dnsmessage.TypeTXT},
		{"example.", dnsmessage.TypeMX},
		{"localhost.", dnsmessage.TypeMX},
		{"1.0.19.198.in-addr.arpa.", dnsmessage.TypePTR},
		{"www.example.com.", dnsmessage.TypeALL},
	} {
		if ask(t, s, c.name, c.typ); len(said()) != 0 {
			t.Errorf("%s %v is told of", c.name, c.typ)
		}
	}
}

func TestWhatIsToldOfIsBounded(t *testing.T) {
	s, said, now := tells(t)
	for i := range MaxUnanswered + 100 {
		ask(t, s, fmt.Sprintf("n%d.example.com.", i), dnsmessage.TypeTXT)
	}
	if got := len(said()); got != MaxUnanswered || s.Stats().Untold != 100 {
		t.Errorf("%d told of, %d counted alone", got, s.Stats().Untold)
	}
	*now = now.Add(RetellUnanswered)
	ask(t, s, "later.example.com.", dnsmessage.TypeTXT)
	if got := said(); len(got) != 1 || len(s.unanswered.told) != 1 {
		t.Errorf("told of %v, %d remembered", got, len(s.unanswered.told))
	}
}

func TestANameThatIsKnownToHaveNoIPv6AddressGetsNone(t *testing.T) {
	s := newServer(t)
	only4 := map[string]bool{}
	s.onlyV4 = func(n names.Name) bool { return only4[n.String()] }
	answers := func(name string, typ dnsmessage.Type) int {
		m := ask(t, s, name, typ)
		if m.RCode != dnsmessage.RCodeSuccess {
			t.Errorf("%s %v: %v", name, typ, m.RCode)
		}
		return len(m.Answers)
	}
	const name = "www.googleapis.com."
	if answers(name, dnsmessage.TypeAAAA) != 1 {
		t.Error("no AAAA before anything is known")
	}
	only4["www.googleapis.com"], only4["www.example.com"], only4["details.default.svc.cluster.local"] = true, true, true
	if answers(name, dnsmessage.TypeAAAA) != 0 || answers(name, dnsmessage.TypeA) != 1 {
		t.Error("what is known of the name is not said")
	}
	// No rule names these: what was asked for others is not theirs to learn.
	if answers("www.example.com.", dnsmessage.TypeAAAA) != 1 || answers("details.", dnsmessage.TypeAAAA) != 1 {
		t.Error("a name without a rule, or a service, has no AAAA")
	}
	clear(only4)
	if answers(name, dnsmessage.TypeAAAA) != 1 {
		t.Error("what is known no more is still said")
	}
}
