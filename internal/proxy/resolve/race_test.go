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

	"golang.org/x/net/dns/dnsmessage"

	"sluice.dev/sluice/internal/proxy/share"
	"sluice.dev/sluice/internal/refusal"
)

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
	at    int // a time
	most  int // of them
}

func (s *scripted) DialTCP(ctx context.Context, _ netip.Addr, dst netip.AddrPort) (*net.TCPConn, error) {
	s.mu.Lock()
	s.begun = append(s.begun, fmt.Sprint(dst.Addr(), " ", time.Since(s.start)))
	s.at++
	s.most = max(s.most, s.at)
	s.mu.Unlock()
	defer func() { s.mu.Lock(); s.ended++; s.at--; s.mu.Unlock() }()
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

func addrsOf(texts ...string) (all []netip.Addr) {
	for _, text := range texts {
		all = append(all, netip.MustParseAddr(text))
	}
	return all
}

// connectTo is the attempt that Dial makes.
func connectTo(d *Dialer, t Target) Try {
	return func(ctx context.Context, a *Attempt) (*net.TCPConn, error) {
		a.Connecting()
		return d.connect(ctx, t, a.To)
	}
}

const ms = time.Millisecond

var (
	errRefused     = &net.OpError{Op: "dial", Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}
	errUnreachable = &net.OpError{Op: "dial", Err: os.NewSyscallError("connect", syscall.ENETUNREACH)}
)

func TestAddressesAreRacedOneAfterTheOther(t *testing.T) {
	for _, c := range []struct {
		name  string
		addrs []netip.Addr
		plans map[string]plan
		begun string
		took  time.Duration
		want  refusal.Reason
	}{
		{"the first answers", addrsOf("2a00::1", "8.8.4.4"), map[string]plan{"2a00::1": {20 * ms, nil}}, "2a00::1 0s", 20 * ms, ""},
		{"the first is a black hole", addrsOf("2a00::1", "8.8.4.4"), map[string]plan{"8.8.4.4": {20 * ms, nil}}, "2a00::1 0s, 8.8.4.4 250ms", 270 * ms, ""},
		{"the families take turns", addrsOf("8.0.0.1", "8.0.0.2", "8.0.0.3", "2a00::1"), map[string]plan{"8.0.0.3": {0, nil}}, "2a00::1 0s, 8.0.0.1 250ms, 8.0.0.2 500ms, 8.0.0.3 750ms", 750 * ms, ""},
		{"the first is slow and yet first", addrsOf("2a00::1", "8.8.4.4"), map[string]plan{"2a00::1": {300 * ms, nil}, "8.8.4.4": {100 * ms, nil}}, "2a00::1 0s, 8.8.4.4 250ms", 300 * ms, ""},
		{"the first fails at once", addrsOf("2a00::1", "8.8.4.4"), map[string]plan{"2a00::1": {0, errRefused}, "8.8.4.4": {20 * ms, nil}}, "2a00::1 0s, 8.8.4.4 0s", 20 * ms, ""},
		{"all fail", addrsOf("2a00::1", "8.8.4.4"), map[string]plan{"2a00::1": {10 * ms, errRefused}, "8.8.4.4": {20 * ms, errRefused}}, "2a00::1 0s, 8.8.4.4 10ms", 30 * ms, refusal.ConnectRefused},
		{"none answers", addrsOf("2a00::1", "8.8.4.4"), nil, "2a00::1 0s, 8.8.4.4 250ms", ConnectTimeout, refusal.ConnectTimeout},
		{"the last is refused by the verdict", addrsOf("2a00::1", "10.0.0.1"), map[string]plan{"2a00::1": {10 * ms, errRefused}}, "2a00::1 0s", 10 * ms, refusal.ConnectRefused},
		{"all are refused by the verdict", addrsOf("fd12::1", "10.0.0.1"), nil, "", 0, refusal.PrivateAddress},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				sockets := &scripted{plans: c.plans, start: time.Now()}
				d := NewDialer(DialerConfig{Sockets: sockets})
				target := Target{Name: www, Port: 443, Consent: publicOnly}
				conn, _, err := d.race(t.Context(), target, candidates{addrs: c.addrs}, connectTo(d, target))
				if took := time.Since(sockets.start); took != c.took {
					t.Errorf("it took %v, want %v", took, c.took)
				}
				var e *refusal.Error
				if c.want == "" && (err != nil || conn == nil) || c.want != "" && (!errors.As(err, &e) || e.Reason != c.want) {
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

func TestAGoodAddressBehindManyDeadOnesIsReached(t *testing.T) {
	for _, dead := range []int{20, MaxAddresses - 1} {
		for name, end := range map[string]plan{"silent": {time.Hour, nil}, "refused": {ms, errRefused}} {
			synctest.Test(t, func(t *testing.T) {
				sockets := &scripted{plans: map[string]plan{"8.0.1.1": {30 * ms, nil}}, start: time.Now()}
				var addrs []netip.Addr
				for i := range dead {
					a := netip.AddrFrom4([4]byte{8, 0, 0, byte(i)})
					sockets.plans[a.String()] = end
					addrs = append(addrs, a)
				}
				d := NewDialer(DialerConfig{Sockets: sockets})
				target := Target{Name: www, Port: 443, Consent: publicOnly}
				conn, to, err := d.race(t.Context(), target, candidates{addrs: append(addrs, addrsOf("8.0.1.1")...)}, connectTo(d, target))
				if err != nil || conn == nil || to.String() != "8.0.1.1:443" {
					t.Fatalf("behind %d addresses that are %s: %v, %v", dead, name, to, err)
				}
				if took := time.Since(sockets.start); took >= ConnectTimeout*4/5 {
					t.Errorf("behind %d addresses that are %s it took %v", dead, name, took)
				}
				if sockets.most > MaxAttempts || name == "silent" && sockets.most != MaxAttempts {
					t.Errorf("%d attempts were at work at a time", sockets.most)
				}
			})
		}
	}
}

func TestADialHasOneEndForAllItsAddresses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sockets := &scripted{start: time.Now()}
		d := NewDialer(DialerConfig{Sockets: sockets})
		target := Target{Name: www, Port: 443, Consent: publicOnly}
		var addrs []netip.Addr
		for i := range 12 {
			addrs = append(addrs, netip.AddrFrom4([4]byte{8, 0, 0, byte(i)}))
		}
		_, _, err := d.race(t.Context(), target, candidates{addrs: addrs}, connectTo(d, target))
		const want = "www.example.com (8.0.0.0, 8.0.0.1, 8.0.0.2, 8.0.0.3, 8.0.0.4, 8.0.0.5, 8.0.0.6, 8.0.0.7 and 4 more) did not answer in time: context deadline exceeded"
		if took := time.Since(sockets.start); took != ConnectTimeout || err == nil || err.Error() != want {
			t.Errorf("after %v: %v", took, err)
		}
	})
}

func TestADialEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sockets := &scripted{start: time.Now()}
		d := NewDialer(DialerConfig{Sockets: sockets})
		ctx, cancel := context.WithTimeout(t.Context(), 600*ms)
		defer cancel()
		target := Target{Name: www, Port: 443, Consent: publicOnly}
		_, _, err := d.race(ctx, target, candidates{addrs: addrsOf("8.8.4.4", "8.8.8.8")}, connectTo(d, target))
		var e *refusal.Error
		if !errors.As(err, &e) || e.Reason != refusal.ConnectTimeout || e.Reason.Status() != 504 || time.Since(sockets.start) != 600*ms {
			t.Errorf("%v after %v", err, time.Since(sockets.start))
		}
	})
}

