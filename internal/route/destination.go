package route

import (
	"errors"
	"fmt"

	"sluice.dev/sluice/internal/names"
)

// DestinationPolicy says how the calls to one destination are spread over its endpoints: those
// that are drawn for Service with exactly these Labels.
type DestinationPolicy struct {
	ID      string            `json:"id"` // "destination-policy/default/reviews"
	Service names.Name        `json:"service,omitzero"`
	Hosts   names.Pattern     `json:"hosts,omitzero"` // in place of a service: outside the mesh
	Labels  map[string]string `json:"labels,omitempty"`
	Balance Balance           `json:"balance,omitzero"`
	Limits  *Limits           `json:"limits,omitempty"` // nil: none but those of the workload
}

// Bounds of Limits.
const (
	MaxUnderWay = 1 << 16 // connections, requests, retries
	MaxPending  = 4096
)

// Limits is what one workload may have under way to a destination at a time.
type Limits struct {
	Connections int `json:"connections"`
	Pending     int `json:"pending"` // requests that wait for a connection
	Requests    int `json:"requests"`
	Retries     int `json:"retries"` // requests that are sent again
	// PerConnection is how many requests one connection serves; 0: any number.
	PerConnection int `json:"perConnection,omitempty"`
}

// What Istio 0.5's proxy let be under way where a circuit breaker did not say it.
const (
	DefaultUnderWay = 1024
	DefaultRetries  = 3
)

// check refuses what a proxy could not hold.
func (l *Limits) check() error {
	for _, n := range []int{l.Connections, l.Requests, l.Retries} {
		if n < 1 || n > MaxUnderWay {
			return fmt.Errorf("a limit of %d: 1 to %d", n, MaxUnderWay)
		}
	}
	if l.Pending < 1 || l.Pending > MaxPending {
		return fmt.Errorf("a limit of %d requests that wait: 1 to %d", l.Pending, MaxPending)
	}
	if l.PerConnection < 0 {
		return fmt.Errorf("a limit of %d requests on a connection", l.PerConnection)
	}
	return nil
}

// Text says for people what may be under way.
func (l *Limits) Text() string {
	text := fmt.Sprintf("at most %d connections, %d requests, %d that wait, %d that are sent again", l.Connections, l.Requests, l.Pending, l.Retries)
	if l.PerConnection > 0 {
		text += fmt.Sprintf(", %d on a connection", l.PerConnection)
	}
	return text
}

// Balancing is a way to pick an endpoint.
type Balancing string

// The ways to pick an endpoint. LeastLoaded takes of two that are drawn the one with fewer
// calls under way.
const (
	RoundRobin  Balancing = ""
	Random      Balancing = "Random"
	LeastLoaded Balancing = "LeastLoaded"
	RingHash    Balancing = "RingHash"
)

// Bounds of Balance.MaxLoad, in percent.
const (
	MinMaxLoad     = 101
	MaxMaxLoad     = 1000
	DefaultMaxLoad = 125
)

// FreeLoad is how many calls an endpoint may have under way whatever the mean is: of few calls
// one is much, and keys would move for nothing.
const FreeLoad = 8

// Balance is which endpoint gets a call.
type Balance struct {
	By Balancing `json:"by,omitempty"`
	// Of RingHash: the header that leads requests of one value to one endpoint, and how many
	// calls that may have under way, in percent of the mean.
	Header  string `json:"header,omitempty"`
	MaxLoad int    `json:"maxLoad,omitempty"`
}

// Text says for people which endpoint gets a call.
func (b *Balance) Text() string {
	switch b.By {
	case Random:
		return "a random endpoint"
	case LeastLoaded:
		return "the one of two endpoints, drawn at random, with fewer calls under way"
	case RingHash:
		return fmt.Sprintf("the endpoint that the value of %s leads to, of at most %d %% of the mean load", b.Header, b.MaxLoad)
	}
	return "the endpoint whose turn it is"
}

// Check refuses what a proxy could not do.
func (p *DestinationPolicy) Check() error {
	b := &p.Balance
	switch {
	case p.Service.IsZero() == p.Hosts.IsZero():
		return errors.New("a policy is about a service or about hosts")
	case p.Service.IsZero() && (len(p.Labels) > 0 || *b != (Balance{}) || p.Limits == nil):
		return errors.New("a policy about hosts has limits, and neither labels nor a balance")
	}
	switch b.By {
	case RoundRobin, Random, LeastLoaded:
		if b.Header != "" || b.MaxLoad != 0 {
			return fmt.Errorf("load balancing %q with a header", b.By)
		}
	case RingHash:
		if b.Header == "" {
			return errors.New("a ring hash without a header")
		}
		if b.MaxLoad < MinMaxLoad || b.MaxLoad > MaxMaxLoad {
			return fmt.Errorf("a ring hash with a load of %d percent: %d to %d", b.MaxLoad, MinMaxLoad, MaxMaxLoad)
		}
	default:
		return fmt.Errorf("load balancing %q is not known", b.By)
	}
	if p.Limits != nil {
		return p.Limits.check()
	}
	return nil
}

// policyKey is what a policy is for.
type policyKey struct {
	service names.Name
	set     string // Destination.Set
}

// PolicyOf returns the policy of what is drawn; nil where there is none. Nobody may change it.
func (t *Table) PolicyOf(service names.Name, set string) *DestinationPolicy {
	if len(t.policies) == 0 {
		return nil
	}
	return t.policies[policyKey{service, set}]
}

// PolicyOfHost returns the policy of a host outside the mesh: of the patterns that match it, that
// of the most specific one. nil: there is none. Nobody may change it.
func (t *Table) PolicyOfHost(host names.Name) (p *DestinationPolicy) {
	if t.limited == nil {
		return nil
	}
	t.limited.Walk(host, func(m names.Match) bool {
		p = t.ofLimited[m.Value]
		return false
	})
	return p
}

// addPolicies keeps the first policy of each destination.
func (t *Table) addPolicies(policies []DestinationPolicy) error {
	if len(policies) > MaxRules {
		return fmt.Errorf("compile destination policies: more than %d", MaxRules)
	}
	hosts := t.limited.Change()
	for i := range policies {
		p := &policies[i]
		if err := p.Check(); err != nil {
			return fmt.Errorf("compile %s: %w", p.ID, err)
		}
		if !p.Hosts.IsZero() {
			if _, known := hosts.Get(p.Hosts); !known && hosts.Put(p.Hosts, uint32(len(t.ofLimited))) {
				t.ofLimited = append(t.ofLimited, p)
			}
			continue
		}
		key := policyKey{p.Service, SetOf(p.Labels)}
		if _, known := t.policies[key]; known {
			continue
		}
		if t.policies == nil {
			t.policies = make(map[policyKey]*DestinationPolicy)
		}
		t.policies[key] = p
	}
	if len(t.ofLimited) > 0 {
		t.limited = hosts.Done()
	}
	return nil
}
