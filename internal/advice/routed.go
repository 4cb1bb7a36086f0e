package advice

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"sluice.dev/sluice/internal/names"
	"sluice.dev/sluice/internal/onward"
	"sluice.dev/sluice/internal/policy"
	"sluice.dev/sluice/internal/refusal"
	"sluice.dev/sluice/internal/route"
	"sluice.dev/sluice/internal/wire"
)

// Routed is what the route rules do with a request that is allowed.
type Routed struct {
	Rule    string        `json:"rule,omitempty"` // that matched first; "": none did
	To      []RoutedTo    `json:"to,omitempty"`
	Timeout time.Duration `json:"timeout,omitempty"` // until the answer's head, in nanoseconds; 0: none but the engine's
	Retries int           `json:"retries,omitempty"`
	Each    time.Duration `json:"eachTimeout,omitempty"` // of one attempt
	Does    []string      `json:"does,omitempty"`        // what else, as sentences without an end
}

// RoutedTo is one place where a request may go.
type RoutedTo struct {
	Destination string            `json:"destination"` // a service, or a host
	Labels      map[string]string `json:"labels,omitempty"`
	Percent     int               `json:"percent"`
	Endpoints   int               `json:"endpoints"`         // of a service, that carry the labels and serve the port
	Outside     bool              `json:"outside,omitempty"` // it is a host outside the mesh
	Rule        string            `json:"rule,omitempty"`    // of a host: that allows it
	Reason      refusal.Reason    `json:"reason,omitempty"`  // of a host: why it is denied
}

// routed says what the route rules of a snapshot do with what is asked about: by the code
// of the proxy, or, where a record tells it, by the rule that was followed. nil: none is
// known. denied is the destination that is denied, where the rules lead to no other.
func routed(q *Question, asked route.Destination, snapshot *wire.Snapshot) (r *Routed, denied *deniedTo, err error) {
	plan, table, ok, err := planOf(q, asked, snapshot)
	if err != nil || !ok {
		return nil, nil, err
	}
	set, err := setOf(snapshot)
	if err != nil {
		return nil, nil, err
	}
	r = &Routed{Rule: plan.Rule}
	shares, leads := plan.Shares(), false
	for to := range plan.Destinations {
		one := RoutedTo{Destination: to.Service.String(), Labels: to.Labels, Percent: shares[len(r.To)]}
		if to.Service.IsZero() {
			chain, v := outside(q, &plan, &to, set)
			one.Outside, one.Destination, one.Reason = true, v.Name.String(), v.Reason
			if v.Name.IsZero() {
				one.Destination = v.Addr.String()
			}
			if v.Passes() {
				one.Rule, leads = v.Rule.ID, true
			} else if denied == nil {
				denied = &deniedTo{set, chain, v}
			}
		} else {
			one.Endpoints, leads = endpointsOf(snapshot, to, q.Chain.Port), true
		}
		r.To = append(r.To, one)
	}
	r.spread(&plan, table)
	if q.Chain.Sniffed == policy.HTTP {
		r.requests(&plan, q, !asked.Service.IsZero())
	}
	if leads || len(r.To) == 0 { // it is answered in its place
		denied = nil
	}
	return r, denied, nil
}

// deniedTo is a destination that a route rule names and the rules deny.
type deniedTo struct {
	set     *policy.Set
	chain   policy.Chain
	verdict policy.Verdict
}

// outside decides about a request that its plan sends to a host, as the proxy does.
func outside(q *Question, plan *route.Plan, to *route.Destination, set *policy.Set) (policy.Chain, policy.Verdict) {
	request := onward.Request{Asked: q.Chain, Target: q.target}
	chain, _ := request.Chain(plan, to, names.ParseHost)
	return chain, set.Decide(&chain)
}

// planOf is the plan of what is asked about; ok is false where the rule that a record names is
// gone meanwhile, or where there is none for a host.
func planOf(q *Question, asked route.Destination, snapshot *wire.Snapshot) (plan route.Plan, table *route.Table, ok bool, err error) {
	if snapshot.Routes == nil {
		return route.Plan{}, nil, false, nil
	}
	all := slices.Concat(snapshot.Routes.Services, snapshot.Routes.Hosts)
	if q.followed != "" {
		if all = followed(q.followed, asked, all); all == nil {
			return route.Plan{}, nil, false, nil
		}
	}
	table, err = route.NewTable(all, snapshot.Routes.Destinations...)
	if err != nil {
		return route.Plan{}, nil, false, fmt.Errorf("compile the route rules of snapshot %s: %w", snapshot.Version, err)
	}
	var request route.Request
	if c := &q.Chain; c.Sniffed == policy.HTTP {
		request = route.Request{Method: c.Method, Path: q.target, Authority: q.authority, HTTPS: c.HTTPS, Fields: c.Fields}
	}
	if !asked.Service.IsZero() {
		return table.Plan(asked.Service, request), table, true, nil
	}
	plan = table.PlanHost(asked.Host, request)
	return plan, table, plan.Rule != "" || table.PolicyOfHost(asked.Host) != nil, nil
}

