package advice

import (
	"strings"
	"testing"
	"time"

	"sluice.dev/sluice/internal/policy"
	"sluice.dev/sluice/internal/record"
	"sluice.dev/sluice/internal/refusal"
	"sluice.dev/sluice/internal/route"
	"sluice.dev/sluice/internal/wire"
)

func auditing(rules ...policy.Rule) *wire.Snapshot {
	return &wire.Snapshot{
		Version: "now", Mesh: &wire.Mesh{OutboundDefault: "Audit", MaxStale: time.Hour},
		Policies: []*wire.Policy{{Rules: rules}}, Directory: &wire.Directory{Domain: "cluster.local"},
	}
}

func TestADecisionIsReopened(t *testing.T) {
	web := rule("egress-policy/default/web", "www.example.com", "443/https", "80/http")
	hello := record.Record{Workload: "details-v2/1", Direction: record.Egress, Dialled: "www.example.com", Port: 443, Sniffed: policy.ClientHello, SNI: "www.example.com"}
	with := func(change func(*record.Record)) record.Record { r := hello; change(&r); return r }
	for _, c := range []struct {
		say      string
		record   record.Record
		snapshot *wire.Snapshot
		verdict  string
		says     string // of the sentence, and of the remedy
		now      string // verdict of now, "" where it is the same
	}{
		{"allowed, as it still is", with(func(r *record.Record) { r.Verdict, r.Rule, r.Treatment = record.Allowed, web.ID, policy.Passthrough }), auditing(web),
			"allow", "www.example.com:443 is allowed", ""},
		{"allowed, and not reached", with(func(r *record.Record) {
			r.Verdict, r.Rule, r.Reason, r.Upstream = record.Failed, web.ID, refusal.ConnectRefused, "93.184.217.1:443"
		}), auditing(web), "allow", "is allowed", ""},
		{"audited, as it still is", with(func(r *record.Record) {
			r.Verdict, r.Rule, r.Reason, r.Treatment = record.Audited, policy.AuditRule, refusal.NoRule, policy.Passthrough
		}), auditing(), "audit", "outboundDefault is Audit: its TLS is passed through", ""},
		{"audited, and not reached", with(func(r *record.Record) {
			r.Verdict, r.Rule, r.Reason = record.Failed, policy.AuditRule, refusal.ConnectTimeout
		}), auditing(), "audit", "outboundDefault is Audit", ""},
		{"audited, and allowed by now", with(func(r *record.Record) { r.Verdict, r.Rule, r.Reason = record.Audited, policy.AuditRule, refusal.NoRule }), auditing(web),
			"audit", "No rule allowed www.example.com:443; it passed because outboundDefault is Audit.", "allow"},
		{"denied, and audited by now", with(func(r *record.Record) { r.Verdict, r.Reason = record.Denied, refusal.NoRule }), auditing(), "deny", "No rule allows www.example.com:443.", "audit"},
		{"a certificate that proved nothing", with(func(r *record.Record) { r.Verdict, r.Rule, r.Reason = record.Denied, web.ID, refusal.CertificateFail }), auditing(web),
			"deny", "set tls.caBundle in rule egress-policy/default/web", ""},
		{"a private answer", with(func(r *record.Record) {
			r.Verdict, r.Rule, r.Reason, r.Upstream = record.Denied, web.ID, refusal.PrivateAddress, "10.1.2.3:443"
		}), auditing(web), "deny", "leads to 10.1.2.3, an address of 10.0.0.0/8", ""},
		{"a workload that is gone", with(func(r *record.Record) {
			r.Verdict, r.Reason = record.Denied, refusal.NameMismatch
			r.SNI = "evil.example"
		}), nil,
			"deny", "dialled www.example.com, SNI evil.example", ""},
		{"a private answer of a workload that is gone", with(func(r *record.Record) {
			r.Verdict, r.Rule, r.Reason, r.Upstream = record.Denied, web.ID, refusal.PrivateAddress, "10.1.2.3:443"
		}), nil, "deny", "leads to 10.1.2.3", ""},
		{"a request that was none", with(func(r *record.Record) {
			r.Sniffed, r.Verdict, r.Reason, r.Detail = policy.HTTP, record.Denied, refusal.RequestMalformed, "two Host fields"
		}), auditing(web), "deny", "two Host fields", ""},
		{"an https URL that was not forwarded in the clear", with(func(r *record.Record) {
			r.Sniffed, r.Port, r.Host, r.Method, r.Path, r.SNI = policy.HTTP, 80, "www.example.com", "GET", "/", ""
			r.Verdict, r.Rule, r.Reason = record.Denied, web.ID, refusal.SchemeMismatch
		}), auditing(web), "deny", "target is an https URL", ""},
		{"a hidden name", with(func(r *record.Record) { r.Verdict, r.Rule, r.Reason = record.Denied, web.ID, refusal.EncryptedHello }), auditing(web),
			"deny", "Turn off Encrypted Client Hello", ""},
		{"what is under way", hello, nil, "pending", "Nothing is decided yet.", ""},
		{"a request from outside", record.Record{Direction: record.Ingress, Host: "shop.example", Verdict: record.Denied, Reason: refusal.NoRoute}, auditing(web),
			"deny", "no rule for this host and path", ""},
	} {
		opened, err := Reopen(&c.record, nil, c.snapshot, wire.Workload{Namespace: "default"})
		if err != nil {
			t.Errorf("%s: %v", c.say, err)
			continue
		}
		text := opened.Then.Sentence
		if opened.Then.Remedy != nil {
			text += " " + opened.Then.Remedy.Sentence
		}
		if opened.Then.Verdict != c.verdict || !strings.Contains(text, c.says) || opened.Title == "" {
			t.Errorf("%s: %q: %s: %q does not say %q", c.say, opened.Title, opened.Then.Verdict, text, c.says)
		}
		now := ""
		if opened.Now != nil {
			now = opened.Now.Verdict
		}
		if now != c.now {
			t.Errorf("%s: by the rules of now %q, want %q", c.say, now, c.now)
		}
	}
}

