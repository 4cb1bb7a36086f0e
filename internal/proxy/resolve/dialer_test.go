package resolve

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"sluice.dev/sluice/internal/policy"
)

func prefixesOf(texts ...string) []netip.Prefix { return prefixes(texts...) }

func TestTheGuardRefusesWhatIsNotPublic(t *testing.T) {
	g := &Guard{Own: prefixesOf("8.8.8.8/32", "2001:4860:4860::/64")}
	for _, a := range []string{
		"127.0.0.1", "127.255.255.254", "::1", "0.0.0.0", "0.1.2.3", "::",
		"10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1", "100.64.0.1", "100.127.255.255",
		"169.254.169.254", "169.254.170.2", "fe80::1", "fec0::1", "fc00::1", "fd00:ec2::254", "fd12::1",
		"224.0.0.1", "239.1.1.1", "ff02::1", "255.255.255.255", "240.0.0.1",
		"198.18.0.1", "198.19.0.7", "2001:2::7", "fd00:5c::1", "fd00:5c:1::2",
		"192.0.2.1", "198.51.100.1", "203.0.113.1", "2001:db8::1", "3fff::1", "192.0.0.8", "192.88.99.1",
		"::ffff:8.8.4.4", "::ffff:127.0.0.1", "::127.0.0.1", "64:ff9b::7f00:1", "64:ff9b::808:404", "64:ff9b:1::1",
		"2002:7f00:1::1", "2001::1", "2001:10::1", "100::1", "5f00::1", "4000::1",
		"8.8.8.8", "2001:4860:4860::8888",
	} {
		if g.Dialable(netip.MustParseAddr(a)) {
			t.Errorf("%s may be dialled", a)
		}
	}
	for _, a := range []string{
		"8.8.4.4", "1.1.1.1", "172.15.255.255", "172.32.0.1", "100.63.255.255", "100.128.0.1", "11.0.0.1", "198.17.0.1", "198.20.0.1",
		"142.250.74.74", "2a00:1450:4001:82a::200a", "2606:4700::1", "2003::1",
	} {
		if !g.Dialable(netip.MustParseAddr(a)) {
			t.Errorf("%s may not be dialled", a)
		}
	}
	if g.Dialable(netip.Addr{}) || g.Dialable(netip.MustParseAddr("2a00::1%eth0")) {
		t.Error("no address, or one with a zone, may be dialled")
	}
}

func TestConsentOpensItsPrefixAndNoMore(t *testing.T) {
	g := &Guard{}
	for _, c := range []struct {
		addr, consent string
		want          bool
	}{
		{"10.1.2.3", "10.1.0.0/16", true},
		{"10.2.2.3", "10.1.0.0/16", false},
		{"127.0.0.1", "127.0.0.0/8", true},
		{"169.254.169.254", "169.254.169.254/32", true},
		{"fd12::1", "fd00::/8", true},
		{"64:ff9b::808:404", "64:ff9b::/96", true},
		{"::ffff:10.1.2.3", "10.0.0.0/8", false},
		{"::ffff:10.1.2.3", "::ffff:0:0/96", false},
		{"::ffff:169.254.169.254", "::/0", false},
		{"::ffff:198.19.0.1", "::/0", false},
		{"198.19.0.1", "0.0.0.0/0", false},
		{"2001:2::1", "::/0", false},
		{"fd00:5c::1", "fd00::/8", false},
		{"0.0.0.0", "0.0.0.0/0", false},
		{"224.0.0.1", "0.0.0.0/0", false},
		{"255.255.255.255", "0.0.0.0/0", false},
		{"::", "::/0", false},
		{"ff02::1", "::/0", false},
	} {
		if got := g.Dialable(netip.MustParseAddr(c.addr), nil, prefixesOf(c.consent)); got != c.want {
			t.Errorf("%s with consent to %s: %v, want %v", c.addr, c.consent, got, c.want)
		}
	}
}

// listen accepts on loopback and counts.
func listen(t *testing.T) netip.AddrPort {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			c.Close()
		}
	}()
	t.Cleanup(func() { l.Close(); <-done })
	return l.Addr().(*net.TCPAddr).AddrPort()
}

// newDialer resolves by a zone and dials public addresses on loopback.
func newDialer(t *testing.T, at map[netip.AddrPort]netip.AddrPort, records ...string) (*Dialer, *loopback) {
	t.Helper()
	sockets := &loopback{at: at}
	return NewDialer(DialerConfig{Sockets: sockets, Resolver: newResolver(t, serveDNS(t, zone(records...)))}), sockets
}

