package resolve

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/net/dns/dnsmessage"
	"sluice.dev/sluice/internal/names"
	"sluice.dev/sluice/internal/proxy/share"
	"sluice.dev/sluice/internal/refusal"
)

// Bounds of a lookup.
const (
	// LookupTimeout bounds all that is done to resolve one name.
	LookupTimeout = 6 * time.Second
	// OtherFamilyDelay is how long the second of A and AAAA is waited for when
	// the first brought addresses (RFC 8305, section 3). Then those are tried; what
	// comes later joins them.
	OtherFamilyDelay = 50 * time.Millisecond
	// restAttempts is for how many halves of AttemptTimeout it is waited for then: long
	// enough for a question that was lost to be asked again.
	restAttempts = 3
	// MinTTL and MaxTTL bound how long an answer is kept.
	MinTTL = time.Second
	MaxTTL = 5 * time.Minute
	// MaxNegativeTTL bounds how long it is kept that there is no answer; a
	// failure is kept for MinTTL (RFC 9520).
	MaxNegativeTTL = time.Minute
	// maxQuestions bounds the questions of one family of one name: a chain of
	// CNAME records whose server gave it in pieces.
	maxQuestions = 8
)

// ResolverConfig is what a Resolver needs. Sockets is required.
type ResolverConfig struct {
	Sockets    Sockets
	Lookups    int              // at once; MaxLookups where 0
	Servers    []netip.AddrPort // asked in this order, but the silent ones last; none: those of ResolvConf
	ResolvConf string           // "/etc/resolv.conf" where empty; read again when it changes
	Now        func() time.Time // time.Now where nil
	// Known are names that DNS is never asked for, each with its addresses.
	Known map[names.Name][]netip.Addr
}

// Resolver asks DNS for addresses and remembers them. It is safe for concurrent
// use. Close ends it.
type Resolver struct {
	sockets Sockets
	known   map[names.Name][]netip.Addr
	servers func() ([]netip.AddrPort, error)
	now     func() time.Time
	health  health

	// The constants, but in tests, where a busy machine must not decide.
	lookupTimeout, attemptTimeout, otherFamilyDelay time.Duration

	end     context.CancelFunc
	ctx     context.Context // of lookups: they outlive the caller that began them
	running sync.WaitGroup

	mu      sync.Mutex
	closed  bool
	cache   *cache[names.Name, found]
	flights map[flightKey]*flight
	records recordsKnown
	stock   *share.Stock // of look-ups
	anybody *Share       // of callers that have none of their own

	hits, lookups, failures atomic.Uint64
}

// flightKey is what those who wait together wait for, each part of the look-ups for
// itself: nobody's look-up waits for the turn of another's.
type flightKey struct {
	name names.Name
	by   *share.Member
}

// flight is one lookup that runs; all of its part who want its name wait for it.
type flight struct {
	partly chan struct{} // closed when one family brought addresses and the other is late
	early  found         // what there was then; to be read after partly
	done   chan struct{}
	found  found // to be read after done
}

// finished is closed at the end of a flight; without a flight it never is.
func (f *flight) finished() <-chan struct{} {
	if f == nil {
		return nil
	}
	return f.done
}

// wait waits for all of a flight.
func (f *flight) wait(ctx context.Context, n names.Name) ([]netip.Addr, error) {
	select {
	case <-f.done:
		return f.found.outcome()
	case <-ctx.Done():
		return nil, failed(refusal.ResolveFailed, n, nil, ctx.Err())
	}
}

func (f found) outcome() ([]netip.Addr, error) {
	if f.err != nil {
		return nil, f.err
	}
	return f.addrs, nil
}

// NewResolver makes a Resolver.
func NewResolver(c ResolverConfig) *Resolver {
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.ResolvConf == "" {
		c.ResolvConf = systemResolvConf
	}
	r := &Resolver{
		sockets: c.Sockets,
		known:   c.Known,
		servers: (&resolvConf{path: c.ResolvConf, now: c.Now}).list,
		now:     c.Now,
		cache:   newCache[names.Name, found](CacheSize),
		flights: make(map[flightKey]*flight),
		records: recordsKnown{newCache[recordKey, recordsFound](RecordsCacheSize), make(map[recordFlightKey]*recordFlight)},
		stock:   share.NewStock(share.Config{Units: cmp.Or(c.Lookups, MaxLookups)}),

		lookupTimeout: LookupTimeout, attemptTimeout: AttemptTimeout, otherFamilyDelay: OtherFamilyDelay,
	}
	r.anybody = r.Join()
	if len(c.Servers) > 0 {
		r.servers = func() ([]netip.AddrPort, error) { return c.Servers, nil }
	}
	r.ctx, r.end = context.WithCancel(context.Background())
	return r
}

// Close ends the lookups that run and waits for them.
func (r *Resolver) Close() {
	r.mu.Lock()
	r.closed = true
	r.mu.Unlock()
	r.end()
	r.running.Wait()
}

