package istio

import "strings"

// RootNamespace is the namespace whose rules apply to the workloads of all
// namespaces.
const RootNamespace = "sluice-system"

// ClusterDomain is the domain of mesh services where a Service names none.
const ClusterDomain = "cluster.local"

// FullName returns the host name that s means for an object of a namespace: its
// service as it stands, or name.namespace.svc.domain, where s may name another
// namespace and another domain than those given. It is a spelling, not yet a
// canonical name.
func (s *Service) FullName(namespace, domain string) string {
	if s.Service != "" {
		return s.Service
	}
	if s.Namespace != "" {
		namespace = s.Namespace
	}
	if s.Domain != "" {
		domain = s.Domain
	}
	// Written with or without "svc.", as the documentation and the code of Istio 0.5
	// did each in its own way.
	return s.Name + "." + namespace + ".svc." + strings.TrimPrefix(domain, "svc.")
}