func TestDialRefusesByName(t *testing.T) {
	server := listen(t)
	public := netip.MustParseAddrPort("93.184.216.34:443")
	for _, c := range []struct {
		name    string
		records []string
		target  Target
		want    policy.Reason
		tried   string
		text    string
	}{
		{"a public address", []string{"www.example.com. 60 93.184.216.34"}, Target{}, "", "[93.184.216.34:443]", ""},
		{"rebinding to loopback", []string{"www.example.com. 60 127.0.0.1"}, Target{}, policy.PrivateAddress, "[]", "privateAnswers"},
		{"rebinding to the metadata service", []string{"www.example.com. 60 169.254.169.254", "www.example.com. 60 ::1"}, Target{}, policy.PrivateAddress, "[]", "169.254.169.254"},
		{"rebinding beside a public address", []string{"www.example.com. 60 127.0.0.1", "www.example.com. 60 93.184.216.34", "www.example.com. 60 ::ffff:127.0.0.1"}, Target{}, "", "[93.184.216.34:443]", ""},
		{"to our own addresses, with consent to everything", []string{"www.example.com. 60 198.19.0.1"}, Target{Private: prefixesOf("0.0.0.0/0")}, policy.PrivateAddress, "[]", ""},
		{"inside the rule's addresses", []string{"www.example.com. 60 93.184.216.34", "www.example.com. 60 8.8.4.4"}, Target{Within: prefixesOf("93.184.0.0/16")}, "", "[93.184.216.34:443]", ""},
		{"outside the rule's addresses", []string{"www.example.com. 60 8.8.4.4"}, Target{Within: prefixesOf("93.184.0.0/16")}, policy.OutsideCIDR, "[]", "8.8.4.4, outside"},
		{"within nothing", []string{"www.example.com. 60 93.184.216.34"}, Target{Within: prefixesOf()}, policy.OutsideCIDR, "[]", ""},
		{"outside and private", []string{"www.example.com. 60 8.8.4.4", "www.example.com. 60 198.19.3.3"}, Target{Within: prefixesOf("198.19.0.0/16")}, policy.PrivateAddress, "[]", "198.19.3.3"},
		{"no such name", nil, Target{}, NoSuchName, "[]", "www.example.com does not exist"},
		{"an address of a rule", nil, Target{Addr: public.Addr()}, "", "[93.184.216.34:443]", ""},
		{"an address of a rule outside its CIDR", nil, Target{Addr: public.Addr(), Within: prefixesOf("8.0.0.0/8")}, policy.OutsideCIDR, "[]", ""},
		{"a synthetic address as an address", nil, Target{Addr: netip.MustParseAddr("198.19.0.1")}, policy.PrivateAddress, "[]", ""},
		{"no address and no name", nil, Target{Addr: netip.Addr{}, Port: 1}, policy.PrivateAddress, "[]", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			d, sockets := newDialer(t, map[netip.AddrPort]netip.AddrPort{public: server}, c.records...)
			if !c.target.Addr.IsValid() && c.target.Port == 0 {
				c.target.Name = www
			}
			c.target.Port = 443
			conn, err := d.Dial(t.Context(), c.target)
			var e *Error
			switch {
			case err == nil && c.want == "":
				conn.Close()
			case errors.As(err, &e) && policy.Reason(e.Reason()) == c.want:
				if !strings.Contains(e.Text(), c.text) || e.Error() == "" {
					t.Errorf("text %q lacks %q", e.Text(), c.text)
				}
				if denied := c.want == policy.PrivateAddress || c.want == policy.OutsideCIDR; e.Denied() != denied || (e.Status() == 403) != denied {
					t.Errorf("status %d", e.Status())
				}
			default:
				t.Errorf("%v, want %q", err, c.want)
			}
			if got := fmt.Sprint(sockets.tried); got != c.tried {
				t.Errorf("connect was called for %s, want %s", got, c.tried)
			}
		})
	}
}

func TestAPrivateServiceIsReachedWithConsent(t *testing.T) {
	server := listen(t)
	d, _ := newDialer(t, nil, "www.example.com. 60 127.0.0.1")
	for name, target := range map[string]Target{
		"privateAnswers":       {Name: www, Private: prefixesOf("127.0.0.0/8")},
		"a rule on CIDRs":      {Name: www, Within: prefixesOf("127.0.0.1/32")},
		"a rule on an address": {Addr: netip.MustParseAddr("127.0.0.1")},
	} {
		target.Port = server.Port()
		conn, err := d.Dial(t.Context(), target)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		conn.Close()
	}
}

func TestDialAddrChecksTheVeryAddress(t *testing.T) {
	server := listen(t)
	d, sockets := newDialer(t, nil)
	_, err := d.DialAddr(t.Context(), Target{Name: www, Port: server.Port()}, server)
	var e *Error
	if !errors.As(err, &e) || e.Reason() != string(policy.PrivateAddress) {
		t.Errorf("%v", err)
	}
	if len(sockets.tried) != 0 {
		t.Errorf("connect was called for %v", sockets.tried)
	}
	conn, err := d.DialAddr(t.Context(), Target{Name: www, Port: server.Port(), Private: prefixesOf("127.0.0.1/32")}, server)
	must(t, err)
	conn.Close()
	if _, _, err := d.DialAny(t.Context(), Target{Name: www}, nil); !errors.As(err, &e) || policy.Reason(e.Reason()) != NoAddress {
		t.Errorf("no candidates: %v", err)
	}
}

