package upstream

import (
	"context"
	"errors"
	"net"
	"sync"
	"testing"
	"time"

	"sluice.dev/sluice/internal/proxy/share"
	"sluice.dev/sluice/internal/refusal"
)

// pool that shares an allowance, with what reclaims its idle connections.
func poolsOf(t *testing.T, connections, pools int) (all []*Pool, open *share.Member) {
	t.Helper()
	open = share.NewStock(share.Config{Units: connections, Alone: true}).Join(0, func() bool {
		for _, p := range all {
			if p.CloseLongestIdle() {
				return true
			}
		}
		return false
	})
	address := server(t, echo)
	for range pools {
		all = append(all, newPool(t, Config{Dial: dialTo(address), Allowance: Allowance{Open: open, Handshakes: open}}))
	}
	return all, open
}

// dialled is a Dial at work.
type dialled struct {
	conn *Conn
	err  error
}

func dialling(ctx context.Context, p *Pool) <-chan dialled {
	done := make(chan dialled, 1)
	go func() {
		s, err := p.Dial(ctx)
		c, _ := s.(*Conn)
		done <- dialled{c, err}
	}()
	return done
}

// waiting dials where all connections are taken, and returns once it waits.
func waiting(t *testing.T, ctx context.Context, p *Pool, open *share.Member) <-chan dialled {
	t.Helper()
	before := open.Waiting()
	done := dialling(ctx, p)
	eventually(t, "it waits", func() bool { return open.Waiting() > before })
	return done
}

func TestWhoWaitsIsHandedTheConnectionThatAnotherIsDoneWith(t *testing.T) {
	pools, open := poolsOf(t, 2, 1)
	p := pools[0]
	a, b := mustDial(t, p), mustDial(t, p)
	first := waiting(t, t.Context(), p, open)
	second := waiting(t, t.Context(), p, open)
	a.Release(true)
	if d := <-first; d.conn != a || !a.Reused() {
		t.Errorf("the first has %v, %v", d.conn, d.err)
	}
	b.Release(false) // this one cannot be used again
	d := <-second
	if d.err != nil || d.conn == b || d.conn.Reused() {
		t.Errorf("the second has %v, %v", d.conn, d.err)
	}
	a.Release(true)
	d.conn.Release(true)
	if s := p.Stats(); s != (Stats{Idle: 2}) || open.Used() != 2 {
		t.Errorf("%+v, %d are counted", s, open.Used())
	}
}

// The longest waiter counts, whichever pool it waits for: a busy host does not keep
// another's requests waiting for good.
func TestAConnectionOfOnePoolMakesWayForWhoWaitsForAnother(t *testing.T) {
	pools, open := poolsOf(t, 1, 2)
	busy := mustDial(t, pools[0])
	other := waiting(t, t.Context(), pools[1], open)
	same := waiting(t, t.Context(), pools[0], open)
	busy.Release(true)
	d := <-other
	if d.err != nil || d.conn.pool != pools[1] || pools[0].Stats() != (Stats{}) {
		t.Fatalf("%v, %+v", d.err, pools[0].Stats())
	}
	d.conn.Release(true)
	if d = <-same; d.err != nil || open.Used() != 1 {
		t.Fatalf("%v, %d are counted", d.err, open.Used())
	}
	d.conn.Release(true)
}

func TestAnIdleConnectionOfAnotherPoolIsClosedWhereOneIsNeeded(t *testing.T) {
	pools, open := poolsOf(t, 2, 3)
	mustDial(t, pools[0]).Release(true)
	mustDial(t, pools[1]).Release(true)
	for range 5 { // hosts in turn, with fewer connections than hosts
		for _, p := range pools {
			mustDial(t, p).Release(true)
		}
	}
	if open.Used() != 2 {
		t.Errorf("%d are counted", open.Used())
	}
}

