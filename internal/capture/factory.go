package capture

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"sluice.dev/sluice/internal/capture/seqpacket"
	"sluice.dev/sluice/internal/format"
)

// Sockets makes connections that begin in one network namespace.
type Sockets interface {
	// DialTCP connects from src, which may be any address in a Factory's
	// namespace; the zero Addr leaves it to the kernel. MPTCP is off.
	DialTCP(ctx context.Context, src netip.Addr, dst netip.AddrPort) (*net.TCPConn, error)
	// DialUDP returns a connected UDP socket.
	DialUDP(ctx context.Context, dst netip.AddrPort) (net.Conn, error)
}

const (
	// A stock begins with firstBatch sockets and each refill doubles, to
	// largestBatch: one workload that is seldom dialled holds few descriptors,
	// a busy one pays a round trip for one dial in 32.
	firstBatch   = 4
	largestBatch = 32
	// requestTimeout bounds the wait for the other end of a factory.
	requestTimeout = 5 * time.Second
)

// ErrFactoryGone says that the namespace behind a factory is no longer served.
var ErrFactoryGone = errors.New("the process that serves sockets is gone")

// socketsFormat is the format of both messages that this build writes.
const socketsFormat = 1

var (
	requests = format.Kind{Name: "the request for sockets", Oldest: 1, Newest: socketsFormat}
	replies  = format.Kind{Name: "the reply with sockets", Oldest: 1, Newest: socketsFormat}
)

// request asks for sockets, reply brings them. A reply to a request whose asker
// gave up is known by its number and thrown away.
type request struct {
	Format int    `json:"format"`
	Number uint64 `json:"number"`
	Domain int    `json:"domain"`
	Kind   int    `json:"kind"`
	Count  int    `json:"count"`
}

type reply struct {
	Format int    `json:"format"`
	Number uint64 `json:"number"`
	Error  string `json:"error,omitempty"`
}

// Factory makes connections in another namespace from sockets that somebody
// there serves with ServeSockets. It is safe for concurrent use.
type Factory struct {
	path string        // of the server; "" when the connection was handed to us
	busy chan struct{} // holds one value while somebody uses what is below

	conn   *net.UnixConn // nil when it broke
	closed bool
	number uint64
	stocks map[socketType]*stock
}

type socketType struct{ domain, kind int }

// stock is unused sockets of one type, at most largestBatch.
type stock struct {
	files []int
	batch int
}

var _ Sockets = (*Factory)(nil)

// NewFactory makes a factory of a SEQPACKET connection to ServeSockets.
func NewFactory(conn *net.UnixConn) *Factory {
	return &Factory{conn: conn, busy: make(chan struct{}, 1), stocks: make(map[socketType]*stock)}
}

// DialFactory connects to a SEQPACKET socket behind which each connection is
// given to ServeSockets. When the server goes and comes back, the next dial
// connects anew.
func DialFactory(ctx context.Context, path string) (*Factory, error) {
	f := NewFactory(nil)
	f.path = path
	if err := f.redial(ctx); err != nil {
		return nil, err
	}
	return f, nil
}

func (f *Factory) redial(ctx context.Context) error {
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "unixpacket", f.path)
	if err != nil {
		return fmt.Errorf("sockets from %s: %w", f.path, err)
	}
	f.conn = conn.(*net.UnixConn)
	return nil
}

// DialTCP is Sockets.DialTCP.
func (f *Factory) DialTCP(ctx context.Context, src netip.Addr, dst netip.AddrPort) (*net.TCPConn, error) {
	conn, err := f.dial(ctx, unix.SOCK_STREAM, src, dst)
	if err != nil {
		return nil, err
	}
	return conn.(*net.TCPConn), nil
}

// DialUDP is Sockets.DialUDP.
func (f *Factory) DialUDP(ctx context.Context, dst netip.AddrPort) (net.Conn, error) {
	return f.dial(ctx, unix.SOCK_DGRAM, netip.Addr{}, dst)
}

