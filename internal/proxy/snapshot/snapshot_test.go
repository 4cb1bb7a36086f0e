package snapshot

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"sluice.dev/sluice/internal/names"
	"sluice.dev/sluice/internal/policy"
	"sluice.dev/sluice/internal/refusal"
	"sluice.dev/sluice/internal/route"
	"sluice.dev/sluice/internal/wire"
)

var details = names.MustParse("details.default.svc.cluster.local")

// sent is a snapshot as the server sends it, with rules for hosts on 443.
func sent(t testing.TB, hosts ...string) *wire.Snapshot {
	t.Helper()
	own := &wire.Policy{Rules: []policy.Rule{}}
	for _, host := range hosts {
		own.Rules = append(own.Rules, policy.Rule{ID: host, Hosts: []names.Pattern{names.MustParsePattern(host)}, Ports: []policy.Port{{Port: 443, Protocol: policy.ProtocolHTTPS}}})
	}
	values := map[string]any{
		wire.PartMesh:                  &wire.Mesh{OutboundDefault: "Deny", MaxStale: time.Hour},
		wire.PartPolicyRoot + "a":      &wire.Policy{},
		wire.PartPolicyNamespace + "a": &wire.Policy{},
		wire.PartPolicyOwn + "a":       own,
		wire.PartRoutes: &wire.Routes{Services: []route.Rules{{Service: details, Rules: []route.Rule{
			{ID: "r", Targets: []route.Weighted{{Labels: map[string]string{"version": "v2"}, Weight: 100}}},
		}}}},
		wire.PartDirectory: &wire.Directory{Domain: "cluster.local", Services: []wire.Service{
			{Name: details, Short: "details", Namespace: "default", Ports: []wire.ServicePort{{Port: 9080, Protocol: policy.ProtocolHTTP}}},
		}},
		wire.PartEndpoints + details.String(): &wire.Endpoints{Service: details, Endpoints: []wire.Endpoint{{Instance: "details-v2/1", Ports: []uint16{9080}}}},
	}
	index := &wire.Index{Revision: 7, Created: time.Now(), Parts: make(map[string]wire.Hash)}
	for name, value := range values {
		part, err := wire.EncodePart(name, value)
		if err != nil {
			t.Fatal(err)
		}
		index.Parts[name] = part.Hash
	}
	index.Version = wire.VersionOf(index.Parts)
	snapshot, err := index.Assemble(func(name string, _ wire.Hash) any { return values[name] })
	if err != nil {
		t.Fatal(err)
	}
	return snapshot
}

