// Package why answers what would happen to one request: it turns an address that
// a person wrote into the name chain that a proxy would see, and asks the
// proxy's own Decide. The server's /sluice/why and `sluice why --rules` call it.
// It never decides by itself and never resolves a name.
package why

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"strconv"
	"strings"

	"sluice.dev/sluice/internal/names"
	"sluice.dev/sluice/internal/policy"
	"sluice.dev/sluice/internal/record"
	"sluice.dev/sluice/internal/refusal"
	"sluice.dev/sluice/internal/wire"
)

// Question is one request or connection that is asked about.
type Question struct {
	Title string // "TLS with SNI www.googleapis.com on port 443"
	Chain policy.Chain
}

// MaxURL bounds the address that is asked about, in bytes.
const MaxURL = 4096

// Parse reads what a person asks about: https://host[:port]/path is a TLS
// connection with that SNI, http://host[:port]/path a plain request with method
// ("" is GET), and host:port or tcp://host:port a connection without names. The
// errors are for people.
func Parse(text, method string) (Question, error) {
	if len(text) > MaxURL {
		return Question{}, fmt.Errorf("the URL is longer than %d bytes", MaxURL)
	}
	scheme, rest, ok := strings.Cut(text, "://")
	if !ok {
		scheme, rest = "tcp", text
	}
	authority, path := rest, ""
	if i := strings.IndexAny(rest, "/?#"); i >= 0 {
		authority, path = rest[:i], rest[i:]
	}
	if strings.Contains(authority, "@") {
		return Question{}, errors.New("the URL holds a user name: leave it out")
	}
	host, err := names.ParseHost(authority)
	if err != nil {
		return Question{}, fmt.Errorf("%q is no host: %w", authority, err)
	}
	switch scheme = strings.ToLower(scheme); scheme {
	case "https":
		return tlsTo(host), nil
	case "http":
		return requestTo(host, method, path)
	case "tcp":
		if !ok && host.Port == 0 {
			return Question{}, fmt.Errorf("say which way: https://%[1]s/, http://%[1]s/ or %[1]s:PORT", authority)
		}
		if host.Port == 0 || strings.Trim(path, "/") != "" {
			return Question{}, errors.New("a TCP destination is HOST:PORT")
		}
		return opaqueTo(host), nil
	}
	return Question{}, fmt.Errorf("scheme %q is not known: use https, http or tcp", scheme)
}

// dialled starts the chain of a connection to host.
func dialled(host names.Host, port uint16) policy.Chain {
	if host.Port != 0 {
		port = host.Port
	}
	return policy.Chain{Port: port, Dialled: host.Name, Addr: host.Addr}
}

func tlsTo(host names.Host) Question {
	chain := dialled(host, 443)
	chain.Sniffed, chain.SNI = policy.ClientHello, host.Name
	title := "TLS with SNI " + host.Name.String()
	if host.Name.IsZero() {
		title = "TLS without SNI to " + host.Addr.String()
	}
	return Question{Title: title + " on port " + port(chain.Port), Chain: chain}
}

func requestTo(host names.Host, method, path string) (Question, error) {
	chain := dialled(host, 80)
	chain.Sniffed, chain.Host = policy.HTTP, host
	target, err := url.ParseRequestURI("/" + strings.TrimPrefix(path, "/"))
	if err != nil {
		return Question{}, fmt.Errorf("%q is no path: %w", path, err)
	}
	chain.Method, chain.Path = strings.ToUpper(method), target.EscapedPath()
	if chain.Method == "" {
		chain.Method = "GET"
	}
	return Question{Title: "plain HTTP " + chain.Method + " " + chain.Path + " for " + host.String() + " on port " + port(chain.Port), Chain: chain}, nil
}

func opaqueTo(host names.Host) Question {
	chain := dialled(host, 0)
	chain.Sniffed = policy.Opaque
	host.Port = 0
	return Question{Title: "TCP to " + host.String() + " on port " + port(chain.Port), Chain: chain}
}

