// Package networking holds the Ingress of Kubernetes (networking.k8s.io/v1), as far as it
// is served where there is no cluster: fields, defaults and meaning as there. Nothing here
// is converted; what older versions call otherwise is read by package api.
//
// +kubebuilder:object:generate=true
package networking

// Group and Version of the Ingress.
const (
	Group   = "networking.k8s.io"
	Version = "v1"
)

// Annotations of an Ingress, and of an IngressRule. The class is Kubernetes' own, the older
// form of spec.ingressClassName.
const (
	ClassAnnotation    = "kubernetes.io/ingress.class"
	RedirectAnnotation = "ingress.sluice.dev/https-redirect"
	ClientsAnnotation  = "ingress.sluice.dev/client-certificates"
)

// Classes that are ours: an Ingress of another one is another controller's.
var Classes = []string{"sluice", "istio"}

// Required is the value of ClientsAnnotation.
const Required = "required"

// Types of a path.
const (
	Exact                  = "Exact"
	Prefix                 = "Prefix"
	ImplementationSpecific = "ImplementationSpecific"
)

// IngressSpec leads requests from outside the mesh to services, by host and path.
type IngressSpec struct {
	// IngressClassName is sluice or istio; an Ingress of another class is left to its own
	// controller. Default: sluice.
	IngressClassName string `json:"ingressClassName,omitempty"`
	// DefaultBackend gets the requests that no rule of any Ingress matches. Default: they are
	// answered with 404.
	DefaultBackend *IngressBackend `json:"defaultBackend,omitempty"`
	// TLS are the certificates, at most 64.
	// +kubebuilder:validation:MaxItems=64
	TLS []IngressTLS `json:"tls,omitempty"`
	// Rules are by host, at most 64.
	// +kubebuilder:validation:MaxItems=64
	Rules []IngressRule `json:"rules,omitempty"`
}

// IngressTLS is a certificate and the hosts that it is shown for.
type IngressTLS struct {
	// Hosts are those that it is shown for, at most 64. Default: the names that the certificate
	// holds.
	// +kubebuilder:validation:MaxItems=64
	Hosts []string `json:"hosts,omitempty"`
	// SecretName is a folder of --ingress-certs in which the Ingress' namespace has it, with tls.crt
	// and tls.key.
	SecretName string `json:"secretName,omitempty"`
}

// IngressRule is what holds for one host.
type IngressRule struct {
	// Host is a name, or *. before a name: one label in place of the star. The most specific host
	// that has rules gets a request. Default: every host that no other rule names.
	Host string `json:"host,omitempty"`
	// HTTP is the paths of the host. Default: all lead to the default backend.
	HTTP *HTTPIngress `json:"http,omitempty"`
}

// HTTPIngress is the paths of a host.
type HTTPIngress struct {
	// Paths are at most 64; the longest that matches gets a request, and of equal ones Exact.
	// +kubebuilder:validation:MaxItems=64
	Paths []HTTPIngressPath `json:"paths,omitempty"`
}

// HTTPIngressPath leads a path to a service.
type HTTPIngressPath struct {
	// Path begins with "/". Default, of ImplementationSpecific alone: every path.
	Path string `json:"path,omitempty"`
	// PathType is Exact; Prefix, which is matched element by element; or ImplementationSpecific: a
	// path that ends in .* is a prefix by characters, any other one exact, as in Istio 0.5. Must be
	// there.
	PathType string `json:"pathType,omitempty"`
	// Backend is the service. Must be there.
	Backend *IngressBackend `json:"backend,omitempty"`
}

// IngressBackend is where requests go.
type IngressBackend struct {
	// Service is a service of the Ingress' namespace. Must be there.
	Service *IngressServiceBackend `json:"service,omitempty"`
}

// IngressServiceBackend is a port of a service.
type IngressServiceBackend struct {
	// Name of the service. Must be there.
	Name string `json:"name,omitempty"`
	// Port of the service. Must be there.
	Port *ServiceBackendPort `json:"port,omitempty"`
}

// ServiceBackendPort is a port, by number or by name. Exactly one of them must be there.
type ServiceBackendPort struct {
	// Number is 1 to 65535.
	Number int32 `json:"number,omitempty"`
	// Name is the one that a MeshService gives its port.
	Name string `json:"name,omitempty"`
}
