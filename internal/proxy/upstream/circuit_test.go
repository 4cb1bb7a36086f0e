package upstream

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"sluice.dev/sluice/internal/proxy/exchange"
	"sluice.dev/sluice/internal/proxy/share"
	"sluice.dev/sluice/internal/refusal"
)

// oneWaits is a Circuit for whose connections one may wait.
type oneWaits struct {
	connections *share.Member
	waits       atomic.Int64
	began       atomic.Int64 // to wait, ever
}

func (c *oneWaits) Connections() *share.Member { return c.connections }

func (c *oneWaits) Wait() *refusal.Error {
	if c.began.Add(1); c.waits.Add(1) > 1 {
		c.waits.Add(-1)
		return refusal.New(refusal.CircuitBreaker, "as many wait as may")
	}
	return nil
}

func (c *oneWaits) Waited() { c.waits.Add(-1) }

func (c *oneWaits) InVain(err error) *refusal.Error {
	return &refusal.Error{Reason: refusal.CircuitBreaker, Err: err}
}

// circuitOf gives two pools so many connections together, for which one may wait.
func circuitOf(t *testing.T, connections int, to Config) (a, b *Pool, of *oneWaits) {
	t.Helper()
	var all []*Pool
	of = &oneWaits{connections: share.NewStock(share.Config{Units: 100, Alone: true}).Join(connections, func() bool {
		for _, p := range all {
			if p.CloseLongestIdle() {
				return true
			}
		}
		return false
	})}
	for range 2 {
		to.Allowance, to.Circuit = allowance(100), of
		all = append(all, newPool(t, to))
	}
	return all[0], all[1], of
}

// left reports what of a circuit is still counted.
func (c *oneWaits) left() string {
	return fmt.Sprintf("%d connections, %d wait in line, %d are counted as waiting", c.connections.Used(), c.connections.Waiting(), c.waits.Load())
}

func TestPoolsOfOneCircuitHaveItsConnectionsTogether(t *testing.T) {
	a, b, of := circuitOf(t, 1, Config{Dial: dialTo(server(t, echo))})
	busy := mustDial(t, a)
	other := waiting(t, t.Context(), b, of.connections)
	if d := <-dialling(t.Context(), a); refusal.Of(d.err).Reason != refusal.CircuitBreaker {
		t.Errorf("a second one waits: %v", d.err)
	}
	busy.Release(true) // which makes way for the one of the other pool
	d := <-other
	if d.err != nil || a.Stats() != (Stats{}) || of.connections.Used() != 1 {
		t.Fatalf("%v, %+v, %d are counted", d.err, a.Stats(), of.connections.Used())
	}
	same := waiting(t, t.Context(), b, of.connections)
	d.conn.Release(true)
	if again := <-same; again.conn != d.conn || of.connections.Used() != 1 {
		t.Errorf("%v, %v, %d are counted", again.conn, again.err, of.connections.Used())
	}
	d.conn.Release(true)
	mustDial(t, a).Release(false) // the idle one of b makes way
	if b.Stats() != (Stats{}) || of.connections.Used() != 0 || a.config.Open.Used() != 0 || b.config.Open.Used() != 0 {
		t.Errorf("%+v, %d are counted, %d and %d of the workload's", b.Stats(), of.connections.Used(), a.config.Open.Used(), b.config.Open.Used())
	}
}

func TestAFailedDialGivesBackWhatItTookOfACircuit(t *testing.T) {
	a, b, of := circuitOf(t, 1, Config{Dial: dialTo(server(t, echo))})
	a.Close(false)
	if d := <-dialling(t.Context(), a); d.err == nil || of.connections.Used() != 0 {
		t.Errorf("%v, %d are counted", d.err, of.connections.Used())
	}
	busy := mustDial(t, b)
	waits := waiting(t, t.Context(), b, of.connections)
	b.Close(true)
	if d := <-waits; d.err == nil {
		t.Error("a closed pool gave a connection")
	}
	busy.Release(false)
	if of.connections.Used() != 0 || of.connections.Waiting() != 0 || b.config.Open.Used() != 0 {
		t.Errorf("%d are counted, %d wait", of.connections.Used(), of.connections.Waiting())
	}
}

// A wait for a connection of a circuit is bounded as one for the workload's, and what comes of it
// is the circuit's refusal: no failed connect, which would be tried again.
func TestWhoWaitsInVainForACircuitIsRefusedByIt(t *testing.T) {
	p, _, of := circuitOf(t, 1, Config{Dial: dialTo(server(t, echo))})
	p.config.Open.SetWait(time.Millisecond)
	busy := mustDial(t, p)
	if d := <-dialling(t.Context(), p); refusal.Of(d.err).Reason != refusal.CircuitBreaker || !errors.Is(d.err, share.ErrWait) {
		t.Errorf("%v", d.err)
	}
	for range share.MaxWaiting {
		if _, err := of.connections.Queue(nil); err != nil {
			t.Fatal(err)
		}
	}
	if d := <-dialling(t.Context(), p); refusal.Of(d.err).Reason != refusal.CircuitBreaker || !errors.Is(d.err, share.ErrQueue) {
		t.Errorf("behind a queue that is full: %v", d.err)
	}
	busy.Release(false)
	if of.waits.Load() != 0 {
		t.Error(of.left())
	}
}

