package advice

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"sluice.dev/sluice/internal/policy"
	"sluice.dev/sluice/internal/refusal"
)

// change is what a person does who follows a remedy: to the client, or to the rules
// where the remedy is a sentence alone.
type change struct {
	client func(chain) chain
	rules  func([]policy.Rule) []policy.Rule
}

// Every reason that a rule denies with: what the denial says, and that the same
// request is allowed once what it prints was done.
func TestEachRemedyThatADenialPrintsIsDoneAndTheRequestPasses(t *testing.T) {
	mesh := policy.Options{Domain: name("cluster.local")}
	audit := policy.Options{Outbound: policy.Audit}
	elsewhere := func(c chain) chain { return c } // the server changes, or DNS does
	plain := []policy.Rule{rule("egress-policy/default/web", "www.example.com", "80/http")}
	listed := []policy.Rule{requests(rule("egress-policy/default/web", "www.example.com", "80/http", "8443/https"), "GET", "/ok")}
	withUpgrade := func(r policy.Rule, protocol string) policy.Rule {
		r.HTTP = slices.Clone(r.HTTP)
		r.HTTP[0].Upgrades = []string{protocol}
		return r
	}
	n := "www.example.com"
	hidden := dialled(n, 443).tls(n)
	hidden.ECH = true
	bad := dialled(n, 80).get("", "/")
	bad.HostBad = true

	seen := map[refusal.Reason]bool{}
	for _, c := range []struct {
		say     string
		rules   []policy.Rule
		options policy.Options
		chain   chain
		refused string // that the dial found
		found   refusal.Reason
		reason  refusal.Reason
		says    []string // of the sentence and the remedy's sentence
		allow   string   // "" for none; "*" for whatever is printed
		yaml    bool
		then    *change // where the remedy is a sentence
	}{
		{say: "a name that no rule holds", chain: dialled(n, 443).tls(n), reason: refusal.NoRule,
			says: []string{"No rule allows www.example.com:443.", "Allow www.example.com:443 (https)."}, allow: "www.example.com:443", yaml: true},
		{say: "ssh on the port of https", chain: dialled("git.example.com", 443).opaque(), reason: refusal.NoRule,
			says: []string{"Allow git.example.com:443 (tcp)."}, allow: "git.example.com:443/tcp", yaml: true},
		{say: "ssh where https is allowed", rules: []policy.Rule{mustAllowForm("git.example.com")}, chain: dialled("git.example.com", 443).opaque(), reason: refusal.ProtocolMismatch,
			says: []string{"allows git.example.com:443 as https, and this connection is neither TLS nor HTTP", "Allow git.example.com:443 (tcp)."}, allow: "git.example.com:443/tcp", yaml: true},
		{say: "ssh under a wildcard of https", rules: []policy.Rule{mustAllowForm("*.example.com")}, chain: dialled("git.example.com", 443).opaque(), reason: refusal.ProtocolMismatch,
			allow: "*.example.com:443/tcp", yaml: true},
		{say: "plain HTTP on a port of its own", chain: dialled(n, 8080).get(n+":8080", "/"), reason: refusal.NoRule,
			says: []string{"(http)"}, allow: "www.example.com:8080/http", yaml: true},
		{say: "TLS on a port of its own", chain: dialled(n, 8444).tls(n), reason: refusal.NoRule,
			says: []string{"(https)"}, allow: "www.example.com:8444/https", yaml: true},
		{say: "TLS on the port of plain HTTP", rules: plain, chain: dialled(n, 80).tls(n), reason: refusal.ProtocolMismatch,
			says: []string{"as http, and this connection is TLS"}, allow: "www.example.com:80/tls", yaml: true},
		{say: "plain HTTP where TLS is passed", rules: []policy.Rule{rule("egress-policy/default/tls", n, "443/tls")}, chain: dialled(n, 443).get(n, "/"), reason: refusal.ProtocolMismatch, yaml: true},
		{say: "two names", chain: dialled(n, 443).tls("evil.example"), reason: refusal.NameMismatch,
			says: []string{"dialled www.example.com, SNI evil.example", "use one name"},
			then: &change{client: func(c chain) chain { return c.tls(n) }, rules: adding(rule("r", n, "443/https"))}},
		{say: "two ports", rules: plain, chain: dialled(n, 80).get(n+":81", "/"), reason: refusal.PortMismatch,
			says: []string{"names port 81, but port 80 was dialled", "send Host with port 80 or none"},
			then: &change{client: func(c chain) chain { return c.get(n+":80", "/") }}},
		{say: "TLS without SNI", rules: []policy.Rule{rule("r", n, "443/https")}, chain: dialled(n, 443).tls(""), reason: refusal.NoServerName,
			says: []string{"no SNI", "send the server's name"},
			then: &change{client: func(c chain) chain { return c.tls(n) }}},
		{say: "https to an address", chain: dialledAddr("151.101.1.20", 443).tls(""), reason: refusal.NoServerName,
			says: []string{"Allow 151.101.1.20:443 (https)."}, allow: "151.101.1.20:443", yaml: true},
		{say: "HTTP without Host to an address", chain: dialledAddr("203.0.114.9", 80).get("", "/"), reason: refusal.NoHost,
			says: []string{"no Host"}, allow: "203.0.114.9:80/tcp", yaml: true},
		{say: "HTTP without Host where a rule reads requests", rules: []policy.Rule{mustAllowForm("203.0.114.9:80")}, chain: dialledAddr("203.0.114.9", 80).get("", "/"), reason: refusal.NoHost,
			says: []string{"send a Host header"},
			then: &change{client: func(c chain) chain { return c.get("203.0.114.9", "/") }}},
		{say: "a Host that is not valid", rules: plain, chain: bad, reason: refusal.BadHost,
			says: []string{"valid host name"},
			then: &change{client: func(chain) chain { return dialled(n, 80).get(n, "/") }}},
		{say: "an address where rules are on names", rules: []policy.Rule{rule("r", "*", "22/tcp")}, chain: dialledAddr("203.0.114.9", 22).opaque(), reason: refusal.AddressLiteral,
			says: []string{"203.0.114.9:22 is an address"}, allow: "203.0.114.9:22", yaml: true},
		{say: "an IPv6 address", chain: dialledAddr("2a00:1450::9", 22).opaque(), reason: refusal.NoRule, allow: "[2a00:1450::9]:22", yaml: true},
		{say: "another path", rules: listed, chain: dialled(n, 80).get(n, "/no"), reason: refusal.MethodOrPath,
			says: []string{"but not GET /no.", "Allow GET /no on www.example.com:80 (http)."}, yaml: true},
		{say: "another path that asks to change to a protocol", rules: listed, chain: dialled(n, 80).get(n, "/no").upgrade("WebSocket"), reason: refusal.MethodOrPath, yaml: true},
		{say: "a path with two readings", rules: listed, chain: dialled(n, 80).get(n, "/ok/../no"), reason: refusal.MethodOrPath,
			says: []string{"plain form"},
			then: &change{client: func(c chain) chain { return c.get(n, "/ok") }}},
		{say: "a path that a rule would read as a prefix", rules: listed, chain: dialled(n, 80).get(n, "/a*b"), reason: refusal.MethodOrPath,
			says: []string{"list the part before it as a prefix", "rule egress-policy/default/web"},
			then: &change{rules: adding(requests(rule("more", n, "80/http"), "GET", "/a*"))}},
		{say: "a method in lower case", rules: listed, chain: dialled(n, 80).get(n, "/ok").method("get"), reason: refusal.MethodOrPath,
			says: []string{"upper case"},
			then: &change{client: func(c chain) chain { return c.method("GET") }}},
		{say: "a change of protocol", rules: listed, chain: dialled(n, 80).get(n, "/ok").upgrade("websocket"), reason: refusal.UpgradeForbidden,
			says: []string{"allows GET /ok on www.example.com:80, but not the change of protocol to websocket", "to change to websocket"}, yaml: true},
		{say: "a change of protocol beside one that is allowed", rules: []policy.Rule{withUpgrade(listed[0], "websocket")}, chain: dialled(n, 80).get(n, "/ok").upgrade("tcp"), reason: refusal.UpgradeForbidden, yaml: true},
		{say: "a change to what hides requests", rules: listed, chain: dialled(n, 80).get(n, "/ok").upgrade("h2c"), reason: refusal.UpgradeForbidden,
			says: []string{"not ask for it"},
			then: &change{client: func(c chain) chain { return c.upgrade("") }}},
		{say: "an https URL under a rule on plain HTTP", rules: plain, chain: dialled(n, 80).get(n, "/").https(), reason: refusal.SchemeMismatch,
			says: []string{"rule egress-policy/default/web forwards plain HTTP", "ask for an http URL, or dial port 443"},
			then: &change{client: func(chain) chain { return dialled(n, 80).get(n, "/") }}},
		{say: "an https URL where plain HTTP is allowed on the port of TLS", rules: []policy.Rule{rule("r", n, "443/http")}, chain: dialled(n, 443).get(n, "/").https(), reason: refusal.SchemeMismatch,
			says: []string{"Change the protocol of port 443 in rule r to https"},
			then: &change{rules: func([]policy.Rule) []policy.Rule { return []policy.Rule{rule("r", n, "443/https")} }}},
		{say: "an https URL with audit", options: audit, chain: dialled(n, 80).get(n, "/").https(), reason: refusal.SchemeMismatch,
			says: []string{"to www.example.com:80 it would be sent as plain HTTP"},
			then: &change{client: func(chain) chain { return dialled(n, 443).get(n, "/").https() }, rules: adding(rule("r", n, "443/https"))}},
		{say: "a hidden server name", rules: []policy.Rule{rule("r", n, "443/https")}, chain: hidden, found: refusal.EncryptedHello, reason: refusal.EncryptedHello,
			says: []string{"Turn off Encrypted Client Hello"},
			then: &change{client: func(c chain) chain { c.ECH = false; return c }}},
		{say: "a name of the mesh", rules: []policy.Rule{rule("r", "*", "80/http")}, options: mesh, chain: dialledAddr("93.184.217.1", 80).get("gone.default.svc.cluster.local", "/"), reason: refusal.MeshName,
			says: []string{"gone.default.svc.cluster.local belongs to the mesh's domain cluster.local", "use the name that the server has outside"},
			then: &change{client: func(chain) chain { return dialledAddr("93.184.217.1", 80).get(n, "/") }}},
		{say: "a private address under a rule on everything", rules: []policy.Rule{rule("egress-policy/default/all", "0.0.0.0/0", "5432/tcp")}, chain: dialledAddr("10.1.2.3", 5432).opaque(), reason: refusal.PrivateAddress,
			says: []string{"10.1.2.3:5432 is an address of 10.0.0.0/8 (Private-Use", "rule egress-policy/default/all", "Allow 10.1.2.3:5432 (tcp)."}, allow: "10.1.2.3:5432", yaml: true},
		{say: "a private address with audit", options: audit, chain: dialledAddr("10.1.2.3", 5432).opaque(), reason: refusal.PrivateAddress,
			says: []string{"lets pass only what is public"}, allow: "10.1.2.3:5432", yaml: true},
		{say: "an address that is never dialled", rules: []policy.Rule{rule("all", "0.0.0.0/0", "5432/tcp")}, chain: dialledAddr("224.0.0.9", 5432).opaque(), reason: refusal.PrivateAddress,
			says: []string{"224.0.0.9 is never dialled"}, then: &change{client: func(chain) chain { return dialledAddr("93.184.217.1", 5432).opaque() }}},
		{say: "a private answer", rules: []policy.Rule{rule("egress-policy/default/0-db", "db.example.com", "5432/tcp")}, chain: dialled("db.example.com", 5432).opaque(),
			found: refusal.PrivateAddress, refused: "10.1.2.3", reason: refusal.PrivateAddress,
			says: []string{"db.example.com:5432 leads to 10.1.2.3, an address of 10.0.0.0/8", "If the address is meant, list it under privateAnswers of rule egress-policy/default/0-db."},
			then: &change{rules: func(rules []policy.Rule) []policy.Rule {
				rules[0].PrivateAnswers = []netip.Prefix{netip.MustParsePrefix("10.1.2.3/32")}
				return rules
			}}},
		{say: "a private answer of what --allow allows", rules: []policy.Rule{mustAllowForm("db.example.com:5432"), mustAllowForm("db.example.com:5433")}, chain: dialled("db.example.com", 5432).opaque(),
			found: refusal.PrivateAddress, refused: "10.1.2.3", reason: refusal.PrivateAddress,
			says: []string{"to lead to 10.1.2.3/32: in place of --allow db.example.com:5432 give this policy with --rules."}, yaml: true},
		{say: "a private answer under a wildcard", rules: []policy.Rule{rule("egress-policy/default/0-db", "*.example.com", "5432/tcp")}, chain: dialled("db.example.com", 5432).opaque(),
			found: refusal.PrivateAddress, refused: "10.1.2.3", reason: refusal.PrivateAddress,
			says: []string{"Allow db.example.com:5432 (tcp) to lead to 10.1.2.3/32."}, yaml: true},
		{say: "a private answer under a rule on everything", rules: []policy.Rule{rule("egress-policy/default/all", "0.0.0.0/0", "80/tcp")}, chain: dialled(n, 80).opaque(),
			found: refusal.PrivateAddress, refused: "169.254.169.254", reason: refusal.PrivateAddress,
			says: []string{"leads to 169.254.169.254", "to lead to 169.254.169.254/32"}, yaml: true},
		{say: "an answer that is never dialled", rules: plain, chain: dialled(n, 80).get(n, "/"), found: refusal.PrivateAddress, refused: "::ffff:10.1.2.3", reason: refusal.PrivateAddress,
			says: []string{"No rule allows this: ::ffff:10.1.2.3 is never dialled."}, then: &change{client: elsewhere}},
		{say: "an answer outside the ranges", rules: []policy.Rule{rule("egress-policy/default/net", "93.184.217.0/24", "443/tcp")}, chain: dialled(n, 443).tls(n),
			found: refusal.OutsideCIDR, refused: "151.101.1.20", reason: refusal.OutsideCIDR,
			says: []string{"leads to 151.101.1.20, which is outside the addresses"}, allow: "www.example.com:443/tcp", yaml: true},
		{say: "a certificate that proves nothing", rules: []policy.Rule{rule("egress-policy/default/web", n, "443/https")}, chain: dialled(n, 443).tls(n), found: refusal.CertificateFail, reason: refusal.CertificateFail,
			says: []string{"set tls.caBundle in rule egress-policy/default/web"}, then: &change{client: elsewhere}},
		{say: "a certificate that does not name the address", rules: []policy.Rule{mustAllowForm("151.101.1.20")}, chain: dialledAddr("151.101.1.20", 443).tls(""), found: refusal.CertificateFail, reason: refusal.CertificateFail,
			says: []string{"prove its address", "protocol tcp"}, then: &change{rules: func([]policy.Rule) []policy.Rule { return []policy.Rule{mustAllowForm("151.101.1.20:443/tcp")} }}},
		{say: "a rule that asks for what the proxy does not know", rules: plain, chain: dialled(n, 80).get(n, "/"), found: refusal.ObligationUnknown, reason: refusal.ObligationUnknown,
			says: []string{"Bring the proxy to the version of its server", "rule egress-policy/default/web"}, then: &change{}},
		{say: "no rules yet", rules: plain, options: policy.Options{Deny: refusal.NoSnapshot}, chain: dialled(n, 80).get(n, "/"), reason: refusal.NoSnapshot,
			says: []string{"sluice status"}, then: &change{}},
		{say: "rules that are too old", rules: plain, options: policy.Options{Deny: refusal.StaleSnapshot}, chain: dialled(n, 80).get(n, "/"), reason: refusal.StaleSnapshot,
			says: []string{"Bring the server back"}, then: &change{}},
	} {
		t.Run(c.say, func(t *testing.T) {
			set := newSetWith(t, c.rules, c.options)
			v := set.Decide(&c.chain.Chain)
			if c.found != "" {
				if !v.Passes() {
					t.Fatalf("it does not come to the dial: %s", v)
				}
				v = v.Denied(c.found)
			}
			opts := detailsV2
			if c.refused != "" {
				opts.Refused = netip.MustParseAddr(c.refused)
			}
			e := Explain(set, &c.chain.Chain, v, opts)
			seen[e.Reason] = true
			if e.Verdict != "deny" || e.Reason != c.reason || e.Remedy == nil || e.Remedy.Sentence == "" {
				t.Fatalf("%s: %s %+v", e.Verdict, e.Reason, e.Remedy)
			}
			for _, words := range c.says {
				if !strings.Contains(e.Sentence+"\n"+e.Remedy.Sentence, words) {
					t.Errorf("neither %q nor %q says %q", e.Sentence, e.Remedy.Sentence, words)
				}
			}
			if e.Remedy.Allow != c.allow || (e.Remedy.YAML != "") != c.yaml {
				t.Errorf("--allow %q, YAML:\n%s", e.Remedy.Allow, e.Remedy.YAML)
			}
			again := func(say string, rules []policy.Rule, asked chain) {
				v := newSetWith(t, rules, policy.Options{Domain: c.options.Domain, Outbound: c.options.Outbound}).Decide(&asked.Chain)
				if v.Action != policy.Allow {
					t.Errorf("after %s it is still %s", say, v)
				} else if reason := v.Consent.Judge(opts.Refused); c.refused != "" && reason != "" && c.then == nil {
					t.Errorf("after %s %s is still refused: %s", say, opts.Refused, reason)
				}
			}
			if e.Remedy.YAML != "" {
				beside := slices.DeleteFunc(slices.Clone(c.rules), func(r policy.Rule) bool { return r.ID == e.Remedy.Instead })
				again("sluice create", append(beside, accepted(t, e.Remedy.YAML, opts.Labels)), c.chain)
			}
			if e.Remedy.Allow != "" {
				again("--allow "+e.Remedy.Allow, append(slices.Clone(c.rules), mustAllowForm(e.Remedy.Allow)), c.chain)
			}
			switch {
			case c.then == nil && e.Remedy.YAML == "" && e.Remedy.Allow == "":
				t.Error("nobody does what the sentence says")
			case c.then != nil:
				rules, asked := slices.Clone(c.rules), c.chain
				if c.then.rules != nil {
					rules = c.then.rules(rules)
				}
				if c.then.client != nil {
					asked = c.then.client(asked)
				}
				again("what the sentence says", rules, asked)
			}
		})
	}
	ingress := []refusal.Reason{refusal.NoRoute, refusal.NoCertificate, refusal.Misdirected, refusal.NoClientProof} // are of whom no rule here is about
	for _, r := range refusal.All() {
		if r.Group() == refusal.ByRule && !slices.Contains(ingress, r) && !seen[r] {
			t.Errorf("no remedy for %s was tried", r)
		}
	}
}

func adding(rules ...policy.Rule) func([]policy.Rule) []policy.Rule {
	return func(before []policy.Rule) []policy.Rule { return append(before, rules...) }
}

func newSetWith(t *testing.T, rules []policy.Rule, options policy.Options) *policy.Set {
	t.Helper()
	set, err := policy.NewSet(rules, options)
	if err != nil {
		t.Fatal(err)
	}
	return set
}

// mustAllowForm reads what the flag --allow reads.
func mustAllowForm(text string) policy.Rule {
	r, err := ParseAllow(text)
	if err != nil {
		panic(err)
	}
	return r
}
