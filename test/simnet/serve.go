package simnet

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	stdlog "log"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// servers is all that listens inside the namespace.
type servers struct {
	log       *log
	dns       *dnsServer
	trusted   *authority
	untrusted *authority
	expired   *tls.Certificate // and wrong in no other way
	ipv6      bool
	published published
}

func newServers(ipv6 bool) (*servers, error) {
	s := &servers{log: new(log), ipv6: ipv6}
	s.dns = &dnsServer{log: s.log, published: &s.published}
	var err error
	if s.trusted, err = newAuthority("small internet CA"); err != nil {
		return nil, err
	}
	if s.untrusted, err = newAuthority("a CA that nobody trusts"); err != nil {
		return nil, err
	}
	s.expired, err = s.trusted.sign("expired.badssl.com", time.Now().Add(-time.Hour))
	return s, err
}

// start opens every listener. They live as long as the process.
func (s *servers) start() error {
	for _, address := range []string{Resolver, ResolverV6} {
		at := netip.MustParseAddrPort(address)
		if at.Addr().Is6() && !s.ipv6 {
			continue
		}
		questions, err := listenConfig().ListenPacket(context.Background(), "udp", address)
		if err != nil {
			return fmt.Errorf("serve DNS: %w", err)
		}
		go s.dns.serveUDP(questions)
		if err := s.listen("dns", at, s.dns.serveTCP); err != nil {
			return err
		}
	}
	for i := range sites {
		for _, address := range sites[i].addrs {
			a := netip.MustParseAddr(address)
			if a.Is6() && !s.ipv6 {
				continue
			}
			if err := s.startSite(&sites[i], a); err != nil {
				return err
			}
		}
	}
	return nil
}

func (s *servers) startSite(at *site, a netip.Addr) error {
	server := a.String()
	if len(at.names) > 0 {
		server = at.names[0]
	}
	switch at.kind {
	case unserved:
		return nil
	case serverFirst:
		return s.listen(server, netip.AddrPortFrom(a, 3306), greet)
	case tarpit:
		silent := func(c net.Conn) { io.Copy(io.Discard, c); c.Close() }
		return errors.Join(s.listen(server, netip.AddrPortFrom(a, 80), silent), s.listen(server, netip.AddrPortFrom(a, 443), silent))
	}
	plain, encrypted := newQueue(netip.AddrPortFrom(a, 80)), newQueue(netip.AddrPortFrom(a, 443))
	web := &http.Server{
		Handler:           s.recorded(server, at.handler()),
		ReadHeaderTimeout: 30 * time.Second,
		ErrorLog:          stdlog.New(io.Discard, "", 0), // what clients do wrong is in the records
	}
	go web.Serve(plain)
	go web.Serve(encrypted)
	config := s.tlsConfig(at)
	return errors.Join(
		s.listen(server, netip.AddrPortFrom(a, 80), plain.put),
		s.listen(server, netip.AddrPortFrom(a, 443), func(c net.Conn) { s.shakeHands(server, c, config, encrypted) }),
	)
}

// listenConfig binds addresses that only AnyIP makes ours: v4 as they are, v6
// with FREEBIND.
func listenConfig() *net.ListenConfig {
	c := &net.ListenConfig{Control: func(network, _ string, raw syscall.RawConn) (err error) {
		if !strings.HasSuffix(network, "6") {
			return nil
		}
		failed := raw.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_IPV6, unix.IPV6_FREEBIND, 1) })
		return errors.Join(failed, err)
	}}
	c.SetMultipathTCP(false)
	return c
}

