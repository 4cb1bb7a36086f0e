package http2

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"sync/atomic"
	"time"

	"sluice.dev/sluice/internal/proxy/exchange"
)

// Client is one connection to a server.
type Client struct {
	session
	remote netip.AddrPort
	served atomic.Bool // a stream was

	// Under the session's mu.
	taken int // streams that were given out
	free  []*Stream
	freed func() // called once a stream can be taken again; nil: nobody is
	onEnd func() // called once it takes no more, and once all that it had is over
}

// NewClient begins to speak HTTP/2 on a connection to a server that understands it. ended is
// called when it has ended.
func NewClient(conn net.Conn, remote netip.AddrPort, limits Limits, now func() time.Duration, ended func()) *Client {
	of := limits.withDefaults()
	c := &Client{remote: remote, onEnd: ended}
	c.client = true
	c.init(conn, &of, now, c)
	c.out = append(c.out, preface...)
	c.out = c.hello(c.out, setting{settingEnablePush, 0}, setting{settingMaxHeaderListSize, uint32(of.MaxHeaderBytes)})
	go c.live()
	return c
}

// OnFree says who is called each time a stream has ended or the server takes more of them, with the connection locked: it may
// neither call it nor wait.
func (c *Client) OnFree(freed func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.freed = freed
}

// live reads to the end.
func (c *Client) live() {
	err := c.run()
	c.fail(err)
	c.mu.Lock()
	for c.writing {
		c.room.Wait()
	}
	c.mu.Unlock()
	c.conn.Close()
	c.onEnd()
}

// Take returns a Stream for one exchange; nil where the connection can take none now, or none
// any more.
func (c *Client) Take() *Stream {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.hasRoom() {
		return nil
	}
	c.taken++
	if n := len(c.free); n > 0 {
		st := c.free[n-1]
		c.free = c.free[:n-1]
		return st
	}
	st := &Stream{of: c}
	st.init(&c.session)
	st.whole = st
	return st
}

// Usable reports whether it takes streams still.
func (c *Client) Usable() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return !c.goingAway && !c.closing && c.err == nil
}

// Room reports whether Take would return a Stream.
func (c *Client) Room() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.hasRoom()
}

// hasRoom is called with mu held.
func (c *Client) hasRoom() bool {
	return !c.goingAway && !c.closing && c.err == nil && c.taken < min(c.limits.MaxStreams, int(min(c.peerMost, 1<<20))) && c.last <= maxWindow-1000
}

// Idle returns for how long no stream was under way; ok is false where one is.
func (c *Client) Idle() (d time.Duration, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.taken > 0 {
		return 0, false
	}
	return c.now() - c.idleSince, true
}

// Check ends the connection if it is late with something, or idle for longer than its limit,
// and those streams that their server does not end though all is said on them.
func (c *Client) Check() {
	now := c.now()
	c.mu.Lock()
	for _, st := range c.streams {
		if whole := st.whole; whole.released && now-whole.waits > endTimeout {
			whole.reuse = false
			c.reset(st.id, codeCancel)
			st.err = errAborted
			c.drop(st)
		}
	}
	c.flushLocked()
	c.mu.Unlock()
	c.check(now)
}

// Close takes no more streams, and ends the connection with the last one; at once where abort
// is set.
func (c *Client) Close(abort bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.goingAway = true
	switch {
	case abort:
		for _, st := range c.streams {
			st.fail(errAborted)
		}
		c.conn.SetDeadline(longAgo)
	case c.taken == 0:
		c.endLocked(codeNone, "")
	}
}

// goneAway implements owner.
func (c *Client) goneAway(last uint32, code errorCode) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.goingAway, c.toldEnd = true, true
	for id, st := range c.streams {
		if id > last {
			st.fail(exchange.ErrNotBegun)
			c.drop(st)
		}
	}
	if c.taken == 0 {
		c.endLocked(codeNone, "")
	}
}

// ended implements owner.
func (c *Client) ended(st *stream) {
	st.abandonIfUnread()
	if whole := st.whole; whole.released {
		c.giveBack(whole)
	}
}

// more implements owner.
func (c *Client) more() {
	if c.freed != nil {
		c.freed()
	}
}

// headers implements owner.
func (c *Client) headers(id uint32, st *stream, ended bool) *fault {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case st == nil || !st.live || st.id != id:
		if c.isIdle(id) {
			return broken(codeProtocol, "HEADERS for a stream that was not begun")
		}
		return c.spend()
	case c.section.over:
		return broken(codeCalm, "a head of more than its limit").of(id)
	case st.message.final():
		return c.takeTrailers(st, ended)
	}
	protocol := st.message.protocol
	if bad := c.section.answer(&st.message, st.message.method, protocol, ended); bad != nil {
		return bad.of(id)
	}
	st.message.protocol = protocol
	st.bodyLeft = st.message.announced
	if st.headAt == len(st.head) {
		st.head, st.headAt = st.head[:0], 0
	}
	if len(st.head)+len(st.message.text) > 2*c.limits.MaxHeaderBytes {
		return broken(codeCalm, "more interim answers than fit").of(id)
	}
	st.head = append(st.head, st.message.text...)
	if ended {
		st.end()
	}
	st.readable.Broadcast()
	return nil
}

