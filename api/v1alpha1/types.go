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
	// PrivateAnswers lists CIDRs besides public ones that a resolved name may lead to, at most
	// 1000. Default: none. Ranges under to.cidrs need not be listed here.
	// +kubebuilder:validation:MaxItems=1000
	PrivateAnswers []string `json:"privateAnswers,omitempty"`
	// TLS says how TLS is done. Absent: mode Auto.
	TLS *EgressTLS `json:"tls,omitempty"`
	// HTTP lists the requests that are allowed, at most 64 matches of which one must fit. Absent:
	// any request. On an https port it needs tls.mode Originate.
	// +kubebuilder:validation:MaxItems=64
	HTTP []HTTPMatch `json:"http,omitempty"`
	// MaxNewNamesPerMinute is how many names a minute a workload may have resolved that a wildcard
	// of to.hosts alone allows, 1 to 6000: a name carries what a workload writes into it to whoever
	// answers for the wildcard's domain. Default: the workload's own rate, 100 a second.
	MaxNewNamesPerMinute int32 `json:"maxNewNamesPerMinute,omitempty"`
	// Telemetry is what of the mesh's own the destinations learn. Absent: nothing.
	Telemetry *EgressTelemetry `json:"telemetry,omitempty"`
}

// EgressTelemetry is what of the mesh's own the destinations of a rule learn.
type EgressTelemetry struct {
	// Propagate lets trace headers, baggage, x-request-id, x-forwarded-client-cert and x-envoy-* leave
	// with requests, so that the destination goes on with the trace. It needs an http or https port.
	// Default: false, and they are removed.
	Propagate bool `json:"propagate,omitempty"`
}

// WorkloadSelector selects workloads that carry all labels and, where accounts
// are listed, run as one of them.
type WorkloadSelector struct {
	// Labels are those that a workload carries, all of them, at most 64. Absent: any.
	Labels map[string]string `json:"labels,omitempty"`
	// ServiceAccounts are those that a workload runs as, one of them, at most 256. Absent: any.
	// +kubebuilder:validation:MaxItems=256
	ServiceAccounts []string `json:"serviceAccounts,omitempty"`
}

// EgressDestinations is hosts and address ranges, each on all of the ports.
type EgressDestinations struct {
	// Hosts are names and wildcards, at most 1000: a leading "*" stands for one or more
	// characters. One of hosts and cidrs must be there.
	// +kubebuilder:validation:MaxItems=1000
	Hosts []string `json:"hosts,omitempty"`
	// CIDRs are addresses and ranges, v4 and v6, at most 1000. On an https or tls port the certificate must name the address.
	// +kubebuilder:validation:MaxItems=1000
	CIDRs []string `json:"cidrs,omitempty"`
	// Ports are the ports on which they may be reached, 1 to 64.
	// +kubebuilder:validation:MaxItems=64
	Ports []EgressPort `json:"ports"`
}

// EgressPort is one port with its protocol.
type EgressPort struct {
	// Port is a number from 1 to 65535.
	Port int32 `json:"port"`
	// Protocol is http, http2, grpc, https, tls, tcp or mongo (udp, quic: not supported yet). On an
	// http2 or grpc port the server is spoken to in HTTP/2 by prior knowledge, whatever the client
	// speaks.
	Protocol string `json:"protocol"`
	// IdleTimeout is how long a connection whose bytes are carried as they are (tcp, mongo, and TLS
	// that is passed through) may move nothing, either way, before it is reset: a duration from 1s
	// to 168h. Default: 1h. It counts for connections that begin after it was set.
	IdleTimeout string `json:"idleTimeout,omitempty"`
	// Upstream is where requests go outside, where that is not what the workload speaks: an http,
	// http2 or grpc port alone has one. Absent: to port, as protocol says.
	Upstream *UpstreamPort `json:"upstream,omitempty"`
}

// UpstreamPort is a port of the destination, as Sluice speaks to it.
type UpstreamPort struct {
	// Port is a number from 1 to 65535.
	Port int32 `json:"port"`
	// Protocol is https, for TLS that Sluice makes, or what the port is: http, or http2 or grpc.
	// An http2 or grpc port that leads to https has the server choose HTTP/2 by ALPN.
	Protocol string `json:"protocol"`
}

