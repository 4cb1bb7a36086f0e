package advice

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"sluice.dev/sluice/api"
	"sluice.dev/sluice/internal/names"
	"sluice.dev/sluice/internal/policy"
	"sluice.dev/sluice/internal/record"
	"sluice.dev/sluice/internal/refusal"
)

// recorded is the record that a proxy with these rules keeps of a connection.
func recorded(id record.ID, s *policy.Set, q *Question) record.Record {
	c := &q.Chain
	r := record.Record{
		ID: id, Workload: "details-v2/1", Direction: record.Egress, Dialled: c.Dialled.String(), Port: c.Port, Sniffed: c.Sniffed,
		SNI: c.SNI.String(), Host: c.Host.String(), Method: c.Method, Path: c.Path, Upgrade: c.Upgrade,
	}
	if c.Dialled.IsZero() {
		r.Dialled = c.Addr.String()
	}
	o := follow(s, c, q.Answers)
	r.Decide(&o.verdict)
	switch {
	case len(o.refused) > 0:
		r.Upstream = netip.AddrPortFrom(o.refused[0], c.Port).String()
	case o.verdict.Passes() && !o.verdict.Name.IsZero():
		for _, a := range o.answers {
			if a.Reason == "" {
				r.Upstream = netip.AddrPortFrom(a.Address, c.Port).String()
				break
			}
		}
	}
	return r
}

// came is what a record's connection comes to by some rules, its answer with it.
func came(s *policy.Set, r *record.Record) string {
	q, ok := OfRecord(r)
	if !ok {
		return "nothing"
	}
	v := s.Decide(&q.Chain)
	if v.Action != policy.Allow {
		return "deny"
	}
	said := v.Treatment.String()
	if v.Consent.Ranges() != nil {
		said += " at addresses of others"
	}
	if !v.Name.IsZero() && len(q.Answers) > 0 && v.Consent.Judge(q.Answers[0]) != "" {
		said += " and its answer is refused"
	}
	return said
}

// canBeAllowed reports whether any rule on just what the record is about allows it.
func canBeAllowed(t *rapid.T, r *record.Record, domain names.Name) bool {
	q, ok := OfRecord(r)
	if !ok || r.Reason.Group() == refusal.ByMessage {
		return false
	}
	none, _ := policy.NewSet(nil, policy.Options{Domain: domain})
	v := none.Decide(&q.Chain)
	for _, protocol := range []string{"tcp", "http", "https", "tls"} {
		to := v.Name.String()
		if to == "" {
			if !v.Addr.IsValid() {
				return false
			}
			to = netip.PrefixFrom(v.Addr, v.Addr.BitLen()).String()
		}
		one := rule("one", to, fmt.Sprintf("%d/%s", q.Chain.Port, protocol))
		set, err := policy.NewSet([]policy.Rule{one}, policy.Options{Domain: domain})
		if err != nil {
			t.Fatal(err)
		}
		if v := set.Decide(&q.Chain); v.Action == policy.Allow {
			return true
		}
	}
	return false
}