func (c *Client) takeTrailers(st *stream, ended bool) *fault {
	var bad *fault
	switch {
	case !ended:
		return malformed("a second head that does not end its stream").of(st.id)
	case c.section.size > maxTrailerBytes:
		return broken(codeCalm, "more than 8 KiB of trailers").of(st.id)
	}
	if st.trailers, bad = c.section.trailers(st.trailers[:0]); bad == nil {
		bad = st.receive(nil, true)
	}
	if bad != nil {
		return bad.of(st.id)
	}
	return nil
}

// Stream is one exchange with a server: an exchange.Stream.
type Stream struct {
	stream
	of       *Client
	released bool          // and END_STREAM is all that is to come
	waits    time.Duration // since then
	reuse    bool          // its exchange was read to its end: nobody aborts it any more
}

// Exchange implements exchange.Stream.
func (st *Stream) Exchange(out exchange.Message, in []byte) (int, error) {
	if len(out) > 0 {
		if err := st.Send(out); err != nil {
			return 0, err
		}
	}
	s := st.s
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		if st.readDead.passed {
			return 0, errAborted
		}
		n, errno := st.readLocked(in)
		switch {
		case n > 0:
			s.flushLocked()
			return n, nil
		case errno == 0, st.message.status >= 200 && st.textEnded:
			return 0, io.EOF
		case st.err != nil:
			return 0, st.why()
		}
		s.flushLocked()
		st.readable.Wait()
	}
}

// why is why the stream ended before its end.
func (st *Stream) why() error {
	var reset *resetError
	if errors.As(st.err, &reset) && reset.code == codeRefused {
		return exchange.ErrNotBegun
	}
	return st.err
}

// Send implements exchange.Stream.
func (st *Stream) Send(out exchange.Message) error {
	s := st.s
	s.mu.Lock()
	st.message.status, st.message.kind, st.message.protocol = 0, noBody, ""
	st.message.method = methodOf(out)
	st.head, st.headAt = st.head[:0], 0
	st.id, st.sentEnd, st.sending.headSent = 0, false, false // until its head is sent
	s.mu.Unlock()
	if _, err := st.Write(out); err != nil {
		return st.unsent(err)
	}
	return nil
}

// unsent says of an error whether the server can know of the request at all.
func (st *Stream) unsent(err error) error {
	st.s.mu.Lock()
	defer st.s.mu.Unlock()
	if st.id == 0 && st.s.err != nil && !st.writeDead.passed {
		return exchange.ErrNotBegun
	}
	return err
}

// methodOf is the method of a message, as a string that lives on.
func methodOf(out exchange.Message) string {
	if m := out.Method(); m == "HEAD" {
		return "HEAD"
	}
	return "GET" // any other: what matters is whether an answer has a body
}

// CloseWrite implements exchange.Stream.
func (st *Stream) CloseWrite() error {
	s := st.s
	s.mu.Lock()
	defer s.mu.Unlock()
	if st.live && !st.sentEnd {
		s.out = appendFrame(s.out, 0, frameData, flagEndStream, st.id)
		st.finished()
		s.flushLocked()
	}
	return nil
}

// Abort implements exchange.Stream.
func (st *Stream) Abort() { st.SetDeadline(longAgo) }

// Release implements exchange.Stream.
func (st *Stream) Release(reuse bool) {
	c := st.of
	c.served.Store(true)
	c.mu.Lock()
	defer c.mu.Unlock()
	st.reuse = reuse
	if st.live && st.sentEnd && st.err == nil && st.message.kind == lengthBody && st.bodyLeft == 0 && len(st.body) == 0 && !st.readDead.passed {
		st.released, st.waits = true, c.now() // its answer was read: only the frame that says so is missing
		return
	}
	if st.live {
		c.reset(st.id, codeCancel)
		st.err = errAborted
		c.drop(&st.stream)
	}
	c.giveBack(st)
	c.flushLocked()
}

// giveBack takes a stream back that has ended. It is called with mu held.
func (c *Client) giveBack(st *Stream) {
	st.abandon()
	st.rest()
	st.released = false
	if c.taken--; c.taken == 0 {
		c.idleSince = c.now()
		if c.goingAway {
			c.endLocked(codeNone, "")
		}
	}
	if st.reuse && !st.readDead.passed && c.err == nil && len(c.free) < maxIdleLines {
		st.err = nil
		c.free = append(c.free, st)
	}
	c.more()
}

// Keep implements exchange.Stream: nobody signs in to a stream.
func (st *Stream) Keep() {}

// Again implements exchange.Stream.
func (st *Stream) Again() bool {
	st.Release(false)
	return false
}

// Remote implements exchange.Stream.
func (st *Stream) Remote() netip.AddrPort { return st.of.remote }

// Reused implements exchange.Stream.
func (st *Stream) Reused() bool { return st.of.served.Load() }

var _ exchange.Stream = (*Stream)(nil)

// Ready waits until the server has said how many streams it takes.
func (c *Client) Ready(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.room.Broadcast()
	})
	defer stop()
	c.mu.Lock()
	defer c.mu.Unlock()
	for !c.settings && c.err == nil && !c.closing && ctx.Err() == nil {
		c.room.Wait()
	}
	switch {
	case c.err != nil:
		return c.err
	case c.closing:
		return net.ErrClosed
	}
	return ctx.Err()
}
