package resolve

import (
	"container/list"
	"net/netip"
	"time"

	"sluice.dev/sluice/internal/refusal"
)

// CacheSize is how many names a Resolver remembers; past it the one that was
// asked for longest ago goes.
const CacheSize = 10_000

// found is what is known of a name: addresses, or why there are none.
type found struct {
	addrs  []netip.Addr // not to be changed: many hold it
	err    *refusal.Error
	onlyV4 bool // DNS said that there is no IPv6 address, beside some of IPv4
}

// cache is a map whose least recently used name goes first. Its owner locks it.
type cache[K comparable, V any] struct {
	size    int
	entries map[K]*list.Element // of *cached
	recent  list.List           // the most recently used one first
}

type cached[K comparable, V any] struct {
	key     K
	value   V
	expires time.Time
}

func newCache[K comparable, V any](size int) *cache[K, V] {
	return &cache[K, V]{size: size, entries: make(map[K]*list.Element)}
}

func (c *cache[K, V]) get(k K, now time.Time) (value V, ok bool) {
	e := c.entries[k]
	if e == nil {
		return value, false
	}
	held := e.Value.(*cached[K, V])
	if !now.Before(held.expires) {
		c.recent.Remove(e)
		delete(c.entries, k)
		return value, false
	}
	c.recent.MoveToFront(e)
	return held.value, true
}

func (c *cache[K, V]) put(k K, v V, expires time.Time) {
	if e := c.entries[k]; e != nil {
		e.Value = &cached[K, V]{k, v, expires}
		c.recent.MoveToFront(e)
		return
	}
	if len(c.entries) >= c.size {
		oldest := c.recent.Back()
		c.recent.Remove(oldest)
		delete(c.entries, oldest.Value.(*cached[K, V]).key)
	}
	c.entries[k] = c.recent.PushFront(&cached[K, V]{k, v, expires})
}