func TestAConnectionEndsAfterSoManyExchanges(t *testing.T) {
	p := newPool(t, Config{Dial: dialTo(server(t, echo)), Allowance: allowance(10), MaxExchanges: 2})
	c := mustDial(t, p)
	c.Release(true)
	if got := p.Take(); got != c {
		t.Fatalf("%v is taken", got)
	}
	c.Release(true)
	if got := p.Take(); got != nil || p.config.Open.Used() != 0 {
		t.Errorf("%v is taken a third time, %d are counted", got, p.config.Open.Used())
	}
}

// overHTTP2 is a server that takes so many streams on a connection, none of which it answers.
func overHTTP2(t *testing.T, streams int) Config {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{HTTP2: &http.HTTP2Config{MaxConcurrentStreams: streams}, Protocols: new(http.Protocols)}
	s.Protocols.SetUnencryptedHTTP2(true)
	served := make(chan struct{})
	go func() { defer close(served); s.Serve(l) }()
	t.Cleanup(func() { s.Close(); <-served })
	return Config{Dial: dialTo(l.Addr().String()), Versions: HTTP2}
}

// stream is a Dial of a stream at work.
type stream struct {
	exchange.Stream
	err error
}

func begin(p *Pool) <-chan stream {
	begun := make(chan stream, 1)
	go func() {
		if st := p.Take(); st != nil {
			begun <- stream{st, nil}
			return
		}
		st, err := p.Dial(context.Background())
		begun <- stream{st, err}
	}()
	return begun
}

func begun(t *testing.T, p *Pool) exchange.Stream {
	t.Helper()
	st := <-begin(p)
	if st.err != nil {
		t.Fatal(st.err)
	}
	return st
}

// One connection of HTTP/2 carries as many requests as its server takes: the bound on connections
// is on these, and who waits for one gets the stream that comes free, or makes an idle one go.
func TestAStreamThatComesFreeIsForWhoWaitsForAConnection(t *testing.T) {
	a, b, of := circuitOf(t, 1, overHTTP2(t, 2))
	first, second := begun(t, a), begun(t, a)
	if of.connections.Used() != 1 {
		t.Fatalf("two streams take %s", of.left())
	}
	third := begin(a)
	eventually(t, "a third one waits", func() bool { return of.connections.Waiting() == 1 })
	if st := <-begin(a); refusal.Of(st.err).Reason != refusal.CircuitBreaker {
		t.Errorf("a second one waits: %v", st.err)
	}
	first.Release(true)
	st := <-third
	if st.err != nil || of.connections.Used() != 1 || of.waits.Load() != 0 {
		t.Fatalf("%v, %s", st.err, of.left())
	}
	other := begin(b)
	eventually(t, "one of another pool waits", func() bool { return of.connections.Waiting() == 1 })
	st.Release(true)
	second.Release(true) // now it is idle
	st = <-other
	if st.err != nil {
		t.Fatal(st.err)
	}
	eventually(t, "the idle one is gone", func() bool { return a.Stats() == Stats{} })
	st.Release(true)
	b.Close(false)
	eventually(t, "nothing is left", func() bool { return of.left() == "0 connections, 0 wait in line, 0 are counted as waiting" })
}

// Who waits for a connection that another opens is one that waits too.
func TestARequestThatWaitsForASharedConnectionToOpenIsCounted(t *testing.T) {
	to := overHTTP2(t, 10)
	dial, open := to.Dial, make(chan struct{})
	to.Dial = func(ctx context.Context) (*net.TCPConn, error) { <-open; return dial(ctx) }
	a, _, of := circuitOf(t, 1, to)
	first := begin(a)
	eventually(t, "one opens", func() bool { return of.connections.Used() == 1 })
	second := begin(a)
	eventually(t, "one waits", func() bool { return of.waits.Load() == 1 })
	if st := <-begin(a); refusal.Of(st.err).Reason != refusal.CircuitBreaker {
		t.Errorf("a second one waits: %v", st.err)
	}
	close(open)
	for _, st := range []stream{<-first, <-second} {
		if st.err != nil {
			t.Fatal(st.err)
		}
		st.Release(true)
	}
	eventually(t, "none waits", func() bool { return of.waits.Load() == 0 && of.connections.Used() == 1 })
}

func TestAConnectionOfHTTP2EndsAfterSoManyExchanges(t *testing.T) {
	to := overHTTP2(t, 10)
	to.MaxExchanges = 2
	a, _, of := circuitOf(t, 2, to)
	first, second := begun(t, a), begun(t, a)
	if third := begun(t, a); of.connections.Used() != 2 {
		t.Errorf("three exchanges, two on a connection: %s", of.left())
	} else {
		third.Release(true)
	}
	first.Release(true)
	if of.connections.Used() != 2 {
		t.Errorf("a connection ends under a request: %s", of.left())
	}
	second.Release(true)
	eventually(t, "its connection has ended", func() bool { return of.connections.Used() == 1 })
}
