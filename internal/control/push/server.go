// Package push brings what was compiled to the proxies and knows what each of
// them runs. The control plane publishes outputs of compile to it and asks it for
// status and flows; proxies join their workloads over its streams. It never waits
// for a proxy: whoever is slow gets the latest when it is ready, and holds nobody
// else up.
package push

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"

	"sluice.dev/sluice/internal/control/compile"
	"sluice.dev/sluice/internal/control/registry"
	"sluice.dev/sluice/internal/peer"
	"sluice.dev/sluice/internal/wire"
	"sluice.dev/sluice/internal/wire/stream"
)

// Times and bounds of the server.
const (
	// joinTimeout is how long a stream may be open before its first request.
	joinTimeout = 10 * time.Second
	// A connection without a sign of life is closed after both of these. They
	// bound how long a workload outlives a proxy that went without a word.
	keepaliveTime    = 2 * time.Second
	keepaliveTimeout = 3 * time.Second
	// minClientPing is the least time between two pings of a client.
	minClientPing = 5 * time.Second
	// handshakeTimeout bounds the preface of a connection.
	handshakeTimeout = 5 * time.Second
	// MaxConnections bounds the proxies that are connected.
	MaxConnections = 256
	// settleMost is how long a server that has just started waits at the most for
	// the workloads that the one before knew, until it sends the first snapshot:
	// their old one knows every endpoint, a new one only those that are back.
	settleMost = 2 * time.Second
	// maxRequest bounds one message of a proxy, in bytes. The largest says which of
	// at most wire.MaxParts parts it holds.
	maxRequest = 32 << 20
	// maxHeader bounds the headers of one stream, in bytes.
	maxHeader = 16 << 10
	// maxNack bounds the text of a proxy's refusal, in bytes.
	maxNack = 1024
)

// Config configures a Server.
type Config struct {
	Registry *registry.Registry // whose members the workloads of the streams are
	Census   Census             // who is there: the registry, or whoever counts others too
	// Peers says who may connect, of the processes of this machine. It or Remote is
	// required: whoever connects reads every rule.
	Peers  peer.Authenticator
	Remote *Remote
	// Acked is called with the time from a change to the acknowledgement of a workload
	// that was there when it happened; nil: nobody is. It must not block.
	Acked func(took time.Duration)
	// Sent is called with what a workload is about to be sent; nil: nobody is. It must not
	// block, nor change anything.
	Sent func(index *wire.Index, parts []*wire.Part, workload wire.Workload)
	Log  *slog.Logger // nil: nothing is logged
}

// Server serves the proxies' streams.
type Server struct {
	config   Config
	log      *slog.Logger
	grpc     *grpc.Server
	proxies  proxies
	patience time.Duration  // with proxies that are asked for past flows
	settled  time.Time      // until when the first snapshot waits for others at the most
	reading  sync.WaitGroup // readers of streams
	pushed   atomic.Uint64  // snapshots
	refused  atomic.Uint64  // likewise, by proxies

	mu        sync.Mutex
	out       *compile.Output // the latest
	published chan struct{}   // closed when there is a newer one
	streams   map[*workloadStream]struct{}
	heard     chan struct{} // closed at the next change of any stream
}

// New returns a server that has nothing to say yet.
func New(config Config) (*Server, error) {
	if config.Registry == nil || config.Census == nil || (config.Peers == nil) == (config.Remote == nil) {
		return nil, errors.New("push: Registry, Census and one of Peers and Remote must be set")
	}
	s := &Server{
		config:    config,
		log:       cmp.Or(config.Log, slog.New(slog.DiscardHandler)),
		patience:  answerTimeout,
		settled:   time.Now().Add(settleMost),
		published: make(chan struct{}),
		heard:     make(chan struct{}),
		streams:   make(map[*workloadStream]struct{}),
	}
	s.proxies.init(s.connections())
	streams := uint32(registry.MaxWorkloads + 16)
	alive := keepalive.ServerParameters{Time: keepaliveTime, Timeout: keepaliveTimeout}
	var peers credentials.TransportCredentials = peerCredentials{peers: config.Peers, log: s.log}
	if config.Remote != nil {
		s.settled = time.Time{} // nobody remembers who was there: the census knows
		alive.MaxConnectionIdle = idleConnection
		streams = remoteStreams
		peers = tlsCredentials{config: config.Remote.TLS}
	}
	s.grpc = grpc.NewServer(
		grpc.Creds(peers),
		grpc.ForceServerCodecV2(stream.NewCodec()),
		grpc.MaxRecvMsgSize(maxRequest),
		grpc.MaxHeaderListSize(maxHeader),
		grpc.MaxSendMsgSize(stream.MaxMessage),
		grpc.MaxConcurrentStreams(streams),
		grpc.WaitForHandlers(true),
		grpc.ConnectionTimeout(handshakeTimeout),
		grpc.KeepaliveParams(alive),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: minClientPing, PermitWithoutStream: true}),
	)
	discoveryv3.RegisterAggregatedDiscoveryServiceServer(s.grpc, &discovery{server: s})
	observe := stream.ObserveDesc()
	observe.Handler = func(_ any, opened grpc.ServerStream) error {
		attested, err := s.attest(opened.Context())
		if err != nil {
			return err
		}
		return s.proxies.serve(opened, attested)
	}
	s.grpc.RegisterService(&grpc.ServiceDesc{
		ServiceName: stream.ObserveService, HandlerType: (*any)(nil), Streams: []grpc.StreamDesc{observe},
	}, struct{}{})
	return s, nil
}

// Serve serves the listener until Close. It is called once.
func (s *Server) Serve(listener net.Listener) error {
	if s.config.Remote != nil {
		listener = limitAddresses(listener, MaxPerAddress)
	}
	if err := s.grpc.Serve(limit(listener, s.connections())); err != nil && !errors.Is(err, grpc.ErrServerStopped) {
		return fmt.Errorf("push: %w", err)
	}
	return nil
}

