package proxy

import (
	"fmt"
	"testing"

	"golang.org/x/net/dns/dnsmessage"

	"sluice.dev/sluice/internal/names"
)

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
