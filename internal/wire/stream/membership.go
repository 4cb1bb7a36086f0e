package stream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"golang.org/x/time/rate"
	statuspb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"sluice.dev/sluice/internal/pause"
	"sluice.dev/sluice/internal/wire"
)

// maxNack bounds the text of a refusal, in bytes.
const maxNack = 1024

// Membership is one workload's place in the mesh. It outlives the server: the
// stream is opened again, with what is held already.
type Membership struct {
	client    *Client
	session   string
	leave     context.CancelFunc
	ended     chan struct{}
	snapshots chan *wire.Snapshot
	joined    chan struct{} // closed when the server first named the workload
	unready   chan struct{} // holds one value while the server was not told what Report said
	pace      *rate.Limiter // of what Report said

	mu        sync.Mutex
	workload  wire.Workload
	held      map[string]heldPart
	running   string  // version that was acknowledged last
	pending   pending // the index that waits for an Ack or a Nack
	open      bool    // the server knows the workload
	bytes     int     // of all that is held
	outdated  bool    // the server has something newer that it cannot send
	lastError error
}

// heldPart is a part that was received and checked.
type heldPart struct {
	hash  wire.Hash
	value any
	size  int // of its JSON, in bytes
}

// pending is an index that was handed out and not yet answered.
type pending struct {
	version string
	answer  func(nack error) error
}

// Instance returns the name that the server gave the workload, "" while it has
// given none. It may change where the server keeps names for a while and the
// workload was away for longer.
func (m *Membership) Instance() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.workload.Instance
}

// Joined is closed when the server first named the workload.
func (m *Membership) Joined() <-chan struct{} { return m.joined }

// Connected reports whether the server knows the workload now and stands behind
// the snapshot that came last: it is current.
func (m *Membership) Connected() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.open && !m.outdated
}

// Err returns why the last stream ended, nil while one is open.
func (m *Membership) Err() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.lastError
}

// Snapshots returns the channel on which whole snapshots arrive. It holds one,
// the latest; it is closed when the membership ended. Every snapshot must be
// answered with Ack or Nack: the server sends no further one before.
func (m *Membership) Snapshots() <-chan *wire.Snapshot { return m.snapshots }

// Ack says to the server that the workload runs the snapshot of this version.
func (m *Membership) Ack(version string) { m.reply(version, nil) }

// Nack says to the server that the snapshot of this version cannot be run, and
// why; the one before it goes on.
func (m *Membership) Nack(version string, why error) {
	if why == nil {
		why = errors.New("refused without a reason")
	}
	m.reply(version, why)
}

func (m *Membership) reply(version string, nack error) {
	m.mu.Lock()
	if m.pending.version != version {
		m.mu.Unlock()
		return // of a stream that is gone: the next one says what runs
	}
	answer := m.pending.answer
	m.pending = pending{}
	if nack == nil {
		m.running = version
	}
	m.mu.Unlock()
	// An error here is the end of the stream, which its reader sees too.
	_ = answer(nack)
}

// Report says which ports of the workload are not ready from now on. The server learns
// it soon, and at the next join where it is away; Report does not wait for it.
func (m *Membership) Report(unready []wire.Unready) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	unready, err := wire.NormalizeUnready(unready, m.workload.Ports)
	if err != nil {
		return err
	}
	m.workload.Unready = unready
	select {
	case m.unready <- struct{}{}:
	default:
	}
	return nil
}

// report tells the server on one stream what changed since its first request.
func (m *Membership) report(ctx context.Context, sender *sender) {
	for {
		select {
		case <-m.unready:
		case <-ctx.Done():
			return
		}
		if m.pace.Wait(ctx) != nil {
			return
		}
		m.mu.Lock()
		request, err := encodeReadiness(m.workload.Unready)
		m.mu.Unlock()
		if err != nil || sender.send(request) != nil {
			return // the end of the stream, which its reader sees; the next one begins with it
		}
	}
}

// Leave ends the membership and waits until its stream is gone.
func (m *Membership) Leave() {
	m.leave()
	<-m.ended
}

