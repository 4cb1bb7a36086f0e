package egress

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"testing"
	"time"

	"sluice.dev/sluice/internal/names"
	"sluice.dev/sluice/internal/policy"
	"sluice.dev/sluice/internal/proxy/carry"
	"sluice.dev/sluice/internal/proxy/resolve"
	"sluice.dev/sluice/internal/proxy/tunnel"
	"sluice.dev/sluice/internal/refusal"
)

// behindProxy is a way out through a proxy that nobody answers as, and how often it was
// dialled.
func behindProxy(t *testing.T, direct func(string, uint16) bool) (*Way, *int) {
	t.Helper()
	dialled := new(int)
	via, err := tunnel.New(tunnel.Config{
		Host: "192.0.2.1", Port: 3128, Direct: direct,
		Lookup: func(context.Context, string) ([]netip.Addr, error) { return nil, errors.New("it is an address") },
		Dial: func(context.Context, netip.AddrPort) (*net.TCPConn, error) {
			*dialled++
			return nil, errors.New("nobody is there")
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	return New(Config{Kit: &carry.Kit{Now: time.Now}, Via: via}), dialled
}

// Behind the proxy an address is judged as without it, and a name may not lead anywhere
// that only addresses are allowed, for nobody here sees where it leads.
func TestWhatCannotBeJudgedBehindTheProxyIsNotAskedFor(t *testing.T) {
	for _, c := range []struct {
		what  string
		rule  string
		chain policy.Chain
		want  refusal.Reason
	}{
		{"a name that a rule spells out", "db.example.com:5432/tcp", policy.Chain{Dialled: names.MustParse("db.example.com")}, refusal.ViaProxyUnreachable},
		{"a name under a wildcard", "*.example.com:5432/tcp", policy.Chain{Dialled: names.MustParse("db.example.com")}, refusal.ViaProxyUnreachable},
		{"a name where addresses alone are allowed", "10.0.0.0/8:5432/tcp", policy.Chain{Dialled: names.MustParse("db.example.com")}, refusal.OutsideCIDR},
		{"a name where every address is allowed", "0.0.0.0/0:5432/tcp", policy.Chain{Dialled: names.MustParse("db.example.com")}, refusal.OutsideCIDR},
		{"an address that a rule names", "10.1.2.3:5432/tcp", policy.Chain{Addr: netip.MustParseAddr("10.1.2.3")}, refusal.ViaProxyUnreachable},
		{"the metadata address under a wide rule", "0.0.0.0/0:5432/tcp", policy.Chain{Addr: metadata}, refusal.PrivateAddress},
	} {
		w, dialled := behindProxy(t, nil)
		c.chain.Port, c.chain.Sniffed = 5432, policy.Opaque
		d := decide(ruled(t, allow(t, c.rule)), &c.chain)
		reason := d.Verdict.Reason
		if d.Verdict.Passes() {
			_, ok := w.behind(&d.Verdict)
			_, err := w.openBehind(t.Context(), w.target(&d.Verdict))
			if reason = refusal.Of(err).Reason; !ok {
				t.Errorf("%s does not go through the proxy", c.what)
			}
		}
		if reason != c.want || (*dialled > 0) != (c.want == refusal.ViaProxyUnreachable) {
			t.Errorf("%s: %q with %d connections to the proxy, want %q", c.what, reason, *dialled, c.want)
		}
	}
}

func TestWhatIsReachedDirectlyIsNotBehindTheProxy(t *testing.T) {
	w, _ := behindProxy(t, func(host string, port uint16) bool { return host == "git.corp.example" && port == 22 })
	git := policy.Verdict{Name: names.MustParse("git.corp.example"), Port: 22}
	if _, ok := w.behind(&git); ok {
		t.Error("what NO_PROXY names is asked of the proxy")
	}
	git.Port = 443
	if to, ok := w.behind(&git); !ok || to.String() != "proxy 192.0.2.1:3128" {
		t.Errorf("what NO_PROXY does not name goes to %v", to)
	}
	if _, ok := New(Config{Kit: &carry.Kit{}}).behind(&git); ok {
		t.Error("without a proxy something is behind one")
	}
}

// A connection behind the proxy leads to one name: a verdict on another, or a new one
// that only some addresses pass, does not hold for it.
func TestAGrantBehindTheProxyIsForItsName(t *testing.T) {
	name := names.MustParse("db.example.com")
	chain := policy.Chain{Port: 5000, Dialled: name, Sniffed: policy.Opaque}
	held := dialled{allowed{chain}, place{name: name, behind: "proxy p:1"}}
	for rule, want := range map[string]refusal.Reason{"db.example.com:5000": "", "10.0.0.0/8:5000": refusal.OutsideCIDR, "a.example.com:5000": refusal.NoRule} {
		if got := held.Recheck(ruled(t, allow(t, rule))); got.Reason != want {
			t.Errorf("under %s: %q, want %q", rule, got.Reason, want)
		}
	}
	other := policy.Verdict{Name: names.MustParse("other.example.com")}
	if got := held.to.judge(&other); got != refusal.NameMismatch {
		t.Errorf("a verdict on another name: %q", got)
	}
	of := pool{behind: "proxy p:1", target: resolve.Target{Name: name}}
	if of.leads(policy.NewConsent(nil, nil)) || !of.leads(policy.NewConsent([]netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}, nil)) {
		t.Error("a pool behind the proxy outlives that its name may lead to some addresses alone, or does not outlive anything")
	}
}

// What a workload writes into names reaches the proxy and whoever answers for them: new
// ones are bounded there too, and one that was asked for lately is not new.
func TestNewNamesAreBoundedBehindTheProxyToo(t *testing.T) {
	w, _ := behindProxy(t, nil)
	now := time.Now()
	w.kit.Now = func() time.Time { return now }
	ask := func(name string) refusal.Reason {
		_, err := w.openBehind(t.Context(), resolve.Target{Name: names.MustParse(name), Port: 443, Limit: w.lookups.all, Consent: policy.NewConsent(nil, nil)})
		return refusal.Of(err).Reason
	}
	let := 0
	for ; ask(fmt.Sprintf("a%d.example.com", let)) != refusal.TooManyNames; let++ {
		if let > 100_000 {
			t.Fatal("new names are not bounded")
		}
	}
	if got := ask("a0.example.com"); got != refusal.ViaProxyUnreachable {
		t.Errorf("a name that was asked for a moment ago: %q", got)
	}
	if now = now.Add(askedFor); ask("a0.example.com") == refusal.TooManyNames {
		t.Error("after a while no new name passes")
	}
	many := asked{}
	limit := resolve.NewLimit(1e9, 1e9)
	for i := range maxAsked + 10 {
		many.take(names.MustParse(fmt.Sprintf("b%d.example.com", i)), limit, now)
		if len(many.until) > maxAsked {
			t.Fatalf("%d names are remembered", len(many.until))
		}
	}
}