func port(n uint16) string { return strconv.Itoa(int(n)) }

// OfFlow asks again about what a flow tells of. ok is false where it tells of no
// destination outside.
func OfFlow(f *record.Record) (q Question, ok bool) {
	if f.Direction == record.Ingress {
		return Question{}, false
	}
	chain := policy.Chain{Transport: f.Transport, Port: f.Port, Method: f.Method, Path: f.Path, Upgrade: f.Upgrade}
	if addr, err := netip.ParseAddr(f.Dialled); err == nil {
		chain.Addr = addr
	} else if chain.Dialled, err = names.Parse(f.Dialled); err != nil {
		return Question{}, false
	}
	title := "TCP to " + f.Dialled
	switch f.Sniffed {
	case policy.HTTP:
		chain.Sniffed = policy.HTTP
		var err error
		if chain.Host, err = names.ParseHost(f.Host); err != nil {
			chain.HostBad = f.Host != ""
		}
		title = "plain HTTP " + f.Method + " " + f.Path + " for " + f.Host
	case policy.ClientHello:
		chain.Sniffed = policy.ClientHello
		var err error
		if chain.SNI, err = names.Parse(f.SNI); err != nil {
			chain.SNIBad = f.SNI != ""
		}
		title = "TLS with SNI " + f.SNI
	default:
		chain.Sniffed = policy.Opaque
	}
	return Question{Title: title + " on port " + port(f.Port), Chain: chain}, true
}

// Answer decides a question on a snapshot, for one of its workloads.
func Answer(q Question, snapshot *wire.Snapshot, workload wire.Workload) (policy.Explanation, error) {
	if inside, ok := answerInside(q, snapshot, workload.Namespace); ok {
		return inside, nil
	}
	var rules []policy.Rule
	if snapshot.Policy != nil {
		rules = snapshot.Policy.Rules
	}
	set, err := policy.NewSet(rules, policy.Options{Version: snapshot.Version})
	if err != nil {
		return policy.Explanation{}, fmt.Errorf("compile the rules of snapshot %s: %w", snapshot.Version, err)
	}
	return set.Explain(&q.Chain, set.Decide(&q.Chain), policy.ExplainOptions{
		Namespace: workload.Namespace, Labels: workload.Labels,
	}), nil
}

// answerInside answers for a service of the mesh: there the address that was
// dialled decides, and calls are allowed.
func answerInside(q Question, snapshot *wire.Snapshot, namespace string) (policy.Explanation, bool) {
	service := serviceOf(q.Chain.Dialled, snapshot.Directory, namespace)
	if service == nil {
		return policy.Explanation{}, false
	}
	e := policy.Explanation{
		Verdict:     policy.Allow.String(),
		Destination: service.Name.String() + ":" + port(q.Chain.Port),
		Treatment:   "mesh",
		Sentence:    fmt.Sprintf("%s is a service of the mesh; calls between its services are allowed.", service.Name),
		Proofs:      []policy.Proof{{Link: "dialled", Value: service.Name.String(), ProvedBy: "its synthetic address, which stands for this service alone"}},
	}
	for _, p := range service.Ports {
		if p.Port == q.Chain.Port {
			return e, true
		}
	}
	e.Verdict, e.Treatment, e.Reason = policy.Deny.String(), "", refusal.NoRule
	e.Sentence = fmt.Sprintf("%s is a service of the mesh and has no port %d.", service.Name, q.Chain.Port)
	return e, true
}

// serviceOf finds the service that a workload of namespace means by name: the
// full name, or a short one as its resolver completes it.
func serviceOf(name names.Name, directory *wire.Directory, namespace string) *wire.Service {
	if directory == nil || name.IsZero() {
		return nil
	}
	for i := range directory.Services {
		service := &directory.Services[i]
		short := service.Short + "." + service.Namespace
		switch name.String() {
		case service.Name.String(), short, short + ".svc":
			return service
		case service.Short:
			if service.Namespace == namespace {
				return service
			}
		}
	}
	return nil
}
