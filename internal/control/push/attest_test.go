package push

import (
	"context"
	"crypto/x509"
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"sluice.dev/sluice/internal/control/authority"
	"sluice.dev/sluice/internal/control/inspect"
	"sluice.dev/sluice/internal/control/registry"
	"sluice.dev/sluice/internal/record"
	"sluice.dev/sluice/internal/wire"
	"sluice.dev/sluice/internal/wire/stream"
)

// pods is who a test's tokens were given to, as of now.
type pods struct {
	mu   sync.Mutex
	held map[string]wire.Workload // by token
	ends map[string]time.Time     // of tokens, where not in an hour
}

func (p *pods) set(token string, w *wire.Workload) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if w == nil {
		delete(p.held, token)
		return
	}
	p.held[token] = *w
}

func (p *pods) Attest(_ context.Context, token string) (Attested, error) {
	now := func() (wire.Workload, bool) {
		p.mu.Lock()
		defer p.mu.Unlock()
		w, ok := p.held[token]
		return w, ok
	}
	if _, ok := now(); !ok {
		return Attested{}, fmt.Errorf("%w: it is nobody's", ErrRefused)
	}
	end, ok := p.ends[token]
	if !ok {
		end = time.Now().Add(time.Hour)
	}
	return Attested{Now: now, Expires: end}, nil
}

func podOf(instance, namespace, version string) *wire.Workload {
	w, err := wire.Workload{
		Instance: instance, Namespace: namespace, Account: "till", Version: version, Labels: map[string]string{"app": "details", "version": version},
	}.Normalize()
	if err != nil {
		panic(err)
	}
	return &w
}

// remotePlane is a control plane on a port, whose proxies show tokens.
type remotePlane struct {
	*plane
	address string
	roots   *x509.CertPool
	pods    *pods
}

