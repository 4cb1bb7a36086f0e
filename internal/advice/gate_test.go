//go:build linux

package advice

import (
	"context"
	"net"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"
	"pgregory.net/rapid"

	"sluice.dev/sluice/internal/policy"
	"sluice.dev/sluice/internal/proxy/resolve"
	"sluice.dev/sluice/internal/proxy/snapshot"
	"sluice.dev/sluice/internal/refusal"
	"sluice.dev/sluice/internal/wire"
)

// reached is what a connection comes to.
type reached struct {
	Action    policy.Action
	Reason    refusal.Reason // of a denial
	Treatment policy.Treatment
	Rule      string
}

// Whatever the rules, the connection and the answers of DNS: what `why` says, what the
// gate decides on the snapshot that the proxy builds, and what the dialer gives to
// connect are one and the same.
func TestWhyTheGateAndTheDialerComeToTheSame(t *testing.T) {
	server := acceptAll(t)
	came := map[refusal.Reason]int{}
	rapid.Check(t, func(t *rapid.T) {
		from := drawSnapshot(t)
		q := drawQuestion(t)

		sockets := &fakeSockets{server: server, answers: q.Answers}
		resolver := resolve.NewResolver(resolve.ResolverConfig{Sockets: sockets, Servers: []netip.AddrPort{netip.MustParseAddrPort("192.0.2.53:53")}})
		defer resolver.Close()
		dialer := resolve.NewDialer(resolve.DialerConfig{Sockets: sockets, Resolver: resolver})
		built, err := snapshot.Build(from, snapshot.View{Namespace: "default"})
		if err != nil {
			t.Fatal(err)
		}
		gate := throughTheGate(t, built.Policy, &q.Chain, dialer)

		e, err := Answer(q, from, wire.Workload{Namespace: "default", Labels: detailsV2.Labels})
		if err != nil {
			t.Fatal(err)
		}
		said := reached{Reason: e.Reason, Rule: e.Rule}
		for _, action := range []policy.Action{policy.Deny, policy.Audit, policy.Allow} {
			if action.String() == e.Verdict {
				said.Action = action
			}
		}
		if e.Treatment != "" {
			if err := said.Treatment.UnmarshalText([]byte(e.Treatment)); err != nil {
				t.Fatal(err)
			}
		}
		if said != gate {
			t.Fatalf("why says %+v, and the connection came to %+v (%s)", said, gate, e.Sentence)
		}
		came[gate.Reason]++

		// No address that why says is not dialled was given to connect, and none at all
		// of a connection that is denied. (Where the server may speak first it is dialled
		// before the client has said what then is denied.)
		for _, at := range sockets.tried {
			refusedByWhy := slices.ContainsFunc(e.Answers, func(a Answered) bool { return a.Address == at.Addr() && a.Reason != "" })
			if (gate.Action == policy.Deny || refusedByWhy) && !q.isServerFirst(built.Policy) {
				t.Fatalf("connect was called for %s, and why says %+v %+v", at, said, e.Answers)
			}
		}
		if (e.Remedy != nil) != (e.Verdict != "allow") {
			t.Fatalf("%s with the remedy %+v", e.Verdict, e.Remedy)
		}
	})
	t.Logf("reasons: %v", came)
}

func (q *Question) isServerFirst(s *policy.Set) bool {
	return s.AtConnect(q.Chain.Transport, q.Chain.Port, q.Chain.Dialled, q.Chain.Addr).ServerFirst
}

// throughTheGate does what egress does with a connection: what may be said at connect,
// the verdict, the dial.
func throughTheGate(t *rapid.T, s *policy.Set, c *policy.Chain, dialer *resolve.Dialer) reached {
	denied := func(reason refusal.Reason) reached { return reached{Reason: reason} }
	dial := func(v *policy.Verdict) (netip.Addr, *refusal.Error) {
		conn, to, err := dialVerdict(dialer, v)
		if err != nil {
			return netip.Addr{}, refusal.Of(err)
		}
		conn.Close()
		return to, nil
	}
	at := s.AtConnect(c.Transport, c.Port, c.Dialled, c.Addr)
	var dialled netip.Addr
	if at.ServerFirst {
		first := policy.Chain{Transport: c.Transport, Port: c.Port, Dialled: c.Dialled, Addr: c.Addr} // nothing is sniffed yet
		v := s.Decide(&first)
		if !v.Passes() {
			return denied(v.Reason)
		}
		var why *refusal.Error
		if dialled, why = dial(&v); why != nil {
			return denied(why.Reason)
		}
	}
	v := s.Decide(c)
	if !v.Passes() {
		return denied(v.Reason)
	}
	if !at.Possible {
		t.Fatalf("nothing may be allowed at connect, and then %s", v)
	}
	if at.ServerFirst {
		if reason := v.Consent.Judge(dialled); reason != "" {
			return denied(reason)
		}
	} else if _, why := dial(&v); why != nil {
		return denied(why.Reason)
	}
	r := reached{Action: v.Action, Treatment: v.Treatment, Rule: v.Rule.ID}
	if v.Action == policy.Audit {
		r.Reason = v.Reason
	}
	return r
}

// dialVerdict dials as egress does: what the verdict is about, by its consent alone.
func dialVerdict(d *resolve.Dialer, v *policy.Verdict) (*net.TCPConn, netip.Addr, error) {
	target := resolve.Target{Name: v.Name, Addr: v.Addr, Port: v.Port, Consent: v.Consent}
	conn, to, err := d.Dial(context.Background(), target)
	return conn, to.Addr(), err
}

