package snapshot

import (
	"crypto/sha256"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"weak"

	"sluice.dev/sluice/internal/edge"
	"sluice.dev/sluice/internal/policy"
	"sluice.dev/sluice/internal/proxy/dnsserver"
	"sluice.dev/sluice/internal/route"
	"sluice.dev/sluice/internal/wire"
)

// Builder builds the snapshots of one process. What has the same content address
// is built once and shared while some snapshot holds it: a hundred workloads of
// one class have one policy.Set. The zero Builder is ready. Safe for concurrent
// use; two that build the same at once may both build it.
type Builder struct {
	sets        shared[policy.Set]
	tables      shared[route.Table]
	ingresses   shared[edge.Table]
	directories shared[dnsserver.Services]
	meshes      shared[services]
	pools       shared[rootPool]
}

func (b *Builder) policy(from *wire.Snapshot, options policy.Options, base *Snapshot) (*policy.Set, error) {
	key := from.PolicyKey()
	if key != "" { // what else the set is made of counts too
		key += "/" + options.Outbound.String() + "/" + options.Domain.String()
	}
	return b.sets.get(key, func() (*policy.Set, error) {
		if set, ok := changed(base, from.Policies, options); ok {
			return set, nil
		}
		return policy.NewSet(from.Rules(), options)
	})
}

func (b *Builder) routes(from *wire.Snapshot) (*route.Table, error) {
	return b.tables.get(string(from.Parts[wire.PartRoutes]), func() (*route.Table, error) {
		return route.NewTable(slices.Concat(from.Routes.Services, from.Routes.Hosts), from.Routes.Destinations...)
	})
}

// entries is the rules of an ingress.
func (b *Builder) entries(from *wire.Snapshot) (*edge.Table, error) {
	return b.ingresses.get(string(from.Parts[wire.PartRoutes]), func() (*edge.Table, error) { return edge.NewTable(from.Routes.Ingress) })
}

// directory is what DNS answers for: the services, and the endpoints that have names.
func (b *Builder) directory(from *wire.Snapshot, built *services) *dnsserver.Services {
	directory, _ := b.directories.get(string(from.Parts[wire.PartDirectory]), func() (*dnsserver.Services, error) {
		return dnsserver.NewServices(from.Directory), nil
	})
	return directory.WithHosts(built.hostNames())
}

func (b *Builder) services(from *wire.Snapshot) *services {
	built, _ := b.meshes.get(servicesKey(from), func() (*services, error) {
		return newServices(from.Directory, from.Endpoints), nil
	})
	return built
}

// servicesKey addresses the directory and all endpoints; "" where the snapshot
// does not say its parts.
func servicesKey(from *wire.Snapshot) string {
	if len(from.Parts) == 0 {
		return ""
	}
	sum := sha256.New()
	for _, name := range slices.Sorted(maps.Keys(from.Parts)) {
		if name == wire.PartDirectory || strings.HasPrefix(name, wire.PartEndpoints) {
			fmt.Fprintf(sum, "%s %s\n", name, from.Parts[name])
		}
	}
	return string(sum.Sum(nil))
}

// minSweep is the size below which dead entries of a shared are not looked for.
const minSweep = 32

// shared finds what was built of equal content, by its key, without keeping it
// alive. The zero value is ready.
type shared[T any] struct {
	mu    sync.Mutex
	byKey map[string]weak.Pointer[T]
	sweep int
}

// get returns the value under key, built now or before. The key "" shares
// nothing: the content is not known by an address that was checked.
func (s *shared[T]) get(key string, build func() (*T, error)) (*T, error) {
	if key == "" {
		return build()
	}
	s.mu.Lock()
	if value := s.byKey[key].Value(); value != nil {
		s.mu.Unlock()
		return value, nil
	}
	s.mu.Unlock()
	value, err := build()
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if other := s.byKey[key].Value(); other != nil {
		return other, nil
	}
	if s.byKey == nil {
		s.byKey = make(map[string]weak.Pointer[T])
	}
	if len(s.byKey) >= max(s.sweep, minSweep) {
		maps.DeleteFunc(s.byKey, func(_ string, pointer weak.Pointer[T]) bool { return pointer.Value() == nil })
		s.sweep = 2 * len(s.byKey)
	}
	s.byKey[key] = weak.Make(value)
	return value, nil
}
