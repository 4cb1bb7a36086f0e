package istio

import (
	"fmt"
	"net/netip"
	"strings"
)

// RootNamespace is the namespace whose rules apply to the workloads of all
// namespaces.
const RootNamespace = "sluice-system"

// What the ingress of Istio 0.5 was called as a source of calls: a service of this
// name and namespace, whose workloads carry a label.
const (
	IngressService    = "istio-ingress"
	IngressNamespace  = "istio-system"
	IngressLabel      = "istio"
	IngressLabelValue = "ingress"
)

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

// IsCIDR reports whether Istio 0.5 took a destination.service for a CIDR.
func IsCIDR(service string) bool { return strings.Count(service, "/") == 1 }

// ParseSubnet reads an IPv4 CIDR or address with the errors of Istio 0.5. Bits
// beyond the prefix are dropped, as they were there: 50.1.2.3/8 is 50.0.0.0/8.
func ParseSubnet(s string) (netip.Prefix, error) {
	if !IsCIDR(s) {
		addr, err := netip.ParseAddr(s)
		if err != nil || !addr.Is4() {
			return netip.Prefix{}, fmt.Errorf("%v is not a valid IPv4 address", s)
		}
		return netip.PrefixFrom(addr, addr.BitLen()), nil
	}
	prefix, err := netip.ParsePrefix(s)
	if err != nil {
		return netip.Prefix{}, fmt.Errorf("%v is not a valid CIDR block", s)
	}
	if !prefix.Addr().Is4() {
		return netip.Prefix{}, fmt.Errorf("%v is not a valid IPv4 address", prefix.Addr())
	}
	return prefix.Masked(), nil
}
