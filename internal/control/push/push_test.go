package push

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/structpb"

	"sluice.dev/sluice/api"
	"sluice.dev/sluice/api/v1alpha1"
	"sluice.dev/sluice/internal/control/compile"
	"sluice.dev/sluice/internal/control/inspect"
	"sluice.dev/sluice/internal/control/registry"
	"sluice.dev/sluice/internal/peer"
	"sluice.dev/sluice/internal/record"
	"sluice.dev/sluice/internal/wire"
	"sluice.dev/sluice/internal/wire/stream"
)

// patience bounds every wait of these tests; none of them passes by waiting.
const patience = time.Minute

// memoryStore is a store of rules.
type memoryStore struct {
	mu       sync.Mutex
	objects  []api.Object
	revision int64
	changed  chan struct{}
	unready  bool
}

func newStore(objects ...api.Object) *memoryStore {
	return &memoryStore{objects: objects, revision: 1, changed: make(chan struct{})}
}

func (s *memoryStore) Objects() ([]api.Object, int64, <-chan struct{}, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.objects), s.revision, s.changed, !s.unready
}

func (s *memoryStore) set(objects ...api.Object) int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.objects, s.unready = objects, false
	s.revision++
	close(s.changed)
	s.changed = make(chan struct{})
	return s.revision
}

// policyFor opens one host for the workloads of one version of details.
func policyFor(name, host, version string) api.Object {
	spec := &v1alpha1.EgressPolicySpec{To: v1alpha1.EgressDestinations{
		Hosts: []string{host}, Ports: []v1alpha1.EgressPort{{Port: 443, Protocol: "https"}},
	}}
	if version != "" {
		spec.From = &v1alpha1.WorkloadSelector{Labels: map[string]string{"version": version}}
	}
	return api.Object{
		APIVersion: "sluice.dev/v1alpha1", Kind: "EgressPolicy",
		Metadata: api.Meta{Name: name, Namespace: "default"}, Spec: spec,
	}
}

// plane is a control plane on a socket.
type plane struct {
	t        testing.TB
	path     string
	store    *memoryStore
	registry *registry.Registry
	server   *Server
	stop     func()
}

func startPlane(t testing.TB, path string, store *memoryStore) *plane {
	return startPlaneWith(t, path, store, registry.Config{}, anybody)
}

func startPlaneWith(t testing.TB, path string, store *memoryStore, bounds registry.Config, peers peer.Authenticator) *plane {
	t.Helper()
	if path == "" {
		path = filepath.Join(t.TempDir(), "push.sock")
	}
	listener, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	p := &plane{t: t, path: path, store: store, registry: registry.New(bounds)}
	if p.server, err = New(Config{Registry: p.registry, Census: p.registry, Peers: peers}); err != nil {
		t.Fatal(err)
	}
	p.server.settled, p.server.patience = time.Now().Add(patience), patience // no test waits for these in vain
	loop, err := NewLoop(LoopConfig{Store: store, Census: p.registry, Publish: p.server.Publish})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var work sync.WaitGroup
	work.Go(func() { loop.Run(ctx) })
	work.Go(func() {
		if err := p.server.Serve(listener); err != nil {
			t.Error(err)
		}
	})
	p.stop = sync.OnceFunc(func() {
		cancel()
		p.server.Close()
		work.Wait()
	})
	t.Cleanup(p.stop)
	return p
}

// authenticator is one of a test's making.
type authenticator func() error

func (a authenticator) Authenticate(net.Conn) (peer.Peer, error) { return peer.Peer{}, a() }

// anybody is let in.
var anybody = authenticator(func() error { return nil })

// waitAcked waits until every workload runs what was compiled of the revision.
func (p *plane) waitAcked(ctx context.Context, revision int64) error {
	for {
		running, connected, changed := p.server.Acked(revision)
		if running == connected {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (p *plane) client(flows *record.Ring) *stream.Client {
	p.t.Helper()
	client, err := stream.NewClient(stream.Config{Dial: stream.DialUnix(p.path, nil), Proxy: "test", Flows: flows})
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(client.Close)
	return client
}

func details(version string) wire.Workload {
	return wire.Workload{Service: "details", Version: version, Namespace: "default", Ports: []uint16{9080}, Level: "sandbox"}
}

func join(t *testing.T, c *stream.Client, w wire.Workload) *stream.Membership {
	t.Helper()
	m, err := c.Join(t.Context(), w)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.Leave)
	return m
}

// next returns the next snapshot without answering it.
func next(t *testing.T, m *stream.Membership) *wire.Snapshot {
	t.Helper()
	select {
	case snapshot, ok := <-m.Snapshots():
		if !ok {
			t.Fatal("the membership ended")
		}
		return snapshot
	case <-time.After(patience):
		t.Fatalf("no snapshot; the stream ended with: %v", m.Err())
		return nil
	}
}

// until acknowledges snapshots up to one that fits.
func until(t *testing.T, m *stream.Membership, fits func(*wire.Snapshot) bool) *wire.Snapshot {
	t.Helper()
	for {
		snapshot := next(t, m)
		m.Ack(snapshot.Version)
		if fits(snapshot) {
			return snapshot
		}
	}
}

func ruleIDs(s *wire.Snapshot) string {
	var ids []string
	for _, rule := range s.Rules() {
		ids = append(ids, strings.TrimPrefix(rule.ID, "egress-policy/default/"))
	}
	return strings.Join(ids, " ")
}

func hasRules(ids string) func(*wire.Snapshot) bool {
	return func(s *wire.Snapshot) bool { return ruleIDs(s) == ids }
}

func endpointsOf(s *wire.Snapshot, service string) []string {
	var out []string
	for _, of := range s.Endpoints {
		if of.Service.String() == service {
			for _, e := range of.Endpoints {
				out = append(out, e.Instance)
			}
		}
	}
	return out
}

// eventually waits for something that no channel tells.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !holds(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within %s", what, patience)
		}
	}
}

