package kubeapi

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"sluice.dev/sluice/internal/control/authority"
)

// Bounds of the TCP port. They are its own: whatever happens there, api.sock is served.
const (
	// maxRemoteConnections bounds the open connections on the TCP port; beyond it a new one
	// is closed.
	maxRemoteConnections = 128
	// maxPerAddress bounds the connections of the TCP port from one address; beyond it a
	// new one is closed.
	maxPerAddress = maxRemoteConnections / 2
	// maxRemoteStreams bounds the requests at once on one connection of HTTP/2.
	maxRemoteStreams = 32
	// maxRemoteRequests bounds the requests at once from the TCP port, each of which may
	// hold a body in memory; beyond it the answer is 429.
	maxRemoteRequests = 64
	// maxRemoteWatches bounds the watches and followed flows from the TCP port; beyond it
	// the answer is 429.
	maxRemoteWatches = 128
	// refusalTimeout bounds the time of an answer that refuses a request, its body included.
	refusalTimeout = 2 * time.Second
	// refusalsEvery is how often a refused credential is logged at most.
	refusalsEvery = time.Minute
)

// remoteListener accepts connections on the TCP port, within the bounds. Who is at the
// other end is only known when TLS has been spoken.
type remoteListener struct {
	net.Listener
	log *slog.Logger

	mu   sync.Mutex
	open int
	from map[netip.Addr]int
}

// listenRemote opens the TCP port.
func listenRemote(ctx context.Context, address string, log *slog.Logger) (*remoteListener, error) {
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("serve the API at %s: %w", address, err)
	}
	return &remoteListener{Listener: listener, log: log, from: make(map[netip.Addr]int)}, nil
}

// Accept returns the next connection that the bounds let in.
func (l *remoteListener) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		at, _ := netip.ParseAddrPort(conn.RemoteAddr().String())
		address := at.Addr().Unmap()
		if !l.take(address) {
			l.log.Debug("a connection to the API was closed: too many are open", "from", conn.RemoteAddr(), "limit", maxRemoteConnections, "limit per address", maxPerAddress)
			_ = conn.Close()
			continue
		}
		return &knownConn{Conn: conn, who: remote, release: func() { l.release(address) }}, nil
	}
}

func (l *remoteListener) take(address netip.Addr) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.open >= maxRemoteConnections || l.from[address] >= maxPerAddress {
		return false
	}
	l.open++
	l.from[address]++
	return true
}

func (l *remoteListener) release(address netip.Addr) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.open--
	if l.from[address]--; l.from[address] == 0 {
		delete(l.from, address)
	}
}

// door lets requests in that came over TCP: it finds who sent each, refuses what has no
// valid credential before any of its body is read, and bounds how many are served.
type door struct {
	authority *authority.Authority
	next      http.Handler
	requests  chan struct{}
	watches   chan struct{}
	log       *slog.Logger

	mu     sync.Mutex
	logged time.Time // when a refusal was logged last
	silent int       // refusals since
}

func newDoor(a *authority.Authority, next http.Handler, log *slog.Logger) *door {
	return &door{
		authority: a, next: next, log: log,
		requests: make(chan struct{}, maxRemoteRequests), watches: make(chan struct{}, maxRemoteWatches),
	}
}

func (d *door) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	who := callerOf(r.Context())
	identity, err := d.identify(r)
	if err != nil {
		d.refused(who.from, err)
		// Whoever has no credential holds no place.
		w.Header().Set("Connection", "close")
		refuse(w, http.StatusUnauthorized, metav1.StatusReasonUnauthorized, err.Error())
		return
	}
	who.name, who.role = identity.Name, identity.Role
	for header := range r.Header {
		if strings.HasPrefix(header, "Impersonate-") {
			refuse(w, http.StatusForbidden, metav1.StatusReasonForbidden, fmt.Sprintf("user %q may not act as somebody else: leave out --as", who.name))
			return
		}
	}
	if strings.HasPrefix(r.URL.Path, "/sluice/") && r.Method != http.MethodGet {
		refuse(w, http.StatusForbidden, metav1.StatusReasonForbidden, fmt.Sprintf("%s %s is for processes of this machine over api.sock alone", r.Method, r.URL.Path))
		return
	}
	places := d.requests
	if goesOn(r) {
		places = d.watches
	}
	select {
	case places <- struct{}{}:
		defer func() { <-places }()
	default:
		w.Header().Set("Retry-After", "1")
		refuse(w, http.StatusTooManyRequests, metav1.StatusReasonTooManyRequests, "too many requests are being served: try again later")
		return
	}
	// A watch ends with the credential that opened it.
	ctx, cancel := context.WithDeadline(context.WithValue(r.Context(), callerKey{}, who), identity.Expires)
	defer cancel()
	d.next.ServeHTTP(w, r.WithContext(ctx))
}

// refuse answers without reading the body, and without waiting for a client that does
// not read.
func refuse(w http.ResponseWriter, code int, reason metav1.StatusReason, message string) {
	control := http.NewResponseController(w)
	_ = control.SetReadDeadline(time.Now().Add(refusalTimeout))
	_ = control.SetWriteDeadline(time.Now().Add(refusalTimeout))
	writeStatus(w, code, reason, message)
}

var errNoCredential = errors.New("a client certificate is required: write a kubeconfig with sluice kubeconfig on the machine of this server")

func (d *door) identify(r *http.Request) (authority.Identity, error) {
	if r.TLS == nil || len(r.TLS.PeerCertificates) == 0 {
		return authority.Identity{}, errNoCredential
	}
	identity, err := d.authority.Identify(r.TLS.PeerCertificates[0])
	if err != nil {
		return authority.Identity{}, fmt.Errorf("%w: write another kubeconfig with sluice kubeconfig on the machine of this server", err)
	}
	return identity, nil
}

// refused logs a refused credential, but not more often than refusalsEvery: else
// whoever reaches the port could fill the disk.
func (d *door) refused(from string, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if now := time.Now(); now.Sub(d.logged) >= refusalsEvery {
		d.log.Warn("a request to the API was refused", "from", from, "error", err, "and since the last line", d.silent)
		d.logged, d.silent = now, 0
		return
	}
	d.silent++
}

// openRemote serves the API on the TCP port.
func (s *Server) openRemote(ctx context.Context) error {
	listener, err := listenRemote(ctx, s.config.Listen, s.config.Log)
	if err != nil {
		return err
	}
	s.address = listener.Addr().String()
	s.remote = &http.Server{
		Handler:           newDoor(s.config.Authority, s.front, s.config.Log),
		ConnContext:       withCaller,
		TLSConfig:         s.config.Authority.TLS(),
		ReadHeaderTimeout: cmp.Or(s.config.headerTimeout, headerTimeout), // bounds the handshake too
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		ErrorLog:          log.New(debugWriter{s.config.Log}, "", 0),
		HTTP2: &http.HTTP2Config{
			MaxConcurrentStreams: maxRemoteStreams,
			SendPingTimeout:      30 * time.Second, // a client that is gone holds no place
			PingTimeout:          15 * time.Second,
			WriteByteTimeout:     requestTimeout,
		},
	}
	s.served.Go(func() {
		if err := s.remote.ServeTLS(listener, "", ""); !errors.Is(err, http.ErrServerClosed) {
			s.config.Log.Error("the API is no longer served on its port", "error", err)
		}
	})
	return nil
}

// Address is where the API is served over TCP; "" where it is not.
func (s *Server) Address() string { return s.address }