// run keeps a stream open until ctx ends.
func (m *Membership) run(ctx context.Context) {
	defer close(m.snapshots)
	wait := MinBackoff
	for {
		heard, err := m.serve(ctx)
		if ctx.Err() != nil {
			m.disconnected(nil)
			return
		}
		m.disconnected(err)
		if heard {
			wait = MinBackoff
		}
		if final(err) {
			wait = MaxBackoff
		}
		m.client.log.Warn("the stream of a workload ended", "workload", m.Instance(), "error", err, "again", wait)
		_ = pause.For(ctx, time.Duration(float64(wait)*(1-jitter+2*jitter*rand.Float64())))
		wait = min(time.Duration(float64(wait)*multiplier), MaxBackoff)
	}
}

// final reports whether the server refused the workload itself, so that asking
// again soon is of no use.
func final(err error) bool {
	switch status.Code(err) {
	case codes.InvalidArgument, codes.PermissionDenied, codes.ResourceExhausted, codes.Unimplemented:
		return true
	}
	return false
}

func (m *Membership) disconnected(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.open, m.outdated, m.lastError, m.pending = false, false, err, pending{}
}

// serve opens one stream and reads it until it ends. heard says that the server
// sent an index on it. At the end of ctx it takes leave of the server.
func (m *Membership) serve(ctx context.Context) (heard bool, err error) {
	streamCtx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	opening := context.AfterFunc(ctx, cancel)
	stream, err := discoveryv3.NewAggregatedDiscoveryServiceClient(m.client.conn).DeltaAggregatedResources(streamCtx)
	if err != nil {
		return false, fmt.Errorf("open stream: %w", err)
	}
	if !opening() {
		return false, ctx.Err()
	}
	first, err := m.firstRequest()
	if err != nil {
		return false, err
	}
	sender := &sender{stream: stream}
	defer context.AfterFunc(ctx, func() {
		timer := time.AfterFunc(leaveTimeout, cancel)
		context.AfterFunc(streamCtx, func() { timer.Stop() })
		sender.leave()
	})()
	if err := sender.send(first); err != nil {
		return false, reason(stream, err)
	}
	var reporting sync.WaitGroup
	defer reporting.Wait()
	defer cancel()
	reporting.Go(func() { m.report(streamCtx, sender) })
	for {
		response, err := stream.Recv()
		if err != nil {
			return heard, fmt.Errorf("read stream: %w", plain(err))
		}
		kind, err := wire.KindOfType(response.GetTypeUrl())
		if err != nil {
			return heard, err
		}
		if kind == wire.KindIndex {
			if err := m.takeIndex(response, sender); err != nil {
				return heard, err
			}
			heard = true
			continue
		}
		if err := m.takeParts(response); err != nil {
			return heard, err
		}
		if err := sender.send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: response.GetTypeUrl(), ResponseNonce: response.GetNonce()}); err != nil {
			return heard, reason(stream, err)
		}
	}
}

// firstRequest joins, and says what is held.
func (m *Membership) firstRequest() (*discoveryv3.DeltaDiscoveryRequest, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	node, err := EncodeNode(Join{Workload: m.workload, Session: m.session})
	if err != nil {
		return nil, err
	}
	versions := make(map[string]string, len(m.held)+1)
	for name, part := range m.held {
		versions[name] = string(part.hash)
	}
	if m.running != "" {
		versions[wire.NameIndex] = m.running
	}
	return &discoveryv3.DeltaDiscoveryRequest{
		Node: node, TypeUrl: wire.KindIndex.TypeURL(),
		ResourceNamesSubscribe:  []string{wire.NameIndex},
		InitialResourceVersions: versions,
	}, nil
}

// takeParts checks parts and keeps them beside the ones in use.
func (m *Membership) takeParts(response *discoveryv3.DeltaDiscoveryResponse) error {
	for _, resource := range response.GetResources() {
		name, hash := resource.GetName(), wire.Hash(resource.GetVersion())
		typed, err := wire.KindOfType(resource.GetResource().GetTypeUrl())
		if err != nil {
			return fmt.Errorf("part %.300q: %w", name, err)
		}
		if kind, ok := wire.KindOf(name); !ok || kind != typed {
			return fmt.Errorf("part %.300q cannot be of type %s", name, typed)
		}
		value, err := m.client.decoder.Decode(name, hash, resource.GetResource().GetValue())
		if err != nil {
			return err
		}
		m.mu.Lock()
		m.hold(name, heldPart{hash: hash, value: value, size: len(resource.GetResource().GetValue())})
		count, bytes := len(m.held), m.bytes
		m.mu.Unlock()
		if count > 2*wire.MaxParts || bytes > 2*wire.MaxSnapshotBytes {
			return fmt.Errorf("%d parts of %d bytes are held, more than two snapshots may have", count, bytes)
		}
	}
	return nil
}

