// Package onward says what a request that a route plan sends to a host outside the mesh
// would show if the workload had dialled that host. The way out decides by it, and advice
// explains by it; it never decides itself.
package onward

import (
	"strings"
	"unsafe"

	"sluice.dev/sluice/internal/names"
	"sluice.dev/sluice/internal/policy"
	"sluice.dev/sluice/internal/route"
)

// Request is a request before its plan: what its chain shows of it, and its whole target.
type Request struct {
	Asked  policy.Chain // of its names the plan keeps none
	Target string       // path and query
	// Buffer is what a path that is rewritten is put together in; nil: a new one. The chain
	// is for as long as it is not used again.
	Buffer *[]byte
}

// Chain is the chain of a request that goes to a destination of its plan, which is a host.
// setHost is the Host that the plan gives it, "" for none: it names the destination where
// the plan names no other. parse reads it.
func (r *Request) Chain(plan *route.Plan, to *route.Destination, parse func(string) (names.Host, error)) (chain policy.Chain, setHost string) {
	a := &r.Asked
	chain = policy.Chain{
		Source: a.Source, Port: a.Port, Dialled: to.Host, Sniffed: policy.HTTP, Host: names.Host{Name: to.Host},
		Method: a.Method, Path: a.Path, HTTPS: a.HTTPS, Upgrade: a.Upgrade, Fields: a.Fields,
	}
	actions := plan.Does()
	if actions == nil || actions.Rewrite == nil {
		return chain, ""
	}
	if uri, cut := plan.Rewritten(r.Target); cut > 0 {
		chain.Path, _, _ = strings.Cut(r.join(uri, r.Target[cut:]), "?")
	}
	if setHost = actions.Rewrite.Authority; setHost != "" {
		host, err := parse(setHost)
		chain.Host, chain.HostBad = host, err != nil
		if !plan.Elsewhere(to) {
			chain.Dialled, chain.Addr = host.Name, host.Addr
		}
	}
	return chain, setHost
}

func (r *Request) join(a, b string) string {
	if r.Buffer == nil {
		return a + b
	}
	*r.Buffer = append(append((*r.Buffer)[:0], a...), b...)
	return unsafe.String(unsafe.SliceData(*r.Buffer), len(*r.Buffer))
}
