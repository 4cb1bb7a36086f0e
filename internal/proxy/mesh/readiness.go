package mesh

import (
	"fmt"
	"slices"
	"strings"

	"sluice.dev/sluice/internal/refusal"
	"sluice.dev/sluice/internal/wire"
)

// unready returns why a port of an endpoint gets no calls while others are ready; nil
// where it does. What this proxy knows of its own workloads is newer than any snapshot,
// and there without a server.
func (w *Way) unready(e *wire.Endpoint, port uint16) *wire.Unready {
	if local, ok := w.local(e.Instance); ok {
		return wire.UnreadyOn(local, port)
	}
	return wire.UnreadyOn(e.Unready, port)
}

// firstOf returns where a call goes first: to the endpoint whose turn it is, or, where
// that is not ready, to one that is. nil: none of them can take a
// call.
func (w *Way) firstOf(fit []*wire.Endpoint, turn uint64, port uint16) *wire.Endpoint {
	n := uint64(len(fit))
	at := turn % n
	if w.unready(fit[at], port) == nil {
		return fit[at]
	}
	ready := uint64(0)
	for _, e := range fit {
		if w.unready(e, port) == nil {
			ready++
		}
	}
	if ready == 0 {
		return w.nextOf(fit, nil, int(at), port)
	}
	// Those that are ready take turns at what would be the turn of one that is not.
	skip := turn / n % ready
	for _, e := range fit {
		if w.unready(e, port) != nil {
			continue
		}
		if skip == 0 {
			return e
		}
		skip--
	}
	return w.nextOf(fit, nil, int(at), port) // what was ready has ceased to be meanwhile
}

// nextOf returns, from a place on, an endpoint that was not tried: one that is ready, or
// else one on which nobody was seen to listen, for looking may be a second behind, and a
// connect that is refused costs nobody anything. One that its owner's check holds back is
// never returned.
func (w *Way) nextOf(fit, tried []*wire.Endpoint, from int, port uint16) *wire.Endpoint {
	var quiet *wire.Endpoint
	for i := range fit {
		e := fit[(from+i)%len(fit)]
		if slices.Contains(tried, e) {
			continue
		}
		u := w.unready(e, port)
		if u == nil {
			return e
		}
		if quiet == nil && u.Why == "" {
			quiet = e
		}
	}
	return quiet
}

// noneReady says why nobody takes a call.
func (w *Way) noneReady(fit []*wire.Endpoint, port uint16) *refusal.Error {
	const most = 3 // endpoints that are named
	var text strings.Builder
	now, named, more := w.kit.Now(), 0, 0
	for _, e := range fit {
		u := w.unready(e, port)
		switch {
		case u == nil:
			continue
		case named == most:
			more++
			continue
		case named > 0:
			text.WriteString("; ")
		}
		fmt.Fprintf(&text, "%s is %s", e.Instance, u.Text(now))
		named++
	}
	if named == 0 {
		text.WriteString("the endpoints have just changed")
	}
	if more > 0 {
		fmt.Fprintf(&text, "; and %d more", more)
	}
	return refusal.New(noEndpoint, "no healthy upstream: "+text.String())
}
