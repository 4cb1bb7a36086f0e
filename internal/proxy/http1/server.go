// Package http1 is the HTTP/1.1 engine: it reads the requests of one client
// connection, asks the connection's Director about each, and forwards or answers
// them. Egress, mesh and ingress call it. It must never guess what an ambiguous
// message means, and never decide who may go where.
package http1

import (
	"context"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"sluice.dev/sluice/internal/proxy/exchange"
	"sluice.dev/sluice/internal/refusal"
)

// Config says within which limits a Server works.
type Config struct {
	Limits Limits
	// Now is a monotonic clock; nil means the machine's.
	Now func() time.Duration
	// Settled, where not nil, is called when SettledAfter or more connections have been
	// parked since the last time, and no further ones come: what took memory to let them in
	// is not needed any more. It must not block for long.
	Settled func()
	// HTTP2, where not nil, takes a connection whose client speaks HTTP/2 by prior knowledge
	// and whose Director is Multiplexed, with what was read of it, until it ends.
	HTTP2 func(ctx context.Context, tcp *net.TCPConn, said []byte, director exchange.Multiplexed)
}

// Server serves connections, each by its own Director. They run on their callers'
// goroutines until they are parked (park.go); the Server's own are one that watches
// deadlines while there are connections, and one that waits for those that are parked.
type Server struct {
	limits     Limits
	now        func() time.Duration
	sweepEvery time.Duration
	holdTime   time.Duration
	patience   time.Duration
	draining   atomic.Bool // set under mu
	parking    parking
	settled    settled
	memory     memory
	http2      func(ctx context.Context, tcp *net.TCPConn, said []byte, director exchange.Multiplexed)

	mu          sync.Mutex
	newest      *conn // of all connections, linked
	count       int
	empty       chan struct{} // closed when draining and no connection is left
	sweeperRuns bool
	sweeping    sync.WaitGroup
}

// NewServer returns a server without connections.
func NewServer(config Config) *Server {
	limits := config.Limits.withDefaults()
	s := &Server{
		limits:     limits,
		now:        config.Now,
		settled:    settled{tell: config.Settled},
		sweepEvery: sweepInterval(limits),
		holdTime:   holdTime,
		patience:   patience,
		empty:      make(chan struct{}),
		http2:      config.HTTP2,
		memory:     memory{most: limits.MaxStreamBytes},
	}
	if s.now == nil {
		start := time.Now()
		s.now = func() time.Duration { return time.Since(start) }
	}
	return s
}

// Serve runs one client connection on the caller's goroutine to its end, and closes it;
// or until it is parked: it then has a hold on life, which it gives back at its end. Where
// life is nil it is never parked. prefix is what was read of it already. When ctx ends, the
// connection does, at once. The error says why it was not served at all: a *refusal.Error
// (Overflow, Stopping) that the director and the client know too, or that the
// socket is not one.
func (s *Server) Serve(ctx context.Context, tcp *net.TCPConn, prefix []byte, director exchange.Director, life Life) error {
	d, err := newConn(s, tcp, director)
	if err != nil {
		tcp.Close()
		return fmt.Errorf("take the client's socket: %w", err)
	}
	d.ctx, d.life = ctx, life
	if e := s.add(d); e != nil {
		d.turnAway(e)
		tcp.Close()
		return e
	}
	d.watchEnd()
	d.takePrefix(prefix)
	switch {
	case d.serve(): // it is parked
	case d.turned != nil:
		d.endTurned(ctx, tcp)
	default:
		d.end()
	}
	return nil
}

// watchEnd ends the connection when its context does.
func (d *conn) watchEnd() {
	switch ctx := d.ctx.(type) {
	case interface{ AfterFunc(func()) func() bool }: // what package context would ask, with more to remember
		d.unwatch = ctx.AfterFunc(d.abort)
	default:
		if ctx.Done() != nil {
			d.unwatch = context.AfterFunc(ctx, d.abort)
		}
	}
}

func (s *Server) add(d *conn) *refusal.Error {
	d.watch.set(fresh, s.now()+s.limits.HeaderTimeout)
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.draining.Load():
		return refusal.New(refusal.Stopping, "")
	case s.count >= s.limits.MaxConnections:
		return refusal.New(refusal.Overflow, "This proxy serves as many connections as its limits allow.")
	}
	if s.newest != nil {
		s.newest.newer = d
	}
	d.older = s.newest
	s.newest = d
	s.count++
	if !s.sweeperRuns {
		s.sweeperRuns = true
		s.sweeping.Add(1)
		go s.sweepUntilEmpty()
	}
	return nil
}

func (s *Server) remove(d *conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if d.newer != nil {
		d.newer.older = d.older
	} else {
		s.newest = d.older
	}
	if d.older != nil {
		d.older.newer = d.newer
	}
	d.newer, d.older = nil, nil
	s.count--
	if s.draining.Load() && s.count == 0 {
		close(s.empty)
	}
}

// Count returns how many connections there are.
func (s *Server) Count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.count
}

// abortAll ends every connection at once.
func (s *Server) abortAll() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for d := s.newest; d != nil; d = d.older {
		d.abort()
	}
}

// Shutdown takes no more connections, ends idle ones, lets the others finish
// the request that they serve, and returns when all have ended. When ctx ends
// first, the rest is cut off, and its error returned. None is parked any more then.
func (s *Server) Shutdown(ctx context.Context) error {
	s.mu.Lock()
	if s.draining.CompareAndSwap(false, true) {
		if s.count == 0 {
			close(s.empty)
		}
	}
	s.mu.Unlock()
	s.sweep(s.now())
	var err error
	select {
	case <-s.empty:
	case <-ctx.Done():
		err = context.Cause(ctx)
		s.abortAll()
		<-s.empty
	}
	s.sweeping.Wait()
	s.parking.close()
	return err
}