func TestAClosedPortIsRefused(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	at := l.Addr().(*net.TCPAddr).AddrPort()
	l.Close()
	d, _ := newDialer(t, nil)
	_, err = d.Dial(t.Context(), Target{Addr: at.Addr(), Port: at.Port()})
	var e *Error
	if !errors.As(err, &e) || policy.Reason(e.Reason()) != ConnectRefused || e.Status() != 502 || !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("%v", err)
	}
}

// plan is what happens to a dial of each address: after a while it works or fails.
type plan struct {
	after time.Duration
	err   error
}

// scripted is Sockets whose connections follow a plan; an address without one
// never answers.
type scripted struct {
	plans map[string]plan

	mu    sync.Mutex
	start time.Time
	begun []string // "address after"
	ended int
}

func (s *scripted) DialTCP(ctx context.Context, src netip.Addr, dst netip.AddrPort) (*net.TCPConn, error) {
	s.mu.Lock()
	s.begun = append(s.begun, fmt.Sprint(dst.Addr(), " ", time.Since(s.start)))
	s.mu.Unlock()
	defer func() { s.mu.Lock(); s.ended++; s.mu.Unlock() }()
	p, ok := s.plans[dst.Addr().String()]
	if !ok {
		p = plan{time.Hour, errors.New("never")}
	}
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-time.After(p.after):
	}
	if p.err != nil {
		return nil, p.err
	}
	return new(net.TCPConn), nil
}

func (s *scripted) DialUDP(context.Context, netip.AddrPort) (net.Conn, error) {
	return nil, errors.New("no DNS here")
}

func TestHappyEyeballs(t *testing.T) {
	candidates := func(texts ...string) (all []netip.AddrPort) {
		for _, text := range texts {
			all = append(all, netip.AddrPortFrom(netip.MustParseAddr(text), 443))
		}
		return all
	}
	ms := time.Millisecond
	refused := &net.OpError{Op: "dial", Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}
	for _, c := range []struct {
		name       string
		candidates []netip.AddrPort
		plans      map[string]plan
		begun      string
		took       time.Duration
		want       policy.Reason
	}{
		{"the first answers", candidates("2a00::1", "8.8.4.4"), map[string]plan{"2a00::1": {20 * ms, nil}}, "2a00::1 0s", 20 * ms, ""},
		{"the first is slow", candidates("2a00::1", "8.8.4.4"), map[string]plan{"8.8.4.4": {20 * ms, nil}}, "2a00::1 0s, 8.8.4.4 250ms", 270 * ms, ""},
		{"the first is slow and yet first", candidates("2a00::1", "8.8.4.4"), map[string]plan{"2a00::1": {300 * ms, nil}, "8.8.4.4": {100 * ms, nil}}, "2a00::1 0s, 8.8.4.4 250ms", 300 * ms, ""},
		{"the first fails at once", candidates("2a00::1", "8.8.4.4"), map[string]plan{"2a00::1": {0, refused}, "8.8.4.4": {20 * ms, nil}}, "2a00::1 0s, 8.8.4.4 0s", 20 * ms, ""},
		{"all fail", candidates("2a00::1", "8.8.4.4"), map[string]plan{"2a00::1": {10 * ms, refused}, "8.8.4.4": {20 * ms, refused}}, "2a00::1 0s, 8.8.4.4 10ms", 30 * ms, ConnectRefused},
		{"none answers", candidates("2a00::1", "8.8.4.4"), nil, "2a00::1 0s, 8.8.4.4 250ms", ConnectTimeout, ConnectTimedOut},
		{"the last is refused by the guard", candidates("2a00::1", "10.0.0.1"), map[string]plan{"2a00::1": {10 * ms, refused}}, "2a00::1 0s", 10 * ms, ConnectRefused},
		{"all are refused by the guard", candidates("fd12::1", "10.0.0.1"), nil, "", 0, policy.PrivateAddress},
		{"eight are tried", candidates("8.0.0.1", "8.0.0.2", "8.0.0.3", "8.0.0.4", "8.0.0.5", "8.0.0.6", "8.0.0.7", "8.0.0.8", "8.0.0.9"), map[string]plan{"8.0.0.9": {0, nil}},
			"8.0.0.1 0s, 8.0.0.2 250ms, 8.0.0.3 500ms, 8.0.0.4 750ms, 8.0.0.5 1s, 8.0.0.6 1.25s, 8.0.0.7 1.5s, 8.0.0.8 1.75s", ConnectTimeout, ConnectTimedOut},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				sockets := &scripted{plans: c.plans, start: time.Now()}
				d := NewDialer(DialerConfig{Sockets: sockets})
				conn, _, err := d.DialAny(t.Context(), Target{Name: www, Port: 443}, c.candidates)
				if took := time.Since(sockets.start); took != c.took {
					t.Errorf("it took %v, want %v", took, c.took)
				}
				var e *Error
				if c.want == "" && (err != nil || conn == nil) || c.want != "" && (!errors.As(err, &e) || policy.Reason(e.Reason()) != c.want) {
					t.Errorf("%v, want %q", err, c.want)
				}
				if got := strings.Join(sockets.begun, ", "); got != c.begun {
					t.Errorf("begun: %s\n want: %s", got, c.begun)
				}
				if sockets.ended != len(sockets.begun) {
					t.Errorf("%d of %d attempts ended before the dial did", sockets.ended, len(sockets.begun))
				}
			})
		})
	}
}

func TestADialEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sockets := &scripted{start: time.Now()}
		d := NewDialer(DialerConfig{Sockets: sockets})
		ctx, cancel := context.WithTimeout(t.Context(), 600*time.Millisecond)
		defer cancel()
		_, _, err := d.DialAny(ctx, Target{Name: www}, []netip.AddrPort{netip.MustParseAddrPort("8.8.4.4:443"), netip.MustParseAddrPort("8.8.8.8:443")})
		var e *Error
		if !errors.As(err, &e) || policy.Reason(e.Reason()) != ConnectTimedOut || e.Status() != 504 || time.Since(sockets.start) != 600*time.Millisecond {
			t.Errorf("%v after %v", err, time.Since(sockets.start))
		}
	})
}

func TestCandidatesTakeTurnsByFamily(t *testing.T) {
	d, _ := newDialer(t, nil, "www.example.com. 60 8.0.0.1", "www.example.com. 60 8.0.0.2", "www.example.com. 60 8.0.0.3",
		"www.example.com. 60 2a00::1", "www.example.com. 60 fd00::1")
	got, err := d.Resolve(t.Context(), Target{Name: www, Port: 443})
	if err != nil || fmt.Sprint(got) != "[[2a00::1]:443 8.0.0.1:443 8.0.0.2:443 8.0.0.3:443]" {
		t.Errorf("%v %v", got, err)
	}
}

// Whoever proves one candidate after the other has an end to it too.
func TestCandidatesAreAsManyAsAreTriedAtMost(t *testing.T) {
	records := []string{}
	for i := range 20 {
		records = append(records, fmt.Sprintf("www.example.com. 60 8.0.0.%d", i), fmt.Sprintf("www.example.com. 60 2a00::%d", i))
	}
	d, _ := newDialer(t, nil, records...)
	got, err := d.Resolve(t.Context(), Target{Name: www, Port: 443})
	if err != nil || len(got) != MaxAttempts || !got[0].Addr().Is6() || !got[1].Addr().Is4() {
		t.Errorf("%v %v", got, err)
	}
}

func TestTheSourceIsUsedWhereItsFamilyFits(t *testing.T) {
	var sources []netip.Addr
	d := NewDialer(DialerConfig{Sockets: sourceSockets{&sources}})
	source := netip.MustParseAddr("198.18.1.7")
	for _, to := range []string{"8.8.4.4:443", "[2a00::1]:443"} {
		d.DialAddr(t.Context(), Target{Name: www, Source: source}, netip.MustParseAddrPort(to))
	}
	if len(sources) != 2 || sources[0] != source || sources[1].IsValid() {
		t.Errorf("%v", sources)
	}
}

type sourceSockets struct{ sources *[]netip.Addr }

func (s sourceSockets) DialTCP(_ context.Context, src netip.Addr, _ netip.AddrPort) (*net.TCPConn, error) {
	*s.sources = append(*s.sources, src)
	return nil, syscall.ENETUNREACH
}

func (s sourceSockets) DialUDP(context.Context, netip.AddrPort) (net.Conn, error) {
	return nil, syscall.ENETUNREACH
}

func TestEveryReasonHasAText(t *testing.T) {
	for reason, status := range map[policy.Reason]int{
		policy.PrivateAddress: 403, policy.OutsideCIDR: 403, NoSuchName: 502, NoAddress: 502, ResolveFailed: 503,
		TooManyNames: 503, ConnectRefused: 502, ConnectTimedOut: 504, ConnectFailed: 502,
	} {
		e := &Error{reason: reason, name: www, addrs: []netip.Addr{netip.MustParseAddr("8.8.4.4")}}
		if e.Status() != status || e.Text() == "" || strings.Contains(e.Text(), "()") {
			t.Errorf("%s: %d %q", reason, e.Status(), e.Text())
		}
	}
}
