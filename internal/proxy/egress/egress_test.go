package egress

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"testing"
	"unsafe"

	"sluice.dev/sluice/internal/advice"
	"sluice.dev/sluice/internal/names"
	"sluice.dev/sluice/internal/policy"
	"sluice.dev/sluice/internal/proxy/carry"
	"sluice.dev/sluice/internal/proxy/gate"
	"sluice.dev/sluice/internal/proxy/resolve"
	"sluice.dev/sluice/internal/proxy/snapshot"
	"sluice.dev/sluice/internal/refusal"
)

// ruled is a snapshot with these rules.
func ruled(t *testing.T, rules ...policy.Rule) *snapshot.Snapshot {
	t.Helper()
	set, err := policy.NewSet(rules, policy.Options{})
	if err != nil {
		t.Fatal(err)
	}
	s := *snapshot.NewHolder(snapshot.HolderConfig{}).Load()
	s.Policy = set
	return &s
}

func allow(t *testing.T, text string) policy.Rule {
	t.Helper()
	rule, err := advice.ParseAllow(text)
	if err != nil {
		t.Fatal(err)
	}
	return rule
}

// sockets counts who is dialled.
type sockets struct{ dialled []netip.AddrPort }

func (s *sockets) DialTCP(_ context.Context, _ netip.Addr, to netip.AddrPort) (*net.TCPConn, error) {
	s.dialled = append(s.dialled, to)
	return nil, errors.New("nobody is there")
}

func (s *sockets) DialUDP(context.Context, netip.AddrPort) (net.Conn, error) {
	return nil, errors.New("nobody is there")
}

var metadata = netip.MustParseAddr("169.254.169.254")

// Gate and dialer give one answer about an address: what a verdict lets be dialled is
// what its Consent says, and no rule as wide as the internet consents to a special one.
func TestGateAndDialerRefuseTheSameAddress(t *testing.T) {
	name := names.MustParse("metadata.example.org")
	s := ruled(t, allow(t, "0.0.0.0/0:80"), allow(t, "10.1.0.0/16:80"))
	host := names.Host{Addr: metadata}
	if v := gate.Decide(s, &policy.Chain{Port: 80, Addr: metadata, Sniffed: policy.HTTP, Host: host, Method: "GET", Path: "/"}); v.Passes() || v.Reason != refusal.PrivateAddress {
		t.Errorf("a request to the literal: %+v", v)
	}
	d := decide(s, &policy.Chain{Port: 80, Dialled: name, Sniffed: policy.HTTP, Host: names.Host{Name: name}, Method: "GET", Path: "/"})
	if !d.Verdict.Passes() {
		t.Fatalf("a name that may lead anywhere: %+v", d.Verdict)
	}
	var sockets sockets
	dialer := resolve.NewDialer(resolve.DialerConfig{Sockets: &sockets})
	w := New(Config{Kit: &carry.Kit{}, Dialer: dialer})
	for address, want := range map[string]refusal.Reason{
		"169.254.169.254": refusal.PrivateAddress, "10.2.0.1": refusal.PrivateAddress, "198.19.0.1": refusal.PrivateAddress,
		"10.1.0.1": refusal.ConnectFailed, "93.184.216.34": refusal.ConnectFailed,
	} {
		sockets.dialled = nil
		_, err := dialer.DialAddr(t.Context(), w.target(&d.Verdict), netip.AddrPortFrom(netip.MustParseAddr(address), 80))
		if got := refusal.Of(err).Reason; got != want || (len(sockets.dialled) > 0) != (want == refusal.ConnectFailed) {
			t.Errorf("%s: %v, and %v were dialled", address, err, sockets.dialled)
		}
		if got := d.Verdict.Consent.Judge(netip.MustParseAddr(address)); (got != "") != (want == refusal.PrivateAddress) {
			t.Errorf("%s: the verdict says %q", address, got)
		}
	}
}

