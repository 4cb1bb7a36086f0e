package stream

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"

	"sluice.dev/sluice/internal/record"
	"sluice.dev/sluice/internal/wire"
)

// Times of a client that lost its server. Each wait is drawn from ±20 %.
const (
	MinBackoff = 100 * time.Millisecond
	MaxBackoff = 5 * time.Second
	multiplier = 1.6
	jitter     = 0.2

	leaveTimeout     = time.Second // for the server to end the stream of a workload that leaves
	connectTimeout   = 2 * time.Second
	keepaliveTime    = 10 * time.Second // gRPC allows a client no less
	keepaliveTimeout = 3 * time.Second
)

// Config configures a Client.
type Config struct {
	// Dial connects to the server. It checks who listens, where that is to be
	// checked. Required.
	Dial func(context.Context) (net.Conn, error)
	// Token returns the token that each stream shows, as it is then: it is replaced while the
	// proxy runs. nil: none is shown.
	Token func() (string, error)
	// Proxy is this process's name, for people.
	Proxy string
	// Flows answers the server's questions about flows; nil: they are refused.
	Flows *record.Ring
	// Tally answers those about what was closed; nil: they are refused.
	Tally *record.Tally
	// Live answers those about what is open: the newest n that the filter lets
	// through, the oldest first; nil: they are refused.
	Live func(n int, filter record.Filter) []record.Record
	Log  *slog.Logger // nil: nothing is logged
}

// DialUnix returns a Dial for the socket at path. check, where not nil, says
// whether the peer may be spoken to.
func DialUnix(path string, check func(*net.UnixConn) error) func(context.Context) (net.Conn, error) {
	return func(ctx context.Context) (net.Conn, error) {
		conn, err := new(net.Dialer).DialContext(ctx, "unix", path)
		if err != nil || check == nil {
			return conn, err
		}
		if err := check(conn.(*net.UnixConn)); err != nil {
			conn.Close()
			return nil, fmt.Errorf("peer of %s: %w", path, err)
		}
		return conn, nil
	}
}

// DialTLS returns a Dial for the server at address, which must show a certificate of roots
// for the name.
func DialTLS(address, name string, roots *x509.CertPool) func(context.Context) (net.Conn, error) {
	dialer := &tls.Dialer{Config: &tls.Config{
		MinVersion: tls.VersionTLS13, RootCAs: roots, ServerName: name, NextProtos: []string{"h2"},
	}}
	return func(ctx context.Context) (net.Conn, error) { return dialer.DialContext(ctx, "tcp", address) }
}

// shownToken shows a token on each stream. gRPC does not see that Dial made the connection
// safe.
type shownToken func() (string, error)

// GetRequestMetadata implements credentials.PerRPCCredentials.
func (t shownToken) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	token, err := t()
	if err != nil {
		return nil, fmt.Errorf("read the token of the workload: %w", err)
	}
	return map[string]string{TokenHeader: TokenScheme + token}, nil
}

// RequireTransportSecurity implements credentials.PerRPCCredentials.
func (shownToken) RequireTransportSecurity() bool { return false }

// Client is a proxy's connection to the server: one, for all its workloads. It
// connects by itself again whenever it lost the server.
type Client struct {
	config  Config
	log     *slog.Logger
	conn    *grpc.ClientConn
	decoder *wire.Decoder

	ctx  context.Context
	stop context.CancelFunc
	work sync.WaitGroup
}

// NewClient returns a client that begins to connect when it is first used.
func NewClient(config Config) (*Client, error) {
	if config.Dial == nil {
		return nil, errors.New("stream: a client needs a way to dial")
	}
	log := cmp.Or(config.Log, slog.New(slog.DiscardHandler))
	options := []grpc.DialOption{
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return config.Dial(ctx) }),
		grpc.WithNoProxy(),
		grpc.WithDisableServiceConfig(),
		grpc.WithIdleTimeout(0),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: MinBackoff, Multiplier: multiplier, Jitter: jitter, MaxDelay: MaxBackoff},
			MinConnectTimeout: connectTimeout,
		}),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: keepaliveTime, Timeout: keepaliveTimeout}),
		grpc.WithDefaultCallOptions(
			grpc.ForceCodecV2(NewCodec()),
			grpc.MaxCallRecvMsgSize(MaxMessage),
			grpc.MaxCallSendMsgSize(MaxMessage),
			grpc.WaitForReady(true),
		),
	}
	if config.Token != nil {
		options = append(options, grpc.WithPerRPCCredentials(shownToken(config.Token)))
	}
	conn, err := grpc.NewClient("passthrough:///server", options...)
	if err != nil {
		return nil, fmt.Errorf("stream: %w", err)
	}
	ctx, stop := context.WithCancel(context.Background())
	client := &Client{config: config, log: log, conn: conn, decoder: new(wire.Decoder), ctx: ctx, stop: stop}
	client.work.Go(client.observe)
	return client, nil
}

// Close ends every membership and waits for all that the client began.
func (c *Client) Close() {
	c.stop()
	c.work.Wait()
	c.conn.Close()
}

// Join makes the workload a member from now on until ctx ends or Leave is
// called. It returns at once: the server may be away, and then Snapshots stays
// empty until it is back.
func (c *Client) Join(ctx context.Context, workload wire.Workload) (*Membership, error) {
	workload, err := workload.Normalize()
	if err != nil {
		return nil, err
	}
	if c.ctx.Err() != nil {
		return nil, errors.New("stream: the client is closed")
	}
	workload.Proxy = cmp.Or(workload.Proxy, c.config.Proxy)
	ctx, leave := context.WithCancel(ctx)
	stopped := context.AfterFunc(c.ctx, leave)
	m := &Membership{
		client: c, session: rand.Text(), leave: leave, ended: make(chan struct{}),
		snapshots: make(chan *wire.Snapshot, 1), joined: make(chan struct{}),
		unready: make(chan struct{}, 1), pace: wire.NewReadinessPace(),
		workload: workload, held: make(map[string]heldPart),
	}
	c.work.Go(func() {
		defer close(m.ended)
		defer stopped()
		m.run(ctx)
	})
	return m, nil
}