// followed is the rule of that ID as the only one of what was asked for, whatever it looks at;
// nil where it is gone.
func followed(id string, asked route.Destination, all []route.Rules) []route.Rules {
	for _, of := range all {
		if of.Service != asked.Service {
			continue
		}
		for _, rule := range of.Rules {
			if rule.ID != id {
				continue
			}
			rule.Match = route.Match{}
			return []route.Rules{{Service: of.Service, Host: of.Host, Rules: []route.Rule{rule}}}
		}
	}
	return nil
}

// spread says by which policies endpoints are picked, and what is bounded.
func (r *Routed) spread(plan *route.Plan, table *route.Table) {
	for to := range plan.Destinations {
		if to.Service.IsZero() {
			if p := table.PolicyOfHost(to.Host); p != nil {
				r.Does = append(r.Does, fmt.Sprintf("of each caller %s, to %s, as %s says", p.Limits.Text(), to.Host, p.ID))
			}
			continue
		}
		if to.Policy != nil {
			r.Does = append(r.Does, fmt.Sprintf("at %s%s to %s, as %s says", to.Service, labelsText(to.Labels), to.Policy.Balance.Text(), to.Policy.ID))
			if l := to.Policy.Limits; l != nil {
				r.Does = append(r.Does, fmt.Sprintf("of each caller %s, as %s says", l.Text(), to.Policy.ID))
			}
		}
	}
}

// requests says what is done with a request beside choosing where it goes.
func (r *Routed) requests(plan *route.Plan, q *Question, inMesh bool) {
	if inMesh {
		r.Timeout = route.DefaultTimeout
	}
	say := func(format string, args ...any) { r.Does = append(r.Does, fmt.Sprintf(format, args...)) }
	if u := q.Chain.Upgrade; u != "" && !plan.Upgradable(u) {
		say("no change of protocol: the rule does not say websocketUpgrade: true")
	}
	does := plan.Does()
	if does == nil {
		return
	}
	if does.Timeout > 0 {
		r.Timeout = does.Timeout
	}
	if does.Retries != nil {
		r.Retries, r.Each = does.Retries.Attempts, does.Retries.Each
	}
	if x := does.Redirect; x != nil {
		say("redirected to %s", strings.TrimSpace(x.Authority+" "+x.URI))
		r.To = nil // it goes nowhere
	}
	if d := does.Delay; d != nil {
		say("%s delayed by %v", share(d.Share), d.For)
	}
	if a := does.Abort; a != nil {
		say("%s answered with %d", share(a.Share), a.Status)
	}
	if x := does.Rewrite; x != nil && x.URI != "" {
		uri, cut := plan.Rewritten(q.target)
		say("sent on as %s", uri+q.target[cut:])
	}
	if x := does.Rewrite; x != nil && x.Authority != "" {
		say("sent on for %s", x.Authority)
	}
	for _, h := range does.Append {
		say("with %s: %s", h.Name, h.Value)
	}
	if to, ok := plan.Mirrored(); ok {
		text := to.Service.String()
		if to.Service.IsZero() {
			text = to.Host.String()
		}
		say("copied to %s%s", text, labelsText(to.Labels))
	}
	if does.CORS != nil {
		say("answered for pages of %s", strings.Join(does.CORS.Origins, ", "))
	}
}

func share(s route.Share) string {
	if s == route.Whole {
		return "always"
	}
	return fmt.Sprintf("%v %% are", float64(s)*100/float64(route.Whole))
}

// labelsText is labels as a selector: " version=v1".
func labelsText(labels map[string]string) string {
	var text strings.Builder
	for _, key := range slices.Sorted(maps.Keys(labels)) {
		text.WriteString(" " + key + "=" + labels[key])
	}
	return text.String()
}

// endpointsOf counts the endpoints that may take what goes to a destination.
func endpointsOf(snapshot *wire.Snapshot, to route.Destination, port uint16) (n int) {
	for _, of := range snapshot.Endpoints {
		if of.Service != to.Service {
			continue
		}
		for i := range of.Endpoints {
			if e := &of.Endpoints[i]; slices.Contains(e.Ports, port) && wire.Carries(e.Labels, to.Labels) {
				n++
			}
		}
	}
	return n
}

// Lines are what the route rules do, line by line, each with what it is about.
func (r *Routed) Lines(each func(what, text string)) {
	rule := r.Rule
	if rule == "" {
		rule = "none matches: the service's workloads take turns"
	}
	each("route", rule)
	for _, to := range r.To {
		ready := fmt.Sprintf("%d workloads", to.Endpoints)
		switch to.Endpoints {
		case 0:
			ready = "no workload: 503"
		case 1:
			ready = "1 workload"
		}
		if to.Outside {
			ready = "outside the mesh, allowed by " + to.Rule
			if to.Reason != "" {
				ready = "outside the mesh, denied: " + string(to.Reason)
			}
		}
		each("to", fmt.Sprintf("%d %% %s%s (%s)", to.Percent, to.Destination, labelsText(to.Labels), ready))
	}
	for _, text := range r.Does {
		each("does", text)
	}
	if len(r.To) > 0 && r.Timeout > 0 {
		each("time-out", r.Timeout.String())
	}
	if r.Retries > 0 {
		text := fmt.Sprintf("up to %d", r.Retries)
		if r.Each > 0 {
			text += fmt.Sprintf(", %v each", r.Each)
		}
		each("retries", text)
	}
}
