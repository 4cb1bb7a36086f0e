package proof

import (
	"container/list"
	"time"
)

// table remembers an error, or nil, for each key until a time, and for at most so
// many keys: then it forgets the one that was unused for longest.
type table[K comparable] struct {
	bound   int
	entries map[K]*list.Element
	order   *list.List // of *entry[K], the last used first
}

type entry[K comparable] struct {
	key   K
	err   error
	until time.Time
}

func newTable[K comparable](bound int) table[K] {
	return table[K]{bound: bound, entries: make(map[K]*list.Element), order: list.New()}
}

func (t *table[K]) get(key K, now time.Time) (err error, ok bool) {
	element := t.entries[key]
	if element == nil {
		return nil, false
	}
	e := element.Value.(*entry[K])
	if !now.Before(e.until) {
		t.remove(element)
		return nil, false
	}
	t.order.MoveToFront(element)
	return e.err, true
}

func (t *table[K]) put(key K, err error, until time.Time) {
	if element := t.entries[key]; element != nil {
		t.remove(element)
	}
	if len(t.entries) >= t.bound {
		t.remove(t.order.Back())
	}
	t.entries[key] = t.order.PushFront(&entry[K]{key, err, until})
}

func (t *table[K]) remove(element *list.Element) {
	delete(t.entries, t.order.Remove(element).(*entry[K]).key)
}
