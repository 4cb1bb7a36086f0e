// Package v1alpha1 holds the specs of our own kinds, group sluice.dev, their
// defaults, and the reading of their values. What is wrong with them is said in
// package api; they are never changed between the file and the store.
//
// Every field is optional for the API's schema: what must be there is said by
// api.Validate, whose texts reach users through the API too.
//
// +kubebuilder:object:generate=true
// +kubebuilder:validation:Optional
package v1alpha1

// Group and Version of our own kinds.
const (
	Group   = "sluice.dev"
	Version = "v1alpha1"
)

// EgressPolicySpec says which workloads may reach which external destinations.
type EgressPolicySpec struct {
	// From selects workloads of the namespace. Absent: every one.
	From *WorkloadSelector `json:"from,omitempty"`
	// To is where they may go.
	To EgressDestinations `json:"to"`
	// PrivateAnswers lists CIDRs besides public ones that a resolved name may lead to.
	PrivateAnswers []string `json:"privateAnswers,omitempty"`
	// TLS says how TLS is done. Absent: mode Auto.
	TLS *EgressTLS `json:"tls,omitempty"`
	// HTTP lists the requests that are allowed. Absent: any request.
	HTTP []HTTPMatch `json:"http,omitempty"`
}

// WorkloadSelector selects workloads that carry all labels and, where accounts
// are listed, run as one of them.
type WorkloadSelector struct {
	Labels          map[string]string `json:"labels,omitempty"`
	ServiceAccounts []string          `json:"serviceAccounts,omitempty"`
}

// EgressDestinations is hosts and address ranges, each on all of the ports.
type EgressDestinations struct {
	// Hosts are names and wildcards: a leading "*" stands for one or more characters.
	Hosts []string `json:"hosts,omitempty"`
	// CIDRs are addresses and ranges, v4 and v6.
	CIDRs []string `json:"cidrs,omitempty"`
	// Ports are the ports on which they may be reached.
	Ports []EgressPort `json:"ports"`
}

// EgressPort is one port with its protocol.
type EgressPort struct {
	// Port is a number from 1 to 65535.
	Port int32 `json:"port"`
	// Protocol is http, https, tls, tcp or mongo (http2, grpc, udp, quic: not built yet).
	Protocol string `json:"protocol"`
}

// EgressTLS says how TLS towards the destination is done.
type EgressTLS struct {
	// Mode is Auto (default), Originate or Passthrough (Intercept: not built yet).
	Mode string `json:"mode,omitempty"`
	// CABundle is PEM; the upstream's certificate must chain to one of these. Absent: the mesh's trusted roots.
	CABundle string `json:"caBundle,omitempty"`
	// ServerName is sent as SNI and verified in place of the host's name, where we originate TLS.
	ServerName string `json:"serverName,omitempty"`
}

// HTTPMatch is one alternative of the requests that are allowed.
type HTTPMatch struct {
	Methods []string `json:"methods,omitempty"`
	// Paths are exact, or prefixes that end in "*".
	Paths []string `json:"paths,omitempty"`
}

// MeshConfigSpec is the mesh's settings; cluster-scoped, its one object is named default.
type MeshConfigSpec struct {
	// OutboundDefault is what happens to traffic that no rule allows: Deny (Audit and Allow: not built yet).
	OutboundDefault string `json:"outboundDefault,omitempty"`
	// TrustedRoots is PEM; upstream certificates chain to these. Absent: the system's roots.
	TrustedRoots string `json:"trustedRoots,omitempty"`
	// MaxStale is how long a proxy goes on without its server, such as "24h" (default).
	MaxStale string `json:"maxStale,omitempty"`
}

// MeshServiceSpec is a service and its ports where there is no Kubernetes to say it.
type MeshServiceSpec struct {
	// Ports are the service's ports.
	Ports []ServicePort `json:"ports"`
	// Selector picks the workloads behind it. Absent: those whose label app is the service's name.
	Selector map[string]string `json:"selector,omitempty"`
}

// ServicePort is one port of a service.
type ServicePort struct {
	Name string `json:"name,omitempty"`
	Port int32  `json:"port"`
	// Protocol is http (default) or tcp.
	Protocol string `json:"protocol,omitempty"`
}

// Status is what the control plane says of any object of ours.
type Status struct {
	ObservedGeneration int64       `json:"observedGeneration,omitempty"`
	Conditions         []Condition `json:"conditions,omitempty"`
}

// Condition has the shape of Kubernetes' metav1.Condition.
type Condition struct {
	Type               string `json:"type"`
	Status             string `json:"status"`
	ObservedGeneration int64  `json:"observedGeneration,omitempty"`
	LastTransitionTime string `json:"lastTransitionTime"`
	Reason             string `json:"reason"`
	Message            string `json:"message"`
}
