package ingress

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"slices"
	"time"

	"sluice.dev/sluice/internal/edge"
	"sluice.dev/sluice/internal/names"
	"sluice.dev/sluice/internal/policy"
	"sluice.dev/sluice/internal/proxy/carry"
	"sluice.dev/sluice/internal/proxy/exchange"
	"sluice.dev/sluice/internal/proxy/gate"
	"sluice.dev/sluice/internal/proxy/snapshot"
	"sluice.dev/sluice/internal/proxy/sniff"
	"sluice.dev/sluice/internal/proxy/tlsio"
	"sluice.dev/sluice/internal/refusal"
)

// shown is the certificate that a connection was shown.
type shown struct {
	certificate edge.Certificate
	loaded      *loaded

	// The host that was asked for last, by which snapshot, and whether it may be.
	host   names.Host
	under  *snapshot.Snapshot
	covers bool
}

// ServeTLS carries one connection from outside, whose client speaks TLS, to its end.
func (w *Way) ServeTLS(ctx context.Context, conn *gate.Conn) {
	about, start := aboutOf(conn), w.kit.Now()
	of, client, why := w.shake(ctx, conn, &about)
	if why != nil {
		if why.Reason == refusal.ClientGone && errors.Is(why, io.EOF) {
			return // it left before it said anything: there is nothing to tell of
		}
		flow := w.kit.Open(conn, start, about, conn.Snapshot().Version)
		flow.Fail(why)
		flow.Close()
		return
	}
	at := edge.Listener{Port: about.Port, TLS: true}
	director := w.requestsOf(conn, about, at, of, forwarded(conn.Down(), "https"))
	if client.ConnectionState().NegotiatedProtocol == "h2" {
		w.kit.HTTP2.Serve(ctx, client, nil, director) // its error says that the workload ends
		return
	}
	w.kit.HTTP.ServeStream(ctx, client, director) // likewise
}

// shake does the handshake, with the certificate of the name that the client asks for.
func (w *Way) shake(ctx context.Context, conn *gate.Conn, about *carry.About) (*shown, *tlsio.Conn, *refusal.Error) {
	buffer := w.kit.Buffers.NewBuffer(w.kit.Hellos) // a hello takes memory of the workload's share, as anywhere
	defer buffer.Release()
	seen, _, err := carry.Sniff(ctx, conn, buffer, sniff.Limits{OnlyTLS: true})
	about.Sniffed, about.SNI = seen.Kind, seen.SNI
	switch {
	case err != nil && len(buffer.Bytes()) == 0 && !carry.Overflowed(err), err == nil && len(buffer.Bytes()) == 0:
		gate.Reset(conn.Down())
		return nil, nil, &refusal.Error{Reason: refusal.ClientGone, Err: io.EOF}
	case err != nil:
		return nil, nil, refusal.Of(err)
	case seen.Err != nil:
		sniff.Refuse(conn.Down(), seen.Err.Alert())
		return nil, nil, &refusal.Error{Reason: refusal.ClientTLS, Err: seen.Err}
	case seen.Kind != policy.ClientHello:
		gate.Reset(conn.Down())
		return nil, nil, refusal.New(refusal.ClientTLS, "what the client says first is not TLS")
	}
	var of *shown
	var why *refusal.Error
	config := &tls.Config{MinVersion: tls.VersionTLS12, GetConfigForClient: func(hello *tls.ClientHelloInfo) (config *tls.Config, err error) {
		if of, config, why = w.certificateFor(conn, hello.ServerName); why != nil {
			// Without a certificate the alert is unrecognized_name.
			return &tls.Config{MinVersion: tls.VersionTLS12, SessionTicketsDisabled: true}, nil
		}
		return config, nil
	}}
	client, err := tlsio.Server(ctx, conn.Down(), buffer.Take(), config)
	switch {
	case err == nil:
		return of, client, nil
	case why != nil:
	case errors.Is(err, io.EOF), errors.Is(err, net.ErrClosed):
		why = refusal.New(refusal.ClientGone, "it left in the middle of its TLS handshake")
	default:
		why = &refusal.Error{Reason: refusal.ClientTLS, Err: err}
	}
	lingerAfter(conn.Down())
	return nil, nil, why
}

