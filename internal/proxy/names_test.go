package proxy

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"testing"

	"golang.org/x/net/dns/dnsmessage"

	"sluice.dev/sluice/internal/names"
	"sluice.dev/sluice/internal/proxy/egress"
	"sluice.dev/sluice/internal/record"
	"sluice.dev/sluice/internal/refusal"
)

// What is beyond a rule's own rate is not asked of DNS, and said to be so; the rule that
// comes in its place holds for what comes next.
func TestNamesUnderAWildcardLeaveAtTheRateOfTheirRule(t *testing.T) {
	n := newFakeNet(t)
	for i := range 8 {
		name := fmt.Sprintf("n%d.example.com", i)
		n.site(name, fmt.Sprintf("93.184.216.%d", i+1), 80, func(c net.Conn) {
			bufio.NewReader(c).ReadString('\n')
			io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")
		})
	}
	wildcard := rule(t, "*.example.com:80")
	wildcard.MaxNewNames = 2
	exact := rule(t, "n7.example.com:80")
	m := newMesh(t, n, wildcard, exact)
	get := func(i int) string {
		name := fmt.Sprintf("n%d.example.com", i)
		return got(t, m.dial(name, 80), "GET / HTTP/1.1\r\nHost: "+name+"\r\n\r\n")
	}
	for i, want := range []string{"200 ok", "200 ok", "503 too-many-names", "503 too-many-names"} {
		if answer := get(i); answer != want {
			t.Errorf("new name %d: %s, want %s", i, answer, want)
		}
	}
	if f := m.flowOf("one beyond the rate", func(f *record.Record) bool { return f.Reason == refusal.TooManyNames }); f.Verdict != record.Failed {
		t.Errorf("the record is %v, %s", f.Verdict, f.Reason)
	}
	if n.wasAsked("n2.example.com") {
		t.Error("a name beyond the rate was asked of DNS")
	}
	if answer := get(7) + ", " + get(0); answer != "200 ok, 200 ok" {
		t.Errorf("a name that a rule spells out and one that is known: %s", answer)
	}
	wildcard.MaxNewNames = 0
	m.allow(wildcard, exact)
	if answer := get(4); answer != "200 ok" {
		t.Errorf("once the rule sets no rate: %s", answer)
	}
}

// Under a wildcard a workload chooses the names, so their rate is limited; a name
// that a rule spells out is answered whatever it asked for before.
func TestANameThatARuleSpellsOutIsExemptFromTheRateOfNewNames(t *testing.T) {
	n := newFakeNet(t)
	m := newMesh(t, n, rule(t, "*.example.com"), rule(t, "exact.example.com"), rule(t, "late.example.org"))
	ask := func(name string) dnsmessage.RCode {
		t.Helper()
		b := dnsmessage.NewBuilder(nil, dnsmessage.Header{ID: 1, RecursionDesired: true})
		b.StartQuestions()
		b.Question(dnsmessage.Question{Name: dnsmessage.MustNewName(name + "."), Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET})
		question, err := b.Finish()
		if err != nil {
			t.Fatal(err)
		}
		var p dnsmessage.Parser
		h, err := p.Start(m.workload.dns.Answer(question, nil))
		if err != nil {
			t.Fatal(err)
		}
		return h.RCode
	}
	// Until the rate is used up: it fills while we ask, so ask until it says so.
	limited := func() bool { return m.names.Stats().Limited > 0 }
	for i := 0; !limited(); i++ {
		ask(fmt.Sprintf("n%d.example.com", i))
	}
	for _, name := range []string{"exact.example.com", "late.example.org"} {
		if got := ask(name); got != dnsmessage.RCodeSuccess {
			t.Errorf("%s: %v", name, got)
		}
	}
	for name, want := range map[string]bool{"exact.example.com": true, "late.example.org": true, "www.example.com": false, "example.com": false} {
		if got := m.holder.Load().Policy.NamesExactly(names.MustParse(name)); got != want {
			t.Errorf("%s is spelled out: %v, want %v", name, got, want)
		}
	}
}

// What a workload writes into the names that it has records asked of reaches whoever
// answers for them: under a wildcard they are names like those that it dials, and the
// services of a host that is spelled out are few.
func TestRecordsLeaveAtTheRateOfNewNames(t *testing.T) {
	n := newFakeNet(t)
	wildcard := rule(t, "*.example.com")
	wildcard.MaxNewNames = 3
	m := newMesh(t, n, wildcard, rule(t, "exact.example.org"))
	ask := func(name string, typ dnsmessage.Type) dnsmessage.RCode {
		t.Helper()
		b := dnsmessage.NewBuilder(nil, dnsmessage.Header{ID: 1, RecursionDesired: true})
		b.StartQuestions()
		b.Question(dnsmessage.Question{Name: dnsmessage.MustNewName(name + "."), Type: typ, Class: dnsmessage.ClassINET})
		question, err := b.Finish()
		if err != nil {
			t.Fatal(err)
		}
		var p dnsmessage.Parser
		h, err := p.Start(m.workload.dns.Answer(question, nil))
		if err != nil {
			t.Fatal(err)
		}
		return h.RCode
	}
	for _, c := range []struct {
		pattern string
		typ     dnsmessage.Type
		most    int
	}{
		{"n%d.example.com", dnsmessage.TypeTXT, 3},
		{"_s%d._tcp.exact.example.org", dnsmessage.TypeSRV, egress.ServicesPerMinute},
	} {
		for i := range c.most + 3 {
			name := fmt.Sprintf(c.pattern, i)
			failed := ask(name, c.typ) == dnsmessage.RCodeServerFailure
			if asked := n.wasAsked(name); failed != (i >= c.most) || asked != (i < c.most) {
				t.Errorf("%s: failed %v, asked of DNS %v", name, failed, asked)
			}
		}
	}
	if ask("exact.example.org", dnsmessage.TypeTXT) != dnsmessage.RCodeSuccess || !n.wasAsked("exact.example.org") {
		t.Error("TXT of a name that is spelled out was not asked for")
	}
}
