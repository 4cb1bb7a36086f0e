package circuit

import (
	"errors"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"sluice.dev/sluice/internal/names"
	"sluice.dev/sluice/internal/proxy/share"
	"sluice.dev/sluice/internal/refusal"
	"sluice.dev/sluice/internal/route"
)

func policy(t testing.TB, l route.Limits) *route.DestinationPolicy {
	t.Helper()
	name, err := names.Parse("reviews.default.svc.cluster.local")
	if err != nil {
		t.Fatal(err)
	}
	p := &route.DestinationPolicy{ID: "destination-policy/default/reviews", Service: name, Limits: &l}
	if err := p.Check(); err != nil {
		t.Fatal(err)
	}
	return p
}

func breaker(t testing.TB, l route.Limits) *Breaker {
	b := New("reviews.default.svc.cluster.local", func() bool { return false })
	b.Set(policy(t, l))
	return b
}

func TestWhatIsBeyondABoundIsRefusedWithPolicyAndBound(t *testing.T) {
	b := breaker(t, route.Limits{Connections: 1, Pending: 2, Requests: 1, Retries: 1})
	if err := b.Request(); err != nil {
		t.Fatal(err)
	}
	err := b.Request()
	if err == nil || err.Reason != refusal.CircuitBreaker || err.Reason.Status() != 503 || err.Reason.Flag() != "UO" ||
		!strings.Contains(err.Error(), "destination-policy/default/reviews lets no more through to reviews.default.svc.cluster.local: 1 requests are under way (httpMaxRequests)") {
		t.Errorf("%v", err)
	}
	if err := b.Connect(); err != nil {
		t.Fatal(err)
	}
	if err := b.Connect(); err == nil || err.Reason != refusal.CircuitBreaker || !strings.Contains(err.Error(), "1 connections are open (maxConnections)") {
		t.Errorf("%v", err)
	}
	for range 2 {
		if err := b.Wait(); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.Wait(); err == nil || err.Reason != refusal.CircuitBreaker || !strings.HasSuffix(err.Error(), "to reviews.default.svc.cluster.local: 2 requests wait for a connection (httpMaxPendingRequests)") {
		t.Errorf("%v", err)
	}
	if err := b.InVain(share.ErrWait); err.Reason != refusal.CircuitBreaker || !errors.Is(err, share.ErrWait) ||
		!strings.Contains(err.Error(), "of 1 connections (maxConnections): none became free in time") {
		t.Errorf("%v", err)
	}
	if b.Waited(); b.Wait() != nil {
		t.Error("one that waits no longer keeps its place")
	}
	if !b.Retry() || b.Retry() {
		t.Error("not exactly one may be sent again")
	}
	b.Set(policy(t, route.Limits{Connections: 2, Pending: 1, Requests: 2, Retries: 2}))
	if b.Request() != nil || b.Connect() != nil || !b.Retry() {
		t.Error("bounds that were raised do not hold")
	}
}

// Whatever ends in whatever order, no bound is passed, and nothing is left at the end.
func TestCountsReturnToZeroAfterAnyMixOfEnds(t *testing.T) {
	seed := rand.Uint64()
	if text := os.Getenv("SLUICE_TEST_SEED"); text != "" {
		var err error
		if seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	limits := route.Limits{Connections: 3, Pending: 2, Requests: 4, Retries: 2}
	b := breaker(t, limits)
	var requests, retries, connections atomic.Int64
	within := func(n *atomic.Int64, most int) {
		if now := n.Add(1); now > int64(most) {
			t.Errorf("SLUICE_TEST_SEED=%d: %d of at most %d", seed, now, most)
		}
	}
	var all sync.WaitGroup
	for i := range uint64(16) {
		r := rand.New(rand.NewPCG(seed, i))
		all.Go(func() {
			for range 500 {
				if b.Request() != nil {
					continue
				}
				within(&requests, limits.Requests)
				if r.IntN(2) == 0 && b.Retry() {
					within(&retries, limits.Retries)
					retries.Add(-1)
					b.Retried()
				}
				if r.IntN(2) == 0 && b.Connect() == nil {
					within(&connections, limits.Connections)
					connections.Add(-1)
					b.Closed()
				}
				requests.Add(-1)
				b.Done()
			}
		})
	}
	all.Wait()
	if !b.Idle() {
		t.Errorf("SLUICE_TEST_SEED=%d: something is left", seed)
	}
}

func TestCountingARequestAllocatesNothing(t *testing.T) {
	b := breaker(t, route.Limits{Connections: 1, Pending: 1, Requests: 1, Retries: 1})
	if n := testing.AllocsPerRun(100, func() {
		if b.Request() == nil {
			b.Done()
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// A connection of HTTP/2 ends some time after it was closed: what it held is waited for, and for
// no longer than a second where its server holds it up.
func TestAConnectionWaitsForTheIdleOneThatIsClosedForIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b *Breaker
		ends, asked := true, 0
		b = New("reviews.default.svc.cluster.local", func() bool {
			if asked++; ends {
				go func() { time.Sleep(time.Second / 2); b.Closed() }()
			}
			return true
		})
		b.Set(policy(t, route.Limits{Connections: 1, Pending: 1, Requests: 1, Retries: 1}))
		if err := b.Connect(); err != nil {
			t.Fatal(err)
		}
		if err := b.Connect(); err != nil || asked != 1 || b.Connections().Used() != 1 {
			t.Errorf("%v, %d were asked to close, %d are counted", err, asked, b.Connections().Used())
		}
		ends = false
		if err := b.Connect(); err == nil || err.Reason != refusal.CircuitBreaker || b.Connections().Waiting() != 0 || b.Connections().Used() != 1 {
			t.Errorf("%v, %d wait, %d are counted", err, b.Connections().Waiting(), b.Connections().Used())
		}
	})
}

// A breaker is given up only while nothing is under way, and what comes to it then is told so: no
// connection is counted by one that nobody asks any more.
func TestABreakerIsGivenUpOrTakenNeverBoth(t *testing.T) {
	b := breaker(t, route.Limits{Connections: 1, Pending: 1, Requests: 1, Retries: 1})
	if !b.Retire() {
		t.Fatal("nothing is under way")
	}
	if err := b.Request(); !errors.Is(err, ErrRetired) {
		t.Errorf("a request: %v", err)
	}
	if err := b.Connect(); !errors.Is(err, ErrRetired) || b.Connections().Used() != 0 {
		t.Errorf("a connection: %v, %d are counted", err, b.Connections().Used())
	}
	for range 1000 {
		b := breaker(t, route.Limits{Connections: 1, Pending: 1, Requests: 1, Retries: 1})
		var gone, taken bool
		var both sync.WaitGroup
		both.Go(func() { gone = b.Retire() })
		both.Go(func() { taken = b.Connect() == nil })
		both.Wait()
		if gone && taken || b.Retired() != gone || b.Connections().Used() > 0 != taken {
			t.Fatalf("given up: %v, taken: %v", gone, taken)
		}
	}
}
