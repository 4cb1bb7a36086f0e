// Package edge is the compiled rules of an ingress, and the one function that finds the rule
// of a request from outside by listener, host and path. compile makes the rules, the proxy's
// ingress and advice ask the table. It does no I/O, and never repairs a path: what can be
// read in more than one way is led by no rule that looks at paths.
package edge

import (
	"fmt"
	"slices"
	"strings"

	"sluice.dev/sluice/internal/httppath"
	"sluice.dev/sluice/internal/names"
)

// Ports of an IngressRule that mean a listener by what is spoken there.
const (
	PlainPort = 80
	TLSPort   = 443
)

// Bounds of what one ingress runs.
const (
	MaxOrdered = 256  // rules of IngressRules, which are tried one after the other
	MaxPaths   = 4096 // of Ingresses, which are found by their host
	maxPath    = 4096 // bytes
)

// Kind says how a path is compared.
type Kind uint8

// The kinds. Any is every path, and Elements what Kubernetes calls Prefix.
const (
	Any Kind = iota
	Exact
	Characters
	Elements
)

// Rule leads the requests that it matches to a service.
type Rule struct {
	ID      string     `json:"id"`             // of its object
	Port    uint16     `json:"port,omitempty"` // the listener, as an IngressRule says it; 0: all
	Host    string     `json:"host,omitempty"` // canonical; "*.x" is one label before x, "" every host
	Kind    Kind       `json:"kind,omitempty"`
	Path    string     `json:"path,omitempty"` // of Elements without a slash at its end, but "/"
	Service names.Name `json:"service"`        // its full name
	To      uint16     `json:"to"`             // port of the service
	// Redirect says that what comes in without TLS is sent to the same address with it.
	Redirect bool `json:"redirect,omitempty"`
	// Clients is the secret of Certificate, as NAMESPACE/SECRET, by which the client must have
	// proved itself; "": it need not.
	Clients string `json:"clients,omitempty"`
}

// Rules is all of an ingress.
type Rules struct {
	// Ordered are tried first, in this order: those of IngressRules.
	Ordered []Rule `json:"ordered,omitempty"`
	// Hosts are those of Ingresses: of the most specific host that has any, the longest path
	// that matches. Of two that are equal the first counts.
	Hosts []Rule `json:"hosts,omitempty"`
	// Default leads what no other does.
	Default *Rule `json:"default,omitempty"`
	// Certificates are those of TLS; of two for one host the first counts.
	Certificates []Shown `json:"certificates,omitempty"`
}

// Empty reports whether there are none.
func (r *Rules) Empty() bool {
	return r == nil || len(r.Ordered) == 0 && len(r.Hosts) == 0 && r.Default == nil && len(r.Certificates) == 0
}

// Listener is where a request came in.
type Listener struct {
	Port uint16
	TLS  bool
}

// serves reports whether a rule of a port is for the listener.
func (l Listener) serves(port uint16) bool {
	switch port {
	case 0:
		return true
	case PlainPort:
		return !l.TLS
	case TLSPort:
		return l.TLS
	}
	return port == l.Port
}

// Table finds rules. It is immutable. The zero Table has none.
type Table struct {
	ordered  []Rule
	exact    map[string]*group // by host
	wild     map[string]*group // by what stands behind the first label
	any      *group
	fallback *Rule

	certificates certificates
}

// group is the rules of one host, in the order in which they are tried.
type group struct{ rules []Rule }

// NewTable compiles rules. It fails where one of them cannot be kept to.
func NewTable(from *Rules) (*Table, error) {
	t := &Table{exact: make(map[string]*group), wild: make(map[string]*group)}
	if from == nil {
		return t, nil
	}
	var err error
	if t.certificates, err = newCertificates(from.Certificates); err != nil {
		return nil, err
	}
	if len(from.Ordered) > MaxOrdered || len(from.Hosts) > MaxPaths {
		return nil, fmt.Errorf("an ingress of %d ordered rules and %d paths; at most %d and %d are taken", len(from.Ordered), len(from.Hosts), MaxOrdered, MaxPaths)
	}
	for _, list := range [][]Rule{from.Ordered, from.Hosts} {
		for i := range list {
			if err := list[i].Check(); err != nil {
				return nil, err
			}
		}
	}
	t.ordered = slices.Clone(from.Ordered)
	for i := range from.Hosts {
		g := t.groupFor(from.Hosts[i].Host)
		g.rules = append(g.rules, from.Hosts[i])
	}
	for _, of := range []map[string]*group{t.exact, t.wild, {"": t.any}} {
		for _, g := range of {
			if g != nil {
				slices.SortStableFunc(g.rules, byLength)
			}
		}
	}
	if from.Default != nil {
		if err := from.Default.Check(); err != nil {
			return nil, err
		}
		last := *from.Default
		t.fallback = &last
	}
	return t, nil
}

