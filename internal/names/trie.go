package names

import "slices"

// Trie holds values under patterns and finds the most specific pattern that
// matches a name, in time that grows with the name's length and not with the
// number of patterns, without allocating. It is a radix tree over the characters
// of patterns read from the end. Build it, then share it: Lookup and Walk are
// safe for concurrent use as long as nothing is inserted. The zero Trie is empty;
// a Trie must not be copied after the first insertion.
type Trie[V any] struct {
	root node[V]
	size int
}

// node is a place in the tree; the way to it from its parent is label, read from
// the end of the name.
type node[V any] struct {
	label    string // in the order of the name: the end of it is compared first
	parent   *node[V]
	first    []byte // the last byte of each child's label, sorted
	children []*node[V]

	exact, wild       V
	hasExact, hasWild bool
}

// Len returns the number of patterns.
func (t *Trie[V]) Len() int { return t.size }

// Slot returns where the value of p is kept, made when p is new;
// found says whether it was there. A pattern that matches no name (an address, a
// name longer than any) has no slot: nil.
func (t *Trie[V]) Slot(p Pattern) (slot *V, found bool) {
	if suffix, wild := p.Suffix(); wild {
		at := t.root.grow(suffix)
		found = at.hasWild
		at.hasWild, slot = true, &at.wild
	} else if n, ok := p.Exact(); ok {
		at := t.root.grow(n.s)
		found = at.hasExact
		at.hasExact, slot = true, &at.exact
	}
	if slot != nil && !found {
		t.size++
	}
	return slot, found
}

// Insert puts value under p in place of what was there. It reports whether p can
// match a name at all; where it cannot nothing is kept.
func (t *Trie[V]) Insert(p Pattern, value V) bool {
	slot, _ := t.Slot(p)
	if slot == nil {
		return false
	}
	*slot = value
	return true
}

// Lookup returns the value under the most specific pattern that matches n: the
// name itself, then the longest suffix, then "*".
func (t *Trie[V]) Lookup(n Name) (value V, ok bool) {
	at, whole := t.root.descend(n.s)
	if whole && at.hasExact {
		return at.exact, true
	}
	if whole {
		at = at.parent // "*" is never empty
	}
	for ; at != nil; at = at.parent {
		if at.hasWild {
			return at.wild, true
		}
	}
	return value, false
}

// Walk calls yield with the value of each pattern that matches n, the most
// specific first, until yield returns false.
func (t *Trie[V]) Walk(n Name, yield func(V) bool) {
	at, whole := t.root.descend(n.s)
	if whole && at.hasExact && !yield(at.exact) {
		return
	}
	if whole {
		at = at.parent
	}
	for ; at != nil; at = at.parent {
		if at.hasWild && !yield(at.wild) {
			return
		}
	}
}

// descend follows s from its end and returns the deepest node whose whole way
// s ends in, and whether that way is all of s. For "" it returns the root as a
// whole, whose parent is nil, so that nothing matches the zero Name.
func (at *node[V]) descend(s string) (deepest *node[V], whole bool) {
	for s != "" {
		next := at.child(s[len(s)-1])
		if next == nil || len(next.label) > len(s) || s[len(s)-len(next.label):] != next.label {
			return at, false
		}
		at, s = next, s[:len(s)-len(next.label)]
	}
	return at, true
}

// child returns the child whose label ends in c.
func (at *node[V]) child(c byte) *node[V] {
	// At most 38 different bytes: a scan beats a search.
	for i, b := range at.first {
		if b == c {
			return at.children[i]
		}
	}
	return nil
}

// grow returns the node at s below at, making it and splitting labels as needed.
func (at *node[V]) grow(s string) *node[V] {
	for s != "" {
		c := s[len(s)-1]
		i, there := slices.BinarySearch(at.first, c)
		if !there {
			leaf := &node[V]{label: s, parent: at}
			at.first = slices.Insert(at.first, i, c)
			at.children = slices.Insert(at.children, i, leaf)
			return leaf
		}
		next := at.children[i]
		shared := commonSuffix(s, next.label)
		if shared < len(next.label) {
			next = at.split(i, shared)
		}
		at, s = next, s[:len(s)-shared]
	}
	return at
}

// split puts a node between at and its child i that takes the last shared bytes
// of the child's label.
func (at *node[V]) split(i, shared int) *node[V] {
	below := at.children[i]
	cut := len(below.label) - shared
	middle := &node[V]{
		label: below.label[cut:], parent: at,
		first: []byte{below.label[cut-1]}, children: []*node[V]{below},
	}
	below.label, below.parent = below.label[:cut], middle
	at.children[i] = middle
	return middle
}

func commonSuffix(a, b string) int {
	n := 0
	for n < len(a) && n < len(b) && a[len(a)-1-n] == b[len(b)-1-n] {
		n++
	}
	return n
}
