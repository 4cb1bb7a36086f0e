package balance

import (
	"cmp"
	"slices"
	"sort"

	"sluice.dev/sluice/internal/route"
)

// How often a member is on a ring: the more often, the more even its part of the keys is.
const (
	points      = 100
	fewPoints   = 8    // in a set of more than manyMembers, so that a ring takes at most 10 MB
	manyMembers = 2048 // from here on
)

// ring is where the members of a set are on a circle of hashes: a key belongs to the member
// at or behind its hash. One that leaves the set changes the owner of its own keys alone.
type ring []point

type point struct {
	hash   uint64
	member uint32
}

func newRing(names []string) ring {
	each := points
	if len(names) > manyMembers {
		each = fewPoints
	}
	r := make(ring, 0, len(names)*each)
	for i, name := range names {
		h := Hash(name)
		for range each {
			r = append(r, point{h, uint32(i)})
			h = mix(h + 0x9e3779b97f4a7c15)
		}
	}
	slices.SortFunc(r, func(a, b point) int {
		return cmp.Or(cmp.Compare(a.hash, b.hash), cmp.Compare(names[a.member], names[b.member]))
	})
	return r
}

// tries bounds how often take begins anew, where other calls changed what it had looked at.
const tries = 16

// take takes the first member behind a key that is ready and has fewer calls under way than
// so many percent of the mean (Mirrokni, Thorup and Zadimoghaddam, 2016), or than
// route.FreeLoad. -1: none is ready.
func (r ring) take(m Members, key uint64, percent int) int {
	for range tries {
		ready, load := int64(0), int64(1) // with this call
		for i := range m.Len() {
			if m.Ready(i) {
				ready++
				load += m.Load(i)
			}
		}
		if ready == 0 {
			return -1
		}
		// Some member has less than this bound, for all of them together have less.
		bound := max((load*int64(percent)+ready*100-1)/(ready*100), route.FreeLoad)
		from := sort.Search(len(r), func(i int) bool { return r[i].hash >= key })
		for i := range r {
			at := int(r[(from+i)%len(r)].member)
			if m.Ready(at) && m.Take(at, bound) {
				return at
			}
		}
	}
	return -1 // every member changed under our eyes, sixteen times
}

// Hash is a text's place on a ring.
func Hash(text string) uint64 {
	h := uint64(0xcbf29ce484222325) // FNV-1a
	for i := range len(text) {
		h = (h ^ uint64(text[i])) * 0x100000001b3
	}
	return mix(h)
}

// mix spreads what differs in few bits over all of them (the end of SplitMix64).
func mix(h uint64) uint64 {
	h = (h ^ h>>30) * 0xbf58476d1ce4e5b9
	h = (h ^ h>>27) * 0x94d049bb133111eb
	return h ^ h>>31
}