func (f *Factory) dial(ctx context.Context, kind int, src netip.Addr, dst netip.AddrPort) (net.Conn, error) {
	domain, _ := sockaddrOf(dst)
	fd, err := f.take(ctx, socketType{domain, kind})
	if err != nil {
		return nil, fmt.Errorf("dial %s: %w", dst, err)
	}
	return connect(ctx, fd, src, dst)
}

// take returns a socket of the stock, which it refills when empty.
func (f *Factory) take(ctx context.Context, t socketType) (int, error) {
	select {
	case f.busy <- struct{}{}:
		defer func() { <-f.busy }()
	case <-ctx.Done():
		return -1, ctx.Err()
	}
	if f.closed {
		return -1, net.ErrClosed
	}
	if f.conn != nil && !alive(f.conn) {
		f.drop() // its sockets belong to a namespace in which nobody serves any more
	}
	if f.conn == nil {
		if f.path == "" {
			return -1, ErrFactoryGone
		}
		if err := f.redial(ctx); err != nil {
			return -1, err
		}
	}
	s := f.stocks[t]
	if s == nil {
		s = &stock{batch: firstBatch}
		f.stocks[t] = s
	}
	if len(s.files) == 0 {
		files, err := f.request(ctx, t, s.batch)
		if err != nil {
			return -1, err
		}
		s.files = files
		s.batch = min(2*s.batch, largestBatch)
	}
	last := len(s.files) - 1
	fd := s.files[last]
	s.files = s.files[:last]
	return fd, nil
}

// request asks for count sockets and waits for them, at most requestTimeout.
func (f *Factory) request(ctx context.Context, t socketType, count int) ([]int, error) {
	conn := f.conn
	if err := conn.SetDeadline(time.Now().Add(requestTimeout)); err != nil {
		return nil, err
	}
	cancelled := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		conn.SetDeadline(time.Unix(1, 0))
		close(cancelled)
	})
	defer func() {
		if !stop() { // or our deadline would hit the next to ask
			<-cancelled
		}
	}()
	f.number++
	err := seqpacket.Send(conn, request{Format: socketsFormat, Number: f.number, Domain: t.domain, Kind: t.kind, Count: count})
	for err == nil {
		var answer reply
		var files []int
		if files, err = seqpacket.Receive(conn, &answer, seqpacket.MaxFiles); err != nil {
			break
		}
		if unknown := replies.Check(answer.Format); unknown != nil {
			seqpacket.Close(files)
			return nil, unknown
		}
		switch {
		case answer.Number != f.number:
			seqpacket.Close(files)
		case len(files) == 0:
			return nil, fmt.Errorf("no sockets: %s", answer.Error)
		default:
			return files, nil
		}
	}
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	if errors.Is(err, io.EOF) || errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNRESET) {
		f.drop()
		return nil, ErrFactoryGone
	}
	return nil, fmt.Errorf("ask for sockets: %w", err)
}

// alive says whether the other end still holds the connection.
func alive(conn *net.UnixConn) bool {
	raw, err := conn.SyscallConn()
	if err != nil {
		return false
	}
	ended := false
	err = raw.Control(func(fd uintptr) {
		var one [1]byte
		n, _, err := unix.Recvfrom(int(fd), one[:], unix.MSG_PEEK|unix.MSG_DONTWAIT)
		ended = n == 0 && err == nil || err != nil && err != unix.EAGAIN && err != unix.EINTR
	})
	return err == nil && !ended
}

// drop closes the connection and the stock.
func (f *Factory) drop() {
	if f.conn != nil {
		f.conn.Close()
		f.conn = nil
	}
	for t, s := range f.stocks {
		seqpacket.Close(s.files)
		delete(f.stocks, t)
	}
}

// Close ends the factory and its unused sockets, each of which would keep the
// namespace alive. Connections that were dialled stay their owner's.
func (f *Factory) Close() error {
	f.busy <- struct{}{}
	defer func() { <-f.busy }()
	f.closed = true
	f.drop()
	return nil
}