// What failed where is all told, and what tells most comes first.
func TestAnErrorNamesAllThatWasTried(t *testing.T) {
	for _, c := range []struct {
		failures []failure
		want     refusal.Reason
		at, text string
	}{
		{fails("8.8.4.4", errRefused), refusal.ConnectRefused, "8.8.4.4:443",
			"www.example.com (8.8.4.4) refused the connection: dial: connect: connection refused"},
		{fails("2a00::1", errUnreachable, "8.8.4.4", context.DeadlineExceeded, "8.8.8.8", errRefused), refusal.ConnectRefused, "8.8.8.8:443",
			"www.example.com (8.8.8.8) refused the connection: dial: connect: connection refused; also tried 8.8.4.4 (did not answer in time); 2a00::1 (unreachable)"},
		{fails("2a00::1", errUnreachable, "2a00::2", errUnreachable, "8.8.4.4", context.DeadlineExceeded), refusal.ConnectTimeout, "8.8.4.4:443",
			"www.example.com (8.8.4.4) did not answer in time: context deadline exceeded; also tried 2a00::1 and 2a00::2 (unreachable)"},
		{fails("10.0.0.1", failed(refusal.PrivateAddress, www, addrsOf("10.0.0.1"), nil), "2a00::1", errUnreachable), refusal.ConnectFailed, "[2a00::1]:443",
			"no connection to www.example.com (2a00::1): dial: connect: network is unreachable; also tried 10.0.0.1 (not allowed)"},
		{fails("10.0.0.1", failed(refusal.PrivateAddress, www, addrsOf("10.0.0.1"), nil), "10.0.0.2", failed(refusal.PrivateAddress, www, addrsOf("10.0.0.2"), nil)), refusal.PrivateAddress, "10.0.0.1:443",
			"www.example.com leads to 10.0.0.1 and 10.0.0.2, which are not addresses of the public internet; a rule allows that with privateAnswers"},
		{fails("8.8.4.4", errRefused, "8.8.8.8", &refusal.Error{Reason: refusal.CertificateFail, Text: "the server at 8.8.8.8:443 did not prove to be www.example.com", Err: errors.New("expired")}), refusal.CertificateFail, "8.8.8.8:443",
			"the server at 8.8.8.8:443 did not prove to be www.example.com: expired; also tried 8.8.4.4 (refused)"},
	} {
		e := refusal.Of(raceError(Target{Name: www, Port: 443}, c.failures))
		if e.Reason != c.want || e.Addr.String() != c.at || e.Error() != c.text {
			t.Errorf("%s at %s: %s\nwant %s at %s: %s", e.Reason, e.Addr, e, c.want, c.at, c.text)
		}
	}
}