func startRemote(t *testing.T, store *memoryStore) *remotePlane {
	t.Helper()
	ca, err := authority.Open(filepath.Join(t.TempDir(), "ca"), nil, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &remotePlane{
		plane:   &plane{t: t, store: store, registry: registry.New(registry.Config{})},
		address: listener.Addr().String(), roots: x509.NewCertPool(), pods: &pods{held: make(map[string]wire.Workload), ends: make(map[string]time.Time)},
	}
	p.roots.AppendCertsFromPEM(ca.CA())
	config := ca.TLS()
	config.NextProtos = []string{"h2"}
	if p.server, err = New(Config{Registry: p.registry, Census: p.registry, Remote: &Remote{TLS: config, Attestor: p.pods}}); err != nil {
		t.Fatal(err)
	}
	p.server.patience = patience
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
	t.Cleanup(func() {
		cancel()
		p.server.Close()
		work.Wait()
	})
	return p
}

// proxy is a client that shows the tokens, one after another where it is asked again.
func (p *remotePlane) proxy(flows *record.Ring, tokens ...string) *stream.Client {
	p.t.Helper()
	client, err := stream.NewClient(stream.Config{
		Dial: stream.DialTLS(p.address, authority.ServerName, p.roots), Proxy: "sidecar", Flows: flows,
		Token: func() (string, error) { return tokens[0], nil },
	})
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(client.Close)
	return client
}

func TestAProxyGetsTheRulesOfItsPodWhateverItSaysOfItself(t *testing.T) {
	p := startRemote(t, newStore(policyFor("mine", "mine.example.com", "v2"), policyFor("admins", "admin.example.com", "admin")))
	p.pods.set("token", podOf("details-1.default", "default", "v2"))
	m := join(t, p.proxy(nil, "token"), wire.Workload{
		Instance: "admin-1.default", Namespace: "kube-system", Account: "admin", Service: "admin", Version: "admin", Labels: map[string]string{"app": "admin"}, Level: "sidecar",
	})
	until(t, m, hasRules("mine"))
	if got := m.Instance(); got != "details-1.default" {
		t.Errorf("it is called %s", got)
	}
	eventually(t, "the workload is known", func() bool { return len(p.server.Workloads()) == 1 })
	if w := p.server.Workloads()[0]; w.Namespace != "default" || w.Account != "till" || w.Service != "" || w.Labels["version"] != "v2" || w.Level != "sidecar" || w.Proxy != "sidecar" {
		t.Errorf("the server takes it for %+v", w)
	}
}

func TestLabelsThatChangeBringOtherRulesAndAPodThatIsGoneGetsNoMore(t *testing.T) {
	p := startRemote(t, newStore(policyFor("two", "two.example.com", "v2"), policyFor("three", "three.example.com", "v3")))
	p.pods.set("token", podOf("details-1.default", "default", "v2"))
	m := join(t, p.proxy(nil, "token"), wire.Workload{})
	until(t, m, hasRules("two"))
	p.pods.set("token", podOf("details-1.default", "default", "v3"))
	p.store.set(p.store.objects...) // something is compiled anew, as after any change of the census
	until(t, m, hasRules("three"))
	p.pods.set("token", nil)
	p.store.set(p.store.objects...)
	eventually(t, "the stream ends", func() bool { return len(p.server.Workloads()) == 0 })
	eventually(t, "the proxy learns why", func() bool { err := m.Err(); return err != nil && !m.Connected() })
}

func TestAStreamWithoutATokenOrWithOneThatIsRefusedGetsNothing(t *testing.T) {
	p := startRemote(t, newStore(policyFor("mine", "mine.example.com", "")))
	p.pods.set("token", podOf("details-1.default", "default", "v2"))
	for what, token := range map[string]string{"stolen": "it is nobody's", "": "not a bearer token", strings.Repeat("x", maxToken+1): "not a bearer token"} {
		m := join(t, p.proxy(nil, what), wire.Workload{})
		eventually(t, "the join is refused", func() bool { return m.Err() != nil })
		if err := m.Err(); !strings.Contains(err.Error(), token) {
			t.Errorf("a token of %d bytes: %v", len(what), err)
		}
	}
	without, err := stream.NewClient(stream.Config{Dial: stream.DialTLS(p.address, authority.ServerName, p.roots)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(without.Close)
	m := join(t, without, wire.Workload{})
	eventually(t, "the join is refused", func() bool { return m.Err() != nil })
	if err := m.Err(); !strings.Contains(err.Error(), "shows no token") {
		t.Error(err)
	}
	if all := p.registry.Now().Workloads; len(all) != 0 || len(p.server.Proxies()) != 0 {
		t.Errorf("joined: %+v, %v", all, p.server.Proxies())
	}
	stranger, err := stream.NewClient(stream.Config{Dial: stream.DialTLS(p.address, "another-server", p.roots), Token: func() (string, error) { return "token", nil }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(stranger.Close)
	if _, err := stream.DialTLS(p.address, "another-server", p.roots)(t.Context()); err == nil {
		t.Error("a server of another name is spoken to")
	}
}

func TestAStreamDoesNotOutliveItsToken(t *testing.T) {
	p := startRemote(t, newStore())
	p.pods.set("old", podOf("details-1.default", "default", "v2"))
	p.pods.ends["old"] = time.Now().Add(-time.Second)
	m := join(t, p.proxy(nil, "old"), wire.Workload{})
	eventually(t, "the stream ends", func() bool { return m.Err() != nil })
	if err := m.Err(); !strings.Contains(err.Error(), "expired") {
		t.Error(err)
	}
	eventually(t, "the stream of questions ends", func() bool { return len(p.server.Proxies()) == 0 })
}

func TestAPodThatJoinsAgainTakesThePlaceOfItsEarlierStream(t *testing.T) {
	p := startRemote(t, newStore())
	p.pods.set("token", podOf("details-1.default", "default", "v2"))
	first := join(t, p.proxy(nil, "token"), wire.Workload{})
	until(t, first, hasRules(""))
	second := join(t, p.proxy(nil, "token"), wire.Workload{})
	until(t, second, hasRules(""))
	if got := second.Instance(); got != "details-1.default" || len(p.registry.Now().Workloads) != 1 {
		t.Errorf("it is called %s beside %+v", got, p.registry.Now().Workloads)
	}
}

func TestAProxyTellsTheFlowsOfItsOwnWorkloadAlone(t *testing.T) {
	p := startRemote(t, newStore())
	p.pods.set("token", podOf("details-1.default", "default", "v2"))
	flows := record.NewRing()
	flows.Closed(&record.Record{ID: 1, Start: time.Now(), Workload: "somebody-else.default"})
	until(t, join(t, p.proxy(flows, "token"), wire.Workload{}), hasRules(""))
	eventually(t, "the proxy answers questions", func() bool { return len(p.server.Proxies()) == 1 })
	var told []string
	err := p.server.Flows(t.Context(), inspect.FlowQuery{Last: 10}, func() {}, func(f record.Record) error {
		told = append(told, f.Workload)
		return nil
	})
	if err != nil || len(told) != 1 || told[0] != "details-1.default" {
		t.Errorf("told of %q, %v", told, err)
	}
}

func TestOneAddressCannotTakeAllConnections(t *testing.T) {
	p := startRemote(t, newStore())
	var open []net.Conn
	for range MaxPerAddress {
		conn, err := stream.DialTLS(p.address, authority.ServerName, p.roots)(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		open = append(open, conn)
	}
	if conn, err := stream.DialTLS(p.address, authority.ServerName, p.roots)(t.Context()); err == nil {
		conn.Close()
		t.Errorf("a connection beside %d is served", MaxPerAddress)
	}
	open[0].Close()
	eventually(t, "another is served once one ends", func() bool {
		conn, err := stream.DialTLS(p.address, authority.ServerName, p.roots)(t.Context())
		if err == nil {
			conn.Close()
		}
		return err == nil
	})
}

func TestAServerHasProxiesOfThisMachineOrOfOthers(t *testing.T) {
	r := registry.New(registry.Config{})
	for _, config := range []Config{{Registry: r, Census: r}, {Registry: r, Census: r, Peers: anybody, Remote: &Remote{}}} {
		if _, err := New(config); err == nil {
			t.Error("it was made with neither or both")
		}
	}
}
