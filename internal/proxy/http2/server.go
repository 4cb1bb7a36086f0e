// Package http2 speaks HTTP/2 with clients and with servers, and HTTP/1.1 with the rest of the
// proxy: each stream is read and written as the text of a message, which the HTTP/1.1 engine
// serves and directs. proxy hands it connections of clients, and upstream those to servers. It
// never decides anything, and never lets a peer that does not read, or that asks for nothing
// of use, hold more than its limits say.
package http2

import (
	"context"
	"net"
	"sync"
	"time"

	"sluice.dev/sluice/internal/proxy/exchange"
	"sluice.dev/sluice/internal/refusal"
)

// Config is a Server's. Serve is required.
type Config struct {
	Limits Limits
	// Serve serves one line to its end, by a Director of its own.
	Serve func(ctx context.Context, line *Line, director exchange.Director)
	// Now is a monotonic clock; nil means the machine's.
	Now func() time.Duration
}

// Server serves connections of clients. Each runs on its caller's goroutine, and each stream
// that is under way on one of its own.
type Server struct {
	config Config
	now    func() time.Duration

	mu       sync.Mutex
	all      map[*served]struct{}
	draining bool
	empty    chan struct{} // closed when draining and there are none
	sweeps   bool
	sweeping sync.WaitGroup
}

// NewServer returns a server without connections.
func NewServer(config Config) *Server {
	config.Limits = config.Limits.withDefaults()
	s := &Server{config: config, now: config.Now, all: make(map[*served]struct{}), empty: make(chan struct{})}
	if s.now == nil {
		start := time.Now()
		s.now = func() time.Duration { return time.Since(start) }
	}
	return s
}

// served is one connection of a client.
type served struct {
	session
	server   *Server
	director exchange.Multiplexed
	lines    sync.WaitGroup

	// Under the session's mu.
	idle []*Line // that wait for the next stream
	busy int     // lines that serve one, or that have not ended since
}

// Serve serves one connection to its end, and closes it. said is what was read of it already.
// When ctx ends, the connection does, at once. The error says why it was not served at all.
func (s *Server) Serve(ctx context.Context, conn net.Conn, said []byte, director exchange.Multiplexed) error {
	c := &served{server: s, director: director}
	c.init(conn, &s.config.Limits, s.now, c)
	if !s.add(c) {
		conn.Close()
		return refusal.New(refusal.Stopping, "")
	}
	defer s.remove(c)
	stop := context.AfterFunc(ctx, func() { c.conn.SetDeadline(longAgo) })
	defer stop()
	c.out = c.hello(c.out,
		setting{settingMaxConcurrentStreams, uint32(s.config.Limits.MaxStreams)},
		setting{settingMaxHeaderListSize, uint32(s.config.Limits.MaxHeaderBytes)},
		setting{settingEnableConnect, 1})
	c.fail(c.serve(said))
	c.endIdle()
	c.lines.Wait()
	c.linger()
	return nil
}

var longAgo = time.Unix(1, 0)

// serve reads the preface and then frames, until the connection ends.
func (c *served) serve(said []byte) error {
	c.in = inBuffers.Get().(*[inSize]byte)
	if len(said) > len(c.in) {
		return broken(codeProtocol, "more was said before the connection was known than fits")
	}
	c.w = copy(c.in[:], said)
	for c.w-c.r < len(preface) {
		if there := string(c.in[c.r:c.w]); there != preface[:len(there)] {
			return broken(codeProtocol, "a preface that is not HTTP/2's")
		}
		if err := c.fill(); err != nil {
			return err
		}
	}
	if string(c.in[c.r:c.r+len(preface)]) != preface {
		return broken(codeProtocol, "a preface that is not HTTP/2's")
	}
	c.r += len(preface)
	return c.run()
}