// Stats counts what a Resolver did.
type Stats struct {
	Hits     uint64 // answered from memory
	Lookups  uint64 // asked of DNS
	Failures uint64 // lookups in which no server gave a usable answer
	Names    int    // remembered now
}

// Stats returns the counts.
func (r *Resolver) Stats() Stats {
	r.mu.Lock()
	defer r.mu.Unlock()
	return Stats{Hits: r.hits.Load(), Lookups: r.lookups.Load(), Failures: r.failures.Load(), Names: len(r.cache.entries)}
}

// Lookup returns the addresses of n, at most MaxAddresses, IPv6 and IPv4, not
// to be changed. limit, where it is not nil, is taken from when DNS must be
// asked. Errors are *refusal.Error. A remembered name costs no allocation.
func (r *Resolver) Lookup(ctx context.Context, n names.Name, limit *Limit) ([]netip.Addr, error) {
	return r.LookupFor(ctx, n, nil, limit)
}

// LookupFor is Lookup from a workload's part of the look-ups; nil: of those who have none.
func (r *Resolver) LookupFor(ctx context.Context, n names.Name, by *Share, limit *Limit) ([]netip.Addr, error) {
	addrs, _, err := r.begin(ctx, n, by, limit)
	return addrs, err
}

// OnlyV4 reports whether it is known of n, and still holds, that it has IPv4 addresses
// and no IPv6 address. It never asks, and what it reports was asked for somebody.
func (r *Resolver) OnlyV4(n names.Name) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	known, ok := r.cache.get(n, r.now())
	return ok && known.onlyV4
}

