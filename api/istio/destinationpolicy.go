package istio

// DestinationPolicySpec says how the calls to a service are spread over its instances.
type DestinationPolicySpec struct {
	// Destination is the service whose calls it is about; with labels, the calls that a RouteRule
	// leads to exactly these labels, and without, those that are led to the service as a whole. Or a
	// host outside the mesh, exact or a wildcard as an EgressRule has it, each host for itself. Must
	// be there.
	Destination *Service `json:"destination,omitempty"`
	// Source is the service that calls; with labels, those instances of it that carry them all.
	// Default: any.
	Source *Service `json:"source,omitempty"`
	// LoadBalancing says which instance gets a call; of a service alone. Default: round robin.
	LoadBalancing *LoadBalancing `json:"loadBalancing,omitempty"`
	// CircuitBreaker bounds what is under way to the service.
	CircuitBreaker *CircuitBreaker `json:"circuitBreaker,omitempty"`
}

// LoadBalancing says which instance gets a call. Exactly one of its fields must be there.
type LoadBalancing struct {
	// Name is ROUND_ROBIN, RANDOM or LEAST_CONN: of two instances drawn at random the one with
	// fewer calls under way.
	Name string `json:"name,omitempty"`
	// Custom is what Istio 0.5 left to each implementation; these fields are of Sluice.
	Custom *CustomBalancing `json:"custom,omitempty"`
}

// CustomBalancing is load balancing that Istio 0.5 had no name for.
type CustomBalancing struct {
	// RingHash leads requests with the same value of a header to the same instance, for as long as
	// it takes calls. Must be there.
	RingHash *RingHash `json:"ringHash,omitempty"`
}

// RingHash is consistent hashing with bounded loads.
type RingHash struct {
	// Header is the header whose value counts, in lower case; of several fields of that name the
	// first does. Requests without it, and connections that carry no requests, go to a random
	// instance. Must be there.
	Header string `json:"header,omitempty"`
	// MaxLoad is how many calls an instance may have under way at the most, in percent of the mean
	// of all that take calls, or 8 where that is more: 101 to 1000. Past it the next instance on the
	// ring is taken. Default: 125.
	MaxLoad int32 `json:"maxLoad,omitempty"`
}

// CircuitBreaker bounds what is under way to a service.
type CircuitBreaker struct {
	// SimpleCb is bounds of connections and requests, and when an instance gets no calls for a while.
	SimpleCb *SimpleCircuitBreaker `json:"simpleCb,omitempty"`
}

// SimpleCircuitBreaker bounds connections and requests of each workload that calls. What is
// beyond is answered with 503, a connection that carries no requests is closed.
type SimpleCircuitBreaker struct {
	// MaxConnections is open connections to the service, at most 65536. Default: 1024.
	MaxConnections int32 `json:"maxConnections,omitempty"`
	// HTTPMaxPendingRequests is requests that wait for one of them, at most 4096. Default: 1024.
	HTTPMaxPendingRequests int32 `json:"httpMaxPendingRequests,omitempty"`
	// HTTPMaxRequests is requests under way, those that wait included, at most 65536. Default: 1024.
	HTTPMaxRequests int32 `json:"httpMaxRequests,omitempty"`
	// SleepWindow is how long an instance that failed gets no calls (not supported yet).
	SleepWindow string `json:"sleepWindow,omitempty"`
	// HTTPConsecutiveErrors is after how many failures in a row that begins (not supported yet).
	HTTPConsecutiveErrors int32 `json:"httpConsecutiveErrors,omitempty"`
	// HTTPDetectionInterval is how often instances are compared (not supported yet).
	HTTPDetectionInterval string `json:"httpDetectionInterval,omitempty"`
	// HTTPMaxRequestsPerConnection is after how many requests a connection is closed; 1 is one
	// connection for each. Default: no bound.
	HTTPMaxRequestsPerConnection int32 `json:"httpMaxRequestsPerConnection,omitempty"`
	// HTTPMaxEjectionPercent is how many instances may get no calls at a time (not supported yet).
	HTTPMaxEjectionPercent int32 `json:"httpMaxEjectionPercent,omitempty"`
	// HTTPMaxRetries is requests that are sent again, at a time, at most 65536. Default: 3.
	HTTPMaxRetries int32 `json:"httpMaxRetries,omitempty"`
}

// Names of LoadBalancing.
const (
	RoundRobin = "ROUND_ROBIN"
	LeastConn  = "LEAST_CONN"
	Random     = "RANDOM"
)