// EgressTLS says how TLS towards the destination is done.
type EgressTLS struct {
	// Mode is Auto (default), Originate or Passthrough (Intercept: not supported yet).
	Mode string `json:"mode,omitempty"`
	// CABundle is certificates in PEM, at most 512 in 256 KiB; the upstream's certificate must chain
	// to one of these. Absent: the mesh's trusted roots.
	// +kubebuilder:validation:MaxLength=262144
	CABundle string `json:"caBundle,omitempty"`
	// ServerName is sent as SNI and verified in place of the host's name, where we originate TLS.
	ServerName string `json:"serverName,omitempty"`
	// MinVersion is the oldest version of TLS that is spoken where we originate it: "1.2", the
	// default, or "1.3".
	MinVersion string `json:"minVersion,omitempty"`
	// ClientCertificate is shown to a server that asks for one, where we originate TLS.
	ClientCertificate *ClientCertificate `json:"clientCertificate,omitempty"`
}

// ClientCertificate names files of the proxy. No key is ever part of a rule.
type ClientCertificate struct {
	// CertFile is the certificate with its intermediates, in PEM: a path below the folder of the
	// rule's namespace in the proxy's folder of client certificates (--client-certificates).
	CertFile string `json:"certFile,omitempty"`
	// KeyFile is its private key, in PEM, at such a path. Not everybody may be able to read it.
	KeyFile string `json:"keyFile,omitempty"`
}

// HTTPMatch is one alternative of the requests that are allowed. All that it lists
// must hold.
type HTTPMatch struct {
	// Methods are in upper case, at most 256. Absent: any, where paths are there.
	// +kubebuilder:validation:MaxItems=256
	Methods []string `json:"methods,omitempty"`
	// Paths are exact, or prefixes that end in "*", at most 256 of at most 4096 bytes. Absent: any,
	// where methods are there.
	// +kubebuilder:validation:MaxItems=256
	Paths []string `json:"paths,omitempty"`
	// Upgrades are the protocols that a request may ask to change to, as in its Upgrade field, in any
	// case, at most 256: websocket, tcp, spdy/3.1. Not h2, h2c, http/... or tls/..., behind which no
	// further request is seen. Absent: none.
	// +kubebuilder:validation:MaxItems=256
	Upgrades []string `json:"upgrades,omitempty"`
}

// MeshConfigSpec is the mesh's settings; cluster-scoped, its one object is named default.
type MeshConfigSpec struct {
	// OutboundDefault is what happens to traffic that no rule allows: Deny, the default, or Audit,
	// which lets it pass and records it (Allow: not supported yet).
	// +kubebuilder:validation:XValidation:rule="self in ['', 'Deny', 'Audit']",messageExpression="self == 'Allow' ? 'outboundDefault Allow is not supported yet: Audit lets pass and records what no rule allows' : 'outboundDefault \"' + self + '\" is not one of Deny, Audit'"
	// +kubebuilder:validation:MaxLength=64
	OutboundDefault string `json:"outboundDefault,omitempty"`
	// Namespaces is what holds for the workloads of one namespace in place of that, at most 1000.
	// +kubebuilder:validation:MaxProperties=1000
	Namespaces map[string]NamespaceConfig `json:"namespaces,omitempty"`
	// TrustedRoots is certificates in PEM, at most 512 in 256 KiB; upstream certificates chain to
	// these. Absent: the system's roots.
	// +kubebuilder:validation:MaxLength=262144
	TrustedRoots string `json:"trustedRoots,omitempty"`
	// MaxStale is how long a proxy goes on without its server before it denies: a duration from 1s
	// to 720h. Default: 24h.
	MaxStale string `json:"maxStale,omitempty"`
	// Limits is what each workload may use at most. Absent: the defaults.
	Limits *Limits `json:"limits,omitempty"`
	// Telemetry is what proxies show of the mesh's traffic. Absent: the defaults.
	Telemetry *Telemetry `json:"telemetry,omitempty"`
	// AllowBypass lets Pods keep part of their traffic from their sidecar (--includeIPRanges of
	// kube-inject, annotations, privileges) or have none at all; sluice status marks them as
	// bypassed. sluice kube-inject asks for it, and sluice-server for Pods of namespaces with the
	// label sluice-injection=enabled. Default: false.
	AllowBypass bool `json:"allowBypass,omitempty"`
}

// Limits is what each workload of the mesh may use at most. A flag of its proxy may set less,
// and what the proxy has it shares among its workloads.
type Limits struct {
	// MaxConnections is live connections of one workload, from 1 to 1048576. Default: 16384. At it
	// its HTTP connection that is idle for longest is closed; where none is, a new one waits for
	// queueTimeout and is then reset.
	MaxConnections int32 `json:"maxConnections,omitempty"`
	// MaxUpstreamConnections is connections that are open on behalf of one workload, from 1 to
	// 1048576. Default: 16384. At it an idle one is closed or used; where none is, a request or
	// connection waits for queueTimeout and then fails: overflow.
	MaxUpstreamConnections int32 `json:"maxUpstreamConnections,omitempty"`
	// QueueTimeout is how long a connection or request waits at one of these: a duration from 10ms
	// to 10m. Default: 30s.
	QueueTimeout string `json:"queueTimeout,omitempty"`
}

