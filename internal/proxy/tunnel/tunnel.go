// Package tunnel opens connections through an HTTP proxy outside (--via-proxy), by
// CONNECT. Egress calls it with what a verdict has allowed already. It never decides
// where a connection may go, never resolves what it asks the proxy for, and shows the
// proxy's credentials to nobody else.
package tunnel

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strconv"
	"time"

	"sluice.dev/sluice/internal/refusal"
)

// Bounds of a tunnel.
const (
	// OpenTimeout bounds all that opens a tunnel: finding the proxy, the connection, TLS,
	// and the proxy's answer.
	OpenTimeout = 10 * time.Second
	// MaxHead bounds the head of the proxy's answer.
	MaxHead = 16 << 10
	// MaxInterim is how many answers of 1xx may come before the final one.
	MaxInterim = 4
	// MaxAddresses is how many addresses of the proxy are tried for one tunnel.
	MaxAddresses = 4
	// MaxSecure bounds the tunnels through a proxy of https at one time: each takes three
	// descriptors in place of one.
	MaxSecure = 1024
)

// Config says which proxy, and how it is reached. Host, Port, Dial and Lookup are
// required.
type Config struct {
	Host string // a name, or an address without brackets
	Port uint16
	// Secure: the proxy is spoken to by TLS, in which its certificate is verified.
	Secure bool
	Roots  *x509.CertPool // for Secure; nil trusts the machine's
	// Authorization is the value of Proxy-Authorization; "" for none.
	Authorization string
	// Direct reports whether what is so called is reached without the proxy; nil: nothing.
	Direct func(host string, port uint16) bool
	// Lookup finds the addresses of Host where that is a name.
	Lookup func(ctx context.Context, host string) ([]netip.Addr, error)
	Dial   func(ctx context.Context, to netip.AddrPort) (*net.TCPConn, error)

	Timeout time.Duration // OpenTimeout where 0
}

// Proxy is an HTTP proxy outside. It is safe for concurrent use.
type Proxy struct {
	config Config
	at     string
	secure chan struct{} // one for each tunnel that is secure
}

// New returns a Proxy without connections.
func New(c Config) (*Proxy, error) {
	if c.Host == "" || c.Port == 0 || c.Dial == nil || c.Lookup == nil {
		return nil, errors.New("tunnel: Host, Port, Dial and Lookup must be set")
	}
	if c.Timeout == 0 {
		c.Timeout = OpenTimeout
	}
	return &Proxy{config: c, at: net.JoinHostPort(c.Host, strconv.Itoa(int(c.Port))), secure: make(chan struct{}, MaxSecure)}, nil
}

// String is what records and errors call the proxy.
func (p *Proxy) String() string { return "proxy " + p.at }

// Carries reports whether what is so called is reached through the proxy.
func (p *Proxy) Carries(host string, port uint16) bool {
	return p.config.Direct == nil || !p.config.Direct(host, port)
}

// Open opens a connection to a name or address by way of the proxy. What comes out of it
// is what the other end says, from its first byte on. Errors are *refusal.Error, or the
// cause of ctx where that ended first.
func (p *Proxy) Open(ctx context.Context, host string, port uint16) (*net.TCPConn, error) {
	within, cancel := context.WithTimeout(ctx, p.config.Timeout)
	defer cancel()
	conn, err := p.open(within, net.JoinHostPort(host, strconv.Itoa(int(port))))
	if err != nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return conn, err
}

func (p *Proxy) open(ctx context.Context, target string) (*net.TCPConn, error) {
	conn, err := p.reach(ctx)
	if err != nil {
		return nil, &refusal.Error{Reason: refusal.ViaProxyUnreachable, Text: p.String() + " could not be reached", Err: timely(ctx, err)}
	}
	if err := p.connect(ctx, conn, target); err != nil {
		conn.SetLinger(0) // nothing of it is wanted any more
		conn.Close()
		return nil, err
	}
	return conn, nil
}

// reach connects to the proxy.
func (p *Proxy) reach(ctx context.Context) (*net.TCPConn, error) {
	if !p.config.Secure {
		return p.dial(ctx)
	}
	select {
	case p.secure <- struct{}{}:
	default:
		return nil, fmt.Errorf("there are %d connections to it", MaxSecure)
	}
	done := func() { <-p.secure }
	tcp, err := p.dial(ctx)
	if err != nil {
		done()
		return nil, err
	}
	outer := tls.Client(tcp, &tls.Config{ServerName: p.config.Host, RootCAs: p.config.Roots, MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"}})
	if err := outer.HandshakeContext(ctx); err != nil {
		tcp.Close()
		done()
		return nil, fmt.Errorf("TLS handshake: %w", err)
	}
	conn, err := bridge(ctx, outer, tcp, done)
	if err != nil {
		tcp.Close()
		done()
	}
	return conn, err
}

// dial connects to the first of the proxy's addresses that takes the connection.
func (p *Proxy) dial(ctx context.Context) (*net.TCPConn, error) {
	addrs, err := p.addresses(ctx)
	if err != nil {
		return nil, err
	}
	addrs = addrs[:min(len(addrs), MaxAddresses)]
	for i, a := range addrs {
		// The last one has all the time that is left.
		turn, cancel := context.WithTimeout(ctx, p.config.Timeout/time.Duration(len(addrs)))
		if i == len(addrs)-1 {
			cancel()
			turn, cancel = context.WithCancel(ctx)
		}
		conn, failed := p.config.Dial(turn, netip.AddrPortFrom(a, p.config.Port))
		cancel()
		if failed == nil {
			return conn, nil
		}
		err = errors.Join(err, failed)
		if ctx.Err() != nil {
			break
		}
	}
	return nil, err
}

func (p *Proxy) addresses(ctx context.Context) ([]netip.Addr, error) {
	if a, err := netip.ParseAddr(p.config.Host); err == nil {
		return []netip.Addr{a}, nil
	}
	addrs, err := p.config.Lookup(ctx, p.config.Host)
	if err == nil && len(addrs) == 0 {
		err = errors.New("it has no address")
	}
	return addrs, err
}

// connect asks the proxy for a target on a connection of its own, and reads the head of
// its answer and no byte more.
func (p *Proxy) connect(ctx context.Context, conn *net.TCPConn, target string) error {
	stop := context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })
	answer, err := p.ask(conn, target)
	if !stop() { // the deadline is set, or is being set
		err = errors.Join(ctx.Err(), err)
	}
	if err == nil {
		return p.judge(answer, target)
	}
	reason := refusal.ViaProxyFailed
	var malformed *malformedError
	if errors.As(err, &malformed) {
		reason = refusal.ViaProxyAnswer
	}
	return &refusal.Error{Reason: reason, Text: p.String() + " gave no usable answer to CONNECT " + target, Err: timely(ctx, err)}
}

func (p *Proxy) ask(conn *net.TCPConn, target string) (answer, error) {
	request := "CONNECT " + target + " HTTP/1.1\r\nHost: " + target + "\r\n"
	if p.config.Authorization != "" {
		request += "Proxy-Authorization: " + p.config.Authorization + "\r\n"
	}
	if _, err := conn.Write([]byte(request + "\r\n")); err != nil {
		return answer{}, err
	}
	return readAnswer(conn)
}

// timely words the end of our own time.
func timely(ctx context.Context, err error) error {
	if errors.Is(ctx.Err(), context.DeadlineExceeded) || errors.Is(err, os.ErrDeadlineExceeded) {
		return errors.New("it did not answer in time")
	}
	return err
}
