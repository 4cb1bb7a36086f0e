package proxy

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"golang.org/x/net/dns/dnsmessage"

	"sluice.dev/sluice/internal/record"
	"sluice.dev/sluice/internal/refusal"
	"sluice.dev/sluice/internal/report"
)

// answersTo is how many records the workload is answered with.
func (m *meshOf) answersTo(name string, typ dnsmessage.Type) int {
	m.t.Helper()
	b := dnsmessage.NewBuilder(nil, dnsmessage.Header{ID: 1, RecursionDesired: true})
	b.StartQuestions()
	b.Question(dnsmessage.Question{Name: dnsmessage.MustNewName(name + "."), Type: typ, Class: dnsmessage.ClassINET})
	question, err := b.Finish()
	if err != nil {
		m.t.Fatal(err)
	}
	var answer dnsmessage.Message
	if err := answer.Unpack(m.workload.dns.Answer(question, nil)); err != nil || answer.RCode != dnsmessage.RCodeSuccess {
		m.t.Fatal(err, answer.RCode)
	}
	return len(answer.Answers)
}

func TestAQuestionOfATypeThatIsNotSupportedHasARecordThatSaysSo(t *testing.T) {
	m := newMesh(t, newFakeNet(t), rule(t, "*.mongodb.net:27017/tcp"))
	for _, c := range []struct {
		name string
		typ  dnsmessage.Type
		want string
	}{
		{"_mongodb._tcp.a.example.com", dnsmessage.TypeSRV, "sluice: not reached _mongodb._tcp.a.example.com by its SRV records (SRV records are answered for hosts that a rule allows: the answer was empty, and no rule names the host)\n"},
		{"x.mongodb.net", dnsmessage.TypeMX, "sluice: not reached x.mongodb.net by its MX records (MX records are not supported: the answer was empty)\n"},
		{"example.com", dnsmessage.TypeMX, "sluice: not reached example.com by its MX records (MX records are not supported: the answer was empty, and no rule names the host)\n"},
	} {
		if n := m.answersTo(c.name, c.typ); n != 0 {
			t.Fatalf("%d answers", n)
		}
		r := m.ring.Recent(1, record.Filter{})[0] // closed before the answer
		if r.Reason != refusal.DNSType || r.Dialled != c.name || r.Workload != "client/1" || r.Verdict != record.Failed || r.Snapshot == "" {
			t.Errorf("the record is %+v", r)
		}
		if line := report.Line(&r); line != c.want {
			t.Errorf("the line is %q\nwant        %q", line, c.want)
		}
	}
	var printed strings.Builder
	tally := new(report.Tally)
	for _, r := range m.ring.Recent(10, record.Filter{}) {
		tally.Closed(&r)
		other := r
		other.Question = "TXT"
		tally.Closed(&other)
	}
	report.Print(&printed, tally.Summary(), nil)
	if lines := strings.Count(printed.String(), "\n"); lines != 6 {
		t.Errorf("names and types are not kept apart:\n%s", printed.String())
	}
}

func TestOurOwnLookUpTellsAWorkloadThatANameHasNoIPv6Address(t *testing.T) {
	n := newFakeNet(t)
	n.site("www.example.com", "8.8.4.4", 80, func(c net.Conn) {
		if _, err := http.ReadRequest(bufio.NewReader(c)); err == nil {
			io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
		}
		c.Close()
	})
	m := newMesh(t, n, rule(t, "www.example.com:80"))
	if m.answersTo("www.example.com", dnsmessage.TypeAAAA) != 1 {
		t.Fatal("no AAAA before the name was resolved")
	}
	c := m.dial("www.example.com", 80)
	c.Write([]byte("GET / HTTP/1.1\r\nHost: www.example.com\r\nConnection: close\r\n\r\n"))
	if r := m.lastFlow(); r.Verdict != record.Allowed {
		t.Fatalf("the record is %+v", r)
	}
	// That there is none may have come later than the address.
	until(t, "the name has no AAAA any more", func() bool { return m.answersTo("www.example.com", dnsmessage.TypeAAAA) == 0 })
	if m.answersTo("www.example.com", dnsmessage.TypeA) != 1 {
		t.Error("the name has no A any more")
	}
}
