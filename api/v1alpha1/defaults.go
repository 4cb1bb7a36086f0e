package v1alpha1

import (
	"cmp"
	"fmt"
	"math"
	"time"
)

// Values of the fields that hold one of a few words.
const (
	ModeAuto        = "Auto"
	ModeOriginate   = "Originate"
	ModePassthrough = "Passthrough"
	ModeIntercept   = "Intercept" // not supported yet

	TLS12 = "1.2"
	TLS13 = "1.3"

	ProtocolHTTP  = "http"
	ProtocolHTTP2 = "http2"
	ProtocolGRPC  = "grpc"
	ProtocolHTTPS = "https"
	ProtocolTLS   = "tls"
	ProtocolTCP   = "tcp"
	ProtocolMongo = "mongo"

	DefaultDeny  = "Deny"
	DefaultAudit = "Audit"
	DefaultAllow = "Allow" // not supported yet
)

// MeshConfigName is the name of the one MeshConfig.
const MeshConfigName = "default"

// Bounds of Limits.
const (
	MostConnections   = 1 << 20
	LeastQueueTimeout = 10 * time.Millisecond
	MostQueueTimeout  = 10 * time.Minute
)

// CompatibilityIstio shows metrics under the names of Istio too.
const CompatibilityIstio = "istio"

// Bounds of the series of a proxy's metrics.
const (
	LeastMaxSeries = 500
	MostMaxSeries  = 1_000_000
)

// DefaultSampling is the percentage of traces that are sampled.
const DefaultSampling = 1

// Share returns the part of traces that are sampled, in millionths. The error is what
// Validate says of the field.
func (t *Tracing) Share() (millionths uint32, err error) {
	percent := float64(DefaultSampling)
	if t.Sampling != nil {
		percent = *t.Sampling
	}
	if !(percent >= 0 && percent <= 100) { // NaN is neither
		return 0, fmt.Errorf("%v is not a number from 0 to 100", percent)
	}
	return uint32(math.Round(percent * 10_000)), nil
}

// How long a proxy may go on without its server.
const (
	DefaultMaxStale = 24 * time.Hour
	LeastMaxStale   = time.Second
	MostMaxStale    = 30 * 24 * time.Hour
)

// MostNewNamesPerMinute is the most that a rule may say: what a workload has of all rules.
const MostNewNamesPerMinute = 6000

// How long a connection whose bytes are carried may move nothing.
const (
	DefaultIdleTimeout = time.Hour
	LeastIdleTimeout   = time.Second
	MostIdleTimeout    = 7 * 24 * time.Hour
)

// IdleAfter returns how long a connection to the port may move nothing. The error is what
// Validate says of the field.
func (p *EgressPort) IdleAfter() (time.Duration, error) {
	return duration(p.IdleTimeout, "30m", DefaultIdleTimeout, LeastIdleTimeout, MostIdleTimeout)
}

// TLSMode returns how TLS is done: the mode, or Auto where none is said.
func (s *EgressPolicySpec) TLSMode() string {
	if s.TLS == nil || s.TLS.Mode == "" {
		return ModeAuto
	}
	return s.TLS.Mode
}

// StaleAfter returns for how long a proxy goes on without its server. The error
// is what Validate says of the field.
func (s *MeshConfigSpec) StaleAfter() (time.Duration, error) {
	return duration(s.MaxStale, "24h", DefaultMaxStale, LeastMaxStale, MostMaxStale)
}

// duration reads a duration within bounds; "" is the default.
func duration(text, example string, absent, least, most time.Duration) (time.Duration, error) {
	if text == "" {
		return absent, nil
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		return 0, fmt.Errorf("%q is not a duration such as %s", text, example)
	}
	if d < least || d > most {
		return 0, fmt.Errorf("%s is not in the range %s..%s", d, least, most)
	}
	return d, nil
}

// QueueFor returns how long a connection or request waits at a limit; 0 is the
// default's. The error is what Validate says of the field.
func (l *Limits) QueueFor() (time.Duration, error) {
	return duration(l.QueueTimeout, "30s", 0, LeastQueueTimeout, MostQueueTimeout)
}

// OutboundDefaultOf returns what happens to traffic of a namespace that no rule
// allows: what is set for the namespace, else for the mesh, else Deny.
func (s *MeshConfigSpec) OutboundDefaultOf(namespace string) string {
	return cmp.Or(s.Namespaces[namespace].OutboundDefault, s.OutboundDefault, DefaultDeny)
}

// SelectorFor returns the labels that a workload behind the service of this name
// carries.
func (s *MeshServiceSpec) SelectorFor(name string) map[string]string {
	if len(s.Selector) > 0 {
		return s.Selector
	}
	return map[string]string{"app": name}
}
