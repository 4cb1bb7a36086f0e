package advice

import (
	"net/netip"
	"strings"
	"testing"

	"sluice.dev/sluice/internal/policy"
	"sluice.dev/sluice/internal/refusal"
)

func TestAnAllowedRequestIsExplained(t *testing.T) {
	s := newSet(t, rule("egress-rule/default/googleapis", "*.googleapis.com", "443/https"))
	e := explain(s, dialled(googleapis, 443).get(googleapis+":443", "/books/v1/volumes"), detailsV2)
	if e.Verdict != "allow" || e.Rule != "egress-rule/default/googleapis" || e.Treatment != "originate" || e.Protocol != "https" || e.Remedy != nil || e.Closest != "" {
		t.Errorf("%+v", e)
	}
	var links []string
	for _, p := range e.Proofs {
		links = append(links, p.Link)
		if p.Value == "" || p.ProvedBy == "" {
			t.Errorf("%+v says nothing", p)
		}
	}
	if got := strings.Join(links, " "); got != "dialled host address certificate" {
		t.Errorf("links: %s", got)
	}
}

func TestPassthroughSaysWhatCannotBeSeen(t *testing.T) {
	s := newSet(t, rule("r", googleapis, "443/https"))
	c := dialled(googleapis, 443).tls(googleapis)
	c.ECH = true
	e := explain(s, c, detailsV2)
	if got := strings.Join(e.Unseen, "; "); !strings.Contains(got, "the certificate that the workload is shown; the inner Host, method and path") || !strings.Contains(got, "encrypted_client_hello") {
		t.Errorf("unseen: %s", got)
	}
}

func TestADeniedNameIsExplainedWithARuleReadyToPaste(t *testing.T) {
	s := newSet(t, rule("egress-policy/default/apis", "*.googleapis.com", "443/https"))
	e := explain(s, dialled(google, 443).tls(google), detailsV2)
	want := `apiVersion: sluice.dev/v1alpha1
kind: EgressPolicy
metadata:
  name: details-v2-www-google-com-443
  namespace: default
spec:
  from:
    labels:
      app: details
      version: v2
  to:
    hosts:
    - www.google.com
    ports:
    - port: 443
      protocol: https
`
	if e.Verdict != "deny" || e.Reason != refusal.NoRule || e.Sentence != "No rule allows www.google.com:443." || e.Closest != "" {
		t.Errorf("%+v", e)
	}
	if e.Remedy.YAML != want || e.Remedy.Allow != "www.google.com:443" {
		t.Errorf("remedy: %s\n%s", e.Remedy.Allow, e.Remedy.YAML)
	}
}

func TestTheClosestRuleIsNamed(t *testing.T) {
	s := newSet(t,
		rule("a-any", "*", "1/tcp"), rule("b-sibling", "fcm.googleapis.com", "443/https"), rule("c-wild", "*.googleapis.com", "443/https"),
		rule("d-port", "www.example.com", "80/http"), rule("e-net", "192.0.2.0/24", "22/tcp"))
	for say, c := range map[string]struct {
		chain chain
		want  string
	}{
		"the apex of a wildcard":       {dialled("googleapis.com", 443).tls("googleapis.com"), "c-wild"},
		"the same name, another port":  {dialled("www.example.com", 443).tls("www.example.com"), "d-port"},
		"a name on the same site":      {dialled("api.example.com", 80).get("api.example.com", "/"), "d-port"},
		"a stranger":                   {dialled("example.org", 443).tls("example.org"), "a-any"},
		"an address, another port":     {dialledAddr("192.0.2.1", 23).opaque(), "e-net"},
		"an address that nobody holds": {dialledAddr("203.0.113.1", 23).opaque(), ""},
		"another protocol":             {dialled("fcm.googleapis.com", 443).opaque(), "b-sibling"},
	} {
		if e := explain(s, c.chain, detailsV2); e.Closest != c.want || e.Verdict != "deny" {
			t.Errorf("%s: closest %q, want %q", say, e.Closest, c.want)
		}
	}
}

