// Package istio holds the config.istio.io/v1alpha2 resources of Istio 0.5 as
// they were written: fields, defaults and meaning as in Istio 0.5. Stored as
// written; nothing here is converted.
//
// +kubebuilder:object:generate=true
package istio

// Group and Version of the resources of Istio 0.5.
const (
	Group   = "config.istio.io"
	Version = "v1alpha2"
)

// Service names a service, in the manner of IstioService: by name, or by service.
type Service struct {
	// Name is a service of the mesh: a DNS label. One of name and service must be there.
	Name string `json:"name,omitempty"`
	// Namespace is the namespace of the service called name: a DNS label. Default: the rule's own.
	Namespace string `json:"namespace,omitempty"`
	// Domain is the domain of the service called name. Default: cluster.local.
	Domain string `json:"domain,omitempty"`
	// Service is a whole host name, a wildcard ("*" as the first character stands for one or
	// more characters), an IPv4 address or an IPv4 CIDR. It goes with none of name, namespace
	// and domain.
	Service string `json:"service,omitempty"`
	// Labels are those that instances of the service carry: at most 64, of letters, digits and
	// "-_./". Only match.source and mirror take them.
	Labels map[string]string `json:"labels,omitempty"`
}

// EgressRuleSpec lets the workloads of the namespace (of all namespaces, where the
// rule is in sluice-system) reach one external service.
type EgressRuleSpec struct {
	// Destination is the external service: its service field alone, a name, wildcard, IPv4
	// address or IPv4 CIDR. Must be there.
	Destination *Service `json:"destination,omitempty"`
	// Ports are those on which it may be reached: 1 to 64, no number twice.
	// +kubebuilder:validation:MaxItems=64
	Ports []Port `json:"ports,omitempty"`
	// UseEgressProxy would send the traffic through a proxy of its own. Default: false; true is
	// refused, as it was in Istio 0.5.
	UseEgressProxy bool `json:"useEgressProxy,omitempty"`
}

// Port is a port of an EgressRule.
type Port struct {
	// Port is a number from 1 to 65535.
	Port int32 `json:"port,omitempty"`
	// Protocol is http, http2, grpc, https, tcp or mongo, in any case. A CIDR takes tcp and mongo
	// alone. On an https port TLS is originated for plain HTTP, and passed through by its SNI; on
	// an http2 or grpc port the server is spoken to in HTTP/2, whatever the client speaks.
	Protocol string `json:"protocol,omitempty"`
}

// RouteRuleSpec says where requests to a service go, and what is done with them on their
// way.
type RouteRuleSpec struct {
	// Destination is the service whose requests are routed, without labels. Must be there.
	Destination *Service `json:"destination,omitempty"`
	// Precedence orders the rules of one destination, the highest first; of equal ones the
	// smaller namespace/name. Default: 0.
	Precedence int32 `json:"precedence,omitempty"`
	// Match says for which requests the rule holds. Default: every one.
	Match *MatchCondition `json:"match,omitempty"`
	// Route is where the requests go, at most 32 targets whose weights total 100. Default: every
	// instance of the destination.
	// +kubebuilder:validation:MaxItems=32
	Route []DestinationWeight `json:"route,omitempty"`

	// Redirect answers with a redirect (301), in place of route.
	Redirect *Redirect `json:"redirect,omitempty"`
	// Rewrite changes path or authority of a request before it is sent on.
	Rewrite *Rewrite `json:"rewrite,omitempty"`
	// WebsocketUpgrade lets connections change to WebSocket. Default: false, and such a request is
	// answered with 403. Where no rule matches they may. Not with redirect.
	WebsocketUpgrade bool `json:"websocketUpgrade,omitempty"`
	// HTTPReqTimeout bounds the time from a request's end to its answer's head, retries included.
	// Default: 15s. It ends no stream and no WebSocket.
	HTTPReqTimeout *HTTPTimeout `json:"httpReqTimeout,omitempty"`
	// HTTPReqRetries repeats a request that failed to connect, got no answer or one of 500 and above.
	// Default: none.
	HTTPReqRetries *HTTPRetry `json:"httpReqRetries,omitempty"`
	// HTTPFault delays or aborts a share of the requests. Not with redirect.
	HTTPFault *HTTPFault `json:"httpFault,omitempty"`
	// L4Fault is always refused, as it was in Istio 0.5.
	L4Fault *L4Fault `json:"l4Fault,omitempty"`
	// Mirror is a service of the mesh that gets a copy of each request of at most 65536 bytes, with
	// "-shadow" behind the name in Host; with labels, those instances of it that carry them all. Its
	// answers reach nobody. Not with redirect.
	Mirror *Service `json:"mirror,omitempty"`
	// CorsPolicy answers requests from pages of other origins.
	CorsPolicy *CorsPolicy `json:"corsPolicy,omitempty"`
	// AppendHeaders are added to each request: at most 32 of together 4096 bytes, with lower-case
	// names and values that are not empty. Not those that frame a request, say where it goes or are
	// for one hop alone.
	AppendHeaders map[string]string `json:"appendHeaders,omitempty"`
}

