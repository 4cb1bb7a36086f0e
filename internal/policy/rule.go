package policy

import (
	"net/netip"
	"slices"
	"time"

	"sluice.dev/sluice/internal/names"
)

// Rule is one compiled egress rule as one class of workloads sees it. Its JSON
// form is what the control plane sends a proxy.
type Rule struct {
	ID             string          `json:"id"` // "egress-policy/default/google-books", "egress-rule/default/googleapis", or "--allow HOST:PORT"
	Hosts          []names.Pattern `json:"hosts,omitempty"`
	CIDRs          []netip.Prefix  `json:"cidrs,omitempty"`
	Ports          []Port          `json:"ports"`
	PrivateAnswers []netip.Prefix  `json:"privateAnswers,omitempty"`
	TLS            TLS             `json:"tls,omitzero"`
	HTTP           []HTTPMatch     `json:"http,omitempty"` // absent: any request

	// MaxNewNames is how many names a minute a workload may have resolved that a wildcard
	// of this rule alone allows; 0: what a workload may have of all rules.
	MaxNewNames int `json:"maxNewNamesPerMinute,omitempty"`

	// Propagate lets what is the mesh's own leave with requests: trace headers and the like.
	Propagate bool `json:"propagate,omitempty"`
}

// Port is one port on which a rule opens its destinations.
type Port struct {
	Port     uint16   `json:"port"`
	Protocol Protocol `json:"protocol"`

	// IdleTimeout is how long a connection whose bytes are carried may move nothing; 0
	// is the default.
	IdleTimeout time.Duration `json:"idleTimeout,omitempty"`

	// Upstream is where requests go where that is another port, or with TLS of ours; zero:
	// to Port. An http, http2 or grpc port alone has one.
	Upstream Upstream `json:"upstream,omitzero"`
}

// Upstream is a port outside and what is spoken there: http, http2, grpc or https.
type Upstream struct {
	Port     uint16   `json:"port"`
	Protocol Protocol `json:"protocol"`
}

// TLS says how TLS towards the destination is done.
type TLS struct {
	Mode       TLSMode    `json:"mode,omitempty"` // "" is Auto
	ServerName names.Name `json:"serverName,omitzero"`
	CABundle   string     `json:"caBundle,omitempty"` // PEM; "" means the mesh's roots

	// Where we originate it:
	MinVersion        TLSVersion        `json:"minVersion,omitempty"` // "" is 1.2
	ClientCertificate ClientCertificate `json:"clientCertificate,omitzero"`
}

// TLSVersion is a version of TLS.
type TLSVersion string

const (
	TLS12 TLSVersion = "1.2"
	TLS13 TLSVersion = "1.3"
)

// ClientCertificate names the files of one, below the folder that the proxy has for a
// namespace. The zero value is none.
type ClientCertificate struct {
	Namespace string `json:"namespace"`
	CertFile  string `json:"certFile"`
	KeyFile   string `json:"keyFile"`
}

// TLSMode is how TLS towards the destination is done.
type TLSMode string

const (
	TLSAuto        TLSMode = "Auto"        // originate for plain HTTP, pass TLS by SNI
	TLSOriginate   TLSMode = "Originate"   // plain HTTP only; TLS is ours
	TLSPassthrough TLSMode = "Passthrough" // TLS only; passed undecrypted
)

// HTTPMatch is one alternative of a rule's requests; all that it names must hold.
type HTTPMatch struct {
	Methods []string `json:"methods,omitempty"` // upper case; empty: any
	Paths   []string `json:"paths,omitempty"`   // exact, or a prefix that ends in "*"; empty: any

	// Upgrades is what a request may ask to change to, in lower case. Where methods
	// or paths are listed, only these; else any.
	Upgrades []string `json:"upgrades,omitempty"`
}

// SpellsOut reports whether the rule names a name itself, and not by a wildcard.
func (r *Rule) SpellsOut(name names.Name) bool {
	return slices.ContainsFunc(r.Hosts, func(p names.Pattern) bool { n, ok := p.Exact(); return ok && n == name })
}
