package stream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/structpb"

	"sluice.dev/sluice/internal/names"
	"sluice.dev/sluice/internal/policy"
	"sluice.dev/sluice/internal/wire"
)

// scripted is a server whose streams a test plays itself.
type scripted struct {
	discoveryv3.UnimplementedAggregatedDiscoveryServiceServer
	streams chan *played

	mu       sync.Mutex
	listener *bufconn.Listener
	server   *grpc.Server
	dials    []time.Time
}

// played is one stream of a client; the handler ends when end is sent to.
type played struct {
	grpc.BidiStreamingServer[discoveryv3.DeltaDiscoveryRequest, discoveryv3.DeltaDiscoveryResponse]
	end chan error
}

func (s *scripted) DeltaAggregatedResources(opened grpc.BidiStreamingServer[discoveryv3.DeltaDiscoveryRequest, discoveryv3.DeltaDiscoveryResponse]) error {
	p := &played{opened, make(chan error, 1)}
	select {
	case s.streams <- p:
	case <-opened.Context().Done():
		return nil
	}
	select {
	case err := <-p.end:
		return err
	case <-opened.Context().Done():
		return nil
	}
}

func (s *scripted) start() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.listener = bufconn.Listen(1 << 20)
	s.server = grpc.NewServer(grpc.ForceServerCodecV2(NewCodec()), grpc.WaitForHandlers(true))
	discoveryv3.RegisterAggregatedDiscoveryServiceServer(s.server, s)
	go s.server.Serve(s.listener)
}

func (s *scripted) stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.server.Stop()
	s.listener.Close()
}

func (s *scripted) dial(ctx context.Context) (net.Conn, error) {
	s.mu.Lock()
	listener := s.listener
	s.dials = append(s.dials, time.Now())
	s.mu.Unlock()
	return listener.DialContext(ctx)
}

// play runs a test against a scripted server, in a bubble of time.
func play(t *testing.T, test func(t *testing.T, server *scripted, client *Client)) {
	synctest.Test(t, func(t *testing.T) {
		server := &scripted{streams: make(chan *played)}
		server.start()
		client, err := NewClient(Config{Dial: server.dial, Proxy: "test"})
		if err != nil {
			t.Fatal(err)
		}
		test(t, server, client)
		client.Close()
		server.stop()
		time.Sleep(time.Minute) // what gRPC ends by itself
	})
}

func (p *played) request(t *testing.T) *discoveryv3.DeltaDiscoveryRequest {
	t.Helper()
	request, err := p.Recv()
	if err != nil {
		t.Fatal(err)
	}
	return request
}

// answer returns the reply to the index with this nonce, past those to parts.
func (p *played) answer(t *testing.T, nonce string) *discoveryv3.DeltaDiscoveryRequest {
	t.Helper()
	for {
		if request := p.request(t); request.GetResponseNonce() == nonce {
			return request
		}
	}
}

// content is the parts of a snapshot.
func content(t *testing.T, hosts ...string) map[string]*wire.Part {
	t.Helper()
	own := &wire.Policy{}
	for _, host := range hosts {
		own.Rules = append(own.Rules, policy.Rule{ID: host, Hosts: []names.Pattern{names.MustParsePattern(host)}, Ports: []policy.Port{{Port: 443, Protocol: policy.ProtocolHTTPS}}})
	}
	parts := make(map[string]*wire.Part)
	for name, value := range map[string]any{
		wire.PartMesh:                  &wire.Mesh{OutboundDefault: "Deny", MaxStale: time.Hour},
		wire.PartPolicyRoot + "a":      &wire.Policy{},
		wire.PartPolicyNamespace + "a": &wire.Policy{},
		wire.PartPolicyOwn + "a":       own,
		wire.PartRoutes:                &wire.Routes{},
		wire.PartDirectory:             &wire.Directory{Domain: "cluster.local"},
	} {
		part, err := wire.EncodePart(name, value)
		if err != nil {
			t.Fatal(err)
		}
		parts[name] = part
	}
	return parts
}

func (p *played) sendPart(t *testing.T, part *wire.Part) {
	t.Helper()
	p.send(t, part.Kind, "part", EncodeResource(part.Name, part.Kind, string(part.Hash), part.Bytes))
}

func (p *played) send(t *testing.T, kind wire.Kind, nonce string, resource *discoveryv3.Resource) {
	t.Helper()
	if err := p.Send(&discoveryv3.DeltaDiscoveryResponse{TypeUrl: kind.TypeURL(), Nonce: nonce, Resources: []*discoveryv3.Resource{resource}}); err != nil {
		t.Fatal(err)
	}
}

