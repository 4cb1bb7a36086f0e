package proof

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"sluice.dev/sluice/internal/names"
	"sluice.dev/sluice/internal/proxy/share"
	"sluice.dev/sluice/internal/refusal"
)

// clock is a time that only the test moves. It begins now, for certificates.
type clock struct{ offset atomic.Int64 }

func (c *clock) now() time.Time          { return began.Add(time.Duration(c.offset.Load())) }
func (c *clock) advance(d time.Duration) { c.offset.Add(int64(d)) }

var began = time.Now()

func goodServer(t testing.TB) (*server, *authority) {
	ours := newAuthority(t)
	return serve(t, &tls.Config{Certificates: []tls.Certificate{ours.issue(t, host, nil)}}), ours
}

func TestAProofIsRememberedForTenMinutes(t *testing.T) {
	s, ours := goodServer(t)
	c := new(clock)
	p := newProver(t, Config{Now: c.now})
	for _, step := range []struct {
		after time.Duration
		want  int32
	}{{0, 1}, {DefaultLifetime - 1, 1}, {1, 2}} {
		c.advance(step.after)
		wantReason(t, p.Prove(t.Context(), s.request(ours)), "")
		if got := s.connections.Load(); got != step.want {
			t.Errorf("after %v more: %d handshakes, want %d", step.after, got, step.want)
		}
	}
}

// The proxy resolves the name, and may lead elsewhere the next time: such a proof holds for
// a minute, for what was asked for, and says where it failed.
func TestAProofBehindAProxyIsRememberedForAMinute(t *testing.T) {
	s, ours := goodServer(t)
	c := new(clock)
	p := newProver(t, Config{Now: c.now})
	behind := func(port uint16) Request {
		r := s.request(ours)
		r.Key.Addr, r.Key.Behind, r.Key.Port = netip.AddrPort{}, "proxy p:3128", port
		return r
	}
	for _, step := range []struct {
		after time.Duration
		port  uint16
		want  int32
	}{{0, 443, 1}, {LifetimeBehind - 1, 443, 1}, {0, 8443, 2}, {1, 443, 3}} {
		c.advance(step.after)
		wantReason(t, p.Prove(t.Context(), behind(step.port)), "")
		if got := s.connections.Load(); got != step.want {
			t.Errorf("after %v more, port %d: %d handshakes, want %d", step.after, step.port, got, step.want)
		}
	}
	r := behind(443)
	r.Key.Name, r.Key.Verify = names.MustParse("other.example.com"), names.Name{}
	err := p.Prove(t.Context(), r)
	if wantReason(t, err, refusal.CertificateFail); !strings.Contains(err.Error(), "the server behind proxy p:3128 did not prove to be other.example.com") {
		t.Errorf("the failure says %v", err)
	}
}

func TestAProofDoesNotOutliveItsCertificates(t *testing.T) {
	ours := newAuthority(t)
	c := new(clock)
	expires := began.Add(5 * time.Minute).Truncate(time.Second)
	first := ours.issue(t, host, func(c *x509.Certificate) { c.NotAfter = expires })
	renewed := ours.issue(t, host, nil)
	current := &first
	s := serve(t, &tls.Config{GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return current, nil }})
	p := newProver(t, Config{Now: c.now})
	wantReason(t, p.Prove(t.Context(), s.request(ours)), "")
	c.advance(expires.Sub(began) - time.Nanosecond)
	wantReason(t, p.Prove(t.Context(), s.request(ours)), "")
	if got := s.connections.Load(); got != 1 {
		t.Errorf("%d handshakes before the certificate expired", got)
	}
	c.advance(time.Second)
	wantReason(t, p.Prove(t.Context(), s.request(ours)), refusal.CertificateFail)
	c.advance(FailureLifetime)
	current = &renewed
	wantReason(t, p.Prove(t.Context(), s.request(ours)), "")
}

func TestACertificateThatChangedIsJudgedWithTheNextProof(t *testing.T) {
	ours, strangers := newAuthority(t), newAuthority(t)
	c := new(clock)
	good, bad := ours.issue(t, host, nil), strangers.issue(t, host, nil)
	current := &good
	s := serve(t, &tls.Config{GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return current, nil }})
	p := newProver(t, Config{Now: c.now})
	wantReason(t, p.Prove(t.Context(), s.request(ours)), "")
	current = &bad
	wantReason(t, p.Prove(t.Context(), s.request(ours)), "") // what a proof cannot see
	c.advance(DefaultLifetime)
	wantReason(t, p.Prove(t.Context(), s.request(ours)), refusal.CertificateFail)
}

