package push

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"sluice.dev/sluice/api"
	"sluice.dev/sluice/internal/control/compile"
	"sluice.dev/sluice/internal/control/registry"
	"sluice.dev/sluice/internal/pause"
	"sluice.dev/sluice/internal/wire"
)

// compileAtMost is the least time between the starts of two compilations. A
// change after a quiet time is compiled at once; in a storm one compilation takes
// all changes of that time.
const compileAtMost = 20 * time.Millisecond

// restFactor is how much longer than a compilation the rest behind it is: however large the
// mesh is, a storm of changes takes a fifth of a processor to compile. maxRest bounds it.
const (
	restFactor = 4
	maxRest    = 2 * time.Second
)

// restAfter returns how long nothing is compiled after a compilation that took so long.
func restAfter(took time.Duration) time.Duration {
	return max(compileAtMost-took, min(restFactor*took, maxRest))
}

// Store is where the rules are.
type Store interface {
	// Objects returns every object, the revision of the store that they are of,
	// and a channel that is closed when there is a newer one. The objects do not
	// change afterwards. ready is false while the store was not read wholly yet:
	// then nothing is compiled.
	Objects() (objects []api.Object, revision int64, changed <-chan struct{}, ready bool)
}

// Census is who is there, whoever counts them: proxies' streams alone, or others
// too.
type Census interface {
	// Now returns who is there, as of one moment.
	Now() registry.Moment
	// Number returns the number of a moment that is taken now.
	Number() uint64
}

// LoopConfig is what a Loop joins.
type LoopConfig struct {
	Store   Store
	Census  Census
	Publish func(*compile.Output) // called in order; must not wait
	Domain  string                // "" is compile.DefaultDomain
	Log     *slog.Logger
}

// Loop compiles whenever a rule or a workload changed, and publishes.
type Loop struct {
	config LoopConfig
	log    *slog.Logger

	mu    sync.Mutex
	last  *compile.Output
	newer chan struct{} // closed when last is no longer the last
}

// NewLoop returns a loop that does not run yet.
func NewLoop(config LoopConfig) (*Loop, error) {
	if config.Store == nil || config.Census == nil || config.Publish == nil {
		return nil, errors.New("push: Store, Census and Publish must be set")
	}
	return &Loop{config: config, log: cmp.Or(config.Log, slog.New(slog.DiscardHandler)), newer: make(chan struct{})}, nil
}

// Run compiles and publishes until ctx ends.
func (l *Loop) Run(ctx context.Context) {
	var compiler compile.Compiler
	for {
		// The channels are taken before what they speak of is compiled: a change
		// meanwhile is not missed.
		there := l.config.Census.Now()
		objects, revision, changed, ready := l.config.Store.Objects()
		started := time.Now()
		var took time.Duration
		if ready {
			out := compiler.Compile(compile.Input{
				Objects: objects, Workloads: there.Workloads, Past: there.Past, Services: there.Services, Census: there.Number,
				Revision: revision, Created: started, Domain: l.config.Domain,
			})
			l.keep(out)
			l.config.Publish(out)
			took = time.Since(started)
			l.log.Debug("compiled", "revision", revision, "objects", len(objects), "workloads", len(there.Workloads), "took", took)
		}
		select {
		case <-changed:
		case <-there.Changed:
		case <-ctx.Done():
			return
		}
		if rest := took + restAfter(took) - time.Since(started); rest > 0 {
			if pause.For(ctx, rest) != nil {
				return
			}
		}
	}
}

func (l *Loop) keep(out *compile.Output) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.last = out
	close(l.newer)
	l.newer = make(chan struct{})
}

// Latest returns what was compiled last, nil before the first, and a channel that
// is closed when there is something newer.
func (l *Loop) Latest() (last *compile.Output, newer <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.last, l.newer
}

// errNotCompiled says that the store was not read yet.
var errNotCompiled = errors.New("push: the rules are not compiled yet")

// SnapshotFor compiles the current rules for a workload that need not be
// connected.
func (l *Loop) SnapshotFor(workload wire.Workload) (*wire.Snapshot, error) {
	out, _ := l.Latest()
	if out == nil {
		return nil, errNotCompiled
	}
	workload, err := workload.Normalize()
	if err != nil {
		return nil, err
	}
	return out.ForWorkload(workload)
}
