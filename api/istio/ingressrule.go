package istio

// IngressRuleSpec leads requests from outside the mesh to a service.
type IngressRuleSpec struct {
	// Port is the port of the ingress: 80 is its listener of plain HTTP and 443 the one of TLS,
	// whatever their true numbers; another number is the listener with that one. Must be there.
	Port int32 `json:"port,omitempty"`
	// TLSSecret is the certificate that is shown for the authority, or without one for the names
	// that it holds: a folder of --ingress-certs in which the rule's namespace has it, with tls.crt
	// and tls.key. Not with port 80.
	TLSSecret string `json:"tlsSecret,omitempty"`
	// Precedence orders the rules, the highest first; of equal ones the smaller namespace/name.
	// Default: 0.
	Precedence int32 `json:"precedence,omitempty"`
	// Match says for which requests the rule holds, by request.headers alone: uri (exact or prefix)
	// and authority (exact, without a port). Default: every one.
	Match *MatchCondition `json:"match,omitempty"`
	// Destination is the service that gets the requests, without labels; its RouteRules hold for
	// them. Must be there.
	Destination *Service `json:"destination,omitempty"`
	// DestinationPort is the port of the service, 1 to 65535. One of destinationPort and
	// destinationPortName must be there.
	DestinationPort int32 `json:"destinationPort,omitempty"`
	// DestinationPortName is the name that a MeshService gives its port.
	DestinationPortName string `json:"destinationPortName,omitempty"`
}