func TestARuleReachesTheProxyAndIsAcknowledged(t *testing.T) {
	p := startPlane(t, "", newStore())
	m := join(t, p.client(nil), details("v2"))
	until(t, m, hasRules(""))
	if got := m.Instance(); got != "details-v2/1" {
		t.Errorf("the workload is called %q", got)
	}
	revision := p.store.set(policyFor("books", "*.googleapis.com", "v2"))
	snapshot := until(t, m, hasRules("books"))
	if err := p.waitAcked(t.Context(), revision); err != nil {
		t.Fatal(err)
	}
	statuses := p.server.Workloads()
	if len(statuses) != 1 || statuses[0].AckedVersion != snapshot.Version || statuses[0].Created.IsZero() || statuses[0].Proxy != "test" {
		t.Errorf("status says %+v, the proxy runs %s", statuses, snapshot.Version)
	}
	acked := p.server.Snapshot("default", "details-v2/1")
	if acked == nil || acked.Version != snapshot.Version || ruleIDs(acked) != "books" {
		t.Errorf("the server thinks that %+v runs", acked)
	}
	if p.server.Snapshot("other", "details-v2/1") != nil {
		t.Error("a workload was found in another namespace")
	}
}

func TestARuleForOneWorkloadSendsNothingToAnother(t *testing.T) {
	p := startPlane(t, "", newStore())
	client := p.client(nil)
	v1, v2 := join(t, client, details("v1")), join(t, client, details("v2"))
	both := func(s *wire.Snapshot) bool { return len(endpointsOf(s, "details.default.svc.cluster.local")) == 2 }
	until(t, v1, both)
	until(t, v2, both)
	revision := p.store.set(policyFor("books", "*.googleapis.com", "v2"))
	until(t, v2, hasRules("books"))
	// The revision is in force for v1 as well: nothing changed for it.
	if err := p.waitAcked(t.Context(), revision); err != nil {
		t.Fatal(err)
	}
	select {
	case snapshot := <-v1.Snapshots():
		t.Errorf("v1 was sent %s", ruleIDs(snapshot))
	default:
	}
}

func TestTheEndOfAStreamIsTheLeave(t *testing.T) {
	p := startPlane(t, "", newStore())
	client := p.client(nil)
	stays, leaves := join(t, client, details("v1")), join(t, client, details("v2"))
	until(t, leaves, func(*wire.Snapshot) bool { return true })
	until(t, stays, func(s *wire.Snapshot) bool { return len(endpointsOf(s, "details.default.svc.cluster.local")) == 2 })
	leaves.Leave()
	until(t, stays, func(s *wire.Snapshot) bool { return len(endpointsOf(s, "details.default.svc.cluster.local")) == 1 })
	if got := p.server.Workloads(); len(got) != 1 {
		t.Errorf("%d workloads are left", len(got))
	}
}

func TestTheEndOfAProcessIsTheLeaveOfAllItsWorkloads(t *testing.T) {
	p := startPlane(t, "", newStore())
	client := p.client(nil)
	for range 3 {
		until(t, join(t, client, details("v1")), func(*wire.Snapshot) bool { return true })
	}
	client.Close()
	eventually(t, "no workload lives", func() bool { return len(p.registry.Now().Workloads) == 0 })
}

func TestARefusedSnapshotIsReportedAndTheNextIsTried(t *testing.T) {
	p := startPlane(t, "", newStore())
	m := join(t, p.client(nil), details("v2"))
	first := until(t, m, hasRules(""))
	p.store.set(policyFor("bad", "bad.example.com", "v2"))
	for {
		snapshot := next(t, m)
		if hasRules("bad")(snapshot) {
			m.Nack(snapshot.Version, errors.New("cannot be built"))
			break
		}
		first = snapshot
		m.Ack(snapshot.Version)
	}
	eventually(t, "the refusal is reported", func() bool { return p.server.Workloads()[0].Nack == "cannot be built" })
	if got := p.server.Workloads()[0].AckedVersion; got != first.Version {
		t.Errorf("the proxy is said to run %s, and runs %s", got, first.Version)
	}
	p.store.set(policyFor("good", "good.example.com", "v2"))
	until(t, m, hasRules("good"))
	eventually(t, "the refusal is forgotten", func() bool { return p.server.Workloads()[0].Nack == "" })
}