// hold keeps a part; the zero part forgets it. The lock is held.
func (m *Membership) hold(name string, part heldPart) {
	m.bytes += part.size - m.held[name].size
	if part.value == nil {
		delete(m.held, name)
		return
	}
	m.held[name] = part
}

// takeIndex hands out the snapshot that the index names, if all of it is there.
func (m *Membership) takeIndex(response *discoveryv3.DeltaDiscoveryResponse, sender *sender) error {
	if len(response.GetResources()) == 0 && slices.Equal(response.GetRemovedResources(), []string{wire.NameIndex}) {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.outdated = true
		return nil
	}
	if len(response.GetResources()) != 1 || response.GetResources()[0].GetName() != wire.NameIndex {
		return errors.New("a response without one index")
	}
	index, err := wire.DecodeIndex(response.GetResources()[0].GetResource().GetValue())
	if err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	snapshot, err := index.Assemble(func(name string, hash wire.Hash) any {
		if part := m.held[name]; part.hash == hash {
			return part.value
		}
		return nil
	})
	if err != nil {
		// What is held and not named correctly would be claimed again.
		m.prune(index)
		return err
	}
	m.prune(index)
	first := m.workload.Instance == ""
	m.workload.Instance = index.Instance
	m.open, m.outdated, m.lastError = true, false, nil
	if first {
		close(m.joined)
	}
	m.pending = pending{version: index.Version, answer: func(nack error) error {
		return sender.send(indexReply(response.GetNonce(), nack))
	}}
	select {
	case <-m.snapshots: // an older one that nobody took
	default:
	}
	m.snapshots <- snapshot
	return nil
}

// prune forgets what the index does not name. The lock is held.
func (m *Membership) prune(index *wire.Index) {
	for name, part := range m.held {
		if index.Parts[name] != part.hash {
			m.hold(name, heldPart{})
		}
	}
}

func indexReply(nonce string, nack error) *discoveryv3.DeltaDiscoveryRequest {
	request := &discoveryv3.DeltaDiscoveryRequest{TypeUrl: wire.KindIndex.TypeURL(), ResponseNonce: nonce}
	if nack != nil {
		text := nack.Error()
		// Protobuf carries no text that is not UTF-8, and a cut may make it so.
		text = strings.ToValidUTF8(text[:min(len(text), maxNack)], "")
		request.ErrorDetail = &statuspb.Status{Code: int32(codes.InvalidArgument), Message: text}
	}
	return request
}

// sender lets the reader and whoever acknowledges write to one stream.
type sender struct {
	mu     sync.Mutex
	stream grpc.BidiStreamingClient[discoveryv3.DeltaDiscoveryRequest, discoveryv3.DeltaDiscoveryResponse]
	left   bool
}

// send writes a request. After the leave nobody waits for it any more, and what
// the server had sent meanwhile must not end the stream in another way.
func (s *sender) send(request *discoveryv3.DeltaDiscoveryRequest) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.left {
		return nil
	}
	return s.stream.Send(request)
}

// leave closes our half of the stream: the server then ends the other half. Any
// other end of a stream may be that of a connection.
func (s *sender) leave() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.left = true
	_ = s.stream.CloseSend() // it never fails
}

// reason returns why a stream does not take requests any more: gRPC tells the
// sender only that it ended.
func reason(stream grpc.ClientStream, err error) error {
	if errors.Is(err, io.EOF) {
		if err := stream.RecvMsg(new(discoveryv3.DeltaDiscoveryResponse)); err != nil {
			return fmt.Errorf("write stream: %w", plain(err))
		}
	}
	return fmt.Errorf("write stream: %w", plain(err))
}

// refusal is an error of the server in its own words, without those of gRPC.
type refusal struct{ *status.Status }

func (r refusal) Error() string              { return r.Message() }
func (r refusal) GRPCStatus() *status.Status { return r.Status }

// plain leaves of an error of gRPC what its other end said.
func plain(err error) error {
	if said, ok := status.FromError(err); ok && said.Message() != "" {
		return refusal{said}
	}
	return err
}
