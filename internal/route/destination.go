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
	Service names.Name        `json:"service"`
	Labels  map[string]string `json:"labels,omitempty"`
	Balance Balance           `json:"balance,omitzero"`
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
	if p.Service.IsZero() {
		return errors.New("a policy without a destination")
	}
	b := &p.Balance
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

// addPolicies keeps the first policy of each destination.
func (t *Table) addPolicies(policies []DestinationPolicy) error {
	if len(policies) > MaxRules {
		return fmt.Errorf("compile destination policies: more than %d", MaxRules)
	}
	for i := range policies {
		p := &policies[i]
		if err := p.Check(); err != nil {
			return fmt.Errorf("compile %s: %w", p.ID, err)
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
	return nil
}