func build(t testing.TB, b *Builder, from *wire.Snapshot) *Snapshot {
	t.Helper()
	s, err := b.Build(from, View{Namespace: "default"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// decide asks for https://name/ by TLS.
func decide(s *Snapshot, name string) policy.Verdict {
	n := names.MustParse(name)
	return s.Policy.Decide(&policy.Chain{Port: 443, Dialled: n, Sniffed: policy.ClientHello, SNI: n})
}

func allowed(s *Snapshot, name string) bool { return decide(s, name).Action == policy.Allow }

func TestASnapshotIsWhatWasSent(t *testing.T) {
	from := sent(t, "a.example.com")
	s := build(t, new(Builder), from)
	if s.Version != from.Version || s.Revision != 7 || s.MaxStale != time.Hour || !s.Created.Equal(from.Created) {
		t.Errorf("got %+v", s)
	}
	if !allowed(s, "a.example.com") || allowed(s, "b.example.com") {
		t.Error("the rules do not decide")
	}
	for _, spelling := range []string{"details", "details.default", "details.default.svc", details.String()} {
		if full, ok := s.Directory.Service(names.MustParse(spelling)); !ok || full != details {
			t.Errorf("%s means %s, %v", spelling, full, ok)
		}
	}
	if service := s.Service(details); service == nil || service.Ports[0].Port != 9080 {
		t.Errorf("the service is %+v", service)
	}
	if s.Service(names.MustParse("other.default.svc.cluster.local")) != nil {
		t.Error("a service is there that is not")
	}
	if e := s.Endpoints(details); len(e) != 1 || e[0].Instance != "details-v2/1" || !s.HasInstance("details-v2/1") || s.HasInstance("details-v1/1") {
		t.Errorf("endpoints %+v", e)
	}
	plan := s.Routes.Plan(details, route.Request{})
	if target := plan.Draw(0); plan.Rule != "r" || target.Labels["version"] != "v2" {
		t.Errorf("routed to %+v by %s", target, plan.Rule)
	}
}

func TestAShortNameIsSeenFromTheWorkloadsNamespace(t *testing.T) {
	s, err := new(Builder).Build(sent(t), View{Namespace: "shop"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := s.Directory.Service(names.MustParse("details")); ok {
		t.Error("a short name reaches another namespace")
	}
	if _, ok := s.Directory.Service(names.MustParse("details.default")); !ok {
		t.Error("a name with its namespace is not found")
	}
}

func TestASnapshotThatCannotBeRunWholeIsRefused(t *testing.T) {
	for what, change := range map[string]func(*wire.Snapshot){
		"no mesh":                func(s *wire.Snapshot) { s.Mesh = nil },
		"no routes":              func(s *wire.Snapshot) { s.Routes = nil },
		"no directory":           func(s *wire.Snapshot) { s.Directory = nil },
		"an unknown default":     func(s *wire.Snapshot) { s.Mesh = &wire.Mesh{OutboundDefault: "Allow", MaxStale: 1} },
		"no bound on age":        func(s *wire.Snapshot) { s.Mesh = &wire.Mesh{OutboundDefault: "Deny"} },
		"roots that are not PEM": func(s *wire.Snapshot) { s.Mesh = &wire.Mesh{OutboundDefault: "Deny", MaxStale: 1, TrustedRoots: "x"} },
		"roots that are a key": func(s *wire.Snapshot) {
			s.Mesh = &wire.Mesh{OutboundDefault: "Deny", MaxStale: 1, TrustedRoots: string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY"}))}
		},
		"a bad certificate among roots": func(s *wire.Snapshot) {
			s.Mesh = &wire.Mesh{OutboundDefault: "Deny", MaxStale: 1, TrustedRoots: root(t) + string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte("x")}))}
		},
		"a rule that the gate cannot carry": func(s *wire.Snapshot) {
			s.Parts = nil
			s.Policies = []*wire.Policy{{Rules: []policy.Rule{{ID: "x", Hosts: []names.Pattern{names.MustParsePattern("*")}, Ports: []policy.Port{{Port: 443, Protocol: 99}}}}}}
		},
		"a route without sense": func(s *wire.Snapshot) {
			s.Parts = nil
			s.Routes = &wire.Routes{Services: []route.Rules{{Service: details, Rules: []route.Rule{{ID: "x", Match: route.Match{URI: &route.StringMatch{Regex: "("}}, Targets: []route.Weighted{{Weight: 100}}}}}}}
		},
	} {
		from := *sent(t)
		change(&from)
		if s, err := Build(&from, View{Namespace: "default"}); err == nil {
			t.Errorf("%s: built %+v", what, s)
		}
	}
}

func TestWorkloadsOfAClassShareWhatIsCompiled(t *testing.T) {
	var b Builder
	one, two, other := build(t, &b, sent(t, "a.example.com")), build(t, &b, sent(t, "a.example.com")), build(t, &b, sent(t, "b.example.com"))
	if one.Policy != two.Policy || one.Routes != two.Routes || one.services != two.services {
		t.Error("two workloads of a class hold two of a thing")
	}
	if one.Policy == other.Policy || one.Routes != other.Routes || one.services != other.services {
		t.Error("another class shares its rules, or not what is equal")
	}
	// What has no checked address is not shared.
	unknown := sent(t, "a.example.com")
	unknown.Parts = nil
	if build(t, &b, unknown).Policy == one.Policy {
		t.Error("a snapshot that does not say its parts shares rules")
	}
	runtime.KeepAlive(one)
	runtime.KeepAlive(two)
}

func TestTheBuilderKeepsNothingAlive(t *testing.T) {
	var b Builder
	for i := range 20 * minSweep {
		build(t, &b, sent(t, fmt.Sprintf("h%d.example.com", i)))
		if i%minSweep == 0 {
			runtime.GC()
		}
	}
	if n := len(b.sets.byKey); n > 4*minSweep {
		t.Errorf("%d entries of rules that nobody holds", n)
	}
}

func root(t testing.TB) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "root"}, IsCA: true, BasicConstraintsValid: true, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}

func TestTheMeshsRootsReplaceTheSystems(t *testing.T) {
	var b Builder
	text := root(t)
	own := sent(t)
	own.Mesh = &wire.Mesh{OutboundDefault: "Deny", MaxStale: 1, TrustedRoots: text}
	s := build(t, &b, own)
	want := x509.NewCertPool()
	want.AppendCertsFromPEM([]byte(text))
	if !s.HasOwnRoots || s.Roots == nil || !s.Roots.Equal(want) || s.RootsID == "" {
		t.Errorf("got %v, %s", s.HasOwnRoots, s.RootsID)
	}
	system := build(t, &b, sent(t))
	if system.HasOwnRoots || system.RootsID == s.RootsID {
		t.Errorf("without any: %v, %s", system.HasOwnRoots, system.RootsID)
	}
	if again := build(t, &b, own); again.Roots != s.Roots {
		t.Error("equal roots are parsed twice")
	}
	bundled, err := bundledRoots()
	if err != nil || bundled.pool.Equal(x509.NewCertPool()) {
		t.Errorf("the roots that we carry: %v", err)
	}
}

func TestAHolderDeniesUntilItsFirstSwap(t *testing.T) {
	h := NewHolder(HolderConfig{})
	if v := decide(h.Load(), "a.example.com"); v.Action != policy.Deny || v.Reason != refusal.NoSnapshot {
		t.Errorf("got %v", v)
	}
	if h.Expire() || h.Age() != 0 {
		t.Error("what is not there is stale")
	}
	h.Confirm()
	if allowed(h.Load(), "a.example.com") {
		t.Error("a confirmation of nothing allows")
	}
	h.Load().Service(details)
	h.Load().Endpoints(details)
	if _, ok := h.Load().Directory.Service(details); ok {
		t.Error("a service is there")
	}
	h.Swap(build(t, new(Builder), sent(t, "a.example.com")))
	if !allowed(h.Load(), "a.example.com") {
		t.Error("the swap did not count")
	}
}

func TestASnapshotIsStaleAfterMaxStaleWithoutTheServer(t *testing.T) {
	now := time.Unix(1_000_000, 0)
	h := NewHolder(HolderConfig{Now: func() time.Time { return now }})
	var told []refusal.Reason
	h.OnSwap(func(s *Snapshot) { told = append(told, decide(s, "a.example.com").Reason) })
	h.Swap(build(t, new(Builder), sent(t, "a.example.com")))
	now = now.Add(59 * time.Minute)
	h.Confirm()
	now = now.Add(59 * time.Minute)
	if h.Expire() || !allowed(h.Load(), "a.example.com") {
		t.Error("it is stale too early")
	}
	now = now.Add(time.Minute)
	if !h.Expire() || decide(h.Load(), "a.example.com").Reason != refusal.StaleSnapshot {
		t.Errorf("after %s: %v", h.Age(), decide(h.Load(), "a.example.com"))
	}
	if _, ok := h.Load().Directory.Service(details); !ok {
		t.Error("a stale snapshot forgot its services")
	}
	h.Expire() // a second time changes nothing
	h.Confirm()
	if !allowed(h.Load(), "a.example.com") || h.Age() != 0 {
		t.Error("the server is back and it is stale still")
	}
	if want := []refusal.Reason{"", refusal.StaleSnapshot, ""}; !slices.Equal(told, want) {
		t.Errorf("told %q, want %q", told, want)
	}
}

func TestARestoredSnapshotHasItsAge(t *testing.T) {
	now := time.Unix(1_000_000, 0)
	b := new(Builder)
	for what, c := range map[string]struct {
		confirmed time.Time
		reason    refusal.Reason
	}{
		"young":                          {now.Add(-time.Minute), ""},
		"too old":                        {now.Add(-time.Hour), refusal.StaleSnapshot},
		"from the future":                {now.Add(time.Hour - 1), ""},
		"from a time that tells nothing": {now.Add(time.Hour), refusal.StaleSnapshot},
		"older than the age":             {time.Unix(0, 0), refusal.StaleSnapshot},
	} {
		h := NewHolder(HolderConfig{Now: func() time.Time { return now }})
		h.Restore(build(t, b, sent(t, "a.example.com")), c.confirmed)
		if got := decide(h.Load(), "a.example.com").Reason; got != c.reason {
			t.Errorf("%s: %q, want %q", what, got, c.reason)
		}
	}
	h := NewHolder(HolderConfig{})
	h.Swap(build(t, b, sent(t, "b.example.com")))
	h.Restore(build(t, b, sent(t, "a.example.com")), time.Now())
	if allowed(h.Load(), "a.example.com") {
		t.Error("what was kept replaced what the server sent")
	}
}

func TestCallbacksComeInOrderUntilTheyAreStopped(t *testing.T) {
	h := NewHolder(HolderConfig{})
	b := new(Builder)
	var versions []string
	stop := h.OnSwap(func(s *Snapshot) {
		if h.Load() != s {
			t.Error("the callback comes before the swap")
		}
		versions = append(versions, s.Version)
	})
	one, two := build(t, b, sent(t, "a.example.com")), build(t, b, sent(t, "b.example.com"))
	h.Swap(one)
	h.Swap(two)
	stop()
	h.Swap(one)
	if want := []string{one.Version, two.Version}; !slices.Equal(versions, want) {
		t.Errorf("got %v, want %v", versions, want)
	}
}

func TestLoadDoesNotAllocate(t *testing.T) {
	h := NewHolder(HolderConfig{})
	h.Swap(build(t, new(Builder), sent(t, "a.example.com")))
	if n := testing.AllocsPerRun(100, func() {
		s := h.Load()
		s.Service(details)
		s.Endpoints(details)
		s.HasInstance("details-v2/1")
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkLoad(b *testing.B) {
	h := NewHolder(HolderConfig{})
	b.ReportAllocs()
	for b.Loop() {
		if h.Load() == nil {
			b.Fatal("nil")
		}
	}
}

// source is a server's stream that a test plays.
type source struct {
	snapshots chan *wire.Snapshot
	mu        sync.Mutex
	replies   []string
	connected bool
}

func newSource() *source { return &source{snapshots: make(chan *wire.Snapshot, 1), connected: true} }

func (s *source) Snapshots() <-chan *wire.Snapshot { return s.snapshots }
func (s *source) Ack(version string)               { s.reply("ack " + version) }
func (s *source) Nack(version string, why error)   { s.reply("nack " + version) }
func (s *source) reply(text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.replies = append(s.replies, text)
}
func (s *source) Connected() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.connected
}
func (s *source) setConnected(connected bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.connected = connected
}
func (s *source) replied() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.replies)
}

// follow runs Follow in a bubble of time and ends it with the test.
func follow(t *testing.T, store *Store, test func(t *testing.T, s *source, h *Holder)) {
	synctest.Test(t, func(t *testing.T) {
		s, h := newSource(), NewHolder(HolderConfig{})
		var following sync.WaitGroup
		following.Go(func() {
			Follow(context.Background(), FollowConfig{Source: s, Holder: h, Builder: new(Builder), View: View{Namespace: "default"}, Store: store, Key: "class"})
		})
		synctest.Wait()
		test(t, s, h)
		close(s.snapshots)
		following.Wait()
	})
}

func TestASnapshotIsAcknowledgedOnceItRuns(t *testing.T) {
	follow(t, nil, func(t *testing.T, s *source, h *Holder) {
		var runs []string
		h.OnSwap(func(swapped *Snapshot) {
			if len(s.replied()) != len(runs) {
				t.Error("it was acknowledged before its swap")
			}
			runs = append(runs, swapped.Version)
		})
		one, two := sent(t, "a.example.com"), sent(t, "b.example.com")
		for _, snapshot := range []*wire.Snapshot{one, two, two} {
			s.snapshots <- snapshot
			synctest.Wait()
		}
		want := []string{"ack " + one.Version, "ack " + two.Version, "ack " + two.Version}
		if got := s.replied(); !slices.Equal(got, want) {
			t.Errorf("replied %v, want %v", got, want)
		}
		if len(runs) != 2 {
			t.Errorf("%d swaps of two snapshots", len(runs))
		}
	})
}

func TestTheSnapshotBeforeARefusedOneGoesOn(t *testing.T) {
	follow(t, nil, func(t *testing.T, s *source, h *Holder) {
		good, bad := sent(t, "a.example.com"), sent(t, "b.example.com")
		bad.Mesh = &wire.Mesh{OutboundDefault: "Deny", MaxStale: time.Hour, TrustedRoots: "no roots"}
		s.snapshots <- good
		synctest.Wait()
		s.snapshots <- bad
		synctest.Wait()
		if got, want := s.replied(), []string{"ack " + good.Version, "nack " + bad.Version}; !slices.Equal(got, want) {
			t.Errorf("replied %v, want %v", got, want)
		}
		if !allowed(h.Load(), "a.example.com") || allowed(h.Load(), "b.example.com") {
			t.Error("the good one does not go on")
		}
	})
}

func TestWithoutItsServerAWorkloadDeniesAfterMaxStale(t *testing.T) {
	follow(t, nil, func(t *testing.T, s *source, h *Holder) {
		s.snapshots <- sent(t, "a.example.com")
		synctest.Wait()
		time.Sleep(5 * time.Hour) // the server is there and says nothing new
		if !allowed(h.Load(), "a.example.com") {
			t.Fatal("a server that is there makes no snapshot stale")
		}
		s.setConnected(false)
		time.Sleep(58 * time.Minute)
		if !allowed(h.Load(), "a.example.com") {
			t.Error("it denies too early")
		}
		time.Sleep(3 * time.Minute)
		if decide(h.Load(), "a.example.com").Reason != refusal.StaleSnapshot {
			t.Error("it does not deny after maxStale")
		}
		s.setConnected(true)
		time.Sleep(time.Minute)
		synctest.Wait()
		if !allowed(h.Load(), "a.example.com") {
			t.Error("the server is back and it denies still")
		}
	})
}

func newStore(t *testing.T) *Store {
	t.Helper()
	store, err := NewStore(filepath.Join(t.TempDir(), "kept"))
	if err != nil {
		t.Fatal(err)
	}
	return store
}

func TestAProxyThatStartsWithoutItsServerGoesOn(t *testing.T) {
	store := newStore(t)
	follow(t, store, func(t *testing.T, s *source, h *Holder) {
		for i := range 20 { // several within the time of one write: the last one counts
			s.snapshots <- sent(t, fmt.Sprintf("h%d.example.com", i))
			synctest.Wait()
		}
	})
	kept, _, err := store.Load("class")
	if err != nil || len(kept.Parts) != 0 || kept.Rules()[0].ID != "h19.example.com" {
		t.Fatalf("kept %+v, %v", kept, err)
	}
	// The bubble's clock and the file's are two: what is restored is young.
	s, h := newSource(), NewHolder(HolderConfig{})
	close(s.snapshots)
	Follow(t.Context(), FollowConfig{Source: s, Holder: h, Builder: new(Builder), View: View{Namespace: "default"}, Store: store, Key: "class"})
	if !allowed(h.Load(), "h19.example.com") {
		t.Error("what was kept does not count")
	}
	other := NewHolder(HolderConfig{})
	Follow(t.Context(), FollowConfig{Source: s, Holder: other, Builder: new(Builder), Store: store, Key: "another class"})
	if decide(other.Load(), "h19.example.com").Reason != refusal.NoSnapshot {
		t.Error("another class took it")
	}
}

func TestAKeptSnapshotThatIsTooOldDenies(t *testing.T) {
	store := newStore(t)
	if err := store.Save("class", sent(t, "a.example.com")); err != nil {
		t.Fatal(err)
	}
	old := time.Now().Add(-2 * time.Hour)
	if err := os.Chtimes(store.path("class"), old, old); err != nil {
		t.Fatal(err)
	}
	restore := func() refusal.Reason {
		s, h := newSource(), NewHolder(HolderConfig{})
		close(s.snapshots)
		Follow(t.Context(), FollowConfig{Source: s, Holder: h, Builder: new(Builder), Store: store, Key: "class"})
		return decide(h.Load(), "a.example.com").Reason
	}
	if got := restore(); got != refusal.StaleSnapshot {
		t.Errorf("got %q", got)
	}
	if err := store.Confirm("class", "of another version"); err != nil {
		t.Fatal(err)
	}
	if got := restore(); got != refusal.StaleSnapshot {
		t.Errorf("once another version was confirmed: %q", got)
	}
	if err := store.Confirm("class", sent(t, "a.example.com").Version); err != nil {
		t.Fatal(err)
	}
	if got := restore(); got != "" {
		t.Errorf("once confirmed: %q", got)
	}
}

// keptNow begins a file of this build.
var keptNow = keptWord + strconv.Itoa(wire.Format)

func TestABrokenFileIsNotUsed(t *testing.T) {
	store := newStore(t)
	good, err := os.ReadFile(saved(t, store))
	if err != nil {
		t.Fatal(err)
	}
	for what, content := range map[string][]byte{
		"empty": nil, "cut": good[:len(good)/2], "with a tail": append(slices.Clone(good), '\n'),
		"with a letter changed":  bytes.Replace(good, []byte("a.example"), []byte("b.example"), 2),
		"of another form":        bytes.Replace(good, []byte("sluice-snapshot/"), []byte("sluice-snapshots/"), 1),
		"without a format":       bytes.Replace(good, []byte("sluice-snapshot/"), []byte("sluice-snapshot/x"), 1),
		"of a later format":      bytes.Replace(good, []byte(keptNow), []byte(keptWord+strconv.Itoa(wire.Format+1)), 1),
		"without its first line": good[bytes.IndexByte(good, '\n')+1:],
		"with an unknown field":  resealed(bytes.Replace(good, []byte(`"rules"`), []byte(`"ruled"`), 1)),
		"that is not a snapshot": resealed([]byte("\n{}")),
	} {
		if err := os.WriteFile(store.path("class"), content, 0o600); err != nil {
			t.Fatal(err)
		}
		s, h := newSource(), NewHolder(HolderConfig{})
		close(s.snapshots)
		Follow(t.Context(), FollowConfig{Source: s, Holder: h, Builder: new(Builder), Store: store, Key: "class"})
		for _, host := range []string{"a.example.com", "b.example.com"} {
			if got := decide(h.Load(), host).Reason; got != refusal.NoSnapshot {
				t.Errorf("%s: %s is answered with %q", what, host, got)
			}
		}
	}
}

// resealed is a kept file with the right sum for changed content.
func resealed(file []byte) []byte {
	_, content, _ := bytes.Cut(file, []byte("\n"))
	sum := sha256.Sum256(content)
	return append([]byte(keptNow+keptSum+hex.EncodeToString(sum[:])+"\n"), content...)
}

func TestAFileOfTheFirstFormatIsUsed(t *testing.T) {
	store := newStore(t)
	path := saved(t, store)
	file, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, bytes.Replace(file, []byte(keptNow), []byte(keptWord+"1"), 1), 0o600); err != nil {
		t.Fatal(err)
	}
	kept, _, err := store.Load("class")
	if err != nil || kept.Rules()[0].ID != "a.example.com" {
		t.Fatalf("kept %+v, %v", kept, err)
	}
	if err := store.Save("class", sent(t, "b.example.com")); err != nil {
		t.Fatal(err)
	}
	if file, err = os.ReadFile(path); err != nil || !bytes.HasPrefix(file, []byte(keptNow+" ")) {
		t.Errorf("it was replaced by %.40q, %v", file, err)
	}
}