// DestinationWeight is one target of a RouteRule.
type DestinationWeight struct {
	// Destination is another service than the rule's own, without labels. Default: the rule's own.
	Destination *Service `json:"destination,omitempty"`
	// Labels select the instances that get the requests: at most 64, of letters, digits and
	// "-_./". Default: all instances.
	Labels map[string]string `json:"labels,omitempty"`
	// Weight is the share in percent, 0 to 100. One target alone may leave it out.
	Weight int32 `json:"weight,omitempty"`
}

// MatchCondition says when a RouteRule holds: where all that it lists is so.
type MatchCondition struct {
	// Source is the service that calls; with labels, those instances of it that carry them all.
	// Default: any.
	Source *Service `json:"source,omitempty"`
	// TCP matches connections, and the requests on them, by their subnets.
	TCP *L4Match `json:"tcp,omitempty"`
	// UDP is always refused, as it was in Istio 0.5.
	UDP *L4Match `json:"udp,omitempty"`
	// Request matches requests by their headers. Default: any.
	Request *MatchRequest `json:"request,omitempty"`
}

// L4Match matches connections by subnets.
type L4Match struct {
	// SourceSubnet is IPv4 addresses and CIDRs from which a connection comes, at most 64. Default:
	// any.
	SourceSubnet []string `json:"sourceSubnet,omitempty"`
	// DestinationSubnet is IPv4 addresses and CIDRs to which it goes, at most 64. Default: any.
	DestinationSubnet []string `json:"destinationSubnet,omitempty"`
}

// MatchRequest matches requests.
type MatchRequest struct {
	// Headers are matched by their names in lower case, all of them, at most 32. The names uri,
	// scheme, method and authority mean those parts of the request.
	// +kubebuilder:validation:MaxProperties=32
	Headers map[string]StringMatch `json:"headers,omitempty"`
}

// StringMatch is how a value is matched: by exactly one of its fields, with case,
// of at most 4096 bytes.
type StringMatch struct {
	// Exact is the whole value. Not empty for uri.
	Exact *string `json:"exact,omitempty"`
	// Prefix is how the value begins. Not empty for uri.
	Prefix *string `json:"prefix,omitempty"`
	// Regex is an expression in RE2 syntax that the whole value matches: at most 1024 bytes and 2000
	// instructions, and 20000 of all RouteRules of a namespace. Not empty for uri.
	Regex *string `json:"regex,omitempty"`
}

// Redirect answers with a redirect. One of its fields must be there.
type Redirect struct {
	// URI takes the place of path and query: it begins with "/". Default: they stay.
	URI string `json:"uri,omitempty"`
	// Authority takes the place of host and port. Default: they stay.
	Authority string `json:"authority,omitempty"`
}

// Rewrite changes a request. One of its fields must be there.
type Rewrite struct {
	// URI takes the place of the path, or of the prefix that match.request.headers.uri matched: it
	// begins with "/". The query stays. Default: the path stays.
	URI string `json:"uri,omitempty"`
	// Authority takes the place of Host. Default: it stays.
	Authority string `json:"authority,omitempty"`
}

// HTTPTimeout bounds a request, retries included.
type HTTPTimeout struct {
	// SimpleTimeout is the same for every request. In Istio 0.5, without it: 15s.
	SimpleTimeout *SimpleTimeout `json:"simpleTimeout,omitempty"`
}

// SimpleTimeout is one duration.
type SimpleTimeout struct {
	// Timeout is a duration such as 15s, of at least 1ms and at most 1h, in whole milliseconds. The
	// header x-envoy-upstream-rq-timeout-ms of a request inside the mesh takes its place.
	Timeout string `json:"timeout,omitempty"`
}

// HTTPRetry repeats a request.
type HTTPRetry struct {
	// SimpleRetry is the same for every request.
	SimpleRetry *SimpleRetry `json:"simpleRetry,omitempty"`
}

