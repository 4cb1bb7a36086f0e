// Package wire holds what the control plane sends a proxy: the resources, the
// snapshot's index, and the stream that carries them. Control and proxy meet
// here and in policy and route, and never import one another.
package wire

import (
	"fmt"
	"net/netip"
	"time"

	"sluice.dev/sluice/internal/edge"
	"sluice.dev/sluice/internal/names"
	"sluice.dev/sluice/internal/policy"
	"sluice.dev/sluice/internal/route"
	"sluice.dev/sluice/internal/telemetry/trace"
)

// Workload is what a proxy says of a workload that joins. Service, labels and
// account are what the workload said of itself until identity attests them.
type Workload struct {
	Instance  string            `json:"instance"` // "details-v2/1", unique on the server
	Service   string            `json:"service,omitempty"`
	Version   string            `json:"version,omitempty"`
	Namespace string            `json:"namespace"`
	Account   string            `json:"account,omitempty"`
	Labels    map[string]string `json:"labels,omitempty"` // holds app and version too
	Ports     []uint16          `json:"ports,omitempty"`  // on which it serves (--listen)
	// Protocols is what is spoken on those of Ports of which it was said.
	Protocols map[uint16]policy.Protocol `json:"protocols,omitempty"`
	Unready   []Unready                  `json:"unready,omitempty"` // of Ports, those that take no connections now
	PID       int                        `json:"pid,omitempty"`     // of the sandbox's init, in the proxy's PID namespace
	Level     string                     `json:"level"`             // "sandbox", "notify", "none"
	Proxy     string                     `json:"proxy"`             // name of the proxy that serves it
}

// Snapshot is the whole of what one proxy runs for one workload, under one
// version. The parts are shared between workloads of one class.
type Snapshot struct {
	Version   string       `json:"version"`  // of the index: hex, content-addressed over the parts
	Revision  int64        `json:"revision"` // of the store; for people, not part of the version
	Created   time.Time    `json:"created"`
	Mesh      *Mesh        `json:"mesh"`
	Policies  []*Policy    `json:"policies"` // together in the order of rule IDs within each kind
	Routes    *Routes      `json:"routes"`
	Directory *Directory   `json:"directory"`
	Endpoints []*Endpoints `json:"endpoints"`

	// Parts is the content address of each part: what the index named.
	Parts map[string]Hash `json:"parts,omitempty"`

	policyKey string // of what Policies hold, where that came by checked addresses
}

// Rules returns the rules of all parts in one list of its own.
func (s *Snapshot) Rules() []policy.Rule {
	total := 0
	for _, part := range s.Policies {
		total += len(part.Rules)
	}
	all := make([]policy.Rule, 0, total)
	for _, part := range s.Policies {
		all = append(all, part.Rules...)
	}
	return all
}

// PolicyKey is equal for snapshots whose rules are equal: what a proxy shares its compiled
// rules by. It is "" where nothing is known of their addresses.
func (s *Snapshot) PolicyKey() string {
	if len(s.Parts) == 0 {
		return ""
	}
	return s.policyKey
}

// Mesh is what MeshConfig comes to for a proxy.
type Mesh struct {
	OutboundDefault string        `json:"outboundDefault"`        // of the workload's namespace: "Deny" or "Audit"
	TrustedRoots    string        `json:"trustedRoots,omitempty"` // PEM; "" means the system's
	MaxStale        time.Duration `json:"maxStale"`               // after which a proxy without its server denies
	Limits          Limits        `json:"limits,omitzero"`        // of each workload
	Telemetry       Telemetry     `json:"telemetry,omitzero"`     // of the proxy
}

// Telemetry is what a proxy shows of its traffic.
type Telemetry struct {
	Istio     bool `json:"istio,omitempty"`     // metrics under the names of Istio too
	MaxSeries int  `json:"maxSeries,omitempty"` // 0: the proxy's default

	Tracing  bool        `json:"tracing,omitempty"`
	Sampling trace.Share `json:"sampling,omitempty"` // of the traces that begin
}