// Check says why a rule cannot be kept to.
func (r *Rule) Check() error {
	switch {
	case r.Kind > Elements:
		return fmt.Errorf("ingress rule %s compares paths in a way that is not known", r.ID)
	case (r.Kind == Any) != (r.Path == ""):
		return fmt.Errorf("ingress rule %s has a path %q that does not fit how it is compared", r.ID, r.Path)
	case r.Service.IsZero() || r.To == 0:
		return fmt.Errorf("ingress rule %s leads nowhere", r.ID)
	}
	return nil
}

// groupFor returns the group of a host, made where there is none.
func (t *Table) groupFor(host string) *group {
	if host == "" {
		if t.any == nil {
			t.any = new(group)
		}
		return t.any
	}
	of := t.exact
	if suffix, wild := strings.CutPrefix(host, "*."); wild {
		of, host = t.wild, suffix
	}
	if of[host] == nil {
		of[host] = new(group)
	}
	return of[host]
}

// byLength orders the rules of a host: the longest path first, Exact before a prefix.
func byLength(a, b Rule) int {
	if la, lb := len(a.Path), len(b.Path); la != lb {
		return lb - la
	}
	return rank(a.Kind) - rank(b.Kind)
}

func rank(k Kind) int {
	switch k {
	case Exact:
		return 0
	case Any:
		return 2
	}
	return 1
}

// Found is what Find found.
type Found struct {
	Rule *Rule // nil: none leads the request
	// Ambiguous says that the path can be read in more than one way, and rules that hold for its
	// host look at paths: none leads it.
	Ambiguous bool
}

// Find returns the rule of a request to a host, the zero Name for one that has no name, by its
// path without a query. It does not allocate.
func (t *Table) Find(at Listener, host names.Name, path string) Found {
	look := looker{path: path, normal: httppath.IsNormal(path)}
	for i := range t.ordered {
		r := &t.ordered[i]
		if !at.serves(r.Port) || r.Host != "" && r.Host != host.String() {
			continue
		}
		if look.takes(r) {
			return Found{Rule: r}
		}
	}
	if g := t.groupOf(host); g != nil {
		for i := range g.rules {
			if look.takes(&g.rules[i]) {
				return Found{Rule: &g.rules[i]}
			}
		}
	}
	if t.fallback != nil && look.takes(t.fallback) {
		return Found{Rule: t.fallback}
	}
	return Found{Ambiguous: look.ambiguous}
}

// groupOf returns the rules of the most specific host that has any.
func (t *Table) groupOf(host names.Name) *group {
	if !host.IsZero() {
		if g := t.exact[host.String()]; g != nil {
			return g
		}
		if _, suffix, ok := strings.Cut(host.String(), "."); ok {
			if g := t.wild[suffix]; g != nil {
				return g
			}
		}
	}
	return t.any
}

// Has reports whether the table leads by this very rule still.
func (t *Table) Has(r *Rule) bool {
	same := func(other Rule) bool { return other == *r }
	if t.fallback != nil && *t.fallback == *r || slices.ContainsFunc(t.ordered, same) {
		return true
	}
	g := t.any
	if suffix, wild := strings.CutPrefix(r.Host, "*."); wild {
		g = t.wild[suffix]
	} else if r.Host != "" {
		g = t.exact[r.Host]
	}
	return g != nil && slices.ContainsFunc(g.rules, same)
}

// looker compares one path with rule after rule.
type looker struct {
	path      string
	normal    bool
	ambiguous bool
}

// takes reports whether a rule leads the path. Once a path that is not normal has met a rule
// that looks at it, no other one leads it either: a server may read it as what that rule is for.
func (l *looker) takes(r *Rule) bool {
	if r.Kind == Any {
		return !l.ambiguous
	}
	if !l.normal {
		l.ambiguous = true
		return false
	}
	return r.matches(l.path)
}

// matches compares a normal path.
func (r *Rule) matches(path string) bool {
	switch r.Kind {
	case Exact:
		return path == r.Path
	case Characters:
		return strings.HasPrefix(path, r.Path)
	case Elements:
		rest, ok := strings.CutPrefix(path, r.Path)
		return ok && (rest == "" || rest[0] == '/')
	}
	return true
}