// Telemetry is what proxies show of the mesh's traffic. Where it is shown, their flags say.
type Telemetry struct {
	// Metrics is for sluice-proxy --metrics. Absent: the defaults.
	Metrics *Metrics `json:"metrics,omitempty"`
	// Tracing gives each request and connection a place in a trace, and hands traces on inside the
	// mesh. Absent: nothing is traced, and what requests say of traces is left as it is.
	Tracing *Tracing `json:"tracing,omitempty"`
}

// Tracing is how many traces there are.
type Tracing struct {
	// Sampling is the percentage of the traces that are sent to the collector of --otlp of a proxy,
	// from 0 to 100. A trace that began elsewhere is sent where it was said to be. Default: 1.
	Sampling *float64 `json:"sampling,omitempty"`
}

// Metrics is what the metrics of a proxy are called, and how many there are.
type Metrics struct {
	// Compatibility is istio: what is counted shows under the names and labels of Istio 1.0 too, as
	// istio_requests_total. Absent: under our own alone.
	// +kubebuilder:validation:XValidation:rule="self in ['', 'istio']",messageExpression="'compatibility \"' + self + '\" is not istio'"
	// +kubebuilder:validation:MaxLength=64
	Compatibility string `json:"compatibility,omitempty"`
	// MaxSeries is how many series one proxy shows at most, from 500 to 1000000. What finds none is
	// counted as other. --max-series of a proxy counts in its place. Default: 10000.
	MaxSeries int32 `json:"maxSeries,omitempty"`
}

// NamespaceConfig is the settings of one namespace.
type NamespaceConfig struct {
	// OutboundDefault is what happens to traffic of this namespace that no rule allows: Deny or
	// Audit (Allow: not supported yet).
	// +kubebuilder:validation:XValidation:rule="self in ['Deny', 'Audit']",messageExpression="self == 'Allow' ? 'outboundDefault Allow is not supported yet: Audit lets pass and records what no rule allows' : 'outboundDefault \"' + self + '\" is not one of Deny, Audit'"
	// +kubebuilder:validation:MaxLength=64
	OutboundDefault string `json:"outboundDefault"`
}

// MeshServiceSpec is a service and its ports for a mesh without Kubernetes.
type MeshServiceSpec struct {
	// Ports are the service's ports, 1 to 64, no number and no name twice.
	// +kubebuilder:validation:MaxItems=64
	Ports []ServicePort `json:"ports"`
	// Selector picks the workloads behind it by their labels, at most 64. Absent: those whose label
	// app is the service's name.
	Selector map[string]string `json:"selector,omitempty"`
}

// ServicePort is one port of a service.
type ServicePort struct {
	// Name tells ports apart: a DNS label. Default: none.
	Name string `json:"name,omitempty"`
	// Port is a number from 1 to 65535.
	Port int32 `json:"port"`
	// Protocol is http, http2, grpc or tcp (others: not supported yet). http, http2 and grpc: each
	// request is routed, and nothing of the server reaches a client that has not spoken; http2
	// and grpc: the server is spoken to in HTTP/2 by prior knowledge, whatever the client speaks.
	// tcp: the bytes are carried as they are. Absent: what the client says first decides.
	Protocol string `json:"protocol,omitempty"`
}

// Status is what the control plane says of any object of ours.
type Status struct {
	// ObservedGeneration is the generation of the object that the conditions are about.
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`
	// Conditions are Accepted (compiled, in effect), Programmed (every connected proxy runs it) and,
	// where the object may not mean what was meant, Warning.
	Conditions []Condition `json:"conditions,omitempty"`
}

// Condition has the shape of Kubernetes' metav1.Condition.
type Condition struct {
	// Type is what the condition is about: Accepted, Programmed or Warning.
	Type string `json:"type"`
	// Status is True or False.
	Status string `json:"status"`
	// ObservedGeneration is the generation of the object that was looked at.
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`
	// LastTransitionTime is when status changed last, in RFC 3339.
	LastTransitionTime string `json:"lastTransitionTime"`
	// Reason is why, in one word: Compiled, Acknowledged, Pending or Rejected; of a Warning,
	// SelectsNothing (it names what no workload is that runs now) or Advice.
	Reason string `json:"reason"`
	// Message is why, for people.
	Message string `json:"message"`
}
