package policy

import (
	"slices"
	"strings"

	"sluice.dev/sluice/internal/names"
)

// asPolicy brings a rule into the form in which an EgressPolicy says the same, and
// reports whether one can: what `sluice create` would refuse is no remedy.
func (r *Rule) asPolicy() bool {
	carried := protocols(0)
	for _, p := range r.Ports {
		carried = carried.with(p.Protocol)
	}
	switch {
	case len(r.CIDRs) > 0 && !carried.only(tcpFamily): // a request or certificate is held against a name
		return false
	case len(r.HTTP) > 0 && !carried.only(takesHTTP):
		return false
	case len(r.HTTP) > maxPolicyMatches, len(r.PrivateAnswers) > maxPolicyRanges:
		return false
	case r.TLS.Mode == TLSOriginate && carried.holdsAny(protocols(0).with(ProtocolTLS)):
		return false
	}
	for _, m := range r.HTTP {
		if !all(m.Methods, isPolicyMethod) || !all(m.Paths, isPolicyPath) {
			return false
		}
	}
	// What says nothing on these ports is left out.
	https := carried.holdsAny(protocols(0).with(ProtocolHTTPS))
	switch {
	case !carried.holdsAny(takesHello):
		r.TLS = TLS{}
	case !https:
		r.TLS.ServerName = names.Name{}
		if r.TLS.Mode == TLSOriginate {
			r.TLS.Mode = TLSAuto
		}
	case r.TLS.Mode == TLSPassthrough:
		r.TLS.ServerName = names.Name{}
	case len(r.HTTP) > 0:
		r.TLS.Mode = TLSOriginate // Auto cannot pass what it must look into
	}
	if r.TLS.Mode == "" {
		r.TLS.Mode = TLSAuto
	}
	return true
}

func all[T any](values []T, holds func(T) bool) bool {
	return !slices.ContainsFunc(values, func(v T) bool { return !holds(v) })
}

// Bounds of an EgressPolicy (api).
const (
	maxPolicyMatches = 64
	maxPolicyRanges  = 1000
	maxPolicyPath    = 4096
)

// isPolicyMethod reports whether a policy may list the method: one with lower-case
// letters is a mistake mostly, and CONNECT asks for another thing.
func isPolicyMethod(method string) bool {
	return method != "" && method != "CONNECT" && !strings.ContainsFunc(method, func(r rune) bool {
		return r <= ' ' || r >= 0x7f || r >= 'a' && r <= 'z' || strings.ContainsRune(`"(),/:;<=>?@[\]{}`, r)
	})
}

// isPolicyPath reports whether a policy may list the path, or the prefix that ends
// in "*".
func isPolicyPath(path string) bool {
	if !strings.HasPrefix(path, "/") || len(path) > maxPolicyPath || strings.ContainsAny(strings.TrimSuffix(path, "*"), "?#*") {
		return false
	}
	for segment := range strings.SplitSeq(path, "/") {
		if segment == "." || segment == ".." {
			return false
		}
	}
	return !strings.ContainsFunc(path, func(r rune) bool { return r <= ' ' || r >= 0x7f })
}