func (p *played) sendIndex(t *testing.T, nonce, instance string, parts map[string]*wire.Part) string {
	t.Helper()
	index := wire.Index{Instance: instance, Parts: make(map[string]wire.Hash)}
	for name, part := range parts {
		index.Parts[name] = part.Hash
	}
	index.Version = wire.VersionOf(index.Parts)
	b, err := json.Marshal(index)
	if err != nil {
		t.Fatal(err)
	}
	p.send(t, wire.KindIndex, nonce, EncodeResource(wire.NameIndex, wire.KindIndex, index.Version, b))
	return index.Version
}

// sendAll sends every part and then the index, whose version it returns.
func (p *played) sendAll(t *testing.T, nonce string, parts map[string]*wire.Part) string {
	t.Helper()
	for _, name := range slices.Sorted(maps.Keys(parts)) {
		p.sendPart(t, parts[name])
	}
	return p.sendIndex(t, nonce, "details-v2/1", parts)
}

func joinDetails(t *testing.T, c *Client) *Membership {
	t.Helper()
	m, err := c.Join(t.Context(), wire.Workload{Service: "details", Version: "v2", Ports: []uint16{9080}, PID: 4194303})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func rulesOf(s *wire.Snapshot) string {
	var ids []string
	for _, rule := range s.Rules() {
		ids = append(ids, rule.ID)
	}
	return strings.Join(ids, " ")
}

func TestTheFirstRequestIsTheJoin(t *testing.T) {
	play(t, func(t *testing.T, server *scripted, client *Client) {
		m := joinDetails(t, client)
		p := <-server.streams
		first := p.request(t)
		if first.GetNode().GetId() != "details-v2" || first.GetTypeUrl() != wire.KindIndex.TypeURL() {
			t.Errorf("got %v", first)
		}
		join, err := DecodeNode(first.GetNode())
		if err != nil {
			t.Fatal(err)
		}
		w := join.Workload
		if w.Service != "details" || w.Namespace != "default" || w.Labels["version"] != "v2" || w.PID != 4194303 || w.Proxy != "test" || len(w.Ports) != 1 || len(join.Session) < 20 {
			t.Errorf("got %+v", join)
		}
		if m.Connected() || m.Instance() != "" {
			t.Error("it is connected before the server said so")
		}
		version := p.sendAll(t, "n", content(t, "a.example.com"))
		snapshot := <-m.Snapshots()
		<-m.Joined()
		if snapshot.Version != version || rulesOf(snapshot) != "a.example.com" || !m.Connected() || m.Instance() != "details-v2/1" {
			t.Errorf("got %+v for %s", snapshot, m.Instance())
		}
		m.Ack(version)
		if reply := p.answer(t, "n"); reply.GetErrorDetail() != nil {
			t.Errorf("got %v", reply)
		}
	})
}

func TestAHalfSentSnapshotIsNeverHandedOut(t *testing.T) {
	play(t, func(t *testing.T, server *scripted, client *Client) {
		m := joinDetails(t, client)
		p := <-server.streams
		p.request(t)
		parts := content(t, "a.example.com")
		for name, part := range parts {
			if name != wire.PartPolicyOwn+"a" {
				p.sendPart(t, part)
			}
		}
		p.sendIndex(t, "n", "details-v2/1", parts)
		again := <-server.streams // the client opens another stream
		first := again.request(t)
		if _, claimed := first.GetInitialResourceVersions()[wire.PartPolicyOwn+"a"]; claimed || len(first.GetInitialResourceVersions()) != len(parts)-1 {
			t.Errorf("it says it holds %v", first.GetInitialResourceVersions())
		}
		select {
		case snapshot := <-m.Snapshots():
			t.Fatalf("got %+v", snapshot)
		default:
		}
		if m.Connected() {
			t.Error("it is connected")
		}
		// Only what is missing has to be sent.
		again.sendPart(t, parts[wire.PartPolicyOwn+"a"])
		again.sendIndex(t, "n", "details-v2/1", parts)
		if got := rulesOf(<-m.Snapshots()); got != "a.example.com" {
			t.Errorf("got %s", got)
		}
	})
}

func TestWhatDoesNotAgreeEndsTheStreamAndIsNotKept(t *testing.T) {
	good := content(t, "a.example.com")
	own := good[wire.PartPolicyOwn+"a"]
	other := content(t, "b.example.com")[wire.PartPolicyOwn+"a"]
	for name, send := range map[string]func(t *testing.T, p *played){
		"bytes of another hash": func(t *testing.T, p *played) {
			p.send(t, own.Kind, "n", EncodeResource(own.Name, own.Kind, string(own.Hash), other.Bytes))
		},
		"a kind of another name": func(t *testing.T, p *played) {
			p.send(t, wire.KindRoutes, "n", EncodeResource(own.Name, wire.KindRoutes, string(own.Hash), own.Bytes))
		},
		"a name of nothing": func(t *testing.T, p *played) {
			p.send(t, own.Kind, "n", EncodeResource("policy/other", own.Kind, string(own.Hash), own.Bytes))
		},
		"an unknown field": func(t *testing.T, p *played) {
			b := []byte(`{"rules":[],"denyAfter":"noon"}`)
			p.send(t, own.Kind, "n", EncodeResource(own.Name, own.Kind, string(wire.HashOf(b)), b))
		},
		"an index of another version": func(t *testing.T, p *played) {
			for _, part := range good {
				p.sendPart(t, part)
			}
			index := wire.Index{Version: "0", Parts: map[string]wire.Hash{}}
			for name, part := range good {
				index.Parts[name] = part.Hash
			}
			b, _ := json.Marshal(index)
			p.send(t, wire.KindIndex, "n", EncodeResource(wire.NameIndex, wire.KindIndex, "0", b))
		},
		"an index without the routes": func(t *testing.T, p *played) {
			fewer := maps.Clone(good)
			delete(fewer, wire.PartRoutes)
			p.sendAll(t, "n", fewer)
		},
		"no JSON at all": func(t *testing.T, p *played) {
			p.send(t, wire.KindIndex, "n", EncodeResource(wire.NameIndex, wire.KindIndex, "0", []byte("\x00")))
		},
	} {
		t.Run(name, func(t *testing.T) {
			play(t, func(t *testing.T, server *scripted, client *Client) {
				m := joinDetails(t, client)
				p := <-server.streams
				p.request(t)
				send(t, p)
				again := <-server.streams
				first := again.request(t)
				if hash := first.GetInitialResourceVersions()[own.Name]; hash != "" && hash != string(own.Hash) {
					t.Errorf("it kept %s", hash)
				}
				select {
				case snapshot := <-m.Snapshots():
					t.Errorf("handed out: %+v", snapshot)
				default:
				}
			})
		})
	}
}

func TestASnapshotOfAnotherFormatEndsTheStreamWithTheReason(t *testing.T) {
	own := content(t, "a.example.com")[wire.PartPolicyOwn+"a"]
	for name, response := range map[string]*discoveryv3.DeltaDiscoveryResponse{
		"an index": {TypeUrl: "type.sluice.dev/wire.v7.Index", Resources: []*discoveryv3.Resource{
			{Name: wire.NameIndex, Resource: &anypb.Any{TypeUrl: "type.sluice.dev/wire.v7.Index", Value: []byte("in another way")}},
		}},
		"a part": {TypeUrl: wire.KindPolicy.TypeURL(), Resources: []*discoveryv3.Resource{
			{Name: own.Name, Version: string(own.Hash), Resource: &anypb.Any{TypeUrl: "type.sluice.dev/wire.v7.Policy", Value: own.Bytes}},
		}},
	} {
		t.Run(name, func(t *testing.T) {
			play(t, func(t *testing.T, server *scripted, client *Client) {
				m := joinDetails(t, client)
				p := <-server.streams
				p.request(t)
				if err := p.Send(response); err != nil {
					t.Fatal(err)
				}
				again := <-server.streams
				if first := again.request(t); len(first.GetInitialResourceVersions()) != 0 {
					t.Errorf("it kept %v", first.GetInitialResourceVersions())
				}
				want := fmt.Sprintf("a snapshot on the stream has format 7; this Sluice reads format %d: upgrade this Sluice", wire.Format)
				if err := m.Err(); err == nil || !strings.Contains(err.Error(), want) {
					t.Errorf("the stream ended with %v, want %s", err, want)
				}
			})
		})
	}
}

func TestWhatTheServerRefusesIsSaidInItsOwnWords(t *testing.T) {
	play(t, func(t *testing.T, server *scripted, client *Client) {
		m := joinDetails(t, client)
		p := <-server.streams
		p.request(t)
		p.end <- status.Error(codes.InvalidArgument, "details is not welcome")
		synctest.Wait()
		if err := m.Err(); err == nil || err.Error() != "read stream: details is not welcome" || !final(err) {
			t.Errorf("got %v", err)
		}
	})
}

func TestAQuestionOfAnotherFormatIsRefusedWhateverElseItSays(t *testing.T) {
	codec := NewCodec()
	decode := func(text string, into any) error {
		return codec.Unmarshal(mem.BufferSlice{mem.SliceBuffer(text)}, into)
	}
	const want = "a question or an answer about flows has format 7; this Sluice reads format 2: upgrade this Sluice"
	for _, text := range []string{`{"format":7,"id":1,"kind":"flows"}`, `{"format":7,"id":{"of":"another type"}}`} {
		if err := decode(text, new(Query)); err == nil || err.Error() != want {
			t.Errorf("%s: %v", text, err)
		}
	}
	if err := decode(`{"id":1,"kind":"flows"}`, new(Query)); err == nil || !strings.Contains(err.Error(), "has format 1") {
		t.Errorf("without a format: %v", err)
	}
	var query Query
	if err := decode(`{"format":2,"id":9,"kind":"flow"}`, &query); err != nil || query.ID != 9 {
		t.Errorf("of this format: %+v, %v", query, err)
	}
	if err := decode(`{"format":2,"id":"nine"}`, &query); err == nil || strings.Contains(err.Error(), "upgrade") {
		t.Errorf("a damaged one: %v", err)
	}
}

func TestAfterALossOnlyWhatChangedIsNeeded(t *testing.T) {
	play(t, func(t *testing.T, server *scripted, client *Client) {
		m := joinDetails(t, client)
		p := <-server.streams
		p.request(t)
		parts := content(t, "a.example.com")
		version := p.sendAll(t, "1", parts)
		m.Ack((<-m.Snapshots()).Version)
		p.answer(t, "1")
		server.stop()
		synctest.Wait()
		if m.Connected() || m.Err() == nil {
			t.Errorf("connected %v, %v", m.Connected(), m.Err())
		}
		server.start()
		p = <-server.streams
		first := p.request(t)
		join, err := DecodeNode(first.GetNode())
		if err != nil || join.Workload.Instance != "details-v2/1" {
			t.Errorf("it comes back as %+v, %v", join, err)
		}
		claimed := first.GetInitialResourceVersions()
		if claimed[wire.NameIndex] != version || len(claimed) != len(parts)+1 {
			t.Errorf("it says it holds %v", claimed)
		}
		for name, part := range parts {
			if claimed[name] != string(part.Hash) {
				t.Errorf("of %s it says it holds %q", name, claimed[name])
			}
		}
		changed := content(t, "b.example.com")
		p.sendPart(t, changed[wire.PartPolicyOwn+"a"])
		p.sendIndex(t, "2", "details-v2/1", changed)
		if got := rulesOf(<-m.Snapshots()); got != "b.example.com" {
			t.Errorf("got %s", got)
		}
	})
}

func TestARefusedSnapshotIsNotSaidToRun(t *testing.T) {
	play(t, func(t *testing.T, server *scripted, client *Client) {
		m := joinDetails(t, client)
		p := <-server.streams
		p.request(t)
		good := p.sendAll(t, "1", content(t, "a.example.com"))
		m.Ack((<-m.Snapshots()).Version)
		p.answer(t, "1")
		bad := p.sendAll(t, "2", content(t, "b.example.com"))
		if got := (<-m.Snapshots()).Version; got != bad {
			t.Fatalf("got %s", got)
		}
		m.Nack(bad, errors.New("\xff"+strings.Repeat("nö ", 10_000))) // cut within a letter
		if detail := p.answer(t, "2").GetErrorDetail(); !strings.HasPrefix(detail.GetMessage(), "nö nö") || len(detail.GetMessage()) > maxNack {
			t.Errorf("got %v", detail)
		}
		p.end <- status.Error(codes.Unavailable, "gone")
		p = <-server.streams
		if got := p.request(t).GetInitialResourceVersions()[wire.NameIndex]; got != good {
			t.Errorf("it says that %s runs, not %s", got, good)
		}
	})
}

func TestTheServerSaysThatASnapshotIsOutdated(t *testing.T) {
	play(t, func(t *testing.T, server *scripted, client *Client) {
		m := joinDetails(t, client)
		p := <-server.streams
		p.request(t)
		parts := content(t, "a.example.com")
		p.sendAll(t, "1", parts)
		m.Ack((<-m.Snapshots()).Version)
		if err := p.Send(&discoveryv3.DeltaDiscoveryResponse{TypeUrl: wire.KindIndex.TypeURL(), RemovedResources: []string{wire.NameIndex}}); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if m.Connected() || m.Err() != nil {
			t.Errorf("connected %v, %v", m.Connected(), m.Err())
		}
		p.sendIndex(t, "2", "details-v2/1", parts)
		if <-m.Snapshots(); !m.Connected() {
			t.Error("after the next index it is outdated still")
		}
	})
}

func TestWhatIsHeldIsBoundedInBytes(t *testing.T) {
	play(t, func(t *testing.T, server *scripted, client *Client) {
		m := joinDetails(t, client)
		p := <-server.streams
		p.request(t)
		mesh := func(i int) *wire.Part {
			part, err := wire.NewPart(wire.PartMesh, fmt.Appendf(nil, `{"outboundDefault":"%032d","maxStale":1}`, i))
			if err != nil {
				t.Fatal(err)
			}
			return part
		}
		for i := range 10 { // one name: the last one counts
			p.sendPart(t, mesh(i))
		}
		synctest.Wait()
		m.mu.Lock()
		if want := len(mesh(0).Bytes); m.bytes != want {
			t.Errorf("%d bytes of one part are counted as %d", want, m.bytes)
		}
		m.bytes = 2 * wire.MaxSnapshotBytes // as if by many
		m.mu.Unlock()
		p.sendPart(t, content(t, "a.example.com")[wire.PartPolicyOwn+"a"])
		again := <-server.streams
		again.request(t)
		if err := m.Err(); err == nil || !strings.Contains(err.Error(), "more than two snapshots") {
			t.Errorf("the stream ended with %v", err)
		}
	})
}

func TestTheLatestSnapshotWins(t *testing.T) {
	play(t, func(t *testing.T, server *scripted, client *Client) {
		m := joinDetails(t, client)
		p := <-server.streams
		p.request(t)
		var last string
		for i := range 20 {
			last = p.sendAll(t, fmt.Sprint(i), content(t, fmt.Sprintf("h%d.example.com", i)))
		}
		synctest.Wait()
		snapshot := <-m.Snapshots()
		if snapshot.Version != last {
			t.Errorf("got %s, not the latest", rulesOf(snapshot))
		}
		m.Ack("of another version")
		m.Ack(last)
		p.answer(t, "19")
		m.Ack(last) // a second time: nothing is sent
		m.Leave()
		if request, err := p.Recv(); !errors.Is(err, io.EOF) && status.Code(err) != codes.Canceled {
			t.Errorf("after the leave: %v, %v", request, err)
		}
		if _, open := <-m.Snapshots(); open {
			t.Error("the channel of a membership that ended is open")
		}
	})
}

func TestALostServerIsSoughtWithinBounds(t *testing.T) {
	play(t, func(t *testing.T, server *scripted, client *Client) {
		m := joinDetails(t, client)
		p := <-server.streams
		p.request(t)
		p.sendAll(t, "1", content(t, "a.example.com"))
		m.Ack((<-m.Snapshots()).Version)
		server.stop()
		time.Sleep(10 * time.Minute)
		server.mu.Lock()
		tries := len(server.dials)
		server.mu.Unlock()
		if least, most := int(10*time.Minute/(MaxBackoff*13/10)), int(10*time.Minute/(MaxBackoff/2)); tries < least || tries > most {
			t.Errorf("%d tries in ten minutes, not %d to %d", tries, least, most)
		}
		server.start()
		back := time.Now()
		<-server.streams
		if took := time.Since(back); took > 2*MaxBackoff+2*time.Second {
			t.Errorf("it came back after %s", took)
		}
	})
}

func TestAWorkloadThatTheServerRefusesAsksSeldom(t *testing.T) {
	play(t, func(t *testing.T, server *scripted, client *Client) {
		m := joinDetails(t, client)
		started := time.Now()
		const times = 10
		for range times {
			p := <-server.streams
			p.request(t)
			p.end <- status.Error(codes.ResourceExhausted, "full")
		}
		if took := time.Since(started); took < (times-1)*MaxBackoff*(10-2)/10 {
			t.Errorf("it asked %d times in %s", times, took)
		}
		synctest.Wait()
		if err := m.Err(); status.Code(err) != codes.ResourceExhausted {
			t.Errorf("got %v", err)
		}
	})
}

func TestALeaveIsSaidAndTheServersEndAwaitedForABoundedTime(t *testing.T) {
	play(t, func(t *testing.T, server *scripted, client *Client) {
		for _, answers := range []bool{true, false} {
			m := joinDetails(t, client)
			p := <-server.streams
			p.request(t)
			go func() {
				if request, err := p.Recv(); !errors.Is(err, io.EOF) {
					t.Errorf("the leave came as %v, %v", request, err)
				}
				if answers {
					p.end <- nil
				}
			}()
			started := time.Now()
			m.Leave()
			if took := time.Since(started); answers && took != 0 || took > leaveTimeout {
				t.Errorf("the leave from a server that answers (%v) took %s", answers, took)
			}
			synctest.Wait()
		}
	})
}

// Else the server takes it for a lost connection, and keeps the workload's name.
func TestWhatIsOnItsWayDoesNotCutALeaveShort(t *testing.T) {
	play(t, func(t *testing.T, server *scripted, client *Client) {
		m := joinDetails(t, client)
		p := <-server.streams
		p.request(t)
		left := make(chan struct{})
		go func() { m.Leave(); close(left) }()
		synctest.Wait()
		p.sendAll(t, "1", content(t, "a.example.com"))
		synctest.Wait()
		if err := p.Context().Err(); err != nil {
			t.Errorf("the client broke the stream off: %v", err)
		}
		if request, err := p.Recv(); !errors.Is(err, io.EOF) {
			t.Errorf("after the leave: %v, %v", request, err)
		}
		p.end <- nil
		<-left
	})
}

func TestAWorkloadThatLeavesBeforeItsStreamIsOpenDoesNotWait(t *testing.T) {
	play(t, func(t *testing.T, server *scripted, client *Client) {
		server.stop()
		m := joinDetails(t, client)
		synctest.Wait()
		started := time.Now()
		m.Leave()
		if took := time.Since(started); took != 0 {
			t.Errorf("it took %s", took)
		}
		server.start()
	})
}

func TestAClosedClientTakesNobody(t *testing.T) {
	play(t, func(t *testing.T, _ *scripted, client *Client) {
		client.Close()
		if _, err := client.Join(t.Context(), wire.Workload{Service: "details"}); err == nil {
			t.Error("it joined")
		}
	})
}

func FuzzDecodeNode(f *testing.F) {
	f.Add([]byte(`{"workload":{"namespace":"default","instance":"","level":"","proxy":""},"session":"s"}`))
	f.Add([]byte(`{"workload":{"labels":{"a/b":"c"},"ports":[1,65535],"pid":-1}}`))
	f.Add([]byte(`{"session":1e300}`))
	f.Add([]byte(`{"format":7,"workload":{"namespace":[]}}`))
	f.Fuzz(func(t *testing.T, said []byte) {
		metadata := new(structpb.Struct)
		if metadata.UnmarshalJSON(said) != nil {
			return
		}
		read, err := DecodeNode(&corev3.Node{Metadata: metadata})
		if err != nil {
			return
		}
		node, err := EncodeNode(read)
		if err != nil {
			t.Fatal(err)
		}
		if same, err := DecodeNode(node); err != nil || same.Session != read.Session || same.Workload.ClassKey() != read.Workload.ClassKey() {
			t.Fatalf("%+v was read again as %+v, %v", read, same, err)
		}
		again, err := read.Workload.Normalize()
		if err != nil || again.ClassKey() != read.Workload.ClassKey() {
			t.Fatalf("%+v is not stable: %+v, %v", read.Workload, again, err)
		}
	})
}

func FuzzQuestionsAndAnswers(f *testing.F) {
	f.Add([]byte(`{"format":2,"id":1,"kind":"flows","workload":"details-v2","last":100,"follow":true}`))
	f.Add([]byte(`{"format":2,"query":1,"flows":[{"id":"00000000000000ab","start":"2026-01-02T03:04:05Z","port":443,"verdict":"deny"}],"past":true}`))
	f.Add([]byte(`{"format":7,"id":{}}`))
	codec := NewCodec()
	f.Fuzz(func(t *testing.T, said []byte) {
		for _, message := range []any{new(Query), new(Answer)} {
			if codec.Unmarshal(mem.BufferSlice{mem.SliceBuffer(said)}, message) != nil {
				continue
			}
			if format := message.(interface{ format() int }).format(); format != ObserveFormat {
				t.Fatalf("%q of format %d was read", said, format)
			}
			again, err := codec.Marshal(message)
			if err != nil {
				t.Fatal(err)
			}
			if err := codec.Unmarshal(again, message); err != nil {
				t.Fatalf("%q was written as %q: %v", said, again.Materialize(), err)
			}
		}
	})
}
