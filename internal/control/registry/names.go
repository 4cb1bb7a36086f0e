package registry

import (
	"crypto/sha256"
	"encoding/hex"
	"time"
)

// keepName is how long the name of a workload whose stream was lost is kept for
// it, while its proxy lives. A proxy that lost its server seeks it every 6 s at
// the most (stream.MaxBackoff with its jitter), and a stream that lost its
// connection likewise.
const keepName = 30 * time.Second

// KeptName is the name of a workload that may come back. It holds no secret.
type KeptName struct {
	Instance string  `json:"instance"`
	Session  string  `json:"session"` // hash of the session that may have it
	Proxy    Process `json:"proxy"`   // without which it does not come back
}

func (m *Member) name() KeptName {
	return KeptName{Instance: m.workload.Instance, Session: hashOf(m.session), Proxy: m.owner}
}

// hashOf names a session without showing it.
func hashOf(session string) string {
	sum := sha256.Sum256([]byte(session))
	return hex.EncodeToString(sum[:])
}

// keptNames is the names that are kept for workloads that may come back. The
// registry's lock guards it; MaxWorkloads bounds it.
type keptNames struct {
	names   map[string]keptName // by instance
	awaited int                 // of them, those that a server before knew
	home    chan struct{}       // closed when awaited is 0
}

type keptName struct {
	KeptName
	until   time.Time
	awaited bool
}

func (k *keptNames) init() {
	k.names = make(map[string]keptName)
	k.home = make(chan struct{})
}

func (k *keptNames) add(name KeptName, until time.Time, awaited bool) {
	k.names[name.Instance] = keptName{name, until, awaited}
	if awaited {
		k.awaited++
	}
}

// drop keeps the name no longer.
func (k *keptNames) drop(instance string) {
	name, ok := k.names[instance]
	if !ok {
		return
	}
	delete(k.names, instance)
	if name.awaited {
		if k.awaited--; k.awaited == 0 {
			close(k.home)
		}
	}
}

// forgetNames lets go of the names whose time is over or whose proxy ended. The
// lock is held.
func (r *Registry) forgetNames() {
	if len(r.kept.names) == 0 {
		return
	}
	now, ended := r.now(), make(map[Process]bool)
	for instance, name := range r.kept.names {
		gone, known := ended[name.Proxy]
		if !known {
			gone = name.Proxy.Ended()
			ended[name.Proxy] = gone
		}
		if gone || !now.Before(name.until) {
			r.kept.drop(instance)
			r.release(instance)
		}
	}
}

// Home is closed once every workload that the server before knew, and whose proxy
// lives, joined again. One that stays away keeps it open.
func (r *Registry) Home() <-chan struct{} { return r.kept.home }
