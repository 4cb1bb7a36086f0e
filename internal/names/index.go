package names

import "math/bits"

// Index holds a number under each of many patterns and finds those that match a name,
// the most specific first, without allocating and in time that grows with the name and
// not with the number of patterns. It is immutable: Change begins another one, which
// shares what stays the same, so that one pattern among a hundred thousand is put in or
// taken out in microseconds. nil is the empty Index.
//
// It is a hash table cut into shards, so that a change copies the few that it touches. A
// name is hashed from its end: one pass has the hashes of all its suffixes. Which lengths
// of suffix some wildcard has is noted apart, so that only those are looked for.
type Index struct {
	shards *[shardCount]*shard
	seed   uint64
	wild   wildLengths
	size   int
}

const (
	shardBits  = 9
	shardCount = 1 << shardBits
	// longest is the bound on what is looked for, in bytes: of a Name, and of the suffix
	// of a pattern that can match one.
	longest = 253
)

// shard is an open hash table over one block of text. It never changes once an Index
// that holds it is handed out.
type shard struct {
	slots []slot // a power of two of them, at most three quarters in use
	text  []byte // of each pattern its length and its characters
	used  int
	dead  int // bytes of text that no slot points to
}

// slot is one pattern: an exact name, or what follows the "*" of a wildcard.
type slot struct {
	hash  uint32 // 0: free
	at    uint32 // in the shard's text; the top bit says wildcard
	value uint32
}

const wildBit = 1 << 31

// Suffixes by how they begin: only where a name has a dot can it end in ".com".
const (
	afterDot = iota
	afterHyphen
	elsewhere
	beginnings
)

// wildLengths says how many wildcards have a suffix of each length, "*" among them.
type wildLengths struct {
	bits   [beginnings][4]uint64
	inside bool // some begin neither with a dot nor with a hyphen
	counts *[beginnings][longest + 1]uint32
}

func beginningOf(c byte) int {
	switch c {
	case '.':
		return afterDot
	case '-':
		return afterHyphen
	}
	return elsewhere
}

const multiplier = 0x9E3779B97F4A7C15

func step(hash uint64, c byte) uint64 { return (hash ^ uint64(c)) * multiplier }

func finish(hash uint64, wild bool) uint64 {
	if wild {
		hash ^= 0xD6E8FEB86659FD93
	}
	hash ^= hash >> 32
	hash *= multiplier
	return hash ^ hash>>29
}

// place returns the shard of a finished hash, and what its slot keeps of it.
func place(hash uint64) (shard, kept uint32) {
	return uint32(hash >> (64 - shardBits)), uint32(hash) | 1
}

// Len returns the number of patterns.
func (x *Index) Len() int {
	if x == nil {
		return 0
	}
	return x.size
}

// Get returns the number under a pattern.
func (x *Index) Get(p Pattern) (value uint32, ok bool) {
	text, wild, ok := indexed(p)
	if x == nil || !ok {
		return 0, false
	}
	return x.find(x.hash(text, wild), text, wild)
}

// indexed returns what of a pattern is kept; false for one that matches no name.
func indexed(p Pattern) (text string, wild, ok bool) {
	if suffix, wild := p.Suffix(); wild {
		return suffix, true, len(suffix) < longest // "*" is never empty
	}
	name, ok := p.Exact()
	return name.s, false, ok
}

func (x *Index) hash(text string, wild bool) uint64 {
	hash := x.seed
	for i := len(text) - 1; i >= 0; i-- {
		hash = step(hash, text[i])
	}
	return finish(hash, wild)
}

func (x *Index) find(hash uint64, text string, wild bool) (value uint32, ok bool) {
	at, kept := place(hash)
	in := x.shards[at]
	i := in.find(kept, text, wild)
	if i < 0 {
		return 0, false
	}
	return in.slots[i].value, true
}

func (s *shard) find(kept uint32, text string, wild bool) int {
	if s == nil || len(s.slots) == 0 {
		return -1
	}
	mask := uint32(len(s.slots) - 1)
	for i := kept & mask; ; i = (i + 1) & mask {
		e := &s.slots[i]
		if e.hash == 0 {
			return -1
		}
		if at := e.at &^ wildBit; e.hash == kept && (e.at&wildBit != 0) == wild &&
			string(s.text[at+1:at+1+uint32(s.text[at])]) == text {
			return int(i)
		}
	}
}

// Match is one pattern that matches a name.
type Match struct {
	Value uint32
	Exact bool // the pattern has no wildcard
}

// Walk calls yield for each pattern that matches n, the most specific first: the name
// itself, then the longest suffix, then "*"; until yield returns false.
func (x *Index) Walk(n Name, yield func(Match) bool) {
	if x == nil || x.size == 0 || n.s == "" {
		return
	}
	// Few suffixes of a name are as long as that of some wildcard; where they are many,
	// the second pass has place for all.
	var some [12]suffixHash
	found, hash := 0, x.seed
	for i := len(n.s) - 1; i >= 0; i-- {
		c := n.s[i]
		hash = step(hash, c)
		if c != '.' && c != '-' && !x.wild.inside {
			continue
		}
		length := len(n.s) - i
		if i > 0 && x.wild.has(c, length) {
			if found < len(some) {
				some[found] = suffixHash{hash, length}
			}
			found++
		}
	}
	if value, ok := x.find(finish(hash, false), n.s, false); ok && !yield(Match{value, true}) {
		return
	}
	if found > len(some) {
		x.walkMany(n, yield)
		return
	}
	for i := found - 1; i >= 0; i-- {
		suffix := n.s[len(n.s)-some[i].length:]
		if value, ok := x.find(finish(some[i].hash, true), suffix, true); ok && !yield(Match{Value: value}) {
			return
		}
	}
	x.walkAny(yield)
}

type suffixHash struct {
	hash   uint64
	length int
}

// walkMany is Walk from the first wildcard on, for any number of suffixes.
func (x *Index) walkMany(n Name, yield func(Match) bool) {
	var all [longest + 1]uint64
	var probe [4]uint64
	hash := x.seed
	for i := len(n.s) - 1; i > 0; i-- {
		hash = step(hash, n.s[i])
		if length := len(n.s) - i; x.wild.has(n.s[i], length) {
			all[length] = hash
			probe[length>>6] |= 1 << (length & 63)
		}
	}
	for word := len(probe) - 1; word >= 0; word-- {
		for left := probe[word]; left != 0; {
			bit := bits.Len64(left) - 1
			left &^= 1 << bit
			length := word<<6 | bit
			if value, ok := x.find(finish(all[length], true), n.s[len(n.s)-length:], true); ok && !yield(Match{Value: value}) {
				return
			}
		}
	}
	x.walkAny(yield)
}

// walkAny is Walk for "*" alone.
func (x *Index) walkAny(yield func(Match) bool) {
	if x.wild.bits[elsewhere][0]&1 == 0 {
		return
	}
	if value, ok := x.find(finish(x.seed, true), "", true); ok {
		yield(Match{Value: value})
	}
}

func (w *wildLengths) has(first byte, length int) bool {
	return w.bits[beginningOf(first)][length>>6]>>(length&63)&1 != 0
}