// Of two rules that allow the same, the one that decides consents alone: the ranges of
// the other do not add up.
func TestOnlyTheRuleThatDecidesConsentsToPrivateAnswers(t *testing.T) {
	chain := policy.Chain{Port: 80, Dialled: names.MustParse("www.example.com"), Sniffed: policy.HTTP, Host: names.Host{Name: names.MustParse("www.example.com")}, Method: "GET", Path: "/"}
	for consenting, want := range map[string]refusal.Reason{"a": "", "b": refusal.PrivateAddress} {
		var rules []policy.Rule
		for _, id := range []string{"b", "a"} {
			rule := allow(t, "www.example.com:80")
			if rule.ID = id; id == consenting {
				rule.PrivateAnswers = []netip.Prefix{netip.MustParsePrefix("10.1.0.0/16")}
			}
			rules = append(rules, rule)
		}
		v := decide(ruled(t, rules...), &chain).Verdict
		if got := v.Consent.Judge(netip.MustParseAddr("10.1.2.3")); v.Rule.ID != "a" || got != want {
			t.Errorf("with the range in %s: rule %s says %q", consenting, v.Rule.ID, got)
		}
	}
}

// A chain that outlives its request keeps nothing of the buffer that the request was
// read into.
func TestAGrantKeepsNothingOfTheRequestsBuffer(t *testing.T) {
	buffer := []byte("GET /books/1 websocket")
	view := func(from, to int) string { return unsafe.String(&buffer[from], to-from) }
	kept := keep(&policy.Chain{Method: view(0, 3), Path: view(4, 12), Upgrade: view(13, 22), Fields: fields{}})
	copy(buffer, "XXXXXXXXXXXXXXXXXXXXXX")
	if kept.Method != "GET" || kept.Path != "/books/1" || kept.Upgrade != "websocket" || kept.Fields != nil {
		t.Errorf("%+v", kept)
	}
}

type fields struct{}

func (fields) Values(string, func(string) bool) {}

func TestAGrantEndsWithItsRuleAndWithTheConsentToItsAddress(t *testing.T) {
	name := names.MustParse("db.example.com")
	chain := policy.Chain{Port: 5000, Dialled: name, Sniffed: policy.Opaque}
	consent := allow(t, "db.example.com:5000")
	consent.PrivateAnswers = []netip.Prefix{netip.MustParsePrefix("10.1.0.0/16")}
	inside := place{address: netip.MustParseAddrPort("10.1.2.3:5000")}
	for what, x := range map[string]struct {
		rules   []policy.Rule
		grant   gate.Grant
		against refusal.Reason
	}{
		"the same rule":               {[]policy.Rule{consent}, dialled{allowed{chain}, inside}, ""},
		"no rule, being dialled":      {nil, allowed{chain}, refusal.NoRule},
		"no rule":                     {nil, dialled{allowed{chain}, inside}, refusal.NoRule},
		"no consent to its address":   {[]policy.Rule{allow(t, "db.example.com:5000")}, dialled{allowed{chain}, inside}, refusal.PrivateAddress},
		"no consent, but not dialled": {[]policy.Rule{allow(t, "db.example.com:5000")}, allowed{chain}, ""},
	} {
		if got := x.grant.Recheck(ruled(t, x.rules...)); got.Reason != x.against || got.MayReturn {
			t.Errorf("%s: %+v", what, got)
		}
	}
}

// What remembers where a pool led is bounded, and what was forgotten counts as refused.
func TestWhereAPoolLedIsRememberedWithinABound(t *testing.T) {
	var r reached
	anywhere := policy.NewConsent(nil, nil)
	a := netip.MustParseAddr("93.184.216.1")
	for range maxReached {
		r.add(a)
		a = a.Next()
	}
	r.add(netip.MustParseAddr("93.184.216.1")) // is remembered
	if r.leads(anywhere) || len(r.all) != maxReached {
		t.Errorf("%d addresses; refused: %v", len(r.all), r.leads(anywhere))
	}
	r.add(a)
	if !r.leads(anywhere) || len(r.all) != maxReached {
		t.Errorf("%d addresses; refused: %v", len(r.all), r.leads(anywhere))
	}
}