func TestASlowProxyGetsTheLatestAndHoldsNobodyUp(t *testing.T) {
	p := startPlane(t, "", newStore())
	client := p.client(nil)
	slow, quick := join(t, client, details("slow")), join(t, client, details("quick"))
	unanswered := next(t, slow)
	until(t, quick, hasRules(""))
	const changes = 200
	for i := range changes {
		p.store.set(policyFor(fmt.Sprintf("rule-%03d", i), "a.example.com", ""))
	}
	until(t, quick, hasRules(fmt.Sprintf("rule-%03d", changes-1)))
	select {
	case snapshot := <-slow.Snapshots():
		t.Fatalf("%s was sent before the answer to the one before", ruleIDs(snapshot))
	default:
	}
	slow.Ack(unanswered.Version)
	if got := ruleIDs(next(t, slow)); got != fmt.Sprintf("rule-%03d", changes-1) {
		t.Errorf("after its answer the slow one was sent %s, not the latest", got)
	}
}

func TestAStormIsCoalesced(t *testing.T) {
	store := newStore()
	var published atomic.Int64
	loop, err := NewLoop(LoopConfig{Store: store, Census: registry.New(registry.Config{}), Publish: func(*compile.Output) { published.Add(1) }})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var work sync.WaitGroup
	work.Go(func() { loop.Run(ctx) })
	defer work.Wait()
	defer cancel()
	const changes = 500
	started := time.Now()
	var last int64
	for range changes {
		last = store.set(policyFor("rule", "a.example.com", ""))
		time.Sleep(100 * time.Microsecond)
	}
	eventually(t, "the last change is compiled", func() bool { out, _ := loop.Latest(); return out != nil && out.Revision == last })
	if most := int64(time.Since(started)/compileAtMost) + 2; published.Load() > most {
		t.Errorf("%d changes were published %d times, more than %d", changes, published.Load(), most)
	}
}

func TestAServerThatStartsAnewFindsItsWorkloadsAgain(t *testing.T) {
	store := newStore(policyFor("books", "*.googleapis.com", ""))
	p := startPlane(t, "", store)
	client := p.client(nil)
	const count = 5
	var members []*stream.Membership
	all := func(s *wire.Snapshot) bool {
		return hasRules("books")(s) && len(endpointsOf(s, "details.default.svc.cluster.local")) == count
	}
	for range count {
		members = append(members, join(t, client, details("v1")))
	}
	instances := make(map[*stream.Membership]string)
	versions := make(map[*stream.Membership]string)
	for _, m := range members {
		versions[m] = until(t, m, all).Version
		instances[m] = m.Instance()
	}
	p.stop()
	for _, m := range members {
		eventually(t, "the loss is seen", func() bool { return !m.Connected() })
	}
	startPlaneWith(t, p.path, store, registry.Config{Memory: p.registry.Memory()}, anybody)
	// A new one of the same proxy, and one of another that may well come first.
	fresh := []*stream.Membership{join(t, client, details("v1")), join(t, p.client(nil), details("v1"))}
	for _, m := range fresh {
		until(t, m, func(*wire.Snapshot) bool { return true })
	}
	for _, m := range members {
		snapshot := next(t, m)
		m.Ack(snapshot.Version)
		if got := m.Instance(); got != instances[m] {
			t.Errorf("%s came back as %s", instances[m], got)
		}
		if got := len(endpointsOf(snapshot, "details.default.svc.cluster.local")); got < count {
			t.Errorf("%s was told of %d of %d workloads", m.Instance(), got, count)
		}
	}
	for _, m := range fresh {
		if got := m.Instance(); got != fmt.Sprintf("details-v1/%d", count+1) && got != fmt.Sprintf("details-v1/%d", count+2) {
			t.Errorf("a new one is %s", got)
		}
	}
}