// remembered returns the addresses of n where they are known; none where DNS would have to
// be asked, or failed.
func (r *Resolver) remembered(n names.Name) []netip.Addr {
	if addrs, ok := r.known[n]; ok {
		return addrs
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	known, ok := r.cache.get(n, r.now())
	if ok {
		r.hits.Add(1)
	}
	return known.addrs
}

// begin is Lookup from a workload's part of the look-ups, and says with a flight that is
// not nil that the other family may come yet.
func (r *Resolver) begin(ctx context.Context, n names.Name, by *Share, limit *Limit) ([]netip.Addr, *flight, error) {
	if addrs, ok := r.known[n]; ok {
		return addrs, nil, nil
	}
	known, f, err := r.knownOrFlight(n, by, limit)
	if err != nil {
		return nil, nil, err
	}
	if f == nil {
		addrs, err := known.outcome()
		return addrs, nil, err
	}
	select {
	case <-f.done:
	case <-f.partly:
		return f.early.addrs, f, nil
	case <-ctx.Done():
	}
	addrs, err := f.wait(ctx, n)
	return addrs, nil, err
}

var (
	errBusy      = errors.New("too many names are being resolved")
	errShutdown  = errors.New("the resolver is closed")
	errQuestions = fmt.Errorf("a chain of more than %d names, or in more than %d pieces", maxLinks, maxQuestions)
)

// knownOrFlight returns what is known of n, or else the lookup to wait for: the
// one that runs, or a new one.
func (r *Resolver) knownOrFlight(n names.Name, by *Share, limit *Limit) (found, *flight, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.now()
	if known, ok := r.cache.get(n, now); ok {
		r.hits.Add(1)
		return known, nil, nil
	}
	if by == nil {
		by = r.anybody
	}
	what := flightKey{n, by.member(limit)}
	if f := r.flights[what]; f != nil {
		return found{}, f, nil
	}
	turn, reason, err := r.queue(what.by, limit, now)
	if turn == nil {
		return found{}, nil, failed(reason, n, nil, err)
	}
	f := &flight{partly: make(chan struct{}), done: make(chan struct{})}
	r.flights[what] = f
	timeout := r.lookupTimeout
	r.running.Go(func() { r.fly(what, f, timeout, turn) })
	return found{}, f, nil
}

// queue gives a new look-up its turn in a workload's part of them, or says why it has none.
// The lock is held.
func (r *Resolver) queue(by *share.Member, limit *Limit, now time.Time) (turn *share.Waiter, reason refusal.Reason, err error) {
	switch {
	case r.closed:
		return nil, refusal.ResolveFailed, errShutdown
	case limit != nil && !limit.Take(now):
		return nil, refusal.TooManyNames, nil
	}
	turn, err = by.Queue(nil)
	if err != nil {
		return nil, refusal.ResolveFailed, errBusy
	}
	r.lookups.Add(1)
	return turn, "", nil
}

// inTurn looks up when its turn has come, unless the time for all of it ends before.
func (r *Resolver) inTurn(by *share.Member, turn *share.Waiter, timeout time.Duration, look func(ctx context.Context)) {
	ctx, cancel := context.WithTimeout(r.ctx, timeout)
	defer cancel()
	select {
	case <-turn.Ready():
		look(ctx)
		by.Give(1)
	case <-ctx.Done():
		if !turn.Abandon() {
			by.Give(1)
		}
	}
}

// settle remembers an outcome for as long as it holds; err is its failure. One that failed
// takes no place of another that did not: another part of the look-ups asked too, and what
// never had its turn is not known to fail. The lock is held.
func settle[K comparable, F any](r *Resolver, known *cache[K, F], key K, outcome F, err *refusal.Error, keep time.Duration) {
	if err != nil && err.Reason == refusal.ResolveFailed {
		r.failures.Add(1)
	}
	now := r.now()
	if _, there := known.get(key, now); keep > 0 && !(there && err != nil) {
		known.put(key, outcome, now.Add(keep))
	}
}

// fly looks up in its turn, and ends its flight.
func (r *Resolver) fly(what flightKey, f *flight, timeout time.Duration, turn *share.Waiter) {
	out, keep := found{err: failed(refusal.ResolveFailed, what.name, nil, errBusy)}, time.Duration(0)
	r.inTurn(what.by, turn, timeout, func(ctx context.Context) { out, keep = r.lookup(ctx, what.name, f) })
	f.found = out
	r.mu.Lock()
	delete(r.flights, what)
	settle(r, r.cache, what.name, out, out.err, keep)
	r.mu.Unlock()
	close(f.done)
}

// family is what one of A and AAAA brought.
type family struct {
	typ    dnsmessage.Type
	addrs  []netip.Addr
	ttl    time.Duration // how long this may be kept
	absent bool          // NXDOMAIN
	err    error
}

// lookup asks for both families at once and says how long the outcome holds. Where one
// of them is late the flight says what the other brought.
func (r *Resolver) lookup(ctx context.Context, n names.Name, f *flight) (found, time.Duration) {
	servers, err := r.servers()
	if err != nil {
		return found{err: failed(refusal.ResolveFailed, n, nil, err)}, MinTTL
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	servers = r.health.order(servers, r.now())
	families := make(chan family, 2)
	for _, typ := range []dnsmessage.Type{dnsmessage.TypeAAAA, dnsmessage.TypeA} {
		r.running.Go(func() {
			out := r.lookupFamily(ctx, servers, n.String()+".", typ)
			out.typ = typ
			families <- out
		})
	}
	first := <-families
	var late <-chan time.Time
	if len(first.addrs) > 0 {
		timer := time.NewTimer(r.otherFamilyDelay)
		defer timer.Stop()
		late = timer.C
	}
	select {
	case second := <-families:
		return merge(n, first, second)
	case <-late:
		f.early = found{addrs: first.addrs[:min(len(first.addrs), MaxAddresses)]}
		close(f.partly)
		defer time.AfterFunc(r.attemptTimeout*restAttempts/2, cancel).Stop()
	}
	return merge(n, first, <-families)
}

// merge makes one outcome of two families.
func merge(n names.Name, a, b family) (found, time.Duration) {
	switch {
	case len(a.addrs) > 0 && len(b.addrs) > 0:
		addrs := append(append([]netip.Addr(nil), a.addrs[:min(len(a.addrs), MaxAddresses/2)]...), b.addrs...)
		return found{addrs: addrs[:min(len(addrs), MaxAddresses)]}, min(a.ttl, b.ttl)
	case len(b.addrs) > 0:
		return merge(n, b, a)
	case len(a.addrs) > 0 && b.err != nil:
		return found{addrs: a.addrs}, MinTTL
	case len(a.addrs) > 0:
		// A server that says that a name does not exist, and then has an address of it,
		// is not believed about the other family either.
		return found{addrs: a.addrs, onlyV4: a.typ == dnsmessage.TypeA && !b.absent}, a.ttl
	case a.absent || b.absent:
		return found{err: failed(refusal.NoSuchName, n, nil, nil)}, min(a.ttl, b.ttl)
	case a.err != nil || b.err != nil:
		return found{err: failed(refusal.ResolveFailed, n, nil, errors.Join(a.err, b.err))}, MinTTL
	}
	return found{err: failed(refusal.NoAddress, n, nil, nil)}, min(a.ttl, b.ttl)
}

// lookupFamily asks for one type and follows aliases, also those whose end the
// server did not send along.
func (r *Resolver) lookupFamily(ctx context.Context, servers []netip.AddrPort, name string, typ dnsmessage.Type) family {
	links, ttl := 0, uint32(MaxTTL/time.Second)
	for range maxQuestions {
		out, err := r.ask(ctx, servers, name, typ)
		if err != nil {
			return family{err: err, ttl: MinTTL}
		}
		end, followed, addrs, shortest := out.follow(name, typ, ttl)
		ttl = shortest
		if links += followed; links >= maxLinks {
			break
		}
		switch {
		case len(addrs) > 0:
			return family{addrs: addrs, ttl: clamp(ttl, MaxTTL)}
		case out.rcode == dnsmessage.RCodeNameError:
			return family{absent: true, ttl: clamp(min(ttl, out.negative), MaxNegativeTTL)}
		case followed == 0 || out.negative > 0:
			return family{ttl: clamp(min(ttl, out.negative), MaxNegativeTTL)}
		}
		name = end
	}
	return family{err: errQuestions, ttl: MinTTL}
}

func clamp(seconds uint32, most time.Duration) time.Duration {
	return max(MinTTL, min(time.Duration(seconds)*time.Second, most))
}
