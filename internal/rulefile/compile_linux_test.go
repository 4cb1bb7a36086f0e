package rulefile

import (
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sluice.dev/sluice/internal/names"
	"sluice.dev/sluice/internal/policy"
	"sluice.dev/sluice/internal/proxy/snapshot"
	"sluice.dev/sluice/internal/wire"
)

// set compiles rules as a proxy runs them.
func set(t *testing.T, r Rules) *policy.Set {
	t.Helper()
	var words strings.Builder
	compiled, err := r.Compile(wire.Workload{}, &words)
	if err != nil {
		t.Fatal(err)
	}
	if words.Len() > 0 {
		t.Errorf("it says %q", words.String())
	}
	built, err := snapshot.Build(compiled, snapshot.View{Namespace: wire.DefaultNamespace})
	if err != nil {
		t.Fatal(err)
	}
	return built.Policy
}

func TestAPresetOpensItsHostsAndNoOthers(t *testing.T) {
	rules := set(t, Rules{Presets: []string{"pypi", "github"}})
	for host, want := range map[string]bool{
		"pypi.org:443": true, "files.pythonhosted.org:443": true, "pypi.org:80": false, "upload.pypi.org:443": false,
		"github.com:443": true, "github.com:22": true, "ssh.github.com:443": true, "registry.npmjs.org:443": false,
	} {
		if got := mayConnect(t, rules, host); got != want {
			t.Errorf("%s: %v, want %v", host, got, want)
		}
	}
	if _, err := (Rules{Presets: []string{"pip"}}).Compile(wire.Workload{}, new(strings.Builder)); err == nil || !strings.Contains(err.Error(), "model-apis, npm, pypi") {
		t.Errorf("a preset that is not there: %v", err)
	}
}

func TestRulesComeFromStandardInputOnce(t *testing.T) {
	file := `{apiVersion: sluice.dev/v1alpha1, kind: EgressPolicy, metadata: {name: a}, spec: {to: {hosts: [a.example], ports: [{port: 443, protocol: https}]}}}`
	rules := set(t, Rules{Files: []string{"-"}, Input: strings.NewReader(file)})
	if !mayConnect(t, rules, "a.example:443") || mayConnect(t, rules, "b.example:443") {
		t.Error("the rules of standard input are not those that hold")
	}
	if _, err := (Rules{Files: []string{"-"}, Input: strings.NewReader("kind: [")}).Compile(wire.Workload{}, new(strings.Builder)); err == nil || !strings.Contains(err.Error(), "standard input:") {
		t.Errorf("bad rules of standard input: %v", err)
	}
	if _, err := (Rules{Files: []string{"-", "-"}, Input: strings.NewReader(file)}).Compile(wire.Workload{}, new(strings.Builder)); err == nil || !strings.Contains(err.Error(), "given twice") {
		t.Errorf("standard input twice: %v", err)
	}
}

func TestPrivateAnswersAreConsentedToForTheNamesOfEveryRule(t *testing.T) {
	file := filepath.Join(t.TempDir(), "rules.yaml")
	text := `{apiVersion: sluice.dev/v1alpha1, kind: EgressPolicy, metadata: {name: a}, spec: {privateAnswers: [192.168.1.0/24], to: {hosts: [a.example], ports: [{port: 443, protocol: https}]}}}
---
{apiVersion: config.istio.io/v1alpha2, kind: EgressRule, metadata: {name: b}, spec: {destination: {service: b.example}, ports: [{port: 443, protocol: https}]}}
`
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	from := Rules{Files: []string{file}, Allow: []string{"c.example"}}
	consenting := from
	consenting.Private = []string{"10.1.0.0/16", "fd00::/8"}
	for _, row := range []struct {
		host, answer      string
		before, consented bool
	}{
		{"a.example", "192.168.1.7", true, true},
		{"a.example", "10.1.2.3", false, true},
		{"b.example", "10.1.2.3", false, true},
		{"c.example", "10.1.2.3", false, true},
		{"c.example", "fd00::7", false, true},
		{"c.example", "10.2.0.1", false, false},
		{"c.example", "127.0.0.1", false, false},
		{"c.example", "169.254.169.254", false, false},
	} {
		for rules, want := range map[*policy.Set]bool{set(t, from): row.before, set(t, consenting): row.consented} {
			v := rules.Decide(tlsTo(row.host))
			if got := v.Consent.Judge(netip.MustParseAddr(row.answer)) == ""; v.Action != policy.Allow || got != want {
				t.Errorf("%s at %s: %v, dialled %v, want %v", row.host, row.answer, v.Action, got, want)
			}
		}
	}
}

func TestARangeOfPrivateAnswersThatIsNoneIsRefused(t *testing.T) {
	for cidr, says := range map[string]string{
		"10.1.0.0/33": "CIDR", "10.0.0.0/7": "10.0.0.0/8, 192.168.0.0/16", "0.0.0.0/0": "not within one range", "8.8.8.0/24": "public addresses need no consent",
		"224.0.0.0/24": "never dialled", "10.1.2.3/8": "bits set", "x": "CIDR",
	} {
		_, err := (Rules{Allow: []string{"a.example"}, Private: []string{cidr}}).Compile(wire.Workload{}, new(strings.Builder))
		if err == nil || !strings.Contains(err.Error(), "--private "+cidr) || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v", cidr, err)
		}
	}
	if _, err := (Rules{Private: []string{"10.0.0.0/8"}}).Compile(wire.Workload{}, new(strings.Builder)); err == nil || !strings.Contains(err.Error(), "there are none") {
		t.Errorf("consent without a rule: %v", err)
	}
}

// tlsTo is the chain of a TLS connection to a name.
func tlsTo(host string) *policy.Chain {
	name := names.MustParse(host)
	return &policy.Chain{Port: 443, Dialled: name, Sniffed: policy.ClientHello, SNI: name}
}

// mayConnect reports whether anything could be allowed at HOST:PORT.
func mayConnect(t *testing.T, rules *policy.Set, to string) bool {
	t.Helper()
	host, err := names.ParseHost(to)
	if err != nil {
		t.Fatal(err)
	}
	return rules.AtConnect(policy.TCP, host.Port, host.Name, netip.Addr{}).Possible
}
