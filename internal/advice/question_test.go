package advice

import (
	"strings"
	"testing"

	"sluice.dev/sluice/internal/names"
	"sluice.dev/sluice/internal/policy"
	"sluice.dev/sluice/internal/record"
	"sluice.dev/sluice/internal/wire"
)

func TestWhatAPersonWritesBecomesTheChainOfAProxy(t *testing.T) {
	google := names.MustParse("www.googleapis.com")
	for text, want := range map[string]policy.Chain{
		"https://www.googleapis.com/":      {Port: 443, Dialled: google, Sniffed: policy.ClientHello, SNI: google},
		"HTTPS://WWW.googleapis.com.:8443": {Port: 8443, Dialled: google, Sniffed: policy.ClientHello, SNI: google},
		"http://www.googleapis.com/a?b=c":  {Port: 80, Dialled: google, Sniffed: policy.HTTP, Host: names.Host{Name: google}, Method: "GET", Path: "/a"},
		"http://www.googleapis.com:443":    {Port: 443, Dialled: google, Sniffed: policy.HTTP, Host: names.Host{Name: google, Port: 443}, Method: "GET", Path: "/"},
		"www.googleapis.com:3306":          {Port: 3306, Dialled: google, Sniffed: policy.Opaque},
		"tcp://www.googleapis.com:3306":    {Port: 3306, Dialled: google, Sniffed: policy.Opaque},
	} {
		q, err := Parse(text, "")
		if err != nil || q.Chain != want {
			t.Errorf("%s: %+v, %v", text, q.Chain, err)
		}
	}
}

func TestWhatIsNoDestinationIsRefusedWithAWayOn(t *testing.T) {
	for text, want := range map[string]string{
		"www.example.com":                        "https://www.example.com/, http://www.example.com/ or www.example.com:PORT",
		"ftp://www.example.com/":                 `scheme "ftp" is not known`,
		"tcp://www.example.com":                  "HOST:PORT",
		"https://user@www.example.com":           "leave it out",
		"https:///path":                          "is not a valid host",
		"http://a.example/%zz":                   "is not a valid path",
		"https://" + strings.Repeat("a", MaxURL): "longer than",
	} {
		if _, err := Parse(text, ""); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.40s: %v", text, err)
		}
	}
}

func testSnapshot() *wire.Snapshot {
	return &wire.Snapshot{
		Version: "v1",
		Policies: []*wire.Policy{{Rules: []policy.Rule{{
			ID: "egress-rule/default/googleapis", Hosts: []names.Pattern{names.MustParsePattern("*.googleapis.com")},
			Ports: []policy.Port{{Port: 443, Protocol: policy.ProtocolHTTPS}},
		}}}},
		Directory: &wire.Directory{Domain: "cluster.local", Services: []wire.Service{{
			Name: names.MustParse("details.default.svc.cluster.local"), Short: "details", Namespace: "default",
			Ports: []wire.ServicePort{{Port: 9080, Protocol: policy.ProtocolHTTP}},
		}}},
	}
}

func TestAnAnswerIsThatOfTheProxy(t *testing.T) {
	workload := wire.Workload{Namespace: "default", Labels: map[string]string{"app": "details", "version": "v2"}}
	for _, c := range []struct{ url, verdict, holds string }{
		{"https://www.googleapis.com/", "allow", "egress-rule/default/googleapis"},
		{"http://www.googleapis.com:443/", "allow", "egress-rule/default/googleapis"},
		{"https://www.google.com/", "deny", "no-rule"},
		{"http://details:9080/details/0", "allow", "mesh"},
		{"http://details.default.svc:9080/details/0", "allow", "mesh"},
		{"http://details:9081/", "error", "no-such-port"},
		{"http://details.other:9080/", "deny", "no-rule"},
	} {
		q, err := Parse(c.url, "")
		if err != nil {
			t.Fatal(err)
		}
		e, err := Answer(q, testSnapshot(), workload)
		if err != nil {
			t.Fatal(err)
		}
		if told := e.Rule + " " + string(e.Reason) + " " + e.Treatment; e.Verdict != c.verdict || !strings.Contains(told, c.holds) {
			t.Errorf("%s: %+v", c.url, e)
		}
	}
}

func TestAShortNameIsThatOfTheWorkloadsNamespace(t *testing.T) {
	q, _ := Parse("http://details:9080/", "")
	if e, _ := Answer(q, testSnapshot(), wire.Workload{Namespace: "other"}); e.Verdict != "deny" {
		t.Errorf("%+v", e)
	}
}

func TestARecordIsAskedAboutAgain(t *testing.T) {
	q, ok := OfRecord(&record.Record{Dialled: "www.google.com", Port: 443, Sniffed: policy.ClientHello, SNI: "www.googleapis.com"})
	if !ok || q.Chain.SNI.String() != "www.googleapis.com" || q.Chain.Sniffed != policy.ClientHello {
		t.Errorf("%+v", q)
	}
	q, ok = OfRecord(&record.Record{Dialled: "203.0.113.7", Port: 80, Sniffed: policy.HTTP, Host: "bad host", Method: "GET", Path: "/"})
	if !ok || !q.Chain.HostBad || !q.Chain.Addr.IsValid() {
		t.Errorf("%+v", q)
	}
	if _, ok := OfRecord(&record.Record{Direction: record.Ingress, Port: 80}); ok {
		t.Error("an ingress record was asked about")
	}
}

func FuzzParse(f *testing.F) {
	for _, seed := range []string{"https://www.googleapis.com/", "http://[::1]:80/x", "tcp://127.1:1", "http://0x7f.1/", "a:b", "://", "http://a/%2e%2e"} {
		f.Add(seed, "GET")
	}
	f.Fuzz(func(t *testing.T, text, method string) {
		q, err := Parse(text, method)
		if err == nil && q.Chain.Dialled.IsZero() && !q.Chain.Addr.IsValid() {
			t.Errorf("%q has no destination", text)
		}
	})
}