// drawSnapshot draws what the server sends: rules that meet, with or without audit.
func drawSnapshot(t *rapid.T) *wire.Snapshot {
	rules := drawRules(t)
	for i := range rapid.IntRange(0, 2).Draw(t, "wide rules") {
		cidrs := rapid.SampledFrom([]string{"0.0.0.0/0", "10.0.0.0/7", "169.254.0.0/16", "93.184.217.0/24", "::/0 0.0.0.0/0", "fd00::/8", "198.18.0.0/14"}).Draw(t, "range")
		ports := rapid.SampledFrom([]string{"443/tcp", "443/https", "80/tcp", "80/http"}).Draw(t, "port")
		rules = append(rules, rule("egress-rule/default/wide"+string(rune('0'+i)), cidrs, ports))
	}
	outbound := rapid.SampledFrom([]string{"Deny", "Audit"}).Draw(t, "outboundDefault")
	return &wire.Snapshot{
		Version: "v", Mesh: &wire.Mesh{OutboundDefault: outbound, MaxStale: time.Hour}, Policies: []*wire.Policy{{Rules: rules}},
		Routes: &wire.Routes{}, Directory: &wire.Directory{Domain: rapid.SampledFrom([]string{"cluster.local", "a.b"}).Draw(t, "domain")},
	}
}

// fakeSockets has a DNS server that gives its answers for every name, and takes every
// connection to one server.
type fakeSockets struct {
	server  netip.AddrPort
	answers []netip.Addr

	mu    sync.Mutex
	tried []netip.AddrPort
}

func (s *fakeSockets) DialTCP(ctx context.Context, _ netip.Addr, to netip.AddrPort) (*net.TCPConn, error) {
	s.mu.Lock()
	s.tried = append(s.tried, to)
	s.mu.Unlock()
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", s.server.String())
	if err != nil {
		return nil, err
	}
	return conn.(*net.TCPConn), nil
}

func (s *fakeSockets) DialUDP(context.Context, netip.AddrPort) (net.Conn, error) {
	return &fakeDNS{answers: s.answers, replies: make(chan []byte, 1)}, nil
}

// fakeDNS answers each question in memory.
type fakeDNS struct {
	net.Conn
	answers []netip.Addr
	replies chan []byte
}

func (d *fakeDNS) Write(message []byte) (int, error) {
	var m dnsmessage.Message
	if err := m.Unpack(message); err != nil {
		return 0, err
	}
	m.Header.Response, m.Additionals = true, nil
	question := m.Questions[0]
	for _, a := range d.answers {
		head := dnsmessage.ResourceHeader{Name: question.Name, Type: question.Type, Class: question.Class, TTL: 60}
		switch {
		case a.Is4() && question.Type == dnsmessage.TypeA:
			m.Answers = append(m.Answers, dnsmessage.Resource{Header: head, Body: &dnsmessage.AResource{A: a.As4()}})
		case a.Is6() && question.Type == dnsmessage.TypeAAAA:
			m.Answers = append(m.Answers, dnsmessage.Resource{Header: head, Body: &dnsmessage.AAAAResource{AAAA: a.As16()}})
		}
	}
	reply, err := m.Pack()
	if err != nil {
		return 0, err
	}
	d.replies <- reply
	return len(message), nil
}

func (d *fakeDNS) Read(b []byte) (int, error) { return copy(b, <-d.replies), nil }
func (d *fakeDNS) Close() error               { return nil }
func (d *fakeDNS) SetDeadline(time.Time) error {
	return nil
}

// acceptAll is a server that takes every connection and closes it.
func acceptAll(t *testing.T) netip.AddrPort {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			conn.Close()
		}
	}()
	t.Cleanup(func() { listener.Close(); <-done })
	return listener.Addr().(*net.TCPAddr).AddrPort()
}

// What the dialer does with the metadata service's address, where a rule says
// "anywhere": the three of them, in words.
func TestARuleOnEverythingIsNoConsentToTheMetadataService(t *testing.T) {
	from := &wire.Snapshot{
		Version: "v", Mesh: &wire.Mesh{OutboundDefault: "Deny", MaxStale: time.Hour}, Routes: &wire.Routes{}, Directory: &wire.Directory{},
		Policies: []*wire.Policy{{Rules: []policy.Rule{rule("egress-rule/default/all", "0.0.0.0/0 ::/0", "80/tcp")}}},
	}
	q, err := Parse("http://rebind.example.com/", "")
	if err != nil {
		t.Fatal(err)
	}
	if q, err = q.WithAnswers([]string{"169.254.169.254"}); err != nil {
		t.Fatal(err)
	}
	e, err := Answer(q, from, wire.Workload{Namespace: "default"})
	if err != nil || e.Verdict != "deny" || e.Reason != refusal.PrivateAddress || e.Answers[0].Reason != refusal.PrivateAddress {
		t.Errorf("why: %+v, %v", e, err)
	}
	sockets := &fakeSockets{answers: q.Answers}
	resolver := resolve.NewResolver(resolve.ResolverConfig{Sockets: sockets, Servers: []netip.AddrPort{netip.MustParseAddrPort("192.0.2.53:53")}})
	defer resolver.Close()
	built, err := snapshot.Build(from, snapshot.View{Namespace: "default"})
	if err != nil {
		t.Fatal(err)
	}
	v := built.Policy.Decide(&q.Chain)
	if reason := v.Consent.Judge(q.Answers[0]); !v.Passes() || reason != refusal.PrivateAddress {
		t.Errorf("the gate: %s, and %q for the answer", v, reason)
	}
	_, _, err = dialVerdict(resolve.NewDialer(resolve.DialerConfig{Sockets: sockets, Resolver: resolver}), &v)
	if refusal.Of(err).Reason != refusal.PrivateAddress || len(sockets.tried) > 0 {
		t.Errorf("the dialer: %v, tried %v", err, sockets.tried)
	}
}