// One workload dials servers that never end a handshake; another's proofs go on.
func TestOneShareLeavesRoomForTheOthers(t *testing.T) {
	s, ours := goodServer(t)
	stock := share.NewStock(share.Config{Units: MaxHandshakes})
	p := newProver(t, Config{})
	greedy, other := stock.Join(0, nil), stock.Join(0, nil)
	ctx, cancel := context.WithCancel(t.Context())
	var at atomic.Int32
	var group sync.WaitGroup
	stuck := func(ctx context.Context) (*net.TCPConn, error) {
		at.Add(1)
		<-ctx.Done()
		return nil, ctx.Err()
	}
	for i := range MaxHandshakes + 1 {
		group.Go(func() {
			key := Key{Name: names.MustParse(fmt.Sprintf("h%d.example.com", i)), Addr: netip.MustParseAddrPort("192.0.2.1:443")}
			p.Prove(ctx, Request{Key: key, Dial: stuck, Share: greedy})
		})
	}
	waitFor(t, func() bool { return greedy.Waiting() > 0 && p.waiting(t) == MaxHandshakes+1 })
	r := s.request(ours)
	r.Share = other
	wantReason(t, p.Prove(t.Context(), r), "")
	// Not even for the very same proof does one wait for another's turn.
	same := Request{Key: Key{Name: names.MustParse("h0.example.com"), Addr: s.addr}, Dial: s.dial, Share: other}
	wantReason(t, p.Prove(t.Context(), same), refusal.CertificateFail)
	if got := at.Load(); int(got) != greedy.Used() || got > MaxHandshakes*3/4 {
		t.Errorf("%d handshakes of one share were at work", got)
	}
	cancel()
	group.Wait()
}

func TestAHandshakeThatDoesNotComeToItsTurnFailsAndIsNotRemembered(t *testing.T) {
	s, ours := goodServer(t)
	stock := share.NewStock(share.Config{Units: 1})
	p := newProver(t, Config{})
	p.wait = time.Millisecond
	taken := stock.Join(0, nil)
	taken.Try(1)
	r := s.request(ours)
	r.Share = taken
	err := p.Prove(t.Context(), r)
	wantReason(t, err, refusal.Overflow)
	if !errors.Is(err, ErrBusy) {
		t.Errorf("%v", err)
	}
	taken.Give(1)
	p.wait = patience
	wantReason(t, p.Prove(t.Context(), r), "")
}

func TestAProofIsForItsKeyAlone(t *testing.T) {
	s, ours := goodServer(t)
	p := newProver(t, Config{})
	wantReason(t, p.Prove(t.Context(), s.request(ours)), "")
	other := s.request(ours)
	other.Key.Name = names.MustParse("www.example.org")
	wantReason(t, p.Prove(t.Context(), other), refusal.CertificateFail)
	other = s.request(newAuthority(t))
	other.Key.RootsID = "other roots"
	wantReason(t, p.Prove(t.Context(), other), refusal.CertificateFail)
	other = s.request(ours)
	other.Key.Addr = netip.AddrPortFrom(netip.MustParseAddr("127.0.0.2"), s.addr.Port())
	other.Dial = func(context.Context) (*net.TCPConn, error) { return nil, errors.New("refused") }
	wantReason(t, p.Prove(t.Context(), other), refusal.UpstreamConnect)
}

func TestAFailureIsRememberedBrieflyAndForItsOfferAlone(t *testing.T) {
	ours := newAuthority(t)
	s := serve(t, &tls.Config{Certificates: []tls.Certificate{ours.issue(t, host, nil)}, NextProtos: []string{"h2"}})
	c := new(clock)
	p := newProver(t, Config{Now: c.now})
	odd := s.request(ours)
	odd.Hello.ALPN = []string{"odd"}
	for _, step := range []struct {
		after time.Duration
		want  int32
	}{{0, 1}, {FailureLifetime - 1, 1}, {1, 2}} {
		c.advance(step.after)
		wantReason(t, p.Prove(t.Context(), odd), refusal.UpstreamTLS)
		if got := s.connections.Load(); got != step.want {
			t.Errorf("after %v more: %d handshakes, want %d", step.after, got, step.want)
		}
	}
	wantReason(t, p.Prove(t.Context(), s.request(ours)), "") // another workload's hello
	wantReason(t, p.Prove(t.Context(), odd), "")             // the server is proved now, whoever asks
}

