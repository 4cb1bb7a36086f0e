package record

// maxSeen is how many records are remembered.
const maxSeen = 1 << 16

// Seen tells records that were there before from others, by their IDs, of the last 65,536. The
// zero Seen has seen none. It is not safe for concurrent use.
type Seen struct {
	ids   map[ID]struct{}
	order []ID // a ring, once it is full
	next  int
}

// Fresh reports whether a record was not there yet, and notes it.
func (s *Seen) Fresh(id ID) bool {
	if _, there := s.ids[id]; there {
		return false
	}
	if s.ids == nil {
		s.ids = make(map[ID]struct{})
	}
	if len(s.order) < maxSeen {
		s.order = append(s.order, id)
	} else {
		delete(s.ids, s.order[s.next])
		s.order[s.next] = id
		s.next = (s.next + 1) % maxSeen
	}
	s.ids[id] = struct{}{}
	return true
}