// The rules that records need let each of them through that can be let through at all,
// as create and the compiler take them; and no part of them can be left out.
func TestLeastIsEnoughAndNoMore(t *testing.T) {
	domain := name("cluster.local")
	got, leftOf := 0, map[refusal.Reason]int{}
	rapid.Check(t, func(t *rapid.T) {
		before, err := policy.NewSet(drawRules(t), policy.Options{Domain: domain, Outbound: rapid.SampledFrom([]policy.Action{policy.Deny, policy.Audit}).Draw(t, "outboundDefault")})
		if err != nil {
			t.Fatal(err)
		}
		var records []record.Record
		for i := range rapid.IntRange(1, 8).Draw(t, "records") {
			q := drawQuestion(t)
			q.Answers = q.Answers[:1]
			records = append(records, recorded(record.ID(i+1), before, &q))
		}
		needs := Least(records, detailsV2, domain)
		var rules []policy.Rule
		for i := range needs.Policies {
			compiled := accepted(t, policyYAML(&needs.Policies[i]), detailsV2.Labels)
			if said(compiled) != said(needs.Rules[i]) {
				t.Fatalf("the policy says\n%s\nand the rule is\n%s", said(compiled), said(needs.Rules[i]))
			}
			if slices.ContainsFunc(rules, func(r policy.Rule) bool { return r.ID == compiled.ID }) {
				t.Fatalf("two policies are named %s", compiled.ID)
			}
			rules = append(rules, compiled)
		}
		options := policy.Options{Domain: domain}
		set, err := policy.NewSet(rules, options)
		if err != nil {
			t.Fatal(err)
		}
		is := make([]string, len(records))
		for i := range records {
			r := &records[i]
			is[i] = came(set, r)
			left := slices.ContainsFunc(needs.Left, func(l Left) bool { return l.Record.Dialled == r.Dialled && l.Record.Port == r.Port })
			switch {
			case is[i] == "deny" && !left:
				t.Fatalf("%+v is neither allowed nor left", r)
			case is[i] == "deny" && onAddress(r) && r.Treatment == policy.Originate:
				leftOf[refusal.ProtocolMismatch]++ // as bytes it would be plain HTTP to a port of TLS
			case is[i] == "deny" && canBeAllowed(t, r, domain):
				// A hello that names nobody beside plain HTTP that is sent over TLS: no
				// rules allow both.
				q, _ := OfRecord(r)
				with := Least([]record.Record{*r}, detailsV2, domain)
				if q.Chain.Sniffed != policy.ClientHello || !q.Chain.SNI.IsZero() || len(with.Rules) == 0 {
					t.Fatalf("%+v can be allowed and is left: %+v", r, needs.Left)
				}
				leftOf[refusal.NoServerName]++
			case is[i] == "deny":
				leftOf[r.Reason]++
			case strings.Contains(is[i], "refused"):
				if to := netip.MustParseAddrPort(r.Upstream).Addr(); policy.NewConsent(nil, []netip.Prefix{netip.PrefixFrom(to, to.BitLen())}).Judge(to) == "" {
					t.Fatalf("%+v: no rule consents to its answer", r)
				}
			default:
				got++
			}
			if r.Verdict == record.Allowed && r.Treatment != policy.Refuse && is[i] != "deny" && !strings.HasPrefix(is[i], r.Treatment.String()) && !mixed(records, r) && !onAddress(r) {
				t.Fatalf("%+v was carried by %s, and now by %s", r, r.Treatment, is[i])
			}
		}
		for say, smaller := range leftOut(rules) {
			without, err := policy.NewSet(smaller, options)
			if err != nil {
				t.Fatal(err)
			}
			same := true
			for i := range records {
				same = same && came(without, &records[i]) == is[i]
			}
			if same {
				t.Fatalf("%s is not needed by any of %+v", say, records)
			}
		}
	})
	t.Logf("%d records were let through; left: %v", got, leftOf)
}

// onAddress reports whether a record is about an address: a policy on addresses takes
// tcp alone.
func onAddress(r *record.Record) bool {
	_, err := netip.ParseAddr(r.Dialled)
	host, _ := names.ParseHost(r.Host)
	return err == nil && r.SNI == "" && host.Name.IsZero()
}

// mixed reports whether other records of the same port were carried otherwise: then one
// way is taken for all.
func mixed(records []record.Record, r *record.Record) bool {
	return slices.ContainsFunc(records, func(other record.Record) bool {
		return other.Port == r.Port && other.ID != r.ID && other.Treatment != r.Treatment
	})
}

