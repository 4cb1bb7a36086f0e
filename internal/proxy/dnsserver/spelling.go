package dnsserver

import (
	"sync"

	"sluice.dev/sluice/internal/names"
)

// maxSpellings is how many spellings of names are remembered; past it all are
// forgotten.
const maxSpellings = 512

// spellings is the names that were asked for lately, as they were spelled: a
// steady question is neither parsed again nor allocates. The zero value is ready.
type spellings struct {
	mu    sync.RWMutex
	known map[string]names.Name
}

// parse is names.Parse for bytes that are not kept.
func (s *spellings) parse(spelling []byte) (names.Name, error) {
	s.mu.RLock()
	n, ok := s.known[string(spelling)] // no copy is made
	s.mu.RUnlock()
	if ok {
		return n, nil
	}
	text := string(spelling)
	n, err := names.Parse(text)
	if err != nil {
		return n, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.known == nil || len(s.known) >= maxSpellings {
		s.known = make(map[string]names.Name)
	}
	s.known[text] = n
	return n, nil
}
