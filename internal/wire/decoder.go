package wire

import (
	"sync"
	"weak"
)

// Decoder reads parts and hands out one shared value for equal content, so that
// a hundred workloads of one class in one process hold their rules once. It
// keeps nothing alive: a value goes when the last snapshot that holds it goes.
// Safe for concurrent use; the zero Decoder is ready.
type Decoder struct {
	mu     sync.Mutex
	shared map[Hash]sharedPart
	sweep  int // size of shared at which dead entries are removed
}

// sharedPart is a weak pointer of one of the five types.
type sharedPart struct {
	value func() any // nil once the value is gone
}

// minSweep is the size below which dead entries are not looked for.
const minSweep = 64

// Decode checks that b is what hash names and returns a pointer to the part's
// type. The value is shared: nobody may change it.
func (d *Decoder) Decode(name string, hash Hash, b []byte) (any, error) {
	kind, _ := KindOf(name)
	if HashOf(b) == hash {
		if value := d.held(kind, hash); value != nil {
			return value, nil
		}
	}
	value, err := decodePart(name, hash, b)
	if err != nil {
		return nil, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if entry, ok := d.shared[hash]; ok {
		if other := entry.value(); other != nil && sameKind(kind, other) {
			return other, nil
		}
	}
	if d.shared == nil {
		d.shared = make(map[Hash]sharedPart)
	}
	if len(d.shared) >= max(d.sweep, minSweep) {
		for hash, entry := range d.shared {
			if entry.value() == nil {
				delete(d.shared, hash)
			}
		}
		d.sweep = 2 * len(d.shared)
	}
	d.shared[hash] = sharedPart{value: weakValue(value)}
	return value, nil
}

// held returns the live value of this content, or nil.
func (d *Decoder) held(kind Kind, hash Hash) any {
	d.mu.Lock()
	defer d.mu.Unlock()
	entry, ok := d.shared[hash]
	if !ok {
		return nil
	}
	if value := entry.value(); value != nil && sameKind(kind, value) {
		return value
	}
	return nil
}

// sameKind keeps apart parts of different kinds whose JSON is equal.
func sameKind(kind Kind, value any) bool {
	switch value.(type) {
	case *Mesh:
		return kind == KindMesh
	case *Policy:
		return kind == KindPolicy
	case *Routes:
		return kind == KindRoutes
	case *Directory:
		return kind == KindDirectory
	case *Endpoints:
		return kind == KindEndpoints
	}
	return false
}

func weakValue(value any) func() any {
	switch value := value.(type) {
	case *Mesh:
		return weakOf(value)
	case *Policy:
		return weakOf(value)
	case *Routes:
		return weakOf(value)
	case *Directory:
		return weakOf(value)
	case *Endpoints:
		return weakOf(value)
	}
	return func() any { return nil }
}

func weakOf[T any](value *T) func() any {
	pointer := weak.Make(value)
	return func() any {
		if value := pointer.Value(); value != nil {
			return value
		}
		return nil
	}
}
