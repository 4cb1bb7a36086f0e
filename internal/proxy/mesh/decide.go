package mesh

import (
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"

	"sluice.dev/sluice/internal/names"
	"sluice.dev/sluice/internal/policy"
	"sluice.dev/sluice/internal/proxy/gate"
	"sluice.dev/sluice/internal/proxy/snapshot"
	"sluice.dev/sluice/internal/proxy/upstream"
	"sluice.dev/sluice/internal/refusal"
	"sluice.dev/sluice/internal/route"
	"sluice.dev/sluice/internal/wire"
)

// noEndpoint is why a call fails for which there is no endpoint.
const noEndpoint = refusal.NoHealthyUpstream

// Target is a port of a service, or of one endpoint of it.
type Target struct {
	Service  names.Name
	Port     uint16
	Instance string // that was dialled by its own name or address: no rule leads elsewhere; "": any
}

// Decision is what becomes of one connection or request to a service.
type Decision struct {
	Verdict  policy.Verdict
	Snapshot *snapshot.Snapshot
	Rule     string         // the route rule that chose; "" where none did
	Plan     route.Plan     // if it passes and the service has the port
	Endpoint *wire.Endpoint // where to, if it passes and Why is nil; the snapshot's
	Why      *refusal.Error // why there is no endpoint, if it passes

	Versions upstream.Versions // of HTTP, that its endpoints are spoken to in

	fit  []*wire.Endpoint // Endpoint, and those that may take its place
	hold hold             // of the call at Endpoint; whoever decided releases it
}

// decide is the one decision about a call: may it go on, and to which endpoint.
func (w *Way) decide(s *snapshot.Snapshot, to Target, r route.Request) Decision {
	d := w.planned(s, to, r)
	w.choose(&d, to)
	return d
}

// planned is the first half of the decision: may a call go on, and by which plan.
func (w *Way) planned(s *snapshot.Snapshot, to Target, r route.Request) Decision {
	d := Decision{Verdict: gate.DecideService(s, to.Service, to.Port), Snapshot: s}
	if !d.Verdict.Passes() {
		return d
	}
	if !served(&d, to.Service, to.Port) {
		return d
	}
	if to.Instance != "" {
		d.Plan = route.Unruled(to.Service)
		return d
	}
	d.Plan = s.Routes.Plan(to.Service, r)
	d.Rule = d.Plan.Rule
	return d
}

// served reports whether a service has a port, and notes what is spoken there; else d.Why says so.
func served(d *Decision, of names.Name, port uint16) bool {
	if service := d.Snapshot.Service(of); service != nil {
		spoken, ok := service.Find(port)
		if !ok {
			d.Why = refusal.New(refusal.NoSuchPort, noSuchPort(service, port))
			return false
		}
		d.Versions = versionsOf(spoken, false)
	}
	return true
}

// spokenOn is what is spoken on a port of a service: ProtocolNone where nobody says it.
func spokenOn(s *snapshot.Snapshot, of names.Name, port uint16) policy.Protocol {
	service := s.Service(of)
	if service == nil {
		return policy.ProtocolNone
	}
	spoken, _ := service.Find(port)
	return spoken
}

// versionsOf is in which versions of HTTP the servers of a port are spoken to: in HTTP/2 where
// that is spoken there, or where the client of a request knows it.
func versionsOf(spoken policy.Protocol, known bool) upstream.Versions {
	if known || spoken.SpeaksHTTP2() {
		return upstream.HTTP2
	}
	return upstream.HTTP11
}

// choose is the second half, for a connection that goes on as a whole: the plan draws a
// service and labels, and the endpoints that carry them take turns, or are picked as their
// policy says.
func (w *Way) choose(d *Decision, to Target) {
	if !d.Verdict.Passes() || d.Why != nil {
		return
	}
	chosen := d.Plan.Draw(rand.Uint64())
	if chosen.Service.IsZero() {
		d.Why = refusal.New(noEndpoint, fmt.Sprintf("%s leads to %s, outside the mesh: that is for HTTP requests alone", d.Rule, chosen.Host))
		return
	}
	w.pick(d, &chosen, to.Instance, to.Port, false, nil)
}

// pick lets an endpoint of what was drawn take its turn, or the policy pick one: by key, where
// there is one. A request is counted as one, and a connection is not. Of an instance that is
// asked for it takes that one.
func (w *Way) pick(d *Decision, chosen *route.Destination, instance string, port uint16, request bool, key *key) {
	f, turn := w.turn(setKey{chosen.Service, port, chosen.Set, instance}, d.Snapshot.Endpoints(chosen.Service), chosen)
	if len(f.fit) == 0 {
		d.Why = refusal.New(noEndpoint, fmt.Sprintf("no healthy upstream: no endpoint%s of %s%s serves port %d", instanceText(instance), chosen.Service, labelsText(chosen.Labels), port))
		return
	}
	d.fit = f.fit
	if f.governed != nil {
		var refused *refusal.Error
		if d.Endpoint, d.hold, refused = f.governed.first(turn, request, key); refused != nil {
			d.Why = refused
			return
		}
	}
	if d.Endpoint == nil {
		d.Endpoint = w.firstOf(f.fit, turn, port)
		d.hold.move(d.Endpoint)
	}
	if d.Endpoint == nil {
		d.Why = w.noneReady(f.fit, port)
	}
}

// noSuchPort says which ports a service has, for one that it has not.
func noSuchPort(service *wire.Service, port uint16) string {
	if len(service.Ports) == 0 {
		return fmt.Sprintf("%s does not serve port %d, nor any other: no workload of it says --listen", service.Name, port)
	}
	var served []string
	for _, p := range service.Ports {
		served = append(served, strconv.Itoa(int(p.Port)))
	}
	return fmt.Sprintf("%s does not serve port %d; it serves %s", service.Name, port, strings.Join(served, ", "))
}

func instanceText(instance string) string {
	if instance == "" {
		return ""
	}
	return " " + instance
}

func labelsText(labels map[string]string) string {
	if len(labels) == 0 {
		return ""
	}
	return fmt.Sprintf(" with labels %v", labels)
}