func TestAFileOfALaterReleaseIsNeitherUsedNorTouched(t *testing.T) {
	store := newStore(t)
	path := store.path("class")
	later := []byte("sluice-snapshot/7 sha256:0000\nin another way")
	if err := os.WriteFile(path, later, 0o600); err != nil {
		t.Fatal(err)
	}
	old := time.Now().Add(-time.Hour)
	if err := os.Chtimes(path, old, old); err != nil {
		t.Fatal(err)
	}
	want := fmt.Sprintf("the kept snapshot has format 7; this Sluice reads formats 1 to %d: upgrade this Sluice", wire.Format)
	if _, _, err := store.Load("class"); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("load: %v", err)
	}
	err := store.Save("class", sent(t, "a.example.com"))
	if err == nil || !strings.Contains(err.Error(), want+"; the file is left as it is") || !strings.Contains(err.Error(), path) {
		t.Errorf("save: %v", err)
	}
	if err := store.Confirm("class", sent(t, "a.example.com").Version); err != nil {
		t.Errorf("confirm: %v", err)
	}
	huge := sent(t, "b.example.com")
	huge.Mesh.TrustedRoots = strings.Repeat("x", MaxKeptBytes)
	if err := store.Save("class", huge); err == nil { // which takes away what it cannot replace
		t.Error("a snapshot beyond the bound was kept")
	}
	for i := range MaxKept + 1 { // of which the oldest goes
		if err := os.WriteFile(store.path(fmt.Sprint("other ", i)), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := store.Save("another class", sent(t, "a.example.com")); err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(path)
	info, statErr := os.Stat(path)
	if err != nil || statErr != nil || !bytes.Equal(content, later) || !info.ModTime().Equal(old) {
		t.Errorf("it is %q of %v now, %v", content, info.ModTime(), err)
	}
}

// FuzzReadKept puts the checksum right, so that what is below it is reached.
func FuzzReadKept(f *testing.F) {
	store, err := NewStore(filepath.Join(f.TempDir(), "kept"))
	if err != nil {
		f.Fatal(err)
	}
	if err := store.Save("class", &wire.Snapshot{Version: "a", Mesh: &wire.Mesh{OutboundDefault: "Deny"}}); err != nil {
		f.Fatal(err)
	}
	good, err := os.ReadFile(store.path("class"))
	if err != nil {
		f.Fatal(err)
	}
	first, content, _ := bytes.Cut(good, []byte("\n"))
	f.Add(first, content)
	f.Add([]byte("sluice-snapshot/1 sha256:"), content)
	f.Add([]byte("sluice-snapshot/7 sha256:"), []byte("{}"))
	f.Add([]byte("sluice-snapshot/99999999999999999999 sha256:x"), []byte("{}"))
	f.Fuzz(func(t *testing.T, first, content []byte) {
		head, _, _ := bytes.Cut(first, []byte(keptSum))
		sum := sha256.Sum256(content)
		whole := slices.Concat(head, []byte(keptSum+hex.EncodeToString(sum[:])+"\n"), content)
		path := filepath.Join(t.TempDir(), "fuzzed"+keptSuffix)
		if err := os.WriteFile(path, whole, 0o600); err != nil {
			t.Fatal(err)
		}
		if kept, _, err := readKept(path); err == nil {
			if leaveLater(path) != nil {
				t.Fatal("what a later release wrote was read")
			}
			Build(kept, View{Namespace: "default"}) // an error or a snapshot, and never a panic
		}
	})
}

func TestAFileThatOthersCouldHaveWrittenIsNotUsed(t *testing.T) {
	for what, spoil := range map[string]func(path string) error{
		"open to a group":     func(path string) error { return os.Chmod(path, 0o640) },
		"writable for others": func(path string) error { return os.Chmod(path, 0o602) },
		"a link": func(path string) error {
			if err := os.Rename(path, path+".elsewhere"); err != nil {
				return err
			}
			return os.Symlink(path+".elsewhere", path)
		},
		"a folder": func(path string) error { os.Remove(path); return os.Mkdir(path, 0o700) },
		"a pipe":   func(path string) error { os.Remove(path); return unix.Mkfifo(path, 0o600) },
		"of another user": func(path string) error {
			if os.Geteuid() != 0 {
				return os.Remove(path) // only root can give files away
			}
			return os.Chown(path, 4711, 4711)
		},
	} {
		store := newStore(t)
		if err := spoil(saved(t, store)); err != nil {
			t.Fatal(err)
		}
		if kept, _, err := store.Load("class"); err == nil {
			t.Errorf("%s: %+v", what, kept)
		}
	}
}

func TestAFolderThatOthersMayUseIsRefused(t *testing.T) {
	folder := filepath.Join(t.TempDir(), "kept")
	if err := os.Mkdir(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(folder, 0o777); err != nil {
		t.Fatal(err)
	}
	if _, err := NewStore(folder); err == nil || !strings.Contains(err.Error(), "open to other users") {
		t.Errorf("got %v", err)
	}
}

func TestASnapshotThatCannotBeKeptTakesTheOneBeforeWithIt(t *testing.T) {
	store := newStore(t)
	path := saved(t, store)
	newer := sent(t, "b.example.com")
	newer.Mesh.TrustedRoots = strings.Repeat("x", MaxKeptBytes)
	if err := store.Save("class", newer); err == nil {
		t.Fatal("it was kept")
	}
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("what it replaces is there: %v", err)
	}
	if err := store.Confirm("class", sent(t, "a.example.com").Version); err != nil {
		t.Error(err)
	}
}

func TestASnapshotIsWrittenOnceForAllWorkloadsOfAClass(t *testing.T) {
	store := newStore(t)
	before, err := os.Stat(saved(t, store))
	if err != nil {
		t.Fatal(err)
	}
	same, err := os.Stat(saved(t, store))
	if err != nil || !os.SameFile(before, same) {
		t.Errorf("it was written twice, %v", err)
	}
	// A file that was removed meanwhile is written again.
	if err := os.Remove(store.path("class")); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(saved(t, store)); err != nil {
		t.Error(err)
	}
}

func TestWhatAKilledProcessLeftUnfinishedIsRemoved(t *testing.T) {
	store := newStore(t)
	left := filepath.Join(store.folder, ".new-123")
	if err := os.WriteFile(left, []byte("sluice"), 0o600); err != nil {
		t.Fatal(err)
	}
	saved(t, store)
	if _, err := os.Stat(left); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("it is there: %v", err)
	}
}

