package server

import (
	"context"
	"encoding/json"
	"log/slog"
	"net"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/test/bufconn"

	"sluice.dev/sluice/api"
	"sluice.dev/sluice/internal/control/inspect"
	"sluice.dev/sluice/internal/control/kubeapi"
	"sluice.dev/sluice/internal/control/push"
	"sluice.dev/sluice/internal/control/registry"
	"sluice.dev/sluice/internal/wire"
	"sluice.dev/sluice/internal/wire/stream"
)

// noRules is a store without any.
type noRules struct{}

func (noRules) Objects() ([]api.Object, int64, <-chan struct{}, bool) { return nil, 1, nil, true }
func (noRules) Run(ctx context.Context)                               { <-ctx.Done() }
func (noRules) Report(kubeapi.Report)                                 {}
func (noRules) Len() int                                              { return 0 }

// listed is a census of workloads that somebody lists: no proxy joins them.
type listed struct {
	mu      sync.Mutex
	now     registry.Moment
	changed chan struct{}
}

func (l *listed) set(workloads ...wire.Workload) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.changed != nil {
		close(l.changed)
	}
	l.changed = make(chan struct{})
	l.now = registry.Moment{Number: l.now.Number + 1, Workloads: workloads, Changed: l.changed}
}

func (l *listed) Now() registry.Moment {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.now
}

func (l *listed) Number() uint64 { return l.Now().Number }

// both counts what two others count. Its numbers are its own: theirs cannot be
// compared.
type both struct {
	ctx           context.Context
	first, second push.Census

	mu     sync.Mutex
	seen   [2]uint64
	number uint64
}

func (b *both) numberOf(first, second uint64) uint64 {
	if seen := [2]uint64{first, second}; seen != b.seen {
		b.seen = seen
		b.number++
	}
	return b.number
}

func (b *both) Now() registry.Moment {
	b.mu.Lock()
	defer b.mu.Unlock()
	first, second := b.first.Now(), b.second.Now()
	changed := make(chan struct{})
	go func() {
		defer close(changed)
		select {
		case <-first.Changed:
		case <-second.Changed:
		case <-b.ctx.Done():
		}
	}()
	return registry.Moment{
		Number:    b.numberOf(first.Number, second.Number),
		Workloads: slices.Concat(first.Workloads, second.Workloads), Past: first.Past, Changed: changed,
	}
}

func (b *both) Number() uint64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.numberOf(b.first.Number(), b.second.Number())
}

func TestWorkloadsOfTwoSourcesAreOneMesh(t *testing.T) {
	joined, pods := registry.New(registry.Config{}), new(listed)
	cart := wire.Workload{Instance: "cart-v1/1", Service: "cart", Version: "v1", Namespace: "default", Ports: []uint16{7070}, Level: "none"}
	pods.set(cart)
	plane, err := NewPlane(PlaneConfig{
		Store: noRules{}, Joined: joined, Census: &both{ctx: t.Context(), first: joined, second: pods}, Proxies: anybody{},
		Version: inspect.Version{Version: "test"}, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := plane.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	listener := bufconn.Listen(1 << 20) // proxies may come over anything
	var serving sync.WaitGroup
	serving.Go(func() {
		if err := plane.Serve(listener); err != nil {
			t.Error(err)
		}
	})
	defer serving.Wait()
	defer plane.Close()
	client, err := stream.NewClient(stream.Config{Dial: func(ctx context.Context) (net.Conn, error) { return listener.DialContext(ctx) }})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	m, err := client.Join(t.Context(), wire.Workload{Service: "details", Version: "v1", Ports: []uint16{9080}})
	if err != nil {
		t.Fatal(err)
	}
	endpoints := func(want string) {
		t.Helper()
		for got := "nothing yet"; got != want; {
			select {
			case snapshot := <-m.Snapshots():
				m.Ack(snapshot.Version)
				var all []string
				for _, of := range snapshot.Endpoints {
					for _, e := range of.Endpoints {
						all = append(all, e.Instance)
					}
				}
				slices.Sort(all)
				got = strings.Join(all, " ")
			case <-time.After(time.Minute):
				t.Fatalf("the proxy was sent the endpoints %q, not %q", got, want)
			}
		}
	}
	endpoints("cart-v1/1 details-v1/1")

	recorder := httptest.NewRecorder()
	plane.Handler().ServeHTTP(recorder, httptest.NewRequest("GET", inspect.StatusPath, nil))
	var status inspect.Status
	if err := json.Unmarshal(recorder.Body.Bytes(), &status); err != nil {
		t.Fatal(err)
	}
	if len(status.Workloads) != 2 || status.Workloads[0].Instance != "cart-v1/1" || status.Workloads[0].Connected || !status.Workloads[1].Connected {
		t.Errorf("status lists %+v", status.Workloads)
	}

	pods.set() // it ended
	endpoints("details-v1/1")
}

func TestAPlaneWithoutAPartIsNotMade(t *testing.T) {
	workloads := registry.New(registry.Config{})
	if _, err := NewPlane(PlaneConfig{Store: noRules{}, Joined: workloads, Census: workloads, Log: slog.New(slog.DiscardHandler)}); err == nil {
		t.Error("a plane that lets anybody in was made")
	}
}
