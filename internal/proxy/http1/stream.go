package http1

import (
	"context"
	"net"
	"syscall"
	"time"

	"sluice.dev/sluice/internal/proxy/exchange"
	"sluice.dev/sluice/internal/proxy/rawio"
)

// client is the client's end of a connection: a *net.TCPConn, or a Stream.
type client interface {
	Read(b []byte) (int, error)
	Write(b []byte) (int, error)
	CloseWrite() error
	Close() error
	SetLinger(sec int) error
	SetDeadline(t time.Time) error
	SetReadDeadline(t time.Time) error
	SetWriteDeadline(t time.Time) error
}

// Stream is a client that is no TCP connection: one that speaks another version, and whose
// requests are read, and answered, here as HTTP/1.1, one after the other, or one of TLS. Its
// Close ends the request that is under way as broken, unless its answer was written to the end.
type Stream interface {
	client
	// ReadNow reads what is there. EAGAIN says that nothing is, and 0 bytes without an error
	// that nothing more comes.
	ReadNow(b []byte) (int, syscall.Errno)
	// Wait waits until ReadNow has something to say. Its error is that of a deadline.
	Wait() error
	// WhenGone says what to call, from any goroutine, when the client has given up the
	// request that is under way; nothing more is served then.
	WhenGone(f func())
	// Gone is asked whether it has, by who does not call: its connection was reset or closed or,
	// with ended, its side was.
	Gone(ended bool) bool
	// Version is the one that the client speaks, if it does not say HTTP/1.0.
	Version() exchange.Version
	// GRPC reports whether the request under way is one of gRPC.
	GRPC() bool
}

// ServeStream serves a Stream on the caller's goroutine to its end, and closes it. When ctx
// ends, the Stream does. The error is one of Serve.
func (s *Server) ServeStream(ctx context.Context, stream Stream, director exchange.Director) error {
	d := &conn{server: s, tcp: stream, stream: stream, director: director, ctx: ctx}
	if e := s.add(d); e != nil {
		d.director.Refused(exchange.Outcome{Failure: e})
		stream.Close()
		return e
	}
	d.watchEnd()
	stream.WhenGone(d.leaveAlone)
	d.serve()
	d.end()
	return nil
}

// leaveAlone ends the connection and its exchange because the client has gone.
func (d *conn) leaveAlone() {
	d.gone.Store(true)
	d.watch.word.Store(fired)
	d.interrupt()
}

// read runs step until that is done.
func (d *conn) read() error {
	if d.stream == nil {
		return d.raw.Read(d.stepFunc)
	}
	waits := d.scratch == nil // nothing was read yet: it takes no buffer to wait
	for {
		if waits {
			if err := d.stream.Wait(); err != nil {
				return err
			}
		}
		if d.step(0) {
			return nil
		}
		waits = true
	}
}

// readNow reads what is there.
func (d *conn) readNow(b []byte) (int, syscall.Errno) {
	if d.stream != nil {
		return d.stream.ReadNow(b)
	}
	return rawio.Read(d.fd, b)
}

// isGRPC reports whether the request under way is one of gRPC.
func (d *conn) isGRPC() bool { return d.stream != nil && d.head != nil && d.stream.GRPC() }

// turn hands a connection whose client begins with the preface of HTTP/2 to whoever speaks
// that, with what was read of it.
type turn struct {
	said     []byte
	director exchange.Multiplexed
}

// turns reports whether the connection is to be handed on: it may be, before its first
// request.
func (d *conn) turns() bool {
	to, ok := d.director.(exchange.Multiplexed)
	if !ok || d.server.http2 == nil || d.stream != nil || d.later || d.skipped || d.server.draining.Load() {
		return false
	}
	d.turned = &turn{said: append([]byte(nil), d.scratch.in[d.r:d.w]...), director: to}
	return true
}

// endTurned gives back all that the connection holds, and leaves it open.
func (d *conn) endTurned(ctx context.Context, tcp *net.TCPConn) {
	d.release()
	d.endAlarm()
	if d.unwatch != nil {
		d.unwatch()
	}
	d.server.parking.forget(d)
	d.server.remove(d)
	d.server.http2(ctx, tcp, d.turned.said, d.turned.director)
}