// linger closes the connection once what was to be written is, or cannot be.
func (c *served) linger() {
	c.mu.Lock()
	for c.writing {
		c.room.Wait()
	}
	c.mu.Unlock()
	defer c.conn.Close()
	if _, ours := c.err.(*fault); !ours {
		return
	}
	buffer := inBuffers.Get().(*[inSize]byte)
	defer inBuffers.Put(buffer)
	for read := 0; read < lingerBytes; {
		n, err := c.conn.Read(buffer[:])
		if err != nil {
			return
		}
		read += n
	}
}

func (s *Server) add(c *served) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.draining {
		return false
	}
	s.all[c] = struct{}{}
	if !s.sweeps {
		s.sweeps = true
		s.sweeping.Add(1)
		go s.sweep()
	}
	return true
}

func (s *Server) remove(c *served) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.all, c)
	if s.draining && len(s.all) == 0 {
		close(s.empty)
	}
}

// sweep looks at the connections once a second, while there are any.
func (s *Server) sweep() {
	defer s.sweeping.Done()
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-s.empty:
		}
		now := s.now()
		s.mu.Lock()
		if len(s.all) == 0 {
			s.sweeps = false
			s.mu.Unlock()
			return
		}
		for c := range s.all {
			c.check(now)
		}
		s.mu.Unlock()
	}
}

// idleLeast is for how long a connection must have had no stream before CloseIdle takes it for
// idle: less is the pause of a client that goes on.
const idleLeast = 100 * time.Millisecond

// CloseIdle ends the connection that has had no stream for longest, so that another may take
// its place. It reports whether there was one, and does not wait for its end.
func (s *Server) CloseIdle() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	var longest *served
	most := idleLeast
	for c := range s.all {
		if d, ok := c.idleFor(s.now()); ok && d > most {
			longest, most = c, d
		}
	}
	return longest != nil && longest.endIfIdle()
}

// idleFor returns for how long a connection has had no stream; ok is false where it has one.
func (c *served) idleFor(now time.Duration) (d time.Duration, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return now - c.idleSince, len(c.streams) == 0 && !c.closing
}

// endIfIdle ends a connection that still has no stream.
func (c *served) endIfIdle() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.streams) > 0 || c.closing {
		return false
	}
	c.endLocked(codeNone, "")
	return true
}

// Count returns how many connections there are.
func (s *Server) Count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.all)
}

// Shutdown takes no more connections and no more streams, lets those that are under way
// finish, and returns when all have ended. When ctx ends first, the rest is cut off.
func (s *Server) Shutdown(ctx context.Context) error {
	s.mu.Lock()
	if !s.draining {
		s.draining = true
		if len(s.all) == 0 {
			close(s.empty)
		}
	}
	for c := range s.all {
		c.goAwaySoon()
	}
	s.mu.Unlock()
	var err error
	select {
	case <-s.empty:
	case <-ctx.Done():
		err = context.Cause(ctx)
		s.mu.Lock()
		for c := range s.all {
			c.conn.SetDeadline(longAgo)
		}
		s.mu.Unlock()
		<-s.empty
	}
	s.sweeping.Wait()
	return err
}

// goAwaySoon tells the client to begin nothing more, and a moment later, when what it had
// begun before it heard of that has come, takes nothing more (RFC 9113, section 6.8).
func (c *served) goAwaySoon() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closing || c.goingAway {
		return
	}
	c.sayGoAway(maxWindow, codeNone, "")
	c.flushLocked()
	time.AfterFunc(drainGrace, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.closing || c.goingAway {
			return
		}
		c.goingAway = true
		c.sayGoAway(c.last, codeNone, "")
		c.closing = len(c.streams) == 0
		c.flushLocked()
	})
}

// goneAway implements owner: a client that begins nothing more may wait for what it began.
func (c *served) goneAway(uint32, errorCode) {}

// more implements owner: no stream is begun here.
func (c *served) more() {}

// ended implements owner.
func (c *served) ended(st *stream) {
	st.abandonIfUnread()
	if st.line != nil && st.err == nil && st.sentEnd && st.ended {
		st.line.uncount() // its client may begin the next one as soon as it has read that
	}
	if c.goingAway && len(c.streams) == 0 && !c.closing {
		c.closing = true
		c.flushLocked()
	}
}

