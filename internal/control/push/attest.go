package push

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"sluice.dev/sluice/internal/record"
	"sluice.dev/sluice/internal/wire"
	"sluice.dev/sluice/internal/wire/stream"
)

// Bounds of proxies that are not on this machine.
const (
	// MaxRemote bounds their connections: each serves one workload.
	MaxRemote = 10_000
	// MaxPerAddress bounds the connections from one address. Whoever can reach the port
	// can open connections, and must not use up those of the others.
	MaxPerAddress = 64
	// remoteStreams is how many streams one connection of theirs may have: each serves one
	// workload, and is asked about it.
	remoteStreams = 8
	// idleConnection is how long a connection of theirs may be without a stream.
	idleConnection = 30 * time.Second
	// attestTimeout bounds the question whose token it is.
	attestTimeout = 5 * time.Second
	// maxToken bounds a token, in bytes.
	maxToken = 12 << 10
)

// Remote is how proxies connect that are not on this machine: over TLS, and every stream
// shows a token.
type Remote struct {
	TLS      *tls.Config // of the server
	Attestor Attestor
}

// Attestor says whose token it is that a proxy shows.
type Attestor interface {
	// Attest returns who a token was given to. An error that wraps ErrRefused is a
	// refusal; any other says that nobody knows now.
	Attest(ctx context.Context, token string) (Attested, error)
}

// ErrRefused says that a token is not one by which a workload may join.
var ErrRefused = errors.New("the token is refused")

// Attested is the workload that a token was given to.
type Attested struct {
	// Now is the workload with all that rules look at, as whoever attests knows it now;
	// false: it is gone.
	Now     func() (wire.Workload, bool)
	Expires time.Time // of the token; a stream does not outlive it
}

// errExpired ends a stream whose token did; its proxy comes back with the next one.
var errExpired = status.Error(codes.Unauthenticated, "the token of the workload expired: show the next one")

// errGone ends the stream of a workload that whoever attests no longer knows.
var errGone = status.Error(codes.PermissionDenied, "the workload is gone from the cluster")

// attest says whose stream it is. Without an Attestor that is nobody that is known: the
// peer's process was looked at when it connected.
func (s *Server) attest(ctx context.Context) (*Attested, error) {
	if s.config.Remote == nil {
		return nil, nil
	}
	token, err := tokenOf(ctx)
	if err != nil {
		return nil, status.Error(codes.Unauthenticated, err.Error())
	}
	ctx, cancel := context.WithTimeout(ctx, attestTimeout)
	defer cancel()
	attested, err := s.config.Remote.Attestor.Attest(ctx, token)
	switch {
	case errors.Is(err, ErrRefused):
		s.log.Warn("a proxy was refused", "error", err)
		return nil, status.Error(codes.Unauthenticated, err.Error())
	case err != nil:
		s.log.Warn("a proxy's token cannot be looked at", "error", err)
		return nil, status.Error(codes.Unavailable, "the token cannot be looked at now: "+err.Error())
	}
	return &attested, nil
}

// tokenOf returns the token that a stream shows.
func tokenOf(ctx context.Context) (string, error) {
	shown := metadata.ValueFromIncomingContext(ctx, stream.TokenHeader)
	if len(shown) != 1 {
		return "", errors.New("the stream shows no token: a bound token of its Pod is required")
	}
	token, ok := strings.CutPrefix(shown[0], stream.TokenScheme)
	if !ok || token == "" || len(token) > maxToken {
		return "", errors.New("what the stream shows is not a bearer token")
	}
	return token, nil
}

// as is what is said by a workload that was attested: what rules look at is as it is
// known, whatever the proxy says of it.
func (a *Attested) as(said wire.Workload) (wire.Workload, error) {
	known, ok := a.Now()
	if !ok {
		return wire.Workload{}, errGone
	}
	known.Proxy, known.Level = said.Proxy, said.Level
	return known, nil
}

// ownFlows keeps of an answer what is about the proxy's own workload: a proxy speaks for
// no other.
func (a *Attested) ownFlows(flows []record.Record) ([]record.Record, bool) {
	known, ok := a.Now()
	if !ok {
		return nil, false
	}
	for i := range flows {
		flows[i].Workload = known.Instance
	}
	return flows, true
}

// tlsCredentials lets everybody connect over TLS: it is for each stream to show whose it is.
type tlsCredentials struct {
	peerCredentials
	config *tls.Config
}

// ServerHandshake implements credentials.TransportCredentials.
func (c tlsCredentials) ServerHandshake(conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	secured := tls.Server(conn, c.config)
	ctx, cancel := context.WithTimeout(context.Background(), handshakeTimeout)
	defer cancel()
	if err := secured.HandshakeContext(ctx); err != nil {
		conn.Close()
		return nil, nil, err
	}
	return secured, peerInfo{CommonAuthInfo: credentials.CommonAuthInfo{SecurityLevel: credentials.PrivacyAndIntegrity}}, nil
}

// Clone implements credentials.TransportCredentials.
func (c tlsCredentials) Clone() credentials.TransportCredentials { return c }
