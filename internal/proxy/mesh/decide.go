package mesh

import (
	"fmt"
	"math/rand/v2"
	"slices"

	"sluice.dev/sluice/internal/names"
	"sluice.dev/sluice/internal/policy"
	"sluice.dev/sluice/internal/proxy/gate"
	"sluice.dev/sluice/internal/proxy/snapshot"
	"sluice.dev/sluice/internal/refusal"
	"sluice.dev/sluice/internal/route"
	"sluice.dev/sluice/internal/wire"
)

// noEndpoint is why a call fails for which there is no endpoint.
const noEndpoint = refusal.NoHealthyUpstream

// Target is a port of a service.
type Target struct {
	Service names.Name
	Port    uint16
}

// Decision is what becomes of one connection or request to a service.
type Decision struct {
	Verdict  policy.Verdict
	Snapshot *snapshot.Snapshot
	Rule     string         // the route rule that chose; "" where none did
	Endpoint *wire.Endpoint // where to, if it passes and Why is nil; the snapshot's
	Why      *refusal.Error // why there is no endpoint, if it passes
}

// decide is the one decision about a call: may it go on, and to which endpoint.
func (w *Way) decide(s *snapshot.Snapshot, to Target, r route.Request) Decision {
	d := Decision{Verdict: gate.DecideService(s, to.Service, to.Port), Snapshot: s}
	if d.Verdict.Passes() {
		w.plan(&d, to, r)
	}
	return d
}

// plan picks where a request goes: the route rules choose a service and labels, and the
// endpoints that carry them take turns.
func (w *Way) plan(d *Decision, to Target, r route.Request) {
	plan := d.Snapshot.Routes.Plan(to.Service, r)
	chosen := plan.Draw(rand.Uint64())
	d.Rule = plan.Rule
	all := d.Snapshot.Endpoints(chosen.Service)
	n := 0
	for i := range all {
		if fits(&all[i], chosen.Labels, to.Port) {
			n++
		}
	}
	if n == 0 {
		d.Why = refusal.New(noEndpoint, fmt.Sprintf("no healthy upstream: no endpoint of %s%s serves port %d", chosen.Service, labelsText(chosen.Labels), to.Port))
		return
	}
	turn := int(w.turn.Add(1)-1) % n
	for i := range all {
		if fits(&all[i], chosen.Labels, to.Port) {
			if turn == 0 {
				d.Endpoint = &all[i]
				return
			}
			turn--
		}
	}
}

func fits(e *wire.Endpoint, labels map[string]string, port uint16) bool {
	for key, value := range labels {
		if e.Labels[key] != value {
			return false
		}
	}
	return slices.Contains(e.Ports, port)
}

func labelsText(labels map[string]string) string {
	if len(labels) == 0 {
		return ""
	}
	return fmt.Sprintf(" with labels %v", labels)
}