func TestWhereNoRuleHelpsASentenceSaysWhatDoes(t *testing.T) {
	s := newSet(t, rule("r", "a.example", "443/https", "80/http"), requests(rule("p", "p.example", "80/http"), "GET", "/ok"))
	badHost := dialled("a.example", 80).get("", "/")
	badHost.HostBad = true
	for say, c := range map[string]struct {
		chain  chain
		reason refusal.Reason
		want   string
	}{
		"name-mismatch":     {dialled("a.example", 443).tls("b.example"), refusal.NameMismatch, "use one name"},
		"port-mismatch":     {dialled("a.example", 80).get("a.example:81", "/"), refusal.PortMismatch, "dial the port that its Host names"},
		"bad-host":          {badHost, refusal.BadHost, "valid host name"},
		"no-server-name":    {dialled("a.example", 443).tls(""), refusal.NoServerName, "SNI"},
		"no-host":           {dialledAddr("192.0.2.1", 80).get("", "/"), refusal.NoHost, ""},
		"a path that hides": {dialled("p.example", 80).get("p.example", "/ok/../no"), refusal.MethodOrPath, "plain form"},
		"a synthetic one":   {dialledAddr("198.19.0.1", 80).opaque(), refusal.AddressLiteral, "belongs to Sluice"},
	} {
		e := explain(s, c.chain, detailsV2)
		if e.Reason != c.reason {
			t.Errorf("%s: %s", say, e.Reason)
		}
		if c.want == "" {
			continue
		}
		if e.Remedy.YAML != "" || e.Remedy.Allow != "" || !strings.Contains(e.Remedy.Sentence, c.want) {
			t.Errorf("%s: %+v", say, e.Remedy)
		}
	}
	deny, _ := policy.NewSet(nil, policy.Options{Deny: refusal.NoSnapshot})
	if e := explain(deny, dialled("a.example", 443).tls("a.example"), detailsV2); e.Remedy.YAML != "" || !strings.Contains(e.Remedy.Sentence, "sluice status") {
		t.Errorf("no snapshot: %+v", e.Remedy)
	}
}

func TestNameMismatchTellsBothNames(t *testing.T) {
	s := newSet(t)
	e := explain(s, dialled(googleapis, 443).tls(google), detailsV2)
	if !strings.Contains(e.Sentence, googleapis) || !strings.Contains(e.Sentence, google) {
		t.Error(e.Sentence)
	}
}

func TestWhatTheDialRefusedIsExplained(t *testing.T) {
	db := rule("egress-policy/default/db", "*.example.com", "5432/tcp")
	s := newSet(t, db, rule("net", "192.0.2.0/24", "443/tcp"), rule("web", "exact.example", "443/https"))
	refused := detailsV2
	refused.Refused = netip.MustParseAddr("10.1.2.3")

	deny := func(c chain, reason refusal.Reason) Explanation {
		v := s.Decide(&c.Chain)
		if v.Action != policy.Allow {
			t.Fatalf("%s", v)
		}
		v.Action, v.Reason = policy.Deny, reason
		return Explain(s, &c.Chain, v, refused)
	}
	e := deny(dialled("db.example.com", 5432).opaque(), refusal.PrivateAddress)
	if !strings.Contains(e.Remedy.YAML, "privateAnswers:\n  - 10.1.2.3/32\n") || !strings.Contains(e.Remedy.YAML, "hosts:\n    - db.example.com\n") || e.Remedy.Allow != "" {
		t.Errorf("private address: %+v", e.Remedy)
	}
	if !strings.Contains(e.Sentence, "10.1.2.3") {
		t.Error(e.Sentence)
	}
	e = deny(dialled("a.example", 443).opaque(), refusal.OutsideCIDR)
	if !strings.Contains(e.Remedy.YAML, "hosts:\n    - a.example\n") {
		t.Errorf("outside the ranges: %+v", e.Remedy)
	}
	e = deny(dialled("exact.example", 443).tls("exact.example"), refusal.CertificateFail)
	if e.Remedy.YAML != "" || !strings.Contains(e.Remedy.Sentence, "tls.caBundle in rule web") {
		t.Errorf("certificate: %+v", e.Remedy)
	}
}

