package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"sluice.dev/sluice/api"
	"sluice.dev/sluice/internal/control/flowstore"
	"sluice.dev/sluice/internal/control/inspect"
	"sluice.dev/sluice/internal/control/kubeapi"
	"sluice.dev/sluice/internal/control/push"
	"sluice.dev/sluice/internal/control/registry"
	"sluice.dev/sluice/internal/control/versions"
	"sluice.dev/sluice/internal/peer"
)

// Store is where the rules are and what becomes of them is written.
type Store interface {
	push.Store
	// Run follows the rules until ctx ends, and waits for all that it started.
	Run(ctx context.Context)
	// Report takes what became of the rules; it returns at once.
	Report(kubeapi.Report)
	// Len returns how many objects there are.
	Len() int
}

// PlaneConfig says of what a control plane is put together. All of it but Keep, Versions and Acked is
// required, of Proxies and Remote one.
type PlaneConfig struct {
	Store   Store
	Joined  *registry.Registry // the workloads that proxies join
	Census  push.Census        // who is there: Joined, or whoever counts others too
	Proxies peer.Authenticator // which proxies of this machine may connect
	Remote  *push.Remote       // how those of other machines do
	Domain  string             // of the services' names; "" is compile.DefaultDomain
	Version inspect.Version
	Keep    *flowstore.Store // of what was closed; nil: nothing is kept
	// Versions is the file of what workloads ran; "": that is known until the process ends.
	Versions string
	Acked    func(took time.Duration) // see push.Config; may be nil
	Log      *slog.Logger
}

// Plane is a control plane, wherever its rules are kept, its workloads counted and
// its proxies heard: it compiles, brings the result to the proxies and answers
// questions.
type Plane struct {
	config PlaneConfig
	push   *push.Server
	loop   *push.Loop
	keeper *keeper // nil: nothing is kept

	versions *versions.Store

	cancel  context.CancelFunc
	running sync.WaitGroup
}

// NewPlane puts a control plane together. Nothing of it runs yet.
func NewPlane(config PlaneConfig) (*Plane, error) {
	if config.Store == nil || config.Joined == nil || config.Census == nil || config.Log == nil {
		return nil, errors.New("server: a field of PlaneConfig is missing")
	}
	p := &Plane{config: config, cancel: func() {}}
	p.versions = versions.New(versions.Config{Path: config.Versions, Now: time.Now, InForce: p.inForce, Log: config.Log})
	var err error
	if p.push, err = push.New(push.Config{
		Registry: config.Joined, Census: config.Census, Peers: config.Proxies, Remote: config.Remote, Acked: config.Acked, Sent: p.versions.Keep, Log: config.Log.With("component", "push"),
	}); err != nil {
		return nil, err
	}
	if p.loop, err = push.NewLoop(push.LoopConfig{
		Store: config.Store, Census: config.Census, Publish: p.push.Publish, Domain: config.Domain, Log: config.Log.With("component", "compile"),
	}); err != nil {
		return nil, err
	}
	if config.Keep != nil {
		p.keeper = newKeeper(config.Keep, p.push.Collect, config.Log)
	}
	return p, nil
}

// Start starts the control plane and returns when the rules of the store were
// compiled once, so that no proxy is ever sent a mesh without them.
func (p *Plane) Start(ctx context.Context) error {
	background, cancel := context.WithCancel(context.WithoutCancel(ctx))
	p.cancel = cancel
	p.running.Go(func() { p.config.Store.Run(background) })
	p.running.Go(func() { p.loop.Run(background) })
	reporter := reporter{compiled: p.loop.Latest, acked: p.push.Acked, byAll: p.push.AckedByAll, report: p.config.Store.Report}
	p.running.Go(func() { reporter.run(background) })
	p.running.Go(func() { p.versions.Run(background) })
	if p.keeper != nil {
		p.running.Go(func() { p.keeper.run(background) })
	}
	for {
		out, newer := p.loop.Latest()
		if out != nil {
			return nil
		}
		select {
		case <-newer:
		case <-ctx.Done():
			return fmt.Errorf("read the rules: %w", ctx.Err())
		}
	}
}

// Serve serves the proxies that connect to a listener, until Close. It is called
// once, after Start.
func (p *Plane) Serve(proxies net.Listener) error { return p.push.Serve(proxies) }

// Handler answers the requests below /sluice/; it is for after Start.
func (p *Plane) Handler() http.Handler {
	var kept inspect.Keeper
	if p.keeper != nil {
		kept = p.keeper
	}
	return inspect.NewHandler(inspect.Config{
		Past: p.versions, Keeper: kept, Version: p.config.Version, Census: p.config.Census, Data: p.push, Compiler: p.loop,
		Rules: func() (int64, int) {
			out, _ := p.loop.Latest()
			return out.Revision, p.config.Store.Len()
		},
	})
}

// Stats is what a control plane says of itself at one moment.
type Stats struct {
	push.Stats
	Objects  int // of the store
	Problems int // objects that are not in effect
}

// Stats returns what the control plane says of itself; it is for after Start.
func (p *Plane) Stats() Stats {
	out, _ := p.loop.Latest()
	return Stats{Stats: p.push.Stats(), Objects: p.config.Store.Len(), Problems: len(out.Problems)}
}

// WarningsOf is what whoever writes a valid object should know of it, as things are
// now. It may be called before Start, and at the same time as anything else.
func (p *Plane) WarningsOf(object *api.Object) []string {
	out, _ := p.loop.Latest()
	if out == nil {
		return api.Warnings(object)
	}
	var texts []string
	for _, warning := range out.WarningsOf(object) {
		texts = append(texts, warning.Text)
	}
	return texts
}

// AllowsBypass reports whether the MeshConfig lets Pods get around their sidecars; not before
// the rules were read.
func (p *Plane) AllowsBypass() bool {
	out, _ := p.loop.Latest()
	return out != nil && out.AllowsBypass()
}

// Close ends the control plane and waits for all of it: first the streams to the
// proxies, then what reads the store.
func (p *Plane) Close() {
	p.cancel()
	p.push.Close()
	p.running.Wait()
	if err := p.versions.Close(); err != nil {
		p.config.Log.Warn("what workloads ran is not kept", "error", err)
	}
}

// inForce returns what workloads run, or are about to, and which they are.
func (p *Plane) inForce() (versions, instances []string) {
	for _, w := range p.push.Workloads() {
		versions, instances = append(versions, w.AckedVersion, w.SentVersion), append(instances, w.Instance)
	}
	return versions, instances
}
