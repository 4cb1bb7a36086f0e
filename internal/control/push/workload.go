package push

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"sluice.dev/sluice/internal/control/compile"
	"sluice.dev/sluice/internal/control/registry"
	"sluice.dev/sluice/internal/wire"
	"sluice.dev/sluice/internal/wire/stream"
)

// workloadStream is the stream of one workload. One goroutine sends; what others
// read of it is under the server's lock.
type workloadStream struct {
	server *Server
	member *registry.Member
	who    *Attested            // nil: what the proxy says of its workload counts
	held   map[string]wire.Hash // parts that the proxy was sent or said it has
	nonces uint64

	sent     *compile.View // of the index that waits for an answer; nil when none does
	nonce    string        // of that index
	census   uint64        // that it follows from
	current  *compile.View // of the index that was answered last, either way
	problem  string        // why the last view could not be made or sent; the proxy knows that it is outdated
	progress progress
}

// progress is what others may know of a stream. It is under the server's lock.
type progress struct {
	sentVersion   string
	acked         *compile.View
	ackedVersion  string
	ackedAt       time.Time
	ackedRevision int64  // of the store: everything up to it is in force
	ackedCensus   uint64 // everybody who was counted up to it is known to the workload
	nack          string
}

func newWorkloadStream(s *Server, member *registry.Member, who *Attested, versions map[string]string) *workloadStream {
	w := &workloadStream{server: s, member: member, who: who, held: make(map[string]wire.Hash, len(versions))}
	for name, version := range versions {
		if name == wire.NameIndex {
			w.progress.ackedVersion = version
			continue
		}
		// What is not a part of ours is not remembered, whatever its name.
		if _, ok := wire.KindOf(name); ok && len(name) <= wire.MaxPartName && len(version) <= wire.HashLength {
			w.held[name] = wire.Hash(version)
		}
	}
	return w
}

type serverStream = grpc.BidiStreamingServer[discoveryv3.DeltaDiscoveryRequest, discoveryv3.DeltaDiscoveryResponse]

// serve sends the latest whenever the proxy has answered the one before, until
// the stream ends. What was compiled before the workload joined, or before those
// were back that it waited for, is not sent: their services would have no name in
// it, or no endpoint.
func (w *workloadStream) serve(ctx context.Context, opened serverStream, in *requests) error {
	if err := w.settle(ctx, in); err != nil {
		return err
	}
	var expired <-chan time.Time
	if w.who != nil {
		timer := time.NewTimer(time.Until(w.who.Expires))
		defer timer.Stop()
		expired = timer.C
	}
	least := w.server.config.Census.Number()
	for {
		if err := w.recheck(); err != nil {
			return err
		}
		out, newer := w.server.latest()
		if out != nil && out.Census >= least && w.sent == nil {
			if err := w.send(opened, out); err != nil {
				return err
			}
		}
		if err := w.await(ctx, in, newer, expired); err != nil {
			return err
		}
	}
}

// recheck says why the stream may not go on, of a workload that was attested, and takes in
// what changed of it: its labels may, and then other rules select it.
func (w *workloadStream) recheck() error {
	if w.who == nil {
		return nil
	}
	if !time.Now().Before(w.who.Expires) {
		return errExpired
	}
	known, ok := w.who.Now()
	if !ok {
		return errGone
	}
	w.member.Update(known)
	return nil
}

// settle waits, on a server that has just started, for the workloads that the
// one before knew.
func (w *workloadStream) settle(ctx context.Context, in *requests) error {
	timer := time.NewTimer(time.Until(w.server.settled))
	defer timer.Stop()
	return w.await(ctx, in, w.server.config.Registry.Home(), timer.C)
}

// await waits for wake, for late, or for an answer of the proxy. Its error is the
// end of the stream.
func (w *workloadStream) await(ctx context.Context, in *requests, wake <-chan struct{}, late <-chan time.Time) error {
	for {
		select {
		case <-ctx.Done():
			return status.FromContextError(ctx.Err()).Err()
		case <-w.member.Replaced():
			return status.Error(codes.Aborted, "the workload joined again on another stream")
		case <-wake:
			return nil
		case <-late:
			return nil
		case request, ok := <-in.next:
			if !ok {
				return in.end
			}
			if answered, err := w.take(request); answered || err != nil {
				return err
			}
		}
	}
}

// take reads a request and reports whether it was the answer to the index.
func (w *workloadStream) take(request *discoveryv3.DeltaDiscoveryRequest) (answered bool, err error) {
	if request.GetTypeUrl() == stream.ReadinessType {
		unready, err := stream.DecodeReadiness(request.GetNode(), w.member.Workload().Ports)
		if err != nil {
			return false, status.Error(codes.InvalidArgument, err.Error())
		}
		w.member.Report(unready)
		return false, nil
	}
	if w.sent == nil || request.GetResponseNonce() != w.nonce {
		return false, nil // to parts: what matters is the index
	}
	view, detail := w.sent, request.GetErrorDetail()
	w.sent, w.current = nil, view
	s := w.server
	s.mu.Lock()
	defer s.mu.Unlock()
	if detail != nil {
		text := detail.GetMessage()
		w.progress.nack = text[:min(len(text), maxNack)]
		s.refused.Add(1)
		s.log.Warn("a proxy refused a snapshot", "workload", w.member.Workload().Instance, "version", view.Version, "why", w.progress.nack)
	} else {
		w.progress.acked, w.progress.ackedVersion, w.progress.ackedAt = view, view.Version, time.Now()
		w.progress.ackedRevision, w.progress.ackedCensus, w.progress.nack = view.Revision, w.census, ""
		if s.config.Acked != nil && w.member.Since().Before(view.Created) {
			s.config.Acked(w.progress.ackedAt.Sub(view.Created))
		}
	}
	s.tell()
	return true, nil
}

