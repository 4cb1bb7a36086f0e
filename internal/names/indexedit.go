package names

import (
	"math/rand/v2"
	"slices"
)

// IndexEdit is an Index under way. It is not safe for concurrent use; the Index that it
// began with stays as it is.
type IndexEdit struct {
	index  Index
	own    [shardCount / 64]uint64 // shards that are ours to change
	counts bool                    // likewise those of wildcards
}

// Change begins another Index.
func (x *Index) Change() *IndexEdit {
	if x == nil {
		// The seed is drawn, so that nobody can write rules that meet in one slot.
		x = &Index{shards: new([shardCount]*shard), seed: rand.Uint64(), wild: wildLengths{counts: new([beginnings][longest + 1]uint32)}}
	}
	e := &IndexEdit{index: *x}
	shards := *x.shards
	e.index.shards = &shards
	return e
}

// Done returns the Index. The edit must not be used any more.
func (e *IndexEdit) Done() *Index {
	for at, s := range e.index.shards {
		if !e.owns(uint32(at)) {
			continue
		}
		if s.used == 0 {
			e.index.shards[at] = nil
			continue
		}
		slots := len(s.slots)
		for 8*s.used < slots {
			slots /= 4 // at most half of them are in use then
		}
		if slots < len(s.slots) {
			s.resize(slots)
		}
		if cap(s.text) > len(s.text)+len(s.text)/4+16 {
			s.text = slices.Clip(slices.Clone(s.text))
		}
	}
	index := e.index
	return &index
}

// Get returns the number under a pattern.
func (e *IndexEdit) Get(p Pattern) (value uint32, ok bool) { return e.index.Get(p) }

// Put puts a number under a pattern, in place of the one that is there. It reports whether
// the pattern can match a name at all; where it cannot nothing is kept.
func (e *IndexEdit) Put(p Pattern, value uint32) bool {
	text, wild, ok := indexed(p)
	if !ok {
		return false
	}
	at, kept := place(e.index.hash(text, wild))
	s := e.shard(at)
	if i := s.find(kept, text, wild); i >= 0 {
		s.slots[i].value = value
		return true
	}
	if 4*(s.used+1) > 3*len(s.slots) {
		s.resize(max(4, 2*len(s.slots)))
	}
	fresh := slot{hash: kept, at: uint32(len(s.text)), value: value}
	if wild {
		fresh.at |= wildBit
		e.count(text, 1)
	}
	s.text = append(append(s.text, byte(len(text))), text...)
	s.insert(fresh)
	s.used++
	e.index.size++
	return true
}

// Delete takes a pattern out.
func (e *IndexEdit) Delete(p Pattern) {
	text, wild, ok := indexed(p)
	if !ok {
		return
	}
	at, kept := place(e.index.hash(text, wild))
	if e.index.shards[at].find(kept, text, wild) < 0 {
		return
	}
	s := e.shard(at)
	s.remove(s.find(kept, text, wild))
	s.used--
	s.dead += len(text) + 1
	if s.dead > len(s.text)/2 {
		s.pack()
	}
	e.index.size--
	if wild {
		e.count(text, -1)
	}
}

func (e *IndexEdit) owns(at uint32) bool { return e.own[at>>6]>>(at&63)&1 != 0 }

// shard returns a shard that may be changed.
func (e *IndexEdit) shard(at uint32) *shard {
	if e.owns(at) {
		return e.index.shards[at]
	}
	e.own[at>>6] |= 1 << (at & 63)
	fresh := new(shard)
	if old := e.index.shards[at]; old != nil {
		*fresh = *old
		fresh.slots, fresh.text = slices.Clone(old.slots), slices.Clone(old.text)
	}
	e.index.shards[at] = fresh
	return fresh
}

func (e *IndexEdit) count(suffix string, by int) {
	wild := &e.index.wild
	if !e.counts {
		e.counts = true
		counts := *wild.counts
		wild.counts = &counts
	}
	beginning, length := elsewhere, len(suffix)
	if suffix != "" {
		beginning = beginningOf(suffix[0])
	}
	count := &wild.counts[beginning][length]
	*count = uint32(int(*count) + by)
	if *count > 0 {
		wild.bits[beginning][length>>6] |= 1 << (length & 63)
	} else {
		wild.bits[beginning][length>>6] &^= 1 << (length & 63)
	}
	// "*" itself is found without a suffix.
	others := wild.bits[elsewhere]
	others[0] &^= 1
	wild.inside = others != [4]uint64{}
}

func (s *shard) insert(fresh slot) {
	mask := uint32(len(s.slots) - 1)
	i := fresh.hash & mask
	for s.slots[i].hash != 0 {
		i = (i + 1) & mask
	}
	s.slots[i] = fresh
}

func (s *shard) resize(slots int) {
	old := s.slots
	s.slots = make([]slot, slots)
	for _, e := range old {
		if e.hash != 0 {
			s.insert(e)
		}
	}
}

// remove frees a slot and moves those behind it, so that no mark of what was there is
// needed.
func (s *shard) remove(at int) {
	mask := uint32(len(s.slots) - 1)
	hole := uint32(at)
	for i := (hole + 1) & mask; s.slots[i].hash != 0; i = (i + 1) & mask {
		if home := s.slots[i].hash & mask; (i-home)&mask >= (i-hole)&mask {
			s.slots[hole] = s.slots[i]
			hole = i
		}
	}
	s.slots[hole] = slot{}
}

// pack leaves the text of patterns out that are gone.
func (s *shard) pack() {
	text := make([]byte, 0, len(s.text)-s.dead)
	for i := range s.slots {
		e := &s.slots[i]
		if e.hash == 0 {
			continue
		}
		at := e.at &^ wildBit
		e.at = e.at&wildBit | uint32(len(text))
		text = append(text, s.text[at:at+1+uint32(s.text[at])]...)
	}
	s.text, s.dead = text, 0
}