// connections bounds the proxies that are connected.
func (s *Server) connections() int {
	if s.config.Remote != nil {
		return MaxRemote
	}
	return MaxConnections
}

// Close ends every stream and waits for their ends. The proxies go on with what
// they have.
func (s *Server) Close() {
	s.grpc.Stop()
	s.reading.Wait()
	s.proxies.reading.Wait()
}

// Publish makes out what every proxy is to run. It returns at once.
func (s *Server) Publish(out *compile.Output) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.out = out
	close(s.published)
	s.published = make(chan struct{})
}

// latest returns what is to be run, nil before the first Publish, and a channel
// that is closed when there is something newer.
func (s *Server) latest() (*compile.Output, <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.out, s.published
}

// discovery is the gRPC service. It has the one method that is used.
type discovery struct {
	discoveryv3.UnimplementedAggregatedDiscoveryServiceServer
	server *Server
}

// DeltaAggregatedResources serves the stream of one workload.
func (d *discovery) DeltaAggregatedResources(opened grpc.BidiStreamingServer[discoveryv3.DeltaDiscoveryRequest, discoveryv3.DeltaDiscoveryResponse]) error {
	s := d.server
	attested, err := s.attest(opened.Context())
	if err != nil {
		return err
	}
	in := &requests{next: make(chan *discoveryv3.DeltaDiscoveryRequest)}
	ctx, cancel := context.WithCancel(opened.Context())
	defer cancel()
	s.reading.Go(func() { in.read(ctx, opened) }) // ends with the stream, which ends with this handler
	first, err := in.first(ctx)
	if err != nil {
		return err
	}
	join, err := readJoin(first)
	if err != nil {
		s.log.Warn("a workload was refused", "error", err)
		return status.Error(codes.InvalidArgument, err.Error())
	}
	member, err := s.join(ctx, join, attested)
	if err != nil {
		return err
	}
	w := newWorkloadStream(s, member, attested, first.GetInitialResourceVersions())
	s.add(w)
	defer s.remove(w)
	name := member.Workload().Instance
	s.log.Info("a workload joined", "workload", name, "proxy", member.Workload().Proxy)
	err = w.serve(ctx, opened, in)
	if errors.Is(err, errLeft) {
		member.Leave()
		s.log.Info("a workload left", "workload", name)
		return nil
	}
	member.Lose()
	s.log.Info("a workload was lost", "workload", name, "why", err)
	return err
}

// join makes the workload of a stream a member: under the name that it is known by where
// it was attested, else under one that the registry gives.
func (s *Server) join(ctx context.Context, join stream.Join, attested *Attested) (member *registry.Member, err error) {
	if attested == nil {
		member, err = s.config.Registry.Join(join.Workload, join.Session, peerProcess(ctx))
	} else {
		workload, gone := attested.as(join.Workload)
		if gone != nil {
			return nil, gone
		}
		member, err = s.config.Registry.Enter(workload)
	}
	if err != nil {
		return nil, status.Error(codes.ResourceExhausted, err.Error())
	}
	return member, nil
}

// readJoin reads and checks the first request of a stream.
func readJoin(first *discoveryv3.DeltaDiscoveryRequest) (stream.Join, error) {
	join, err := stream.DecodeNode(first.GetNode())
	if err != nil {
		return join, err
	}
	kind, err := wire.KindOfType(first.GetTypeUrl())
	switch {
	case err != nil:
		return join, err
	case kind != wire.KindIndex:
		return join, fmt.Errorf("the first request asks for %s, not for the index", kind)
	case len(first.GetInitialResourceVersions()) > 2*wire.MaxParts+1:
		return join, fmt.Errorf("the first request lists %d parts, more than %d", len(first.GetInitialResourceVersions()), 2*wire.MaxParts+1)
	}
	return join, nil
}

// errLeft says that a proxy ended a stream by closing its half: its workload is
// gone. Any other end may be that of a connection.
var errLeft = errors.New("push: the workload left")

// requests is what a proxy sends on one stream.
type requests struct {
	next chan *discoveryv3.DeltaDiscoveryRequest // closed at the end
	end  error                                   // why next was closed; set before
}

// read hands requests on until the stream or ctx ends.
func (r *requests) read(ctx context.Context, opened serverStream) {
	defer close(r.next)
	for {
		request, err := opened.Recv()
		if err != nil {
			if r.end = err; errors.Is(err, io.EOF) {
				r.end = errLeft
			}
			return
		}
		select {
		case r.next <- request:
		case <-ctx.Done():
			r.end = status.FromContextError(ctx.Err()).Err()
			return
		}
	}
}

// first waits for the first request.
func (r *requests) first(ctx context.Context) (*discoveryv3.DeltaDiscoveryRequest, error) {
	timer := time.NewTimer(joinTimeout)
	defer timer.Stop()
	select {
	case first, ok := <-r.next:
		if !ok {
			return nil, status.Error(codes.Canceled, "the stream ended before its first request")
		}
		return first, nil
	case <-timer.C:
		return nil, status.Errorf(codes.DeadlineExceeded, "no request within %s", joinTimeout)
	case <-ctx.Done():
		return nil, status.FromContextError(ctx.Err()).Err()
	}
}

func (s *Server) add(w *workloadStream) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.streams[w] = struct{}{}
	s.tell()
}

func (s *Server) remove(w *workloadStream) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.streams, w)
	s.tell()
}

// tell wakes those that wait for acknowledgements. The lock is held.
func (s *Server) tell() {
	close(s.heard)
	s.heard = make(chan struct{})
}
