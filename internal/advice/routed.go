package advice

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"sluice.dev/sluice/internal/names"
	"sluice.dev/sluice/internal/policy"
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
	Endpoints   int               `json:"endpoints"` // of a service, that carry the labels and serve the port
}

// routed says what the route rules of a snapshot do with what is asked about: by the code
// of the proxy, or, where a record tells it, by the rule that was followed.
func routed(q *Question, service names.Name, snapshot *wire.Snapshot) (*Routed, error) {
	if snapshot.Routes == nil {
		return nil, nil
	}
	of := slices.IndexFunc(snapshot.Routes.Services, func(s wire.ServiceRoutes) bool { return s.Service == service })
	var rules []route.Rule
	if of >= 0 {
		rules = snapshot.Routes.Services[of].Rules
	}
	if q.followed != "" {
		rules = slices.DeleteFunc(slices.Clone(rules), func(r route.Rule) bool { return r.ID != q.followed })
		for i := range rules {
			rules[i].Match = route.Match{}
		}
		if len(rules) == 0 {
			return nil, nil // it is gone meanwhile
		}
	}
	table, err := route.NewTable([]route.ServiceRules{{Service: service, Rules: rules}})
	if err != nil {
		return nil, fmt.Errorf("compile the route rules of snapshot %s: %w", snapshot.Version, err)
	}
	var request route.Request
	if c := &q.Chain; c.Sniffed == policy.HTTP {
		request = route.Request{Method: c.Method, Path: q.target, Authority: q.authority, HTTPS: c.HTTPS, Fields: c.Fields}
	}
	plan := table.Plan(service, request)
	r := &Routed{Rule: plan.Rule}
	for to := range plan.Destinations {
		r.To = append(r.To, RoutedTo{Destination: to.Service.String(), Labels: to.Labels, Endpoints: endpointsOf(snapshot, to, q.Chain.Port)})
	}
	shares := plan.Shares()
	for i := range r.To {
		r.To[i].Percent = shares[i]
	}
	if q.Chain.Sniffed == policy.HTTP {
		r.requests(&plan, q)
	}
	return r, nil
}

// requests says what is done with a request beside choosing where it goes.
func (r *Routed) requests(plan *route.Plan, q *Question) {
	r.Timeout = route.DefaultTimeout
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
		say("copied to %s%s", to.Service, labelsText(to.Labels))
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