// SimpleRetry is a number of attempts and the time for each.
type SimpleRetry struct {
	// Attempts is how often a request is repeated, 0 to 32, within a budget of 20 % of the requests
	// or 10 a second. The header x-envoy-max-retries of a request inside the mesh takes its place.
	Attempts int32 `json:"attempts,omitempty"`
	// PerTryTimeout is of one attempt: a duration such as 2s, of at least 1ms and at most 1h, in whole
	// milliseconds. Default: that of the whole.
	PerTryTimeout string `json:"perTryTimeout,omitempty"`
}

// HTTPFault injects a fault.
type HTTPFault struct {
	// Delay delays a share of the requests.
	Delay *Delay `json:"delay,omitempty"`
	// Abort answers a share of the requests with a status.
	Abort *Abort `json:"abort,omitempty"`
}

// Delay delays a share of the requests.
type Delay struct {
	// Percent is the share, from 0 to 100, with up to four decimals. Default: 0, which is no fault.
	Percent float32 `json:"percent,omitempty"`
	// FixedDelay is a duration such as 7s, of at least 1ms and at most 1h, in whole milliseconds.
	FixedDelay string `json:"fixedDelay,omitempty"`
	// ExponentialDelay is always refused, as it was in Istio 0.5.
	ExponentialDelay string `json:"exponentialDelay,omitempty"`
}

// Abort answers a share of the requests with a status.
type Abort struct {
	// Percent is the share, from 0 to 100, with up to four decimals. Default: 0, which is no fault.
	Percent float32 `json:"percent,omitempty"`
	// HTTPStatus is the status of the answer, 200 to 599.
	HTTPStatus int32 `json:"httpStatus,omitempty"`
	// GRPCStatus is always refused, as it was in Istio 0.5.
	GRPCStatus string `json:"grpcStatus,omitempty"`
	// HTTP2Error is always refused, as it had no effect in Istio 0.5.
	HTTP2Error string `json:"http2Error,omitempty"`
}

// L4Fault is always refused, as it was in Istio 0.5.
type L4Fault struct {
	// Throttle limits the bandwidth of a share of the connections.
	Throttle *Throttle `json:"throttle,omitempty"`
	// Terminate closes a share of the connections.
	Terminate *Terminate `json:"terminate,omitempty"`
}

// Throttle limits the bandwidth of a share of the connections.
type Throttle struct {
	// Percent is the share, 0 to 100.
	Percent float32 `json:"percent,omitempty"`
	// DownstreamLimitBps bounds what the client gets, in bits a second.
	DownstreamLimitBps int64 `json:"downstreamLimitBps,omitempty"`
	// UpstreamLimitBps bounds what the server gets, in bits a second.
	UpstreamLimitBps int64 `json:"upstreamLimitBps,omitempty"`
	// ThrottleAfterPeriod is how long a connection lives before it is throttled.
	ThrottleAfterPeriod string `json:"throttleAfterPeriod,omitempty"`
	// ThrottleAfterBytes is how many bytes pass before it is throttled.
	ThrottleAfterBytes float64 `json:"throttleAfterBytes,omitempty"`
	// ThrottleForPeriod is for how long it is throttled.
	ThrottleForPeriod string `json:"throttleForPeriod,omitempty"`
}

// Terminate closes a share of the connections.
type Terminate struct {
	// Percent is the share, 0 to 100.
	Percent float32 `json:"percent,omitempty"`
	// TerminateAfterPeriod is how long a connection lives before it is closed.
	TerminateAfterPeriod string `json:"terminateAfterPeriod,omitempty"`
}

// CorsPolicy answers cross-origin requests.
type CorsPolicy struct {
	// AllowOrigin is the origins that may ask, as browsers send them (https://www.example.com); "*" is
	// any. Each list: at most 64 values of together 2048 bytes.
	AllowOrigin []string `json:"allowOrigin,omitempty"`
	// AllowMethods is the methods they may use, in upper case.
	AllowMethods []string `json:"allowMethods,omitempty"`
	// AllowHeaders is the request headers they may send.
	AllowHeaders []string `json:"allowHeaders,omitempty"`
	// ExposeHeaders is the answer's headers that a page may read.
	ExposeHeaders []string `json:"exposeHeaders,omitempty"`
	// MaxAge is for how long a browser may keep the answer: a duration in whole seconds, such as 24h,
	// at most a year.
	MaxAge string `json:"maxAge,omitempty"`
	// AllowCredentials says whether cookies and logins may be sent along. Not to any origin.
	AllowCredentials *bool `json:"allowCredentials,omitempty"`
}