func TestAWorkloadWhoseConnectionWasLostKeepsItsNameFromAnotherProxy(t *testing.T) {
	p := startPlane(t, "", newStore())
	var mu sync.Mutex
	var conn net.Conn
	away := false
	client, err := stream.NewClient(stream.Config{Dial: func(ctx context.Context) (net.Conn, error) {
		mu.Lock()
		defer mu.Unlock()
		if away {
			return nil, errors.New("the proxy is away")
		}
		dialled, err := stream.DialUnix(p.path, nil)(ctx)
		conn = dialled
		return dialled, err
	}})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	m := join(t, client, details("v1"))
	until(t, m, func(*wire.Snapshot) bool { return true })
	mu.Lock()
	away = true
	conn.Close()
	mu.Unlock()
	eventually(t, "the workload is lost", func() bool { return len(p.server.Workloads()) == 0 })
	other := join(t, p.client(nil), details("v1"))
	until(t, other, func(*wire.Snapshot) bool { return true })
	if got := other.Instance(); got != "details-v1/2" {
		t.Errorf("the one of another proxy is called %s", got)
	}
	mu.Lock()
	away = false
	mu.Unlock()
	eventually(t, "the workload is back", func() bool { return len(p.server.Workloads()) == 2 })
	until(t, m, func(s *wire.Snapshot) bool { return len(endpointsOf(s, "details.default.svc.cluster.local")) == 2 })
	if got := m.Instance(); got != "details-v1/1" {
		t.Errorf("it came back as %s", got)
	}
}

func TestTheFirstSnapshotHoldsTheWorkloadsOwnService(t *testing.T) {
	p := startPlane(t, "", newStore())
	client := p.client(nil)
	for i := range 20 {
		w := details("v1")
		w.Service = fmt.Sprint("service", i)
		m := join(t, client, w)
		first := next(t, m)
		m.Ack(first.Version)
		if got := endpointsOf(first, w.Service+".default.svc.cluster.local"); len(got) != 1 {
			t.Fatalf("the first snapshot of %s knows of its endpoints %v", w.Service, got)
		}
	}
}

func TestAServiceWhoseWorkloadsLeftStaysInTheDirectory(t *testing.T) {
	p := startPlane(t, "", newStore())
	client := p.client(nil)
	stays, leaves := join(t, client, details("v1")), join(t, client, wire.Workload{Service: "reviews", Ports: []uint16{9080}})
	const reviews = "reviews.default.svc.cluster.local"
	until(t, stays, func(s *wire.Snapshot) bool { return len(endpointsOf(s, reviews)) == 1 })
	leaves.Leave()
	left := until(t, stays, func(s *wire.Snapshot) bool { return len(endpointsOf(s, reviews)) == 0 })
	if !slices.ContainsFunc(left.Directory.Services, func(of wire.Service) bool { return of.Name.String() == reviews && len(of.Ports) == 1 }) {
		t.Errorf("the directory is %+v", left.Directory.Services)
	}
}

func TestAStreamThatIsHalfClosedEnds(t *testing.T) {
	p := startPlane(t, "", newStore())
	opened := open(t, p)
	if err := opened.Send(firstRequest(t, details("v1"))); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the workload joined", func() bool { return len(p.server.Workloads()) == 1 })
	if err := opened.CloseSend(); err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := opened.Recv(); err != nil {
			if !errors.Is(err, io.EOF) {
				t.Errorf("the stream ended with %v", err)
			}
			break
		}
	}
	eventually(t, "the workload left", func() bool { return len(p.server.Workloads()) == 0 })
}

// open opens a discovery stream without a client of ours.
func open(t *testing.T, p *plane) grpc.BidiStreamingClient[discoveryv3.DeltaDiscoveryRequest, discoveryv3.DeltaDiscoveryResponse] {
	t.Helper()
	opened, err := discoveryv3.NewAggregatedDiscoveryServiceClient(dial(t, p)).DeltaAggregatedResources(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return opened
}

// dial connects to the plane as some program may.
func dial(t *testing.T, p *plane) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient("passthrough:///push", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.ForceCodecV2(stream.NewCodec())),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return stream.DialUnix(p.path, nil)(ctx) }))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

func firstRequest(t *testing.T, w wire.Workload) *discoveryv3.DeltaDiscoveryRequest {
	t.Helper()
	node, err := stream.EncodeNode(stream.Join{Workload: w, Session: "s"})
	if err != nil {
		t.Fatal(err)
	}
	return &discoveryv3.DeltaDiscoveryRequest{Node: node, TypeUrl: wire.KindIndex.TypeURL()}
}

func TestNothingIsSentBeforeTheStoreWasRead(t *testing.T) {
	store := newStore(policyFor("books", "*.googleapis.com", ""))
	store.unready = true
	p := startPlane(t, "", store)
	m := join(t, p.client(nil), details("v2"))
	eventually(t, "the workload joined", func() bool { return len(p.server.Workloads()) == 1 })
	if m.Connected() {
		t.Error("the snapshot is said to be current before there is one")
	}
	store.set(policyFor("books", "*.googleapis.com", ""))
	if got := ruleIDs(next(t, m)); got != "books" {
		t.Errorf("the first snapshot has the rules %q", got)
	}
}