// Limits is what a workload may use at most; 0 stands for the proxy's default.
type Limits struct {
	Connections         int           `json:"connections,omitempty"`
	UpstreamConnections int           `json:"upstreamConnections,omitempty"`
	QueueTimeout        time.Duration `json:"queueTimeout,omitempty"`
}

// Policy is some of the egress rules that select one class of workloads.
type Policy struct {
	Rules []policy.Rule `json:"rules"`
}

// Routes is the route rules of one class, by destination, each list in the order in which
// it is tried.
type Routes struct {
	Services []route.Rules `json:"services"`        // of the mesh
	Hosts    []route.Rules `json:"hosts,omitempty"` // outside it
	// Destinations is how calls are spread over endpoints; of one destination the first holds.
	Destinations []route.DestinationPolicy `json:"destinations,omitempty"`
	Ingress      *edge.Rules               `json:"ingress,omitempty"` // of an ingress alone
}

// Directory is every mesh service, so that DNS can answer for it.
type Directory struct {
	Domain   string    `json:"domain"` // cluster domain, "cluster.local"
	Services []Service `json:"services"`
}

// Service is one mesh service.
type Service struct {
	Name      names.Name    `json:"name"` // full: details.default.svc.cluster.local
	Short     string        `json:"short"`
	Namespace string        `json:"namespace"`
	Ports     []ServicePort `json:"ports"`
	// Addresses is what the service has in a cluster: a connection to one of them is one
	// to the service.
	Addresses []netip.Addr `json:"addresses,omitempty"`
	// Headless says that the cluster gives its name no address of its own: it means the
	// addresses of its endpoints.
	Headless bool `json:"headless,omitempty"`
	// Alias is the host for which the service is another name. It has no endpoints then,
	// and who calls it needs a rule that allows that host.
	Alias names.Name `json:"alias,omitzero"`
}

// ServicePort is a port of a service and what is spoken on it: ProtocolHTTP,
// ProtocolHTTP2, ProtocolGRPC, ProtocolTCP or, where nobody said it, ProtocolNone. Then what the client says first
// counts.
type ServicePort struct {
	Port     uint16          `json:"port"`
	Protocol policy.Protocol `json:"protocol,omitzero"`
}

// CheckServiceProtocol refuses a protocol that a port of a service cannot have.
func CheckServiceProtocol(p policy.Protocol) error {
	switch p {
	case policy.ProtocolNone, policy.ProtocolHTTP, policy.ProtocolHTTP2, policy.ProtocolGRPC, policy.ProtocolTCP:
		return nil
	}
	return fmt.Errorf("protocol %s is not supported yet for a service; use http, http2, grpc or tcp", p)
}

// Find returns what is spoken on a port; ok is false where the service does not have it.
func (s *Service) Find(port uint16) (spoken policy.Protocol, ok bool) {
	for i := range s.Ports {
		if s.Ports[i].Port == port {
			return s.Ports[i].Protocol, true
		}
	}
	return policy.ProtocolNone, false
}

// Endpoints is the live endpoints of one service.
type Endpoints struct {
	Service   names.Name `json:"service"`
	Endpoints []Endpoint `json:"endpoints"`
}

// Endpoint is one workload instance behind a service.
type Endpoint struct {
	Instance string            `json:"instance"`
	Proxy    string            `json:"proxy"` // who serves it; the same proxy reaches it in process
	Labels   map[string]string `json:"labels,omitempty"`
	Ports    []uint16          `json:"ports"` // of the service
	// Addresses is where it is reached in a cluster; none where its proxy alone does.
	Addresses []netip.Addr `json:"addresses,omitempty"`
	// Targets is on which port of those addresses it serves a port of the service, where
	// that is another one.
	Targets map[uint16]uint16 `json:"targets,omitempty"`
	// Hostname is the endpoint's own name below that of the service, as the Pods of a
	// StatefulSet have one.
	Hostname string    `json:"hostname,omitempty"`
	Unready  []Unready `json:"unready,omitempty"` // of Ports, those that get no calls while others are ready
}
