package resolve

import "sluice.dev/sluice/internal/proxy/share"

// MaxLookups is how many names are resolved at once, of all workloads, where the process
// may open enough sockets; see LookupsOf. Workloads share it: who has its part waits.
const MaxLookups = 1024

// descriptorsOfLookup is by which part of the process's descriptors the look-ups are
// bounded: one has two sockets, so they take a quarter of them at most.
const descriptorsOfLookup = 8

// LookupsOf returns how many names a process may resolve at once that may open so many
// descriptors.
func LookupsOf(descriptors uint64) int {
	return int(max(1, min(MaxLookups, descriptors/descriptorsOfLookup)))
}

// Share is one workload's part of the look-ups: one for names that a rule spells out, and
// one for those that it chooses under a wildcard, which may be names of servers that
// never answer.
type Share struct{ spelled, chosen *share.Member }

// Join gives a workload a part of the look-ups, until Leave.
func (r *Resolver) Join() *Share {
	return &Share{spelled: r.stock.Join(0, nil), chosen: r.stock.Join(0, nil)}
}

// Leave ends it. Look-ups that run go on.
func (s *Share) Leave() {
	s.spelled.Leave()
	s.chosen.Leave()
}

// member is the part that a look-up takes from; it is limited where a wildcard alone
// allows the name.
func (s *Share) member(limit *Limit) *share.Member {
	if limit != nil {
		return s.chosen
	}
	return s.spelled
}