func fails(pairs ...any) (all []failure) {
	for i := 0; i < len(pairs); i += 2 {
		all = append(all, failure{netip.AddrPortFrom(netip.MustParseAddr(pairs[i].(string)), 443), pairs[i+1].(error)})
	}
	return all
}

// The loser's connection, were it made at the same time, is closed.
func TestOnlyTheWinnerStaysOpen(t *testing.T) {
	server := listen(t)
	d, _ := newDialer(t, nil)
	target := Target{Name: www, Port: server.Port(), Consent: publicOnly}
	both := make(chan struct{})
	var mu sync.Mutex
	var opened []*net.TCPConn
	conn, _, err := d.race(t.Context(), target, candidates{addrs: addrsOf("8.8.4.4", "8.8.8.8")}, func(ctx context.Context, a *Attempt) (*net.TCPConn, error) {
		a.Connecting()
		c, err := new(net.Dialer).Dial("tcp", server.String())
		must(t, err)
		mu.Lock()
		opened = append(opened, c.(*net.TCPConn))
		if len(opened) == 2 {
			close(both)
		}
		mu.Unlock()
		<-both
		return c.(*net.TCPConn), nil
	})
	must(t, err)
	defer conn.Close()
	for _, c := range opened {
		if err := c.SetDeadline(time.Time{}); (c == conn) != (err == nil) || c != conn && !errors.Is(err, net.ErrClosed) {
			t.Errorf("the winner: %v, its state: %v", c == conn, err)
		}
	}
}

// step is what an attempt of more than a connect does after a while.
type step struct {
	after time.Duration
	does  string // "connecting", "connected", "fails", "wins"
}

// staged follows a script for each address and notes when attempts begin and end.
func staged(start time.Time, script map[string][]step, log *[]string, mu *sync.Mutex) Try {
	return func(ctx context.Context, a *Attempt) (*net.TCPConn, error) {
		note := func(what string) {
			mu.Lock()
			*log = append(*log, fmt.Sprint(a.To.Addr(), " ", what, " ", time.Since(start)))
			mu.Unlock()
		}
		note("begins")
		for _, s := range script[a.To.Addr().String()] {
			select {
			case <-ctx.Done():
				note("ends")
				return nil, context.Cause(ctx)
			case <-time.After(s.after):
			}
			switch s.does {
			case "connecting":
				a.Connecting()
			case "connected":
				a.Connected()
			case "fails":
				note("fails")
				return nil, errRefused
			case "wins":
				note("wins")
				return new(net.TCPConn), nil
			}
		}
		<-ctx.Done()
		note("ends")
		return nil, context.Cause(ctx)
	}
}