// headers implements owner.
func (c *served) headers(id uint32, st *stream, ended bool) *fault {
	if st != nil {
		return c.takeTrailers(id, st, ended)
	}
	c.mu.Lock()
	if id <= c.last {
		defer c.mu.Unlock()
		if c.wasReset(id) {
			return c.spend()
		}
		return broken(codeStreamClosed, "HEADERS for a stream that has ended")
	}
	c.last = id
	over, full := c.goingAway, c.busy >= c.limits.MaxStreams
	var line *Line
	if n := len(c.idle); n > 0 && !over && !full && !c.section.over {
		line, c.idle = c.idle[n-1], c.idle[:n-1]
		line.count()
	}
	c.mu.Unlock()
	switch {
	case over: // it was told so meanwhile
		return broken(codeRefused, "a stream that began after the last one").of(id)
	case full:
		return c.overflow("this connection has as many streams as it may").of(id)
	case c.section.over:
		return c.refuse(id, ended, refusal.New(refusal.HeadersTooLarge, ""))
	}
	bad := c.section.request(&c.scratch, ended)
	if bad == nil && line == nil {
		line = c.newLine()
		if line == nil {
			bad = c.overflow("this workload has as many connections and streams as it may")
		}
	}
	if bad != nil {
		if line != nil {
			c.putBack(line)
		}
		if bad.code != codeRefused {
			c.director.Refused(exchange.Outcome{Failure: &refusal.Error{Reason: refusal.RequestMalformed, Text: bad.text}, Sent: 1})
		}
		return bad.of(id)
	}
	c.mu.Lock()
	line.assign(id, &c.scratch, ended)
	c.mu.Unlock()
	return nil
}

// overflow records a stream that is one too many, and refuses it.
func (c *served) overflow(text string) *fault {
	c.director.Refused(exchange.Outcome{Failure: &refusal.Error{Reason: refusal.Overflow, Text: text}, Sent: int64(c.section.size)})
	return broken(codeRefused, text)
}

// putBack puts a line that was taken for nothing among the idle ones.
func (c *served) putBack(line *Line) {
	c.mu.Lock()
	defer c.mu.Unlock()
	line.uncount()
	if !line.closed {
		c.idle = append(c.idle, line)
	}
}

func (c *served) takeTrailers(id uint32, st *stream, ended bool) *fault {
	switch {
	case !ended:
		return malformed("a second head that does not end its stream").of(id)
	case c.section.over || c.section.size > maxTrailerBytes:
		return broken(codeCalm, "more than 8 KiB of trailers").of(id)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if !st.live || st.id != id {
		return nil
	}
	var bad *fault
	if st.trailers, bad = c.section.trailers(st.trailers[:0]); bad != nil {
		return bad.of(id)
	}
	if bad := st.receive(nil, true); bad != nil {
		return bad.of(id)
	}
	return nil
}

// refuse answers a stream without a line.
func (c *served) refuse(id uint32, ended bool, why *refusal.Error) *fault {
	c.mu.Lock()
	c.encoder.block = c.encoder.block[:0]
	status := statusText(why.Reason.Status())
	c.encoder.field(":status", status)
	c.encoder.field("server", "sluice")
	c.encoder.field("x-sluice-reason", string(why.Reason))
	block := c.encoder.block
	c.out = append(appendFrame(c.out, len(block), frameHeaders, flagEndHeaders|flagEndStream, id), block...)
	if !ended {
		c.reset(id, codeNone)
	}
	c.mu.Unlock()
	c.director.Refused(exchange.Outcome{Failure: why, Status: why.Reason.Status(), Sent: int64(c.section.size)})
	return c.spendReset()
}

func statusText(status int) string {
	return string([]byte{byte('0' + status/100), byte('0' + status/10%10), byte('0' + status%10)})
}

// endIdle ends the lines that wait.
func (c *served) endIdle() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, l := range c.idle {
		l.closed = true
		l.readable.Broadcast()
	}
	c.idle = nil
}