func TestWhatRunsOnAfterARefusalBecomesStale(t *testing.T) {
	follow(t, nil, func(t *testing.T, s *source, h *Holder) {
		good, bad := sent(t, "a.example.com"), sent(t, "b.example.com")
		bad.Mesh = &wire.Mesh{OutboundDefault: "Deny", MaxStale: time.Hour, TrustedRoots: "no roots"}
		s.snapshots <- good
		synctest.Wait()
		s.snapshots <- bad
		time.Sleep(58 * time.Minute)
		if !allowed(h.Load(), "a.example.com") {
			t.Error("it denies too early")
		}
		time.Sleep(3 * time.Minute)
		if decide(h.Load(), "a.example.com").Reason != refusal.StaleSnapshot {
			t.Error("the server has sent another one for an hour, and the old one allows still")
		}
		s.snapshots <- good
		synctest.Wait()
		time.Sleep(5 * time.Hour)
		if !allowed(h.Load(), "a.example.com") {
			t.Error("what the server stands behind again is denied")
		}
	})
}

func TestWhatWasKeptIsNotConfirmedByAConnectionAlone(t *testing.T) {
	store := newStore(t)
	saved(t, store)
	follow(t, store, func(t *testing.T, s *source, h *Holder) {
		at := time.Now() // of the bubble, which is behind the file's
		h.Restore(build(t, new(Builder), sent(t, "a.example.com")), at)
		time.Sleep(2 * time.Hour)
		if allowed(h.Load(), "a.example.com") {
			t.Error("a server that has sent nothing stands behind it")
		}
	})
}