// send brings the proxy from what it holds to what out says. Nothing is sent
// where that is the same.
func (w *workloadStream) send(opened serverStream, out *compile.Output) error {
	view, err := out.View(w.member.Workload())
	if err != nil {
		return w.fail(opened, err)
	}
	if w.current != nil && view.Version == w.current.Version && w.problem == "" {
		w.confirm(view, out.Census)
		return nil
	}
	responses, nonce, err := w.change(view)
	if err != nil {
		return w.fail(opened, err)
	}
	if sent := w.server.config.Sent; sent != nil {
		sent(view.Index(w.member.Workload().Instance), view.Parts, w.member.Workload())
	}
	for _, response := range responses {
		if err := opened.Send(response); err != nil {
			return err
		}
	}
	w.held = make(map[string]wire.Hash, len(view.Parts))
	for _, part := range view.Parts {
		w.held[part.Name] = part.Hash
	}
	w.sent, w.nonce, w.census, w.problem = view, nonce, out.Census, ""
	w.server.pushed.Add(1)
	w.server.mu.Lock()
	defer w.server.mu.Unlock()
	w.progress.sentVersion = view.Version
	return nil
}

// fail says to the proxy that it cannot be given the latest: it goes on with what it
// has, until that is stale, and status says why.
func (w *workloadStream) fail(opened serverStream, why error) error {
	if w.problem == why.Error() {
		return nil
	}
	if w.problem == "" {
		outdated := w.response(wire.KindIndex, "")
		outdated.RemovedResources = []string{wire.NameIndex}
		if err := opened.Send(outdated); err != nil {
			return err
		}
	}
	w.problem = why.Error()
	w.server.log.Error("a snapshot cannot be sent", "workload", w.member.Workload().Instance, "error", why)
	w.server.mu.Lock()
	defer w.server.mu.Unlock()
	w.progress.nack = w.problem[:min(len(w.problem), maxNack)]
	w.server.tell()
	return nil
}

// confirm notes that a newer revision of the store, or a newer census, changes nothing
// for the workload.
func (w *workloadStream) confirm(view *compile.View, census uint64) {
	s := w.server
	s.mu.Lock()
	defer s.mu.Unlock()
	if w.progress.acked == nil || w.progress.acked.Version != view.Version {
		return
	}
	w.progress.ackedCensus = census
	if w.progress.ackedRevision != view.Revision {
		w.progress.ackedRevision = view.Revision
		s.tell()
	}
}

// kindOrder is the order of the responses of one change; the index comes last.
var kindOrder = []wire.Kind{wire.KindMesh, wire.KindPolicy, wire.KindRoutes, wire.KindDirectory, wire.KindEndpoints}

// change returns the responses that lead to view: of each kind the parts that
// the proxy does not hold and the names of those that are gone, then the index,
// whose nonce it returns.
func (w *workloadStream) change(view *compile.View) ([]*discoveryv3.DeltaDiscoveryResponse, string, error) {
	changed := make(map[wire.Kind][]*wire.Part)
	gone := make(map[wire.Kind][]string)
	there := make(map[string]bool, len(view.Parts))
	for _, part := range view.Parts {
		there[part.Name] = true
		if w.held[part.Name] != part.Hash {
			changed[part.Kind] = append(changed[part.Kind], part)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(w.held)) {
		if kind, ok := wire.KindOf(name); ok && !there[name] {
			gone[kind] = append(gone[kind], name)
		}
	}
	var responses []*discoveryv3.DeltaDiscoveryResponse
	for _, kind := range kindOrder {
		for _, batch := range batches(changed[kind]) {
			response := w.response(kind, view.Version)
			for _, part := range batch {
				response.Resources = append(response.Resources, stream.EncodeResource(part.Name, kind, string(part.Hash), part.Bytes))
			}
			responses = append(responses, response)
		}
		if len(gone[kind]) > 0 {
			response := w.response(kind, view.Version)
			response.RemovedResources = gone[kind]
			responses = append(responses, response)
		}
	}
	index, err := json.Marshal(view.Index(w.member.Workload().Instance))
	if err != nil {
		return nil, "", fmt.Errorf("encode index: %w", err)
	}
	if len(index) > wire.MaxPartBytes {
		return nil, "", fmt.Errorf("an index has %d bytes, more than %d", len(index), wire.MaxPartBytes)
	}
	last := w.response(wire.KindIndex, view.Version)
	last.Resources = []*discoveryv3.Resource{stream.EncodeResource(wire.NameIndex, wire.KindIndex, view.Version, index)}
	return append(responses, last), last.Nonce, nil
}

func (w *workloadStream) response(kind wire.Kind, version string) *discoveryv3.DeltaDiscoveryResponse {
	w.nonces++
	return &discoveryv3.DeltaDiscoveryResponse{
		SystemVersionInfo: version, TypeUrl: kind.TypeURL(), Nonce: strconv.FormatUint(w.nonces, 10),
	}
}

// batches cuts parts into responses of bounded size; one part alone may be
// larger.
func batches(parts []*wire.Part) [][]*wire.Part {
	var out [][]*wire.Part
	size := 0
	for i, part := range parts {
		if i == 0 || size+len(part.Bytes) > stream.MaxBatch {
			out = append(out, nil)
			size = 0
		}
		out[len(out)-1] = append(out[len(out)-1], part)
		size += len(part.Bytes)
	}
	return out
}