func TestWhoWaitsInVainIsRefusedWithOverflow(t *testing.T) {
	pools, open := poolsOf(t, 1, 1)
	open.SetWait(20 * time.Millisecond)
	c := mustDial(t, pools[0])
	defer c.Release(false)
	_, err := pools[0].Dial(t.Context())
	if refusal.Of(err).Reason != refusal.Overflow || !errors.Is(err, share.ErrWait) {
		t.Errorf("%v", err)
	}
	if open.Waiting() != 0 || open.Used() != 1 {
		t.Errorf("%d wait, %d are counted", open.Waiting(), open.Used())
	}
}

func TestAQueueThatIsFullRefusesAtOnce(t *testing.T) {
	pools, open := poolsOf(t, 1, 1)
	c := mustDial(t, pools[0])
	defer c.Release(false)
	for range share.MaxWaiting {
		if _, err := open.Queue(nil); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := pools[0].Dial(t.Context()); refusal.Of(err).Reason != refusal.Overflow || !errors.Is(err, share.ErrQueue) {
		t.Errorf("%v", err)
	}
}

func TestWhoLeavesTheQueueIsPassedOver(t *testing.T) {
	pools, open := poolsOf(t, 1, 1)
	c := mustDial(t, pools[0])
	ctx, cancel := context.WithCancel(t.Context())
	gone := waiting(t, ctx, pools[0], open)
	stays := waiting(t, t.Context(), pools[0], open)
	cancel()
	if d := <-gone; !errors.Is(d.err, context.Canceled) {
		t.Errorf("%v", d.err)
	}
	c.Release(true)
	if d := <-stays; d.conn != c {
		t.Errorf("%v", d.err)
	}
	c.Release(true)
}

func TestAPoolThatIsClosedLetsNobodyWait(t *testing.T) {
	pools, open := poolsOf(t, 1, 1)
	c := mustDial(t, pools[0])
	d := waiting(t, t.Context(), pools[0], open)
	pools[0].Close(false)
	if d := <-d; refusal.Of(d.err).Reason != refusal.Withdrawn {
		t.Errorf("%v", d.err)
	}
	c.Release(true)
	if open.Used() != 0 {
		t.Errorf("%d are counted", open.Used())
	}
}

func TestADialThatFailsGivesItsPlaceBack(t *testing.T) {
	open := share.NewStock(share.Config{Units: 1, Alone: true}).Join(0, nil)
	p := newPool(t, Config{Allowance: Allowance{Open: open, Handshakes: open}, Dial: func(context.Context) (*net.TCPConn, error) {
		return nil, errors.New("nobody is there")
	}})
	for range 3 {
		if _, err := p.Dial(t.Context()); refusal.Of(err).Reason != refusal.UpstreamConnect {
			t.Errorf("%v", err)
		}
	}
	if open.Used() != 0 {
		t.Errorf("%d are counted", open.Used())
	}
}

// Many at once on few connections of several pools: each gets its turn, and none is
// counted twice.
func TestManyTakeTurnsOnFewConnections(t *testing.T) {
	pools, open := poolsOf(t, 3, 4)
	var all sync.WaitGroup
	for i := range 48 {
		all.Go(func() {
			p := pools[i%len(pools)]
			for range 20 {
				s := p.Take()
				if s == nil {
					var err error
					if s, err = p.Dial(t.Context()); err != nil {
						t.Error(err)
						return
					}
				}
				if n, err := s.Exchange([]byte("ping"), make([]byte, 8)); n != 4 {
					t.Errorf("%d bytes, %v", n, err)
				}
				s.Release(i%5 != 0)
			}
		})
	}
	all.Wait()
	sum := 0
	for _, p := range pools {
		sum += p.Stats().Idle + p.Stats().Busy
	}
	if sum != open.Used() || sum > 3 || open.Waiting() != 0 {
		t.Errorf("%d are open, %d counted, %d wait", sum, open.Used(), open.Waiting())
	}
}