func TestAnAttemptOfSeveralStepsIsRacedWhileItConnects(t *testing.T) {
	for _, c := range []struct {
		name   string
		script map[string][]step
		want   string
	}{
		{"while one waits for its turn no other is begun",
			map[string][]step{"8.0.0.1": {{3 * time.Second, "connecting"}, {ms, "connected"}, {ms, "wins"}}},
			"8.0.0.1 begins 0s, 8.0.0.1 wins 3.002s"},
		{"while one that connected is proved no other is begun",
			map[string][]step{"8.0.0.1": {{0, "connecting"}, {200 * ms, "connected"}, {900 * ms, "connecting"}, {200 * ms, "wins"}}},
			"8.0.0.1 begins 0s, 8.0.0.1 wins 1.3s"},
		{"one that connects ends those that do not, and they come again where it fails",
			map[string][]step{"8.0.0.1": {{0, "connecting"}}, "8.0.0.2": {{0, "connecting"}, {50 * ms, "connected"}, {100 * ms, "fails"}}, "8.0.0.3": {{0, "connecting"}, {10 * ms, "wins"}}},
			"8.0.0.1 begins 0s, 8.0.0.2 begins 250ms, 8.0.0.1 ends 300ms, 8.0.0.2 fails 400ms, 8.0.0.1 begins 400ms, 8.0.0.3 begins 650ms, 8.0.0.3 wins 660ms, 8.0.0.1 ends 660ms"},
		{"one that connects and is not proved gets company after a second",
			map[string][]step{"8.0.0.1": {{0, "connecting"}, {10 * ms, "connected"}}, "8.0.0.2": {{0, "connecting"}, {10 * ms, "connected"}, {10 * ms, "wins"}}},
			"8.0.0.1 begins 0s, 8.0.0.2 begins 1.01s, 8.0.0.2 wins 1.03s, 8.0.0.1 ends 1.03s"},
		{"where the connection after the proof is not taken others are tried",
			map[string][]step{"8.0.0.1": {{0, "connecting"}, {10 * ms, "connected"}, {10 * ms, "connecting"}}, "8.0.0.2": {{0, "connecting"}, {10 * ms, "wins"}}},
			"8.0.0.1 begins 0s, 8.0.0.2 begins 270ms, 8.0.0.2 wins 280ms, 8.0.0.1 ends 280ms"},
		{"where it is refused too",
			map[string][]step{"8.0.0.1": {{0, "connecting"}, {10 * ms, "connected"}, {10 * ms, "connecting"}, {ms, "fails"}}, "8.0.0.2": {{0, "connecting"}, {10 * ms, "wins"}}},
			"8.0.0.1 begins 0s, 8.0.0.1 fails 21ms, 8.0.0.2 begins 21ms, 8.0.0.2 wins 31ms"},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var mu sync.Mutex
				var log []string
				d := NewDialer(DialerConfig{})
				conn, _, err := d.race(t.Context(), Target{Name: www, Port: 443, Consent: publicOnly}, candidates{addrs: addrsOf("8.0.0.1", "8.0.0.2", "8.0.0.3")}, staged(time.Now(), c.script, &log, &mu))
				if got := strings.Join(log, ", "); got != c.want || err != nil || conn == nil {
					t.Errorf("%v\n got %s\nwant %s", err, got, c.want)
				}
			})
		})
	}
}

// Whoever finds that no address would do better ends the dial, whose error stays his.
func TestARaceThatIsGivenUpTriesNoFurtherAddress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, giveUp := context.WithCancel(t.Context())
		defer giveUp()
		busy := refusal.New(refusal.UpstreamTLS, "too many servers are being proved")
		begun := 0
		_, _, err := NewDialer(DialerConfig{}).race(ctx, Target{Name: www, Port: 443, Consent: publicOnly}, candidates{addrs: addrsOf("8.0.0.1", "8.0.0.2")}, func(context.Context, *Attempt) (*net.TCPConn, error) {
			begun++
			giveUp()
			return nil, busy
		})
		if e := refusal.Of(err); begun != 1 || e.Reason != refusal.UpstreamTLS || e.Text != busy.Text {
			t.Errorf("%d addresses were tried: %v", begun, err)
		}
	})
}