// leftOut are the rules with one part less, by what is left out.
func leftOut(rules []policy.Rule) map[string][]policy.Rule {
	out := make(map[string][]policy.Rule)
	with := func(i int, say string, change func(r *policy.Rule)) {
		list := slices.Clone(rules)
		change(&list[i])
		out[fmt.Sprintf("%s of %s", say, said(rules[i]))] = list
	}
	for i, r := range rules {
		out[said(r)] = slices.Delete(slices.Clone(rules), i, i+1)
		for j := range r.Hosts {
			with(i, "host "+r.Hosts[j].String(), func(r *policy.Rule) { r.Hosts = slices.Delete(slices.Clone(r.Hosts), j, j+1) })
		}
		for j := range r.CIDRs {
			with(i, "range "+r.CIDRs[j].String(), func(r *policy.Rule) { r.CIDRs = slices.Delete(slices.Clone(r.CIDRs), j, j+1) })
		}
		for j := range r.Ports {
			with(i, fmt.Sprint("port ", r.Ports[j]), func(r *policy.Rule) { r.Ports = slices.Delete(slices.Clone(r.Ports), j, j+1) })
		}
		for j := range r.PrivateAnswers {
			with(i, "answer "+r.PrivateAnswers[j].String(), func(r *policy.Rule) {
				r.PrivateAnswers = slices.Delete(slices.Clone(r.PrivateAnswers), j, j+1)
			})
		}
		for j, m := range r.HTTP {
			if len(r.HTTP) > 1 { // without the last any would be allowed
				with(i, fmt.Sprint("match ", j), func(r *policy.Rule) { r.HTTP = slices.Delete(slices.Clone(r.HTTP), j, j+1) })
			}
			part := func(say string, words []string, into func(*policy.HTTPMatch) *[]string) {
				for k := range words {
					if len(words) > 1 || say == "upgrade" {
						with(i, fmt.Sprintf("%s %s of match %d", say, words[k], j), func(r *policy.Rule) {
							r.HTTP = slices.Clone(r.HTTP)
							at := into(&r.HTTP[j])
							*at = slices.Delete(slices.Clone(*at), k, k+1)
						})
					}
				}
			}
			part("method", m.Methods, func(m *policy.HTTPMatch) *[]string { return &m.Methods })
			part("path", m.Paths, func(m *policy.HTTPMatch) *[]string { return &m.Paths })
			part("upgrade", m.Upgrades, func(m *policy.HTTPMatch) *[]string { return &m.Upgrades })
		}
	}
	return out
}