func TestManyWhoAskAtOnceShareOneHandshake(t *testing.T) {
	s, ours := goodServer(t)
	p := newProver(t, Config{})
	r := s.request(ours)
	gate := make(chan struct{})
	var dials atomic.Int32
	r.Dial = func(ctx context.Context) (*net.TCPConn, error) {
		dials.Add(1)
		<-gate
		return s.dial(ctx)
	}
	const askers = 50
	var group sync.WaitGroup
	for range askers {
		group.Go(func() { wantReason(t, p.Prove(t.Context(), r), "") })
	}
	waitFor(t, func() bool { return p.waiting(t) == askers })
	close(gate)
	group.Wait()
	if dials.Load() != 1 {
		t.Errorf("%d dials", dials.Load())
	}
}

// progress is closed as its handshake comes on.
type progress struct{ connecting, connected chan struct{} }

func (p progress) Connecting() { close(p.connecting) }
func (p progress) Connected()  { close(p.connected) }

func TestWhoeverWaitsIsInformedHowFarTheHandshakeIs(t *testing.T) {
	s, ours := goodServer(t)
	p := newProver(t, Config{})
	r := s.request(ours)
	far := progress{make(chan struct{}), make(chan struct{})}
	r.Progress = far
	dial := r.Dial
	r.Dial = func(ctx context.Context) (*net.TCPConn, error) {
		select {
		case <-far.connecting:
			return dial(ctx)
		case <-ctx.Done():
			return nil, errors.New("it dials, and whoever waits does not know")
		}
	}
	wantReason(t, p.Prove(t.Context(), r), "")
}

// waiting is how many wait for handshakes at work.
func (p *Prover) waiting(t *testing.T) (n int) {
	t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, f := range p.flights {
		n += f.waiting
	}
	return n
}

// patience is how long a test waits for what must come; nothing waits longer than
// it has to.
const patience = time.Minute

func waitFor(t *testing.T, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !condition(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("it did not happen within %v", patience)
		}
	}
}

func TestEachWaitsByItsOwnContext(t *testing.T) {
	s, ours := goodServer(t)
	p := newProver(t, Config{})
	r := s.request(ours)
	gate, cancelled := make(chan struct{}), make(chan struct{})
	r.Dial = func(ctx context.Context) (*net.TCPConn, error) {
		select {
		case <-gate:
			return s.dial(ctx)
		case <-ctx.Done():
			close(cancelled)
			return nil, ctx.Err()
		}
	}
	ask := func(ctx context.Context) chan error {
		before := p.waiting(t)
		done := make(chan error, 1)
		go func() { done <- p.Prove(ctx, r) }()
		waitFor(t, func() bool { return p.waiting(t) == before+1 })
		return done
	}
	impatient, leave := context.WithCancelCause(t.Context())
	cause := errors.New("the workload hung up")
	first, second := ask(impatient), ask(t.Context()) // who began the handshake leaves it
	leave(cause)
	if err := <-first; err != cause {
		t.Errorf("who left got %v", err)
	}
	close(gate)
	wantReason(t, <-second, "")

	// All who wait leave: the handshake ends, is no failure to remember, and the
	// next one begins another.
	gate = make(chan struct{})
	r.Key.RootsID = "again"
	impatient, leave = context.WithCancelCause(t.Context())
	first = ask(impatient)
	leave(cause)
	<-first
	<-cancelled
	close(gate)
	wantReason(t, p.Prove(t.Context(), r), "")
}

func TestHandshakesAtWorkAreBounded(t *testing.T) {
	p := newProver(t, Config{})
	gate := make(chan struct{})
	var at, most, group = atomic.Int32{}, atomic.Int32{}, sync.WaitGroup{}
	dial := func(context.Context) (*net.TCPConn, error) {
		if now := at.Add(1); now > most.Load() {
			most.Store(now)
		}
		<-gate
		at.Add(-1)
		return nil, errors.New("refused")
	}
	const more = 20
	for i := range MaxHandshakes + more {
		group.Go(func() {
			key := Key{Name: names.MustParse(fmt.Sprintf("h%d.example.com", i)), Addr: netip.MustParseAddrPort("192.0.2.1:443")}
			wantReason(t, p.Prove(t.Context(), Request{Key: key, Dial: dial}), refusal.UpstreamConnect)
		})
	}
	waitFor(t, func() bool { return at.Load() == MaxHandshakes && p.waiting(t) == MaxHandshakes+more })
	close(gate)
	group.Wait()
	if most.Load() != MaxHandshakes {
		t.Errorf("%d handshakes were at work", most.Load())
	}
}

