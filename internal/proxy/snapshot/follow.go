package snapshot

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"sync"
	"time"

	"sluice.dev/sluice/internal/wire"
)

// checkEvery is how often Follow looks whether the server is still there; sooner
// where the snapshot would be stale before.
const checkEvery = time.Minute

// saveAtMost is the least time between two writes of one workload's snapshot.
const saveAtMost = time.Second

// Source is where snapshots come from: a membership of the server's stream.
type Source interface {
	Snapshots() <-chan *wire.Snapshot // closed at the end
	Ack(version string)
	Nack(version string, why error)
	Connected() bool // the snapshot that came last is current
}

// FollowConfig is what Follow joins.
type FollowConfig struct {
	Source  Source
	Holder  *Holder
	Builder *Builder
	View    View
	Store   *Store // nil: nothing is kept
	Key     string // of the workload in Store: its class
	Log     *slog.Logger
}

// Follow swaps each snapshot of the source into the holder and then acknowledges
// it; one that cannot be built is refused and the one before goes on. It begins
// with what the store kept. It returns when the source or ctx ended and all is
// written.
func Follow(ctx context.Context, c FollowConfig) {
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	f := &follower{FollowConfig: c, changed: make(chan *wire.Snapshot, 1)}
	if c.Store != nil {
		defer c.Store.use(c.Key)()
		f.restore()
		var writing sync.WaitGroup
		ending := make(chan struct{})
		defer writing.Wait()
		defer close(ending)
		writing.Go(func() { f.write(ending) })
	}
	timer := time.NewTimer(f.untilCheck())
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case snapshot, ok := <-c.Source.Snapshots():
			if !ok {
				return
			}
			f.take(snapshot)
		case <-timer.C:
			f.check()
		}
		timer.Reset(f.untilCheck())
	}
}

type follower struct {
	FollowConfig
	built   *Snapshot           // the last; nil before
	running string              // version of the last swap that a server sent; "" before
	refused bool                // what the server sent last cannot be run: running is not current
	changed chan *wire.Snapshot // the latest that is to be written
}

// take swaps one snapshot in, or refuses it.
func (f *follower) take(from *wire.Snapshot) {
	if from.Version == f.running {
		// The same again, over a new stream or after one that was refused.
		f.refused = false
		f.Holder.Confirm()
		f.Source.Ack(from.Version)
		return
	}
	built, err := f.Builder.Build(from, f.View, f.built)
	if err != nil {
		f.refused = true
		f.Log.Error("a snapshot is refused, the one before goes on", "version", from.Version, "error", err)
		f.Source.Nack(from.Version, err)
		return
	}
	f.Holder.Swap(built)
	f.built = built
	f.running, f.refused = from.Version, false
	f.Source.Ack(from.Version)
	if f.Store == nil {
		return
	}
	select {
	case <-f.changed: // an older one that was not written yet
	default:
	}
	f.changed <- from
}

// untilCheck returns when to look at the age next.
func (f *follower) untilCheck() time.Duration {
	if remaining, ok := f.Holder.Remaining(); ok {
		return min(max(remaining, 0), checkEvery)
	}
	return checkEvery
}

// check keeps the age: of what the server stands behind it begins anew. It does
// not stand behind what was kept, nor behind what runs on because its newer one
// was refused.
func (f *follower) check() {
	if !f.Source.Connected() || f.refused || f.running == "" {
		if f.Holder.Expire() {
			f.Log.Warn("the snapshot is older than it may be: everything is denied until the server sends one that runs", "age", f.Holder.Age())
		}
		return
	}
	f.Holder.Confirm()
	if f.Store != nil {
		if err := f.Store.Confirm(f.Key, f.running); err != nil {
			f.Log.Warn("the age of a kept snapshot could not be noted", "error", err)
		}
	}
}

// restore begins with what was kept.
func (f *follower) restore() {
	kept, confirmed, err := f.Store.Load(f.Key)
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	if err == nil {
		var built *Snapshot
		if built, err = f.Builder.Build(kept, f.View, nil); err == nil {
			f.Holder.Restore(built, confirmed)
			return
		}
	}
	f.Log.Warn("a kept snapshot cannot be used", "error", err)
}

// write keeps snapshots until ending is closed, each latest at most once in
// saveAtMost, and the last one in any case.
func (f *follower) write(ending <-chan struct{}) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	defer func() {
		select {
		case snapshot := <-f.changed:
			f.save(snapshot)
		default:
		}
	}()
	for {
		select {
		case <-timer.C:
		case <-ending:
			return
		}
		select {
		case snapshot := <-f.changed:
			f.save(snapshot)
			timer.Reset(saveAtMost)
		case <-ending:
			return
		}
	}
}

func (f *follower) save(snapshot *wire.Snapshot) {
	if err := f.Store.Save(f.Key, snapshot); err != nil {
		f.Log.Warn("a snapshot could not be kept", "version", snapshot.Version, "error", err)
	}
}