func TestLeastInWords(t *testing.T) {
	get := func(dialled, method, path, upgrade string) record.Record {
		return record.Record{Direction: record.Egress, Dialled: dialled, Port: 80, Sniffed: policy.HTTP, Host: dialled, Method: method, Path: path, Upgrade: upgrade, Verdict: record.Denied, Reason: refusal.NoRule}
	}
	hello := func(dialled, sni string) record.Record {
		return record.Record{Direction: record.Egress, Dialled: dialled, Port: 443, Sniffed: policy.ClientHello, SNI: sni, Verdict: record.Audited, Treatment: policy.Passthrough, Reason: refusal.NoRule}
	}
	db := record.Record{Direction: record.Egress, Dialled: "db.example.com", Port: 5432, Verdict: record.Denied, Reason: refusal.PrivateAddress, Upstream: "10.1.2.3:5432"}
	for say, c := range map[string]struct {
		records []record.Record
		rules   []string // "hosts or ranges; ports; http; private answers", in any order
		left    string
		private string
	}{
		"requests that were seen": {
			[]record.Record{get("a.example", "GET", "/x", ""), get("a.example", "GET", "/y", ""), get("a.example", "POST", "/x", ""), get("a.example", "GET", "/x", "")},
			[]string{"a.example; 80/http; GET /y|GET POST /x"}, "", ""},
		"a path with two readings": {
			[]record.Record{get("a.example", "GET", "/x/../y", ""), get("a.example", "GET", "/x", ""), get("a.example", "POST", "/x", "")},
			[]string{"a.example; 80/http; GET|POST /x"}, "", ""},
		"a method that no rule lists": {[]record.Record{get("a.example", "get", "/x", "")}, []string{"a.example; 80/http; /x"}, "", ""},
		"a change of protocol":        {[]record.Record{get("a.example", "GET", "/ws", "WebSocket")}, []string{"a.example; 80/http; GET /ws +websocket"}, "", ""},
		"a change to what hides":      {[]record.Record{get("a.example", "GET", "/", "h2c")}, []string{"a.example; 80/http"}, "", ""},
		"TLS of two names":            {[]record.Record{hello("a.example", "a.example"), hello("b.example", "b.example")}, []string{"a.example b.example; 443/tls"}, "", ""},
		"one name on two ports":       {[]record.Record{hello("a.example", "a.example"), {Direction: record.Egress, Dialled: "a.example", Port: 22, Sniffed: policy.Opaque, Verdict: record.Denied}, get("c.example", "GET", "/", "")}, []string{"a.example; 22/tcp 443/tls", "c.example; 80/http; GET /"}, "", ""},
		"an address":                  {[]record.Record{{Direction: record.Egress, Dialled: "93.184.217.1", Port: 443, Sniffed: policy.ClientHello, Verdict: record.Denied, Reason: refusal.NoServerName}}, []string{"93.184.217.1/32; 443/tcp"}, "", ""},
		"a name on a foreign address": {[]record.Record{hello("93.184.217.1", "a.example")}, []string{"a.example; 443/tls"}, "", ""},
		"two names":                   {[]record.Record{hello("a.example", "evil.example")}, nil, "name-mismatch", ""},
		"a name of the mesh":          {[]record.Record{hello("93.184.217.1", "details.default.svc.cluster.local")}, nil, "mesh-name", ""},
		"Sluice's own address":        {[]record.Record{{Direction: record.Egress, Dialled: "198.19.0.7", Port: 80, Sniffed: policy.Opaque, Verdict: record.Denied}}, nil, "private-address", ""},
		"a message that was refused":  {[]record.Record{{Direction: record.Egress, Dialled: "a.example", Port: 80, Sniffed: policy.HTTP, Verdict: record.Denied, Reason: refusal.RequestMalformed}}, nil, "request-malformed", ""},
		"a private answer":            {[]record.Record{db}, []string{"db.example.com; 5432/tcp; ; 10.1.2.3/32"}, "", "db.example.com 10.1.2.3 denied"},
		"an answer that is never dialled": {
			[]record.Record{func() record.Record { r := db; r.Upstream = "198.19.0.7:5432"; return r }()},
			[]string{"db.example.com; 5432/tcp"}, "private-address", ""},
		"plain HTTP that Sluice sent over TLS, and TLS": {
			[]record.Record{{Direction: record.Egress, Dialled: "a.example", Port: 443, Sniffed: policy.HTTP, Host: "a.example:443", Method: "GET", Path: "/x", Verdict: record.Allowed, Treatment: policy.Originate}, hello("a.example", "a.example")},
			[]string{"a.example; 443/https Originate; GET /x", "a.example; 443/tls"}, "", ""},
		"a hello that names nobody beside that": {
			[]record.Record{{Direction: record.Egress, Dialled: "a.example", Port: 443, Sniffed: policy.HTTP, Host: "a.example", Method: "GET", Path: "/x", Verdict: record.Allowed, Treatment: policy.Originate}, hello("a.example", "")},
			[]string{"a.example; 443/https Originate; GET /x"}, "no-server-name", ""},
		"plain HTTP to an address that Sluice sent over TLS": {
			[]record.Record{{Direction: record.Egress, Dialled: "151.101.1.20", Port: 443, Sniffed: policy.HTTP, Host: "151.101.1.20", Method: "GET", Path: "/", Verdict: record.Allowed, Treatment: policy.Originate}},
			nil, "protocol-mismatch", ""},
		"calls inside the mesh, and from outside": {[]record.Record{{Direction: record.Mesh, Dialled: "details.default.svc.cluster.local", Port: 9080}, {Direction: record.Ingress, Host: "shop.example", Port: 443}}, nil, "", ""},
		"nothing": {nil, nil, "", ""},
	} {
		needs := Least(c.records, detailsV2, name("cluster.local"))
		var rules []string
		for _, r := range needs.Rules {
			rules = append(rules, inWords(&r))
		}
		slices.Sort(rules)
		if !slices.Equal(rules, c.rules) {
			t.Errorf("%s: %q, want %q", say, rules, c.rules)
		}
		left, private := "", ""
		for _, l := range needs.Left {
			left += string(l.Reason)
			if l.Text == "" || l.Count == 0 {
				t.Errorf("%s: %+v", say, l)
			}
		}
		for _, p := range needs.Private {
			private += p.Name.String() + " " + p.Address.String()
			if p.Denied {
				private += " denied"
			}
		}
		if left != c.left || private != c.private {
			t.Errorf("%s: left %q, want %q; private %q, want %q", say, left, c.left, private, c.private)
		}
	}
}