func TestAWorkloadBeyondTheBoundIsRefusedAndLetInLater(t *testing.T) {
	p := startPlaneWith(t, "", newStore(), registry.Config{MaxWorkloads: 1}, anybody)
	client := p.client(nil)
	first, second := join(t, client, details("v1")), (*stream.Membership)(nil)
	until(t, first, func(*wire.Snapshot) bool { return true })
	second = join(t, client, details("v2"))
	eventually(t, "the second is refused", func() bool {
		return second.Err() != nil && strings.Contains(second.Err().Error(), "the limit of workloads is reached")
	})
	first.Leave()
	until(t, second, func(*wire.Snapshot) bool { return true })
}

func TestAPeerThatIsNotAuthenticatedGetsNoAnswer(t *testing.T) {
	checked := make(chan struct{}, 100)
	p := startPlaneWith(t, "", newStore(), registry.Config{}, authenticator(func() error {
		checked <- struct{}{}
		return errors.New("a stranger")
	}))
	conn, err := net.Dial("unix", p.path)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	<-checked
	conn.SetReadDeadline(time.Now().Add(patience))
	if n, err := conn.Read(make([]byte, 1)); n != 0 || err == nil {
		t.Errorf("the stranger read %d bytes, %v", n, err)
	}
	if got := p.server.Workloads(); len(got) != 0 {
		t.Errorf("%d workloads joined", len(got))
	}
}