func TestMaxStaleIsKeptToHoweverShort(t *testing.T) {
	follow(t, nil, func(t *testing.T, s *source, h *Holder) {
		from := sent(t, "a.example.com")
		from.Mesh = &wire.Mesh{OutboundDefault: "Deny", MaxStale: 5 * time.Second}
		s.snapshots <- from
		time.Sleep(time.Minute)
		if !allowed(h.Load(), "a.example.com") {
			t.Fatal("a server that is there makes no snapshot stale")
		}
		s.setConnected(false)
		time.Sleep(10 * time.Second)
		if decide(h.Load(), "a.example.com").Reason != refusal.StaleSnapshot {
			t.Error("it allows after twice its maxStale")
		}
	})
}

func saved(t *testing.T, store *Store) string {
	t.Helper()
	if err := store.Save("class", sent(t, "a.example.com")); err != nil {
		t.Fatal(err)
	}
	return store.path("class")
}

func TestKeptFilesAreOursAloneAndBounded(t *testing.T) {
	store := newStore(t)
	info, err := os.Stat(saved(t, store))
	if err != nil || info.Mode() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if folder, err := os.Stat(store.folder); err != nil || folder.Mode().Perm() != 0o700 {
		t.Errorf("folder %v, %v", folder.Mode(), err)
	}
	huge := sent(t)
	huge.Mesh.TrustedRoots = strings.Repeat("x", MaxKeptBytes)
	if err := store.Save("huge", huge); err == nil || !strings.Contains(err.Error(), "more than") {
		t.Errorf("a snapshot beyond the bound: %v", err)
	}
	for i := range MaxKept + 5 {
		path := store.path(fmt.Sprint("class ", i))
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		at := time.Now().Add(time.Duration(i-2*MaxKept) * time.Minute)
		if err := os.Chtimes(path, at, at); err != nil {
			t.Fatal(err)
		}
	}
	if err := store.Save("class", sent(t, "b.example.com")); err != nil {
		t.Fatal(err)
	}
	entries, err := filepath.Glob(filepath.Join(store.folder, "*"+keptSuffix))
	if err != nil || len(entries) != MaxKept {
		t.Errorf("%d files, %v", len(entries), err)
	}
	if logs, err := filepath.Glob(filepath.Join(store.folder, "*"+logSuffix)); err != nil || len(logs) != 1 {
		t.Errorf("logs %v, %v", logs, err)
	}
	for key, there := range map[string]bool{"class 0": false, "class 5": false, "class 6": true, "class": true} {
		if _, err := os.Stat(store.path(key)); errors.Is(err, fs.ErrNotExist) == there {
			t.Errorf("%s is there: %v, want %v", key, err == nil, there)
		}
	}
}
