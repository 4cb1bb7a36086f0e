// Package route plans where an allowed request goes: compiled route rules in, one
// Plan out. The proxy's ways call it after the verdict. Every dialect (RouteRule of
// Istio 0.5; later Gateway API) compiles to it. Pure like policy: it never does
// I/O, has no clock, and randomness is handed in.
package route

import (
	"fmt"
	"net/netip"
	"strings"

	"sluice.dev/sluice/internal/names"
)

// Rule is one compiled route rule for one destination, as one class of workloads sees
// it. A destination's rules stand in the order in which they are tried.
type Rule struct {
	ID      string     `json:"id"` // "route-rule/default/details-v2"
	Match   Match      `json:"match,omitzero"`
	Targets []Weighted `json:"targets"`
	Actions
}

// Match is what a request must show; the zero Match matches every request.
type Match struct {
	Headers map[string]StringMatch `json:"headers,omitempty"` // lower-case names; ":method", ":authority", ":scheme" for the pseudo ones
	URI     *StringMatch           `json:"uri,omitempty"`

	// Where the connection comes from and goes to; none: anywhere.
	Source      []netip.Prefix `json:"source,omitempty"`
	Destination []netip.Prefix `json:"destination,omitempty"`
}

// All reports whether it matches everything.
func (m *Match) All() bool {
	return len(m.Headers) == 0 && m.URI == nil && len(m.Source) == 0 && len(m.Destination) == 0
}

// StringMatch matches one string, case-sensitively. Exactly one field is set.
type StringMatch struct {
	Exact  string `json:"exact,omitempty"`
	Prefix string `json:"prefix,omitempty"`
	Regex  string `json:"regex,omitempty"` // RE2, anchored at both ends
}

// Weighted is one target and its share in percent; the shares of a rule add up
// to 100. At most one of Service and Host is set; neither: the destination itself. An
// endpoint of a service fits when it carries all Labels; a host has none.
type Weighted struct {
	Service names.Name        `json:"service,omitzero"`
	Host    names.Name        `json:"host,omitzero"` // outside the mesh
	Labels  map[string]string `json:"labels,omitempty"`
	Weight  int               `json:"weight"`
}

// Rules is the route rules of one destination, in the order in which they are tried. Exactly
// one of Service and Host is set.
type Rules struct {
	Service names.Name    `json:"service,omitzero"`
	Host    names.Pattern `json:"host,omitzero"` // of hosts outside the mesh
	Rules   []Rule        `json:"rules"`
}

// ParseHosts reads what a rule says of hosts outside the mesh.
func ParseHosts(text string) (names.Pattern, error) {
	if strings.Contains(text, "/") {
		return names.Pattern{}, fmt.Errorf("%s is a range of addresses: a route rule is about a service or a host", text)
	}
	hosts, err := names.ParseIstioPattern(text)
	if err != nil {
		return names.Pattern{}, err
	}
	if _, literal := hosts.Addr(); literal {
		return names.Pattern{}, fmt.Errorf("%s is an address: a route rule is about a service or a host", text)
	}
	return hosts, nil
}