func TestAFirstRequestThatIsNoJoinIsRefused(t *testing.T) {
	p := startPlane(t, "", newStore())
	conn := dial(t, p)
	node := func(w wire.Workload) *corev3.Node {
		node, err := stream.EncodeNode(stream.Join{Workload: w, Session: "s"})
		if err != nil {
			t.Fatal(err)
		}
		return node
	}
	index := wire.KindIndex.TypeURL()
	tooMany := make(map[string]string)
	for i := range 2*wire.MaxParts + 2 {
		tooMany[fmt.Sprint(i)] = "x"
	}
	for what, request := range map[string]*discoveryv3.DeltaDiscoveryRequest{
		"empty":                {},
		"without metadata":     {Node: &corev3.Node{Id: "details"}, TypeUrl: index},
		"of another type":      {Node: node(details("v1")), TypeUrl: "type.googleapis.com/envoy.config.cluster.v3.Cluster"},
		"of a bad workload":    {Node: node(wire.Workload{Service: "../x"}), TypeUrl: index},
		"with too many labels": {Node: node(wire.Workload{Labels: tooManyLabels()}), TypeUrl: index},
		"with too many parts":  {Node: node(details("v1")), TypeUrl: index, InitialResourceVersions: tooMany},
	} {
		opened, err := discoveryv3.NewAggregatedDiscoveryServiceClient(conn).DeltaAggregatedResources(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if err := opened.Send(request); err != nil {
			t.Fatal(err)
		}
		if _, err := opened.Recv(); status.Code(err) != codes.InvalidArgument {
			t.Errorf("%s: %v", what, err)
		}
	}
	if got := p.server.Workloads(); len(got) != 0 {
		t.Errorf("%d workloads joined", len(got))
	}
}

func tooManyLabels() map[string]string {
	labels := make(map[string]string)
	for i := range wire.MaxLabels + 1 {
		labels[fmt.Sprint("l", i)] = "v"
	}
	return labels
}

func TestConnectionsAreBounded(t *testing.T) {
	listener, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	limited := limit(listener, 1)
	defer limited.Close()
	accepted := make(chan net.Conn, 2)
	go func() {
		for {
			conn, err := limited.Accept()
			if err != nil {
				close(accepted)
				return
			}
			accepted <- conn
		}
	}()
	dial := func() net.Conn {
		conn, err := net.Dial("unix", listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		conn.SetReadDeadline(time.Now().Add(patience))
		t.Cleanup(func() { conn.Close() })
		return conn
	}
	dial()
	first := <-accepted
	if _, err := dial().Read(make([]byte, 1)); err == nil {
		t.Error("a second connection was kept")
	}
	first.Close()
	first.Close() // gives back its place once
	dial()
	(<-accepted).Close()
}

func TestFlowsOfAllProxiesAreSentInOrder(t *testing.T) {
	p := startPlane(t, "", newStore())
	rings := []*record.Ring{record.NewRing(), record.NewRing()}
	for _, ring := range rings {
		p.client(ring)
	}
	eventually(t, "both proxies can be asked", func() bool { return len(p.server.Proxies()) == 2 })
	start := time.Unix(1_000, 0)
	for i := range 10 {
		rings[i%2].Closed(&record.Record{ID: record.ID(i + 1), Start: start.Add(time.Duration(i) * time.Second), Workload: "details-v2/1"})
	}
	var got []record.ID
	if err := p.server.Flows(t.Context(), inspect.FlowQuery{Last: 4}, func() {}, func(f record.Record) error { got = append(got, f.ID); return nil }); err != nil {
		t.Fatal(err)
	}
	if want := []record.ID{7, 8, 9, 10}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	for _, id := range []record.ID{3, 4} {
		if found, ok, err := p.server.Flow(t.Context(), id); !ok || found.ID != id {
			t.Errorf("flow %s: %+v, %v, %v", id, found, ok, err)
		}
	}
	if _, ok, err := p.server.Flow(t.Context(), 99); ok || err != nil {
		t.Errorf("a flow that never was: %v, %v", ok, err)
	}
	if open := questionsOpen(p.server); open != 0 {
		t.Errorf("%d questions are left open", open)
	}
}

// clientOf is a proxy that lists what is open in the book.
func (p *plane) clientOf(book *record.Book) {
	p.t.Helper()
	client, err := stream.NewClient(stream.Config{Dial: stream.DialUnix(p.path, nil), Proxy: "test", Flows: record.NewRing(), Live: book.Live})
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(client.Close)
}

func TestFlowsThatAreOpenAreListedByAllProxiesInOrder(t *testing.T) {
	p := startPlane(t, "", newStore())
	books := []*record.Book{record.NewBook(), record.NewBook()}
	for _, book := range books {
		p.clientOf(book)
	}
	p.client(record.NewRing()) // lists nothing, and holds nobody up
	eventually(t, "all proxies can be asked", func() bool { return len(p.server.Proxies()) == 3 })
	const many = 2*stream.MaxAnswerFlows + 2 // several pieces of each
	start := time.Unix(1_000, 0)
	entries := make([]record.Entry, 2*many)
	for i := range entries {
		entries[i].Edit(func(r *record.Record) {
			*r = record.Record{ID: record.ID(i + 1), Start: start.Add(time.Duration(i) * time.Second), Workload: fmt.Sprintf("w-v%d/1", i%4), Sent: int64(i)}
		})
		books[i%2].Open(&entries[i])
	}
	list := func(query inspect.FlowQuery) (got []record.Record) {
		t.Helper()
		query.Open = true
		if err := p.server.Flows(t.Context(), query, func() {}, func(f record.Record) error { got = append(got, f); return nil }); err != nil {
			t.Fatal(err)
		}
		return got
	}
	all := list(inspect.FlowQuery{Last: inspect.MaxFlows})
	if len(all) != len(entries) {
		t.Fatalf("%d are listed of %d", len(all), len(entries))
	}
	for i := range all {
		if all[i].ID != record.ID(i+1) || all[i].Sent != int64(i) || all[i].Verdict != record.Pending {
			t.Fatalf("number %d is %+v", i, all[i])
		}
	}
	newest := list(inspect.FlowQuery{Last: 3, Workload: "w-v2"})
	if n := record.ID(len(entries)); len(newest) != 3 || newest[0].ID != n-1-8 || newest[2].ID != n-1 {
		t.Errorf("the newest of one workload are %+v", newest)
	}
	for i := range entries {
		books[i%2].Close(&entries[i])
	}
	if left := list(inspect.FlowQuery{Last: 10}); len(left) != 0 {
		t.Errorf("still open: %+v", left)
	}
	if err := p.server.Flows(t.Context(), inspect.FlowQuery{Open: true, Follow: true}, nil, nil); !errors.Is(err, errFollowOpen) {
		t.Errorf("followed: %v", err)
	}
	if open := questionsOpen(p.server); open != 0 {
		t.Errorf("%d questions are left open", open)
	}
}

func TestFlowsAreFollowedUntilTheReaderLeaves(t *testing.T) {
	p := startPlane(t, "", newStore())
	ring := record.NewRing()
	p.client(ring)
	eventually(t, "the proxy can be asked", func() bool { return len(p.server.Proxies()) == 1 })
	ring.Closed(&record.Record{ID: 1, Workload: "details-v2/1"})
	ring.Closed(&record.Record{ID: 2, Workload: "reviews-v1/1"})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	told := make(chan record.ID, 10)
	ended := make(chan error, 1)
	go func() {
		ended <- p.server.Flows(ctx, inspect.FlowQuery{Workload: "details-v2", Last: 10, Follow: true}, func() {}, func(f record.Record) error {
			told <- f.ID
			return nil
		})
	}()
	if got := <-told; got != 1 {
		t.Fatalf("the first is %v", got)
	}
	ring.Closed(&record.Record{ID: 3, Workload: "reviews-v1/1"})
	ring.Closed(&record.Record{ID: 4, Workload: "details-v2/1"})
	if got := <-told; got != 4 {
		t.Errorf("the next is %v", got)
	}
	// A proxy that comes later is asked as well.
	late := record.NewRing()
	p.client(late)
	eventually(t, "the late proxy can be asked", func() bool { return len(p.server.Proxies()) == 2 })
	stop := make(chan struct{})
	var adding sync.WaitGroup
	adding.Go(func() {
		for id := record.ID(100); ; id++ {
			select {
			case <-stop:
				return
			case <-time.After(time.Millisecond):
				late.Closed(&record.Record{ID: id, Workload: "details-v2/1"})
			}
		}
	})
	if got := <-told; got < 100 {
		t.Errorf("the late one told %v", got)
	}
	close(stop)
	adding.Wait()
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if open := questionsOpen(p.server); open != 0 {
		t.Errorf("%d questions are left open", open)
	}
}

func TestAReaderOfFlowsThatIsSlowLosesFlowsAndHoldsNobodyUp(t *testing.T) {
	p := startPlane(t, "", newStore())
	ring := record.NewRing()
	p.client(ring)
	eventually(t, "the proxy can be asked", func() bool { return len(p.server.Proxies()) == 1 })
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	reading, gate := make(chan struct{}), make(chan struct{})
	ended := make(chan error, 1)
	ring.Closed(&record.Record{ID: 1})
	go func() {
		ended <- p.server.Flows(ctx, inspect.FlowQuery{Last: 1, Follow: true}, func() {}, func(f record.Record) error {
			if f.ID == 1 {
				close(reading)
				<-gate
			}
			return nil
		})
	}()
	<-reading
	for i := range 4 * maxAnswers {
		ring.Closed(&record.Record{ID: record.ID(i + 10)})
	}
	eventually(t, "flows are lost", func() bool { return flowsLost(p.server) > 0 })
	// Another question is answered meanwhile.
	if _, ok, err := p.server.Flow(t.Context(), 10); !ok {
		t.Errorf("a slow reader holds up another one: %v", err)
	}
	close(gate)
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// observe greets as a proxy that a test plays.
func observe(t *testing.T, p *plane, greeting string) grpc.ClientStream {
	t.Helper()
	desc := stream.ObserveDesc()
	opened, err := dial(t, p).NewStream(t.Context(), &desc, "/"+stream.ObserveService+"/"+stream.ObserveMethod)
	if err != nil {
		t.Fatal(err)
	}
	if err := opened.SendMsg(&stream.Answer{Format: stream.ObserveFormat, Proxy: greeting}); err != nil {
		t.Fatal(err)
	}
	return opened
}

func TestAProxyThatTellsMoreThanItWasAskedIsCut(t *testing.T) {
	p := startPlane(t, "", newStore())
	opened := observe(t, p, "loose")
	eventually(t, "the proxy can be asked", func() bool { return len(p.server.Proxies()) == 1 })
	told := make(chan int, 1)
	go func() {
		n := 0
		if err := p.server.Flows(t.Context(), inspect.FlowQuery{Last: 3}, func() {}, func(record.Record) error { n++; return nil }); err != nil {
			t.Error(err)
		}
		told <- n
	}()
	query := new(stream.Query)
	if err := opened.RecvMsg(query); err != nil {
		t.Fatal(err)
	}
	many := make([]record.Record, stream.MaxAnswerFlows)
	for _, piece := range []*stream.Answer{
		{Query: query.ID + 1, Flows: many}, // nobody asked this
		{Query: query.ID, Flows: many}, {Query: query.ID, Flows: many}, {Query: query.ID, End: true},
	} {
		piece.Format = stream.ObserveFormat
		if err := opened.SendMsg(piece); err != nil {
			t.Fatal(err)
		}
	}
	if n := <-told; n != 3 {
		t.Errorf("the reader was told %d flows, and asked for 3", n)
	}
	// An answer beyond the bound ends the stream.
	if err := opened.SendMsg(&stream.Answer{Format: stream.ObserveFormat, Query: query.ID, Flows: make([]record.Record, stream.MaxAnswerFlows+1)}); err != nil {
		t.Fatal(err)
	}
	for {
		if err := opened.RecvMsg(new(stream.Query)); err != nil {
			if status.Code(err) != codes.InvalidArgument {
				t.Errorf("the stream ended with %v", err)
			}
			break
		}
	}
	eventually(t, "it is not asked any more", func() bool { return len(p.server.Proxies()) == 0 })
}

func TestAWorkloadOfAnotherFormatIsRefusedWithTheReason(t *testing.T) {
	p := startPlane(t, "", newStore())
	later := firstRequest(t, details("v1"))
	later.Node.Metadata.Fields["format"] = structpb.NewNumberValue(7)
	later.Node.Metadata.Fields["clearance"] = structpb.NewStringValue("what a later release may say")
	earlier := firstRequest(t, details("v1"))
	earlier.TypeUrl = "type.sluice.dev/wire.v1.Index"
	for want, request := range map[string]*discoveryv3.DeltaDiscoveryRequest{
		fmt.Sprintf("the join of a workload has format 7; sluice-server reads formats 1 to %d: upgrade sluice-server", stream.JoinFormat): later,
		fmt.Sprintf("a snapshot on the stream has format 1; this Sluice reads format %d: upgrade the Sluice that wrote it", wire.Format):  earlier,
	} {
		opened := open(t, p)
		if err := opened.Send(request); err != nil {
			t.Fatal(err)
		}
		if _, err := opened.Recv(); status.Code(err) != codes.InvalidArgument || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %s", err, want)
		}
	}
	if got := p.registry.Now().Workloads; len(got) != 0 {
		t.Errorf("joined: %+v", got)
	}
}

func TestAnAnswerOfAnotherFormatEndsTheStreamWithTheReason(t *testing.T) {
	p := startPlane(t, "", newStore())
	opened := observe(t, p, "later")
	eventually(t, "the proxy can be asked", func() bool { return len(p.server.Proxies()) == 1 })
	if err := opened.SendMsg(&stream.Answer{Format: 7}); err != nil {
		t.Fatal(err)
	}
	if err := opened.RecvMsg(new(stream.Query)); err == nil || !strings.Contains(err.Error(), "has format 7; this Sluice reads format 2: upgrade this Sluice") {
		t.Errorf("the stream ended with %v", err)
	}
	eventually(t, "it is not asked any more", func() bool { return len(p.server.Proxies()) == 0 })
}

func TestAProxyWhoseNameIsTooLongIsNotAsked(t *testing.T) {
	p := startPlane(t, "", newStore())
	opened := observe(t, p, strings.Repeat("x", wire.MaxProxyName+1))
	if err := opened.RecvMsg(new(stream.Query)); status.Code(err) != codes.InvalidArgument {
		t.Errorf("the stream ended with %v", err)
	}
}

func TestProxiesThatAreAskedAreBounded(t *testing.T) {
	var p proxies
	p.init(MaxConnections)
	for range MaxConnections {
		if err := p.reserve(new(observer)); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.reserve(new(observer)); status.Code(err) != codes.ResourceExhausted {
		t.Errorf("one more: %v", err)
	}
}

func TestAProxyThatDoesNotReadQuestionsIsLetGo(t *testing.T) {
	var p proxies
	p.init(MaxConnections)
	stuck := false
	o := &observer{queries: make(chan *stream.Query, 1), stuck: func() { stuck = true }}
	if err := p.reserve(o); err != nil {
		t.Fatal(err)
	}
	p.connect(o, "mute")
	q, asked, err := p.ask(stream.Query{Kind: stream.QueryFlows, Follow: true})
	if err != nil || asked != 1 {
		t.Fatalf("%d were asked, %v", asked, err)
	}
	if p.withdraw(q); !stuck {
		t.Error("it goes on to answer a question that was withdrawn")
	}
}

func TestQuestionsAreBounded(t *testing.T) {
	p := startPlane(t, "", newStore())
	for range maxQuestions {
		if _, _, err := p.server.proxies.ask(stream.Query{Kind: stream.QueryFlows, Follow: true}); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.server.Flows(t.Context(), inspect.FlowQuery{}, nil, nil); !errors.Is(err, errTooManyQuestions) {
		t.Errorf("one more than %d: %v", maxQuestions, err)
	}
}

func flowsLost(s *Server) (lost uint64) {
	s.proxies.mu.Lock()
	defer s.proxies.mu.Unlock()
	for _, q := range s.proxies.questions {
		lost += q.dropped
	}
	return lost
}

func questionsOpen(s *Server) int {
	s.proxies.mu.Lock()
	defer s.proxies.mu.Unlock()
	return len(s.proxies.questions)
}

func TestCloseLeavesNoGoroutine(t *testing.T) {
	before := runtime.NumGoroutine()
	p := startPlane(t, "", newStore())
	client := p.client(record.NewRing())
	until(t, join(t, client, details("v1")), func(*wire.Snapshot) bool { return true })
	p.stop()
	client.Close()
	eventually(t, "all goroutines ended", func() bool { return runtime.NumGoroutine() <= before })
}

func TestAWorkloadThatCannotBeSentTheLatestIsMarkedOutdated(t *testing.T) {
	p := startPlane(t, "", newStore())
	m := join(t, p.client(nil), details("v2"))
	first := until(t, m, hasRules(""))
	if !m.Connected() {
		t.Error("what the server stands behind is said to be outdated")
	}
	// A rule of which the part would be too large.
	huge := policyFor("huge", "huge.example.com", "v2")
	huge.Spec.(*v1alpha1.EgressPolicySpec).TLS = &v1alpha1.EgressTLS{CABundle: strings.Repeat("x", wire.MaxPartBytes)}
	p.store.set(huge)
	eventually(t, "the snapshot is outdated", func() bool { return !m.Connected() })
	eventually(t, "status says why", func() bool { return strings.Contains(p.server.Workloads()[0].Nack, "more than") })
	// Once the rule is gone the snapshot of before is current again.
	p.store.set()
	if again := next(t, m); again.Version != first.Version || !m.Connected() {
		t.Errorf("it was sent %s, connected %v", ruleIDs(again), m.Connected())
	}
	m.Ack(first.Version)
	eventually(t, "status says no more", func() bool { return p.server.Workloads()[0].Nack == "" })
}
