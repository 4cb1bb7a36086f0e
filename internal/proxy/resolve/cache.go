package resolve

import (
	"container/list"
	"net/netip"
	"time"

	"sluice.dev/sluice/internal/names"
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
type cache struct {
	size    int
	entries map[names.Name]*list.Element // of *cached
	recent  list.List                    // the most recently used one first
}

type cached struct {
	name    names.Name
	found   found
	expires time.Time
}

func newCache(size int) *cache {
	return &cache{size: size, entries: make(map[names.Name]*list.Element)}
}

func (c *cache) get(n names.Name, now time.Time) (found, bool) {
	e := c.entries[n]
	if e == nil {
		return found{}, false
	}
	held := e.Value.(*cached)
	if !now.Before(held.expires) {
		c.recent.Remove(e)
		delete(c.entries, n)
		return found{}, false
	}
	c.recent.MoveToFront(e)
	return held.found, true
}

func (c *cache) put(n names.Name, f found, expires time.Time) {
	if e := c.entries[n]; e != nil {
		e.Value = &cached{n, f, expires}
		c.recent.MoveToFront(e)
		return
	}
	if len(c.entries) >= c.size {
		oldest := c.recent.Back()
		c.recent.Remove(oldest)
		delete(c.entries, oldest.Value.(*cached).name)
	}
	c.entries[n] = c.recent.PushFront(&cached{n, f, expires})
}
