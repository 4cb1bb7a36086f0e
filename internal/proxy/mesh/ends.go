package mesh

import (
	"strings"
	"sync"

	"sluice.dev/sluice/internal/names"
	"sluice.dev/sluice/internal/proxy/carry"
	"sluice.dev/sluice/internal/proxy/snapshot"
	"sluice.dev/sluice/internal/record"
	"sluice.dev/sluice/internal/wire"
)

// ends is what records say of the endpoints of a snapshot, so that it is put together
// once for each and not for each request.
type ends struct {
	mu    sync.RWMutex
	known map[endKey]record.End
}

// endKey is an endpoint of a snapshot as one of a service. What a request of the snapshot
// before puts in late is found by nobody.
type endKey struct {
	endpoint *wire.Endpoint
	service  names.Name
}

// of returns who an endpoint is that was called as a service.
func (k *ends) of(s *snapshot.Snapshot, e *wire.Endpoint, service names.Name) record.End {
	key := endKey{e, service}
	k.mu.RLock()
	end, ok := k.known[key]
	k.mu.RUnlock()
	if ok {
		return end
	}
	party := record.Party{Workload: e.Instance, Service: service.String(), Version: e.Labels["version"]}
	if slash := strings.LastIndexByte(e.Instance, '/'); slash >= 0 {
		party.Workload = e.Instance[:slash]
	}
	if called := s.Service(service); called != nil {
		party.Namespace = called.Namespace
	}
	end = record.NewEnd(party)
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.known == nil {
		k.known = make(map[endKey]record.End)
	}
	k.known[key] = end
	return end
}

// noted notes on the records of one connection's requests to which endpoint each goes.
type noted struct {
	way     *Way
	records *carry.Requests
	service names.Name // that the request of the moment is for
	led     bool       // by a rule that is not of this way, whose records name their rules

	last    endKey // whom lastEnd is: mostly the next request's too, which then takes no lock
	lastEnd record.End
}

func (n *noted) via(e *wire.Endpoint, rule string) {
	if key := (endKey{e, n.service}); n.last != key {
		n.last, n.lastEnd = key, n.way.ends.of(n.records.Conn().Snapshot(), e, n.service)
	}
	if n.led {
		n.records.Reached(e.Instance, n.lastEnd)
		return
	}
	n.records.Via(e.Instance, rule, n.lastEnd)
}

// forget lets go of the endpoints of the snapshot before: those of the new one are looked
// at anew.
func (k *ends) forget() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.known = nil
}