// lateA serves AAAA records at once, and A records once it is released.
func lateA(t *testing.T, release <-chan struct{}, v6, v4 []string) *dnsServer {
	return serveDNS(t, func(q dnsmessage.Message, tcp bool) [][]byte {
		switch {
		case q.Questions[0].Type == dnsmessage.TypeAAAA:
			return [][]byte{answered(q, dnsmessage.RCodeSuccess, v6...)}
		case !tcp: // by TCP each question has its goroutine
			truncated := answered(q, dnsmessage.RCodeSuccess)
			truncated[2] |= 0x02
			return [][]byte{truncated}
		}
		<-release
		return [][]byte{answered(q, dnsmessage.RCodeSuccess, v4...)}
	})
}

// An answer of the one family that is late is tried as well: the other may be dead.
func TestAFamilyThatIsLateJoinsTheRace(t *testing.T) {
	server := listen(t)
	release := make(chan struct{})
	s := lateA(t, release, []string{"www.example.com. 60 2a00::1", "www.example.com. 60 fd00::1"}, []string{"www.example.com. 60 10.0.0.1", "www.example.com. 60 8.8.4.4"})
	r := newResolver(t, s)
	r.otherFamilyDelay = 0
	v4 := netip.MustParseAddrPort("8.8.4.4:443")
	sockets := &loopback{at: map[netip.AddrPort]netip.AddrPort{v4: server}}
	d := NewDialer(DialerConfig{Sockets: sockets, Resolver: r})
	target := Target{Name: www, Port: 443, Consent: publicOnly}
	conn, to, err := d.Race(t.Context(), target, func(ctx context.Context, a *Attempt) (*net.TCPConn, error) {
		a.Connecting()
		if a.To.Addr().Is6() {
			close(release)
			return nil, errUnreachable
		}
		return d.connect(ctx, target, a.To)
	})
	must(t, err)
	conn.Close()
	if got := fmt.Sprint(sockets.tried); to != v4 || got != "[8.8.4.4:443]" {
		t.Errorf("connected to %v, tried %s", to, got)
	}
	if got := lookup(t, r, www); got != "[2a00::1 fd00::1 10.0.0.1 8.8.4.4]" {
		t.Errorf("kept %s", got)
	}
}

// Nor does it matter that nothing of what came first may be dialled.
func TestALateFamilyIsWaitedForWhereNothingElseMayBeDialled(t *testing.T) {
	server := listen(t)
	release := make(chan struct{})
	r := newResolver(t, lateA(t, release, []string{"www.example.com. 60 fd00::1"}, []string{"www.example.com. 60 8.8.4.4"}))
	r.otherFamilyDelay = 0
	d := NewDialer(DialerConfig{Sockets: &loopback{at: map[netip.AddrPort]netip.AddrPort{netip.MustParseAddrPort("8.8.4.4:443"): server}}, Resolver: r})
	if got := lookup(t, r, www); got != "[fd00::1]" {
		t.Fatalf("what came first is %s", got)
	}
	time.AfterFunc(20*ms, func() { close(release) })
	conn, _, err := d.Dial(t.Context(), Target{Name: www, Port: 443, Consent: publicOnly})
	must(t, err)
	conn.Close()
}

// A workload that dials where nobody answers must not open more sockets than it may: its
// attempts take turns, and one that answers in the end is still reached.
func TestAttemptsBesideTheFirstTakeWhatTheWorkloadMayHaveOpen(t *testing.T) {
	for free, most := range map[int]int{0: 1, 2: 3, 100: MaxAttempts} {
		synctest.Test(t, func(t *testing.T) {
			open := share.NewStock(share.Config{Units: free + 1, Alone: true}).Join(0, nil)
			open.Try(1) // the caller's
			var addrs []netip.Addr
			for i := range 8 {
				addrs = append(addrs, netip.AddrFrom4([4]byte{8, 0, 0, byte(i + 1)}))
			}
			s := &scripted{start: time.Now(), plans: map[string]plan{"8.0.0.8": {after: 20 * ms}}}
			d := NewDialer(DialerConfig{Sockets: s})
			target := Target{Name: www, Port: 443, Consent: publicOnly, Open: open}
			_, to, err := d.race(t.Context(), target, candidates{addrs: addrs}, connectTo(d, target))
			if err != nil || to.Addr() != addrs[7] {
				t.Errorf("%d free: %v, %v", free, to, err)
			}
			synctest.Wait()
			if s.most > most || open.Used() != 1 {
				t.Errorf("%d free: %d sockets at a time, %d are counted", free, s.most, open.Used())
			}
		})
	}
}