func TestAHandshakeThatNeverEndsIsGivenUp(t *testing.T) {
	// The bound itself is ten seconds; that the context of the dial carries it is
	// what counts.
	p := newProver(t, Config{})
	var left time.Duration
	key := Key{Name: names.MustParse(host), Addr: netip.MustParseAddrPort("192.0.2.1:443")}
	p.Prove(t.Context(), Request{Key: key, Dial: func(ctx context.Context) (*net.TCPConn, error) {
		deadline, _ := ctx.Deadline()
		left = time.Until(deadline)
		return nil, errors.New("refused")
	}})
	if left <= 0 || left > HandshakeTime {
		t.Errorf("the dial has %v", left)
	}
}

func TestCloseEndsHandshakesAndKeepsWhatIsKnown(t *testing.T) {
	s, ours := goodServer(t)
	p := NewProver(Config{})
	known := s.request(ours)
	wantReason(t, p.Prove(t.Context(), known), "")
	r := s.request(ours)
	r.Key.RootsID = "another"
	r.Dial = func(ctx context.Context) (*net.TCPConn, error) { <-ctx.Done(); return nil, ctx.Err() }
	done := make(chan error, 1)
	go func() { done <- p.Prove(t.Context(), r) }()
	waitFor(t, func() bool { return p.waiting(t) == 1 })
	p.Close()
	if err := <-done; err == nil {
		t.Error("a proof came out of a handshake that was ended")
	}
	if err := p.Prove(t.Context(), r); !errors.Is(err, errClosed) {
		t.Errorf("after Close: %v", err)
	}
	wantReason(t, p.Prove(t.Context(), known), "")
}

func TestARequestMustBeWhole(t *testing.T) {
	p := newProver(t, Config{})
	whole := Request{
		Key:  Key{Name: names.MustParse(host), Addr: netip.MustParseAddrPort("192.0.2.1:443")},
		Dial: func(context.Context) (*net.TCPConn, error) { panic("dialled") },
	}
	for name, spoil := range map[string]func(*Request){
		"address": func(r *Request) { r.Key.Addr = netip.AddrPort{} },
		"dialer":  func(r *Request) { r.Dial = nil },
	} {
		r := whole
		spoil(&r)
		if err := p.Prove(t.Context(), r); err == nil {
			t.Errorf("a request without %s was taken", name)
		}
	}
}

func TestTheTableForgetsWhatWasUnusedForLongest(t *testing.T) {
	table := newTable[int](MaxProofs)
	for i := range MaxProofs {
		table.put(i, nil, began.Add(time.Hour))
	}
	if _, ok := table.get(0, began); !ok {
		t.Error("0 is not there")
	}
	table.put(MaxProofs, nil, began.Add(time.Hour))
	for key, want := range map[int]bool{0: true, 1: false, 2: true, MaxProofs: true} {
		if _, ok := table.get(key, began); ok != want {
			t.Errorf("%d is there: %v", key, ok)
		}
	}
	if len(table.entries) != MaxProofs || table.order.Len() != MaxProofs {
		t.Errorf("%d entries, %d in order", len(table.entries), table.order.Len())
	}
	table.put(2, errors.New("x"), began)
	if _, ok := table.get(2, began); ok || len(table.entries) != MaxProofs-1 {
		t.Errorf("an entry whose time is over is there: %v, %d entries", ok, len(table.entries))
	}
}

func BenchmarkRemembered(b *testing.B) {
	s, ours := goodServer(b)
	p := newProver(b, Config{})
	r := s.request(ours)
	if err := p.Prove(b.Context(), r); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if err := p.Prove(b.Context(), r); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkProof(b *testing.B) {
	s, ours := goodServer(b)
	c := new(clock)
	p := newProver(b, Config{Now: c.now, Lifetime: 1})
	r := s.request(ours)
	for b.Loop() {
		c.advance(1)
		if err := p.Prove(b.Context(), r); err != nil {
			b.Fatal(err)
		}
	}
}

func TestAProofThatIsRememberedCostsNoAllocation(t *testing.T) {
	s, ours := goodServer(t)
	p := newProver(t, Config{})
	r := s.request(ours)
	wantReason(t, p.Prove(t.Context(), r), "")
	if n := testing.AllocsPerRun(100, func() { p.Prove(t.Context(), r) }); n != 0 {
		t.Errorf("it allocates %v times", n)
	}
}
