// Package httpproxy is the HTTP/1.1 engine: it reads requests of one client
// connection, asks a Director about each, and forwards or answers them. The
// proxy's outbound and inbound ways and the ingress call it. It must never guess
// what an ambiguous message means, and never decide who may go where.
package httpproxy

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// Config says who decides, and within which limits.
type Config struct {
	Director Director
	Limits   Limits
	// Now is a monotonic clock; nil means the machine's.
	Now func() time.Duration
}

// Server serves connections by one Director. Its connections run on their
// callers' goroutines; its own is one that watches deadlines while there are
// connections.
type Server struct {
	director   Director
	limits     Limits
	now        func() time.Duration
	sweepEvery time.Duration
	draining   atomic.Bool // set under mu

	mu          sync.Mutex
	newest      *conn // of all connections, linked
	count       int
	empty       chan struct{} // closed when draining and no connection is left
	sweeperRuns bool
	sweeping    sync.WaitGroup
}

// NewServer returns a server without connections.
func NewServer(config Config) (*Server, error) {
	if config.Director == nil {
		return nil, errors.New("httpproxy: Config.Director is missing")
	}
	limits := config.Limits.withDefaults()
	s := &Server{
		director:   config.Director,
		limits:     limits,
		now:        config.Now,
		sweepEvery: sweepInterval(limits),
		empty:      make(chan struct{}),
	}
	if s.now == nil {
		start := time.Now()
		s.now = func() time.Duration { return time.Since(start) }
	}
	return s, nil
}

// Errors of Serve.
var (
	ErrStopping = errors.New("the server is shutting down")
	ErrOverflow = errors.New("the server has all the connections that its limits allow")
)

// Serve runs one client connection to its end on the caller's goroutine, and
// closes it. prefix is what was read of it already; info is handed to the
// Director. When ctx ends, the connection does, at once.
func (s *Server) Serve(ctx context.Context, tcp *net.TCPConn, prefix []byte, info any) error {
	defer tcp.Close()
	d, err := newConn(s, tcp, info)
	if err != nil {
		return fmt.Errorf("take the client's socket: %w", err)
	}
	d.ctx = ctx
	if err := s.add(d); err != nil {
		d.turnAway(err)
		return err
	}
	defer s.remove(d)
	if ctx.Done() != nil {
		stop := context.AfterFunc(ctx, d.abort)
		defer stop()
	}
	d.takePrefix(prefix)
	d.serve()
	return nil
}

func (s *Server) add(d *conn) error {
	d.watch.set(idle, s.now()+s.limits.HeaderTimeout)
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.draining.Load():
		return ErrStopping
	case s.count >= s.limits.MaxConnections:
		return ErrOverflow
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

// Drop ends every connection whose info matches, at once: what allowed them
// was withdrawn. It returns how many there were.
func (s *Server) Drop(match func(info any) bool) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for d := s.newest; d != nil; d = d.older {
		if match(d.x.Info) {
			d.abort()
			n++
		}
	}
	return n
}

// Shutdown takes no more connections, ends idle ones, lets the others finish
// the request that they serve, and returns when all have ended. When ctx ends
// first, the rest is cut off, and its error returned.
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
		s.Drop(func(any) bool { return true })
		<-s.empty
	}
	s.sweeping.Wait()
	return err
}
