package proxy

import (
	"net/netip"
	"sync"

	"sluice.dev/sluice/internal/names"
	"sluice.dev/sluice/internal/policy"
	"sluice.dev/sluice/internal/proxy/resolve"
	"sluice.dev/sluice/internal/proxy/snapshot"
	"sluice.dev/sluice/internal/proxy/upstream"
	"sluice.dev/sluice/internal/refusal"
)

// MaxPools bounds the pools of one workload; past it the one that was used
// longest ago is closed.
const MaxPools = 1024

// poolKey says what a pool's connections share. Nothing is shared across names,
// rules or roots, and a pool belongs to one workload.
type poolKey struct {
	rule       string     // that allows it; "" inside the mesh
	name       names.Name // that was decided on
	address    netip.Addr // where no name was
	instance   string     // of the endpoint, inside the mesh
	port       uint16
	tls        bool
	serverName names.Name
	roots      string
}

// pool is one pool with what allowed it.
type pool struct {
	*upstream.Pool
	chain   policy.Chain   // of egress; zero inside the mesh
	target  resolve.Target // likewise
	reached reached
	used    uint64 // by the pools' count of uses
}

// maxReached bounds the addresses that a pool remembers.
const maxReached = 64

// reached is the addresses that a pool's connections were dialled to.
type reached struct {
	mu   sync.Mutex
	all  map[netip.Addr]struct{}
	more bool // than are remembered
}

func (r *reached) add(a netip.Addr) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.all == nil {
		r.all = make(map[netip.Addr]struct{})
	}
	if len(r.all) < maxReached {
		r.all[a] = struct{}{}
	} else if _, known := r.all[a]; !known {
		r.more = true
	}
}

// leads reports whether an address is among them, or may be, for which refused is true.
func (r *reached) leads(refused func(netip.Addr) bool) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for a := range r.all {
		if refused(a) {
			return true
		}
	}
	return r.more
}

// pools is the upstream pools of one workload.
type pools struct {
	mu     sync.Mutex
	byKey  map[poolKey]*pool
	uses   uint64
	closed bool
}

func (p *pools) init() { p.byKey = make(map[poolKey]*pool) }

// get returns the pool of a key. Where there is none, or one that leads elsewhere
// than made does, made takes the place and open gives it its connections.
func (p *pools) get(key poolKey, made *pool, open func() (*upstream.Pool, error)) (*upstream.Pool, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil, upstream.ErrWithdrawn
	}
	p.uses++
	found := p.byKey[key]
	if found != nil && sameTarget(found.target, made.target) {
		found.used = p.uses
		return found.Pool, nil
	}
	var err error
	if made.Pool, err = open(); err != nil {
		return nil, err
	}
	switch {
	case found != nil:
		found.Close(false)
	case len(p.byKey) >= MaxPools:
		p.closeOldest()
	}
	made.used = p.uses
	p.byKey[key] = made
	return made.Pool, nil
}

// sameTarget reports whether two targets of one key may be dialled alike: a rule
// that lists other private answers under its old name leads elsewhere.
func sameTarget(a, b resolve.Target) bool {
	return a.Limit == b.Limit && a.Consent.Equal(b.Consent)
}

func (p *pools) closeOldest() {
	var oldest poolKey
	first := true
	for key, candidate := range p.byKey {
		if first || candidate.used < p.byKey[oldest].used {
			oldest, first = key, false
		}
	}
	p.byKey[oldest].Close(false)
	delete(p.byKey, oldest)
}

// recheck closes the pools that the snapshot has no use for, and what runs on them
// where it is forbidden.
func (p *pools) recheck(w *Workload, s *snapshot.Snapshot) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for key, candidate := range p.byKey {
		if fate := w.fateOf(key, candidate, s); fate != keepPool {
			candidate.Close(fate == abortPool)
			delete(p.byKey, key)
		}
	}
}

// fate is what becomes of a pool under a new snapshot.
type fate uint8

const (
	keepPool  fate = iota
	endPool        // what runs on it goes on, nothing else begins
	abortPool      // what runs on it ends
)

// fateOf says what becomes of a pool. Each connection of the workload has a grant
// of its own; here counts what the pool was made for.
func (w *Workload) fateOf(key poolKey, of *pool, s *snapshot.Snapshot) fate {
	if s.Policy.DeniesAll() != "" {
		return abortPool
	}
	if key.instance != "" {
		if !s.HasInstance(key.instance) {
			return endPool
		}
		return keepPool
	}
	verdict := s.Policy.Decide(&of.chain)
	switch {
	case verdict.Reason == refusal.MethodOrPath:
		return endPool // the host is allowed still, with other requests
	case !verdict.Passes():
		return abortPool
	}
	target := w.target(verdict)
	if of.reached.leads(func(a netip.Addr) bool { return target.Consent.Judge(a) != "" }) {
		return abortPool
	}
	if now, err := w.egressKey(s, verdict); err != nil || now != key || !sameTarget(of.target, target) {
		return endPool
	}
	return keepPool
}

func (p *pools) closeAll() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	for key, candidate := range p.byKey {
		candidate.Close(true)
		delete(p.byKey, key)
	}
}
