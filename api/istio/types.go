// Package istio holds the forms of config.istio.io/v1alpha2 of January 2018 as
// they were written: fields, defaults and meaning as in Istio 0.5. Stored as
// written; nothing here is converted.
//
// +kubebuilder:object:generate=true
package istio

// Group and Version of the forms of 2018.
const (
	Group   = "config.istio.io"
	Version = "v1alpha2"
)

// Service names a service, in the manner of IstioService.
type Service struct {
	Name      string            `json:"name,omitempty"`
	Namespace string            `json:"namespace,omitempty"`
	Domain    string            `json:"domain,omitempty"`
	Service   string            `json:"service,omitempty"`
	Labels    map[string]string `json:"labels,omitempty"`
}

// EgressRuleSpec is EgressRule of 2018.
type EgressRuleSpec struct {
	Destination    *Service `json:"destination,omitempty"`
	Ports          []Port   `json:"ports,omitempty"`
	UseEgressProxy bool     `json:"useEgressProxy,omitempty"`
}

// Port is a port of an EgressRule; Protocol is read case-insensitively.
type Port struct {
	Port     int32  `json:"port,omitempty"`
	Protocol string `json:"protocol,omitempty"`
}

// RouteRuleSpec is RouteRule of 2018. The fields from Redirect on are known and
// refused as not built yet where they are set.
type RouteRuleSpec struct {
	Destination *Service            `json:"destination,omitempty"`
	Precedence  int32               `json:"precedence,omitempty"`
	Match       *MatchCondition     `json:"match,omitempty"`
	Route       []DestinationWeight `json:"route,omitempty"`

	Redirect         *Redirect         `json:"redirect,omitempty"`
	Rewrite          *Rewrite          `json:"rewrite,omitempty"`
	WebsocketUpgrade bool              `json:"websocketUpgrade,omitempty"`
	HTTPReqTimeout   *HTTPTimeout      `json:"httpReqTimeout,omitempty"`
	HTTPReqRetries   *HTTPRetry        `json:"httpReqRetries,omitempty"`
	HTTPFault        *HTTPFault        `json:"httpFault,omitempty"`
	L4Fault          *L4Fault          `json:"l4Fault,omitempty"`
	Mirror           *Service          `json:"mirror,omitempty"`
	CorsPolicy       *CorsPolicy       `json:"corsPolicy,omitempty"`
	AppendHeaders    map[string]string `json:"appendHeaders,omitempty"`
}

// DestinationWeight is one target of a RouteRule.
type DestinationWeight struct {
	Destination *Service          `json:"destination,omitempty"`
	Labels      map[string]string `json:"labels,omitempty"`
	Weight      int32             `json:"weight,omitempty"`
}

// MatchCondition says when a RouteRule applies.
type MatchCondition struct {
	Source  *Service      `json:"source,omitempty"`
	TCP     *L4Match      `json:"tcp,omitempty"`
	UDP     *L4Match      `json:"udp,omitempty"`
	Request *MatchRequest `json:"request,omitempty"`
}

// L4Match matches subnets.
type L4Match struct {
	SourceSubnet      []string `json:"sourceSubnet,omitempty"`
	DestinationSubnet []string `json:"destinationSubnet,omitempty"`
}

// MatchRequest matches headers; "uri", "scheme", "method" and "authority" are special keys.
type MatchRequest struct {
	Headers map[string]StringMatch `json:"headers,omitempty"`
}

// StringMatch holds exactly one of its fields.
type StringMatch struct {
	Exact  *string `json:"exact,omitempty"`
	Prefix *string `json:"prefix,omitempty"`
	Regex  *string `json:"regex,omitempty"`
}

// Redirect answers with a redirect.
type Redirect struct {
	URI       string `json:"uri,omitempty"`
	Authority string `json:"authority,omitempty"`
}

// Rewrite changes path or authority.
type Rewrite struct {
	URI       string `json:"uri,omitempty"`
	Authority string `json:"authority,omitempty"`
}

// HTTPTimeout bounds a request, retries included.
type HTTPTimeout struct {
	SimpleTimeout *SimpleTimeout `json:"simpleTimeout,omitempty"`
}

// SimpleTimeout is a duration such as "15s".
type SimpleTimeout struct {
	Timeout string `json:"timeout,omitempty"`
}

// HTTPRetry repeats a request.
type HTTPRetry struct {
	SimpleRetry *SimpleRetry `json:"simpleRetry,omitempty"`
}

// SimpleRetry is a number of attempts and the time for each.
type SimpleRetry struct {
	Attempts      int32  `json:"attempts,omitempty"`
	PerTryTimeout string `json:"perTryTimeout,omitempty"`
}

// HTTPFault injects a fault.
type HTTPFault struct {
	Delay *Delay `json:"delay,omitempty"`
	Abort *Abort `json:"abort,omitempty"`
}

// Delay delays a share of the requests.
type Delay struct {
	Percent          float32 `json:"percent,omitempty"`
	FixedDelay       string  `json:"fixedDelay,omitempty"`
	ExponentialDelay string  `json:"exponentialDelay,omitempty"`
}

// Abort answers a share of the requests with a status.
type Abort struct {
	Percent    float32 `json:"percent,omitempty"`
	HTTPStatus int32   `json:"httpStatus,omitempty"`
	GRPCStatus string  `json:"grpcStatus,omitempty"`
	HTTP2Error string  `json:"http2Error,omitempty"`
}

// L4Fault is always refused, as it was in 2018.
type L4Fault struct {
	Throttle  *Throttle  `json:"throttle,omitempty"`
	Terminate *Terminate `json:"terminate,omitempty"`
}

// Throttle limits the bandwidth of a share of the connections.
type Throttle struct {
	Percent             float32 `json:"percent,omitempty"`
	DownstreamLimitBps  int64   `json:"downstreamLimitBps,omitempty"`
	UpstreamLimitBps    int64   `json:"upstreamLimitBps,omitempty"`
	ThrottleAfterPeriod string  `json:"throttleAfterPeriod,omitempty"`
	ThrottleAfterBytes  float64 `json:"throttleAfterBytes,omitempty"`
	ThrottleForPeriod   string  `json:"throttleForPeriod,omitempty"`
}

// Terminate closes a share of the connections.
type Terminate struct {
	Percent              float32 `json:"percent,omitempty"`
	TerminateAfterPeriod string  `json:"terminateAfterPeriod,omitempty"`
}

// CorsPolicy answers cross-origin requests.
type CorsPolicy struct {
	AllowOrigin      []string `json:"allowOrigin,omitempty"`
	AllowMethods     []string `json:"allowMethods,omitempty"`
	AllowHeaders     []string `json:"allowHeaders,omitempty"`
	ExposeHeaders    []string `json:"exposeHeaders,omitempty"`
	MaxAge           string   `json:"maxAge,omitempty"`
	AllowCredentials *bool    `json:"allowCredentials,omitempty"`
}