// Each reason that a rule can help against: its remedy is taken by create, and helps.
func TestARuleThatHelpsIsFoundForEachReasonThatHasOne(t *testing.T) {
	s := newSet(t,
		requests(rule("egress-policy/default/1-web", "www.example.com", "443/https", "80/http"), "GET", "/ok"),
		rule("egress-policy/default/2-tls", "*.tls.example", "443/tls"),
		rule("egress-policy/default/3-db", "*.db.example", "5432/tcp"),
		rule("egress-rule/default/4-net", "192.0.2.0/24", "8443/tcp", "8080/http"),
		rule("egress-policy/default/5-any", "*", "9090/http"))
	refused := netip.MustParseAddr("10.1.2.3")
	for _, c := range []struct {
		say    string
		chain  chain
		dial   refusal.Reason // that the dial found after the verdict
		reason refusal.Reason
		want   string // "protocol" of the remedy's rule, or "" for none
	}{
		{"a name", dialled("a.example", 443).tls("a.example"), "", refusal.NoRule, "https"},
		{"a plain request", dialled("a.example", 80).get("a.example", "/"), "", refusal.NoRule, "http"},
		{"a name with an underscore", dialled("a_b.example.com", 443).tls("a_b.example.com"), "", refusal.NoRule, "https"},
		{"bytes", dialled("a.example", 22).opaque(), "", refusal.NoRule, "tcp"},
		{"an address", dialledAddr("203.0.113.1", 22).opaque(), "", refusal.NoRule, "tcp"},
		{"a request to an address", dialledAddr("203.0.113.1", 9090).get("203.0.113.1", "/"), "", refusal.AddressLiteral, "http"},
		{"TLS without SNI to an address", dialledAddr("203.0.113.1", 443).tls(""), "", refusal.NoServerName, "https"},
		{"HTTP without Host to an address", dialledAddr("203.0.113.1", 80).get("", "/"), "", refusal.NoHost, "tcp"},
		{"another path", dialled("www.example.com", 80).get("www.example.com", "/no"), "", refusal.MethodOrPath, "http"},
		{"another path where Sluice makes TLS", dialled("www.example.com", 443).get("www.example.com", "/no"), "", refusal.MethodOrPath, "https"},
		{"a path that stands for others", dialled("www.example.com", 80).get("www.example.com", "/a*b"), "", refusal.MethodOrPath, ""},
		{"a method in lower case", dialled("www.example.com", 80).get("www.example.com", "/ok").method("get"), "", refusal.MethodOrPath, ""},
		{"plain HTTP where TLS is passed", dialled("a.tls.example", 443).get("a.tls.example", "/"), "", refusal.ProtocolMismatch, "https"},
		{"bytes where TLS is passed", dialled("a.tls.example", 443).opaque(), "", refusal.ProtocolMismatch, "tcp"},
		{"bytes beside a rule on addresses for requests", dialledAddr("192.0.2.1", 8080).opaque(), "", refusal.ProtocolMismatch, "tcp"},
		{"a private answer", dialled("a.db.example", 5432).opaque(), refusal.PrivateAddress, refusal.PrivateAddress, "tcp"},
		{"an answer outside of the ranges", dialled("b.example", 8443).tls("b.example"), refusal.OutsideCIDR, refusal.OutsideCIDR, "tcp"},
	} {
		v := s.Decide(&c.chain.Chain)
		if c.dial != "" {
			if v.Action != policy.Allow {
				t.Errorf("%s: %s", c.say, v)
				continue
			}
			v.Action, v.Reason = policy.Deny, c.dial
		}
		opts := detailsV2
		opts.Refused = refused
		e := Explain(s, &c.chain.Chain, v, opts)
		if e.Reason != c.reason {
			t.Errorf("%s: %s, want %s", c.say, e.Reason, c.reason)
		}
		if c.want == "" {
			if e.Remedy.Rule != nil || e.Remedy.Sentence == "" {
				t.Errorf("%s: %+v", c.say, e.Remedy)
			}
			continue
		}
		if e.Remedy.Rule == nil {
			t.Errorf("%s: no rule, but %q", c.say, e.Remedy.Sentence)
			continue
		}
		if got := accepted(t, e.Remedy.YAML, detailsV2.Labels).Ports[0].Protocol.String(); got != c.want {
			t.Errorf("%s: by %s, want %s\n%s", c.say, got, c.want, e.Remedy.YAML)
		}
	}
}

func TestWhatAStrangerSentDoesNotBreakTheText(t *testing.T) {
	s := newSet(t, requests(rule("r", "a.example", "80/http"), "GET", "/ok"))
	evil := "/\"\n  evil: true\u202e" + strings.Repeat("x", 5000)
	e := explain(s, dialled("a.example", 80).get("a.example", evil), detailsV2)
	if len(e.Sentence) > 500 || strings.ContainsAny(e.Sentence, "\n\u202e") || e.Remedy.YAML != "" {
		t.Errorf("%q %+v", e.Sentence, e.Remedy)
	}
	opts := Options{Namespace: "a\nb: c", Labels: map[string]string{"app": "x\" }\n", "k: v": "#"}}
	e = explain(s, dialled("b.example", 80).get("b.example", "/"), opts)
	if e.Remedy.YAML != "" || e.Remedy.Rule != nil || e.Remedy.Sentence == "" {
		t.Errorf("labels that no selector has: %+v", e.Remedy)
	}
}

func TestLongNamesMakeValidObjectNames(t *testing.T) {
	s := newSet(t)
	long := strings.Repeat("abcdefghi.", 24) + "example"
	e := explain(s, dialled(long, 443).tls(long), detailsV2)
	accepted(t, e.Remedy.YAML, detailsV2.Labels)
	other := explain(s, dialled("x"+long[1:], 443).tls("x"+long[1:]), detailsV2)
	if strings.Split(e.Remedy.YAML, "\n")[3] == strings.Split(other.Remedy.YAML, "\n")[3] {
		t.Error("two long names have one object name")
	}
}