func inWords(r *policy.Rule) string {
	to := strings.Join(append(texts(r.Hosts), texts(r.CIDRs)...), " ")
	var ports, matches []string
	for _, p := range r.Ports {
		ports = append(ports, fmt.Sprintf("%d/%s", p.Port, p.Protocol))
	}
	if r.TLS.Mode == policy.TLSOriginate {
		ports = append(ports, "Originate")
	}
	for _, m := range r.HTTP {
		words := slices.Concat(m.Methods, m.Paths)
		for _, u := range m.Upgrades {
			words = append(words, "+"+u)
		}
		matches = append(matches, strings.Join(words, " "))
	}
	return strings.TrimRight(strings.Join([]string{to, strings.Join(ports, " "), strings.Join(matches, "|"), strings.Join(texts(r.PrivateAnswers), " ")}, "; "), "; ")
}

// More than one policy holds is spread over several, and each is one that create takes.
func TestManyRecordsMakePoliciesWithinTheirBounds(t *testing.T) {
	var records []record.Record
	for i := range 2500 {
		records = append(records, record.Record{Direction: record.Egress, Dialled: fmt.Sprintf("h%d.example", i), Port: 443, Sniffed: policy.ClientHello, SNI: fmt.Sprintf("h%d.example", i), Verdict: record.Allowed})
	}
	for i := range 100 {
		records = append(records, record.Record{Direction: record.Egress, Dialled: "ports.example", Port: uint16(1000 + i), Sniffed: policy.Opaque, Verdict: record.Allowed})
	}
	for i := range 70 * 256 {
		records = append(records, record.Record{Direction: record.Egress, Dialled: "paths.example", Port: 80, Sniffed: policy.HTTP, Host: "paths.example", Method: "GET", Path: fmt.Sprintf("/%d", i), Verdict: record.Allowed})
	}
	needs := Least(records, detailsV2, names.Name{})
	if len(needs.Left) > 0 {
		t.Fatalf("left: %s", needs.Left[0].Text)
	}
	if got := len(needs.Policies); got != 3+2+2 {
		t.Errorf("%d policies", got)
	}
	for i := range needs.Policies {
		if wrong := api.Validate(&needs.Policies[i]); len(wrong) > 0 {
			t.Errorf("%s: %v", needs.Policies[i].ID(), wrong)
		}
	}
}

// More private answers than a policy holds are not cut: the name is left.
func TestTooManyPrivateAnswersAreLeft(t *testing.T) {
	var records []record.Record
	for i := range 1001 {
		at := netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 1, byte(i >> 8), byte(i)}), 443)
		records = append(records, record.Record{Direction: record.Egress, Dialled: "many.example", Port: 443, Sniffed: policy.ClientHello, SNI: "many.example", Verdict: record.Allowed, Upstream: at.String()})
	}
	needs := Least(records, detailsV2, names.Name{})
	if len(needs.Policies) != 0 || len(needs.Left) != 1 || needs.Left[0].Count != 1001 || !strings.Contains(needs.Left[0].Text, "no EgressPolicy allows it") {
		t.Errorf("%d policies, left %+v", len(needs.Policies), needs.Left)
	}
}
