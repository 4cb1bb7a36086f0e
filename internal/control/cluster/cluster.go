// Package cluster is a Kubernetes cluster as the census and the authenticator of the
// control plane: its Services with the Pods behind them, the Pods that may join, and whose
// token a proxy shows. The server puts it together with the rules, which package kubeapi
// follows there as on one machine. It must never write to what is not Sluice's own, and
// never believe what a proxy says of its Pod.
package cluster

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"sluice.dev/sluice/internal/control/compile"
	"sluice.dev/sluice/internal/control/push"
	"sluice.dev/sluice/internal/control/registry"
	"sluice.dev/sluice/internal/wire"
)

// Config configures a Cluster.
type Config struct {
	API    *rest.Config
	Domain string // of the cluster's names; "" is compile.DefaultDomain
	Log    *slog.Logger
}

// Cluster follows the Services, EndpointSlices and Pods of a cluster. What it holds of
// each is what rules and routes look at, so its size is bounded by theirs. Safe for
// concurrent use.
type Cluster struct {
	config Config
	client kubernetes.Interface
	tokens tokens

	mu       sync.Mutex
	missing  map[string]bool // resources that were never listed
	pods     map[key]*pod
	services map[key]*service
	slices   map[key]*slice
	dirty    map[key]bool // services that are to be built anew
	behind   map[key][]key
	sidecars map[string]int // Pods with a sidecar, by namespace
	joined   chan struct{}  // closed when there are others
	number   uint64
	changed  chan struct{}
	moment   *registry.Moment // of number; nil: to be made
}

var (
	_ push.Census   = (*Cluster)(nil)
	_ push.Attestor = (*Cluster)(nil)
)

// key names an object of one kind.
type key struct{ namespace, name string }

func (k key) compare(other key) int {
	return strings.Compare(k.namespace+"\x00"+k.name, other.namespace+"\x00"+other.name)
}

// New returns a cluster of which nothing is known yet; Run follows it.
func New(config Config) (*Cluster, error) {
	if config.API == nil || config.Log == nil {
		return nil, errors.New("cluster: a field of Config is missing")
	}
	if config.Domain == "" {
		config.Domain = compile.DefaultDomain
	}
	api := rest.CopyConfig(config.API)
	api.ContentType = "application/vnd.kubernetes.protobuf" // the kinds of the cluster itself have it
	api.AcceptContentTypes = "application/vnd.kubernetes.protobuf,application/json"
	client, err := kubernetes.NewForConfig(api)
	if err != nil {
		return nil, fmt.Errorf("reach the cluster: %w", err)
	}
	return newCluster(config, client), nil
}

func newCluster(config Config, client kubernetes.Interface) *Cluster {
	c := &Cluster{
		config: config, client: client,
		missing: make(map[string]bool),
		pods:    make(map[key]*pod), services: make(map[key]*service), slices: make(map[key]*slice),
		dirty: make(map[key]bool), behind: make(map[key][]key),
		sidecars: make(map[string]int), joined: make(chan struct{}),
		changed: make(chan struct{}),
	}
	c.tokens.init(client, config.Log)
	for _, resource := range c.resources() {
		c.missing[resource.name] = true
	}
	return c
}

// Check asks for one object of each kind, and says what is missing where that fails: Run
// would try for ever.
func (c *Cluster) Check(ctx context.Context) error {
	for _, resource := range c.resources() {
		if err := resource.check(ctx); err != nil {
			return err
		}
	}
	return nil
}

// Run follows the cluster until ctx ends, and waits for all that it started.
func (c *Cluster) Run(ctx context.Context) {
	var running sync.WaitGroup
	defer running.Wait()
	for _, resource := range c.resources() {
		running.Go(func() { resource.follow(ctx) })
	}
}

// Ready waits until everything was listed once, or ctx ends.
func (c *Cluster) Ready(ctx context.Context) error {
	for {
		c.mu.Lock()
		missing, changed := slices.Sorted(maps.Keys(c.missing)), c.changed
		c.mu.Unlock()
		if len(missing) == 0 {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("list the %s of the cluster: %w", strings.Join(missing, ", "), ctx.Err())
		}
	}
}

// Number implements push.Census.
func (c *Cluster) Number() uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.number
}

// Now implements push.Census: the Pods with a proxy, and every Service.
func (c *Cluster) Now() registry.Moment {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.moment != nil {
		return *c.moment
	}
	for name := range c.dirty {
		c.rebuild(name)
	}
	clear(c.dirty)
	moment := registry.Moment{Number: c.number, Services: make([]*compile.Service, 0, len(c.services)), Changed: c.changed}
	for _, name := range slices.SortedFunc(maps.Keys(c.services), key.compare) {
		moment.Services = append(moment.Services, c.services[name].built)
	}
	for _, pod := range c.pods {
		if pod.joins && pod.problem == nil {
			moment.Workloads = append(moment.Workloads, pod.workload)
		}
	}
	slices.SortFunc(moment.Workloads, func(a, b wire.Workload) int { return strings.Compare(a.Instance, b.Instance) })
	c.moment = &moment
	return moment
}

// announce wakes everybody who waits for a change. The lock is held.
func (c *Cluster) announce() {
	c.number++
	c.moment = nil
	close(c.changed)
	c.changed = make(chan struct{})
}

// listed notes that a resource was listed. The lock is held.
func (c *Cluster) listed(resource string) {
	if c.missing[resource] {
		delete(c.missing, resource)
		c.announce() // perhaps everything was
	}
}
