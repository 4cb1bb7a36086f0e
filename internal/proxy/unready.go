package proxy

import (
	"maps"
	"sync"
	"sync/atomic"

	"sluice.dev/sluice/internal/wire"
)

// unreadyPorts is which ports of the workloads of a proxy are not ready, by instance. It
// is read with each call inside the mesh and changes seldom: reading takes no lock, and
// a change copies it. The zero value is ready.
type unreadyPorts struct {
	mu  sync.Mutex // held to change all
	all atomic.Pointer[map[string][]wire.Unready]
}

// of is mesh.Config.Unready.
func (u *unreadyPorts) of(instance string) (unready []wire.Unready, ok bool) {
	if all := u.all.Load(); all != nil {
		unready, ok = (*all)[instance]
	}
	return unready, ok
}

func (u *unreadyPorts) set(instance string, unready []wire.Unready) {
	u.change(func(all map[string][]wire.Unready) { all[instance] = unready })
}

func (u *unreadyPorts) drop(instance string) {
	u.change(func(all map[string][]wire.Unready) { delete(all, instance) })
}

func (u *unreadyPorts) change(edit func(all map[string][]wire.Unready)) {
	u.mu.Lock()
	defer u.mu.Unlock()
	next := make(map[string][]wire.Unready)
	if all := u.all.Load(); all != nil {
		maps.Copy(next, *all)
	}
	edit(next)
	u.all.Store(&next)
}
