package upstream

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"syscall"

	"sluice.dev/sluice/internal/proxy/rawio"
)

// underTLS is the transport below crypto/tls. Blocking, it is the TCP
// connection. Otherwise its Read says EAGAIN where there is nothing (crypto/tls
// keeps its state over a temporary error) and its Write only collects, so that
// all records of one flush leave in one write.
type underTLS struct {
	*net.TCPConn
	fd       uintptr
	blocking bool
	framing  framing // of what was read
	records  []byte
}

func (u *underTLS) Read(b []byte) (int, error) {
	n, err := u.read(b)
	u.framing.pass(b[:n])
	return n, err
}

func (u *underTLS) read(b []byte) (int, error) {
	if u.blocking {
		return u.TCPConn.Read(b)
	}
	if len(b) == 0 {
		return 0, nil
	}
	n, errno := rawio.Read(u.fd, b)
	if errno != 0 {
		return 0, errno
	}
	if n == 0 {
		return 0, io.EOF
	}
	return n, nil
}

func (u *underTLS) Write(b []byte) (int, error) {
	if u.blocking {
		return u.TCPConn.Write(b)
	}
	if u.records == nil {
		u.records = recordBuffers.Get().(*recordBuffer)[:0]
	}
	u.records = append(u.records, b...)
	return len(b), nil
}

// recordBuffer holds the records of one flush: a request of 16 KiB and what TLS
// adds fit; longer ones grow a buffer that is not kept.
type recordBuffer [20 << 10]byte

var recordBuffers = sync.Pool{New: func() any { return new(recordBuffer) }}

// flush sends what Write collected.
func (c *Conn) flush(fd uintptr) bool {
	records := c.under.records
	if len(records) == 0 {
		return true
	}
	c.under.records = nil
	ok := c.send(fd, records)
	keepRecords(records)
	return ok
}

// keepRecords keeps a buffer of the usual size for the next flush.
func keepRecords(records []byte) {
	if cap(records) == len(recordBuffer{}) {
		recordBuffers.Put((*recordBuffer)(records[:cap(records)]))
	}
}

func (c *Conn) sendTLS(fd uintptr, b []byte) bool {
	if _, err := c.tls.Write(b); err != nil {
		c.err = err
		return false
	}
	return c.flush(fd)
}

func (c *Conn) receiveTLS(fd uintptr) bool {
	n, err := c.tls.Read(c.in)
	// Reading may have answered a key update.
	if !c.flush(fd) {
		return true
	}
	if n > 0 {
		c.n = n
		return true
	}
	if errors.Is(err, syscall.EAGAIN) {
		return false
	}
	c.err = err
	return true
}

// closeNotify tells the peer that the stream ends here, if there is room for
// that in the socket's buffer; nobody waits for it.
func (c *Conn) closeNotify() {
	c.under.blocking = false
	c.under.records = nil
	if c.tls.CloseWrite() == nil && len(c.under.records) > 0 {
		rawio.Write(c.fd, c.under.records)
	}
	c.under.records = nil
}

// handshake proves the server by the pool's configuration and leaves the
// connection non-blocking.
func (c *Conn) handshake(ctx context.Context, config *tls.Config) error {
	c.under = &underTLS{TCPConn: c.tcp, fd: c.fd, blocking: true}
	c.tls = tls.Client(c.under, config)
	if err := c.tls.HandshakeContext(ctx); err != nil {
		if ctx.Err() != nil {
			err = fmt.Errorf("handshake: %w", context.Cause(ctx))
		}
		return c.tlsError(config.ServerName, err)
	}
	p, versions := c.tls.ConnectionState().NegotiatedProtocol, c.pool.config.Versions
	switch {
	case p == "h2" && versions != HTTP11, p == "http/1.1" && versions != HTTP2, p == "" && versions != HTTP2:
	case p == "":
		return c.tlsError(config.ServerName, errors.New("the server chose no protocol by ALPN, this pool speaks h2"))
	default:
		return c.tlsError(config.ServerName, fmt.Errorf("the server chose the protocol %q, this pool speaks %s", p, strings.Join(versions.protocols(), " and ")))
	}
	c.under.blocking = false
	return nil
}

// clientConfig is the pool's own copy: TLS 1.2 at least, sessions
// kept for this pool alone, and full records from the first on (dynamic sizing
// would cut a head into 1.2 KB pieces).
func clientConfig(config *tls.Config, versions Versions) (*tls.Config, error) {
	own := config.Clone()
	if own.VerifyConnection == nil && (own.InsecureSkipVerify || own.ServerName == "") {
		return nil, errors.New("upstream: a TLS configuration that verifies nobody")
	}
	own.MinVersion = max(own.MinVersion, tls.VersionTLS12)
	own.NextProtos = versions.protocols()
	own.DynamicRecordSizingDisabled = true
	// A resumed session is not verified anew by its roots, so none is taken over
	// from another pool, whose roots may be others.
	own.ClientSessionCache = tls.NewLRUClientSessionCache(maxSessions)
	return own, nil
}

// maxSessions bounds the tickets that one pool keeps for resumption.
const maxSessions = 8