// Bounds of lingerAfter.
const (
	alertTime  = time.Second
	alertBytes = 64 << 10
)

// lingerAfter lets a client read the alert that ended its handshake: closing a socket that
// holds unread bytes would reset it, and take the alert with it.
func lingerAfter(down *net.TCPConn) {
	down.SetDeadline(time.Now().Add(alertTime))
	if down.CloseWrite() == nil {
		io.CopyN(io.Discard, down, alertBytes)
	}
}

// certificateFor finds the certificate of a name that a client asks for, "" where it asks for
// none: then of the address that the connection is to. A certificate that does not hold the
// name is never shown.
func (w *Way) certificateFor(conn *gate.Conn, asked string) (*shown, *tls.Config, *refusal.Error) {
	s := conn.Snapshot()
	if reason := s.Policy.DeniesAll(); reason != "" {
		return nil, nil, refusal.New(reason, "")
	}
	var candidates []edge.Certificate
	called := asked
	if asked == "" {
		if local, ok := conn.Down().LocalAddr().(*net.TCPAddr); ok {
			called = local.AddrPort().Addr().Unmap().String()
		}
		candidates = s.Ingress.Open()
	} else {
		name, err := names.Parse(asked)
		if err != nil {
			return nil, nil, &refusal.Error{Reason: refusal.BadHost, Err: err}
		}
		called = name.String()
		if of, ok := s.Ingress.CertificateOf(name); ok {
			candidates = []edge.Certificate{of}
		} else {
			candidates = s.Ingress.Open()
		}
	}
	var failed error
	for _, of := range candidates {
		known, err := w.certificates.load(of)
		if err == nil {
			err = known.leaf.VerifyHostname(called)
		}
		if err == nil {
			return &shown{certificate: of, loaded: known}, known.config, nil
		}
		failed = errors.Join(failed, err)
	}
	return nil, nil, &refusal.Error{Reason: refusal.NoCertificate, Err: failed}
}

// allows reports whether a request for a host may come by the connection: its certificate is
// the one that is shown for that host, too.
func (c *shown) allows(s *snapshot.Snapshot, host names.Host) bool {
	host.Port = 0
	if c.under != s || c.host != host {
		c.under, c.host, c.covers = s, host, c.isFor(s, host)
	}
	return c.covers
}

func (c *shown) isFor(s *snapshot.Snapshot, host names.Host) bool {
	if of, ok := s.Ingress.CertificateOf(host.Name); ok {
		return of == c.certificate
	}
	return !host.IsZero() && slices.Contains(s.Ingress.Open(), c.certificate) && c.loaded.leaf.VerifyHostname(host.String()) == nil
}

// trusts reports whether what proved a client in its handshake would do so still: ca.crt has
// not been replaced since.
func (w *Way) trusts(of *shown) bool {
	if !of.certificate.Clients {
		return true
	}
	now, err := w.certificates.load(of.certificate)
	return err == nil && (now == of.loaded || now.config.ClientCAs.Equal(of.loaded.config.ClientCAs))
}

// proved reports whether the client has proved what the rule asks for: by this connection's
// handshake, and by none other's.
func (r *requests) proved(rule *edge.Rule) bool {
	return rule.Clients == "" || r.shown != nil && r.shown.certificate.Proves(rule.Clients)
}

// redirect sends the client of a request without TLS to the same address with it.
func (r *requests) redirect(x *exchange.Request, host names.Host) exchange.Direction {
	if port := r.way.tlsPort; port == 0 || port == edge.TLSPort {
		host.Port = 0
	} else {
		host.Port = port
	}
	location := "https://" + host.String()
	if x.Target != "*" {
		location += x.Target
	}
	status := 308
	if x.Method == "GET" || x.Method == "HEAD" {
		status = 301
	}
	r.Decide(&policy.Verdict{Action: policy.Allow, Treatment: policy.Mesh})
	r.Enter(r.entered.rule.Load().ID)
	return exchange.Direction{ID: uint64(r.ID()), Reply: &exchange.Reply{
		Status: status, Message: "It is at " + location, Header: []exchange.Field{{Name: "location", Value: location}},
	}}
}