func TestWhatAStrangerSentIsEscapedInATitle(t *testing.T) {
	q, ok := OfRecord(&record.Record{Dialled: "203.0.113.7", Port: 80, Sniffed: policy.HTTP, Host: "a\x1b[2Jb\r\n", Method: "GET", Path: "/\u202e"})
	if !ok || strings.ContainsAny(q.Title, "\x1b\r\n\u202e") {
		t.Errorf("%q", q.Title)
	}
}

// What was decided is decided again by the rules of then and by those of now, and the
// difference is one that a person can act upon.
func TestWhatHasChangedSinceADecisionIsSaid(t *testing.T) {
	web, other := rule("egress-policy/default/web", "www.example.com", "443/https"), rule("egress-policy/default/other", "www.example.com", "443/https")
	narrow := rule("egress-policy/default/web", "api.example.com", "443/https")
	at := func(version string, rules ...policy.Rule) *wire.Snapshot {
		s := auditing(rules...)
		s.Version, s.Mesh.OutboundDefault = version, "Deny"
		return s
	}
	hello := record.Record{Workload: "details-v2/1", Direction: record.Egress, Dialled: "www.example.com", Port: 443, Sniffed: policy.ClientHello, SNI: "www.example.com", Snapshot: "1"}
	denied, allowed := hello, hello
	denied.Verdict, denied.Reason = record.Denied, refusal.NoRule
	allowed.Verdict, allowed.Rule = record.Allowed, web.ID
	called := record.Record{Direction: record.Mesh, Dialled: "reviews.default.svc.cluster.local", Port: 9080, Sniffed: policy.HTTP, Host: "reviews:9080", Method: "GET", Path: "/",
		Verdict: record.Allowed, Rule: "route-rule/default/jason"}
	routed := routing(route.Rule{ID: "route-rule/default/jason"})
	routed.Version = "1"
	unrouted := routing()
	unrouted.Version = "2"
	for _, c := range []struct {
		say       string
		record    record.Record
		then, now *wire.Snapshot
		want      string
		differs   bool
	}{
		{"the same version", denied, at("1"), at("1"), "The rules are still those that decided.", false},
		{"other rules that say the same", denied, at("1"), at("2", narrow), "The rules have changed since, and say the same of it: it is denied (no-rule).", false},
		{"a rule that came", denied, at("1"), at("2", web), "Then it was denied (no-rule); by today's rules it is allowed by egress-policy/default/web: egress-policy/default/web has come since.", true},
		{"a rule that was changed", denied, at("1", narrow), at("2", web), "Then it was denied (no-rule); by today's rules it is allowed by egress-policy/default/web: egress-policy/default/web was changed since.", true},
		{"a rule that went", allowed, at("1", web), at("2"), "Then it was allowed by egress-policy/default/web; by today's rules it is denied (no-rule): egress-policy/default/web is gone.", true},
		{"another rule", allowed, at("1", web), at("2", other), "Then it was allowed by egress-policy/default/web; by today's rules it is allowed by egress-policy/default/other: egress-policy/default/other has come since.", true},
		{"a version that is not known", denied, nil, at("2", web), "Then it was denied (no-rule); by today's rules it is allowed by egress-policy/default/web.", true},
		{"rules of now that are not known", denied, at("1"), nil, "", false},
		{"what the record does not hold", allowed, at("1"), at("2"), "Asked again, the rules of then say that it is denied (no-rule): what it turned on is not all in the record. " +
			"Then it was allowed by egress-policy/default/web; by today's rules it is denied (no-rule).", true},
		{"a route rule that went", called, routed, unrouted, "The rules have changed since, and say the same of it: it is allowed. The route rule that it followed, route-rule/default/jason, is gone.", false},
	} {
		opened, err := Reopen(&c.record, c.then, c.now, wire.Workload{Namespace: "default"})
		if err != nil || opened.Since != c.want || (opened.Now != nil) != c.differs || !opened.ByRules {
			t.Errorf("%s: %v, %q, want %q; now %+v", c.say, err, opened.Since, c.want, opened.Now)
		}
		if c.then != nil && c.say != "what the record does not hold" && opened.Then.Destination == "" {
			t.Errorf("%s: what was decided is not explained: %+v", c.say, opened.Then)
		}
	}
}