// listen records each connection and gives it to serve, which closes it.
func (s *servers) listen(server string, at netip.AddrPort, serve func(net.Conn)) error {
	l, err := listenConfig().Listen(context.Background(), "tcp", at.String())
	if err != nil {
		return fmt.Errorf("serve %s: %w", server, err)
	}
	go func() {
		for {
			c, err := l.Accept()
			if errors.Is(err, net.ErrClosed) {
				return
			}
			if err != nil { // out of descriptors: others give some back
				time.Sleep(10 * time.Millisecond)
				continue
			}
			s.log.add(Record{Kind: Connection, Server: server, Local: c.LocalAddr().String(), Peer: c.RemoteAddr().String()})
			go serve(c)
		}
	}()
	return nil
}

const handshakeTimeout = 30 * time.Second

func (s *servers) shakeHands(server string, c net.Conn, config *tls.Config, next *queue) {
	ctx, cancel := context.WithTimeout(context.Background(), handshakeTimeout)
	defer cancel()
	secure := tls.Server(c, config)
	err := secure.HandshakeContext(ctx)
	state := secure.ConnectionState()
	record := Record{Kind: Handshake, Server: server, Local: c.LocalAddr().String(), Peer: c.RemoteAddr().String(),
		SNI: state.ServerName, ALPN: state.NegotiatedProtocol}
	if err != nil {
		record.Error = err.Error()
		s.log.add(record)
		c.Close()
		return
	}
	record.TLSVersion = tls.VersionName(state.Version)
	s.log.add(record)
	next.put(secure)
}

func (s *servers) tlsConfig(at *site) *tls.Config {
	config := &tls.Config{NextProtos: []string{"h2", "http/1.1"}}
	config.GetCertificate = func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
		name := strings.ToLower(hello.ServerName)
		switch {
		case at.kind == hostile && name == "":
			return s.untrusted.issue("evil.example.net")
		case at.kind == hostile, name == "self-signed.badssl.com":
			return s.untrusted.issue(name)
		case name == "expired.badssl.com":
			return s.expired, nil
		}
		for _, n := range at.names {
			if n == name && n != "wrong.host.badssl.com" {
				return s.trusted.issue(n)
			}
		}
		return s.trusted.issue(at.names[0]) // a real server shows what it has
	}
	config.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		if strings.EqualFold(hello.ServerName, "client.badssl.com") {
			with := config.Clone()
			with.ClientAuth, with.ClientCAs = tls.RequireAndVerifyClientCert, x509.NewCertPool()
			with.ClientCAs.AddCert(s.trusted.certificate)
			return with, nil
		}
		return nil, nil
	}
	return config
}

// recorded writes each request down before it is answered.
func (s *servers) recorded(server string, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		record := Record{Kind: Request, Server: server, Peer: r.RemoteAddr,
			Host: r.Host, Method: r.Method, Path: r.URL.RequestURI(), Proto: r.Proto}
		if local, ok := r.Context().Value(http.LocalAddrContextKey).(net.Addr); ok {
			record.Local = local.String()
		}
		if r.TLS != nil {
			record.SNI, record.ALPN, record.TLSVersion = r.TLS.ServerName, r.TLS.NegotiatedProtocol, tls.VersionName(r.TLS.Version)
		}
		s.log.add(record)
		next.ServeHTTP(w, r)
	})
}

// greet speaks first, as a MySQL server does, then echoes.
func greet(c net.Conn) {
	defer c.Close()
	const payload = "\x0a8.0.36-simnet\x00"
	if _, err := c.Write(append([]byte{byte(len(payload)), 0, 0, 0}, payload...)); err != nil {
		return
	}
	io.Copy(c, c)
}

// queue is a listener whose connections were accepted elsewhere.
type queue struct {
	at    netip.AddrPort
	ready chan net.Conn
}

func newQueue(at netip.AddrPort) *queue { return &queue{at: at, ready: make(chan net.Conn)} }

func (q *queue) put(c net.Conn)            { q.ready <- c }
func (q *queue) Accept() (net.Conn, error) { return <-q.ready, nil }
func (q *queue) Close() error              { return nil } // lives as long as the process
func (q *queue) Addr() net.Addr            { return net.TCPAddrFromAddrPort(q.at) }
