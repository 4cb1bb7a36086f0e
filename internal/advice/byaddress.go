package advice

import (
	"slices"

	"sluice.dev/sluice/internal/names"
	"sluice.dev/sluice/internal/policy"
)

// likeAddresses returns a rule, without a destination, that allows what the port's
// rules on addresses allow the name; false where one rule cannot say that. What
// they allow is asked of Decide, for each kind of first bytes.
func (a *asked) likeAddresses() (like policy.Rule, ok bool) {
	first := true
	add := func(rule *policy.Rule, protocol policy.Protocol) bool {
		if first {
			like.TLS, first = rule.TLS, false
		}
		port := policy.Port{Port: a.verdict.Port, Protocol: protocol}
		asHTTPS := protocol == policy.ProtocolTLS && like.TLS.Mode != policy.TLSOriginate &&
			slices.Contains(like.Ports, policy.Port{Port: port.Port, Protocol: policy.ProtocolHTTPS})
		if !asHTTPS && !slices.Contains(like.Ports, port) {
			like.Ports = append(like.Ports, port)
		}
		return rule.TLS == like.TLS
	}
	probes := a.probes()
	for i := range probes {
		if v := a.set.Decide(&probes[i]); v.Action == policy.Allow && !add(v.Rule, v.Protocol) {
			return like, false
		}
	}
	if v := a.set.Decide(&probes[0]); v.Action != policy.Allow {
		// Some requests may be allowed by rules that list them.
		for _, m := range a.requestRules() {
			if !add(m.Rule, m.Protocol) || len(like.Ports) > 1 {
				return like, false // its requests would hold for the others too
			}
			like.HTTP = withMatches(like.HTTP, m.Rule.HTTP)
		}
	}
	return like, len(like.Ports) > 0 && a.carriesLike(like, probes[:])
}

// probes are connections to the name, one for each kind of first bytes; plain HTTP,
// without a method and a path, is the first.
func (a *asked) probes() [4]policy.Chain {
	to := func(sniffed policy.Sniffed, sni names.Name) policy.Chain {
		return policy.Chain{Transport: a.verdict.Transport, Port: a.verdict.Port, Dialled: a.verdict.Name, Sniffed: sniffed, SNI: sni}
	}
	return [...]policy.Chain{
		to(policy.HTTP, names.Name{}), to(policy.ClientHello, a.verdict.Name), to(policy.ClientHello, names.Name{}), to(policy.Opaque, names.Name{}),
	}
}

// requestRules are the rules on addresses of the port that allow some requests, each
// with the first of its protocols that can carry one.
func (a *asked) requestRules() []policy.Member {
	var list []policy.Member
	for rule := range a.set.Rules() {
		byAddress := len(rule.CIDRs) > 0 || slices.ContainsFunc(rule.Hosts, func(p names.Pattern) bool { _, ok := p.Addr(); return ok })
		if !byAddress || !rule.NeedsRequest() {
			continue
		}
		carries := func(p policy.Port) bool {
			return p.Port == a.verdict.Port &&
				(p.Protocol.TakesPlainHTTP() || p.Protocol == policy.ProtocolHTTPS && rule.TLS.Mode != policy.TLSPassthrough)
		}
		if at := slices.IndexFunc(rule.Ports, carries); at >= 0 {
			list = append(list, policy.Member{Rule: rule, Protocol: rule.Ports[at].Protocol})
		}
	}
	return list
}

// carriesLike reports whether the rule, alone on the name, carries each probe that
// is allowed now as it is carried now.
func (a *asked) carriesLike(like policy.Rule, probes []policy.Chain) bool {
	alone, err := policy.NewSet(a.narrowest(like), policy.Options{})
	if err != nil {
		return false
	}
	return !slices.ContainsFunc(probes, func(c policy.Chain) bool {
		now, then := a.set.Decide(&c), alone.Decide(&c)
		return now.Action == policy.Allow && (then.Action != policy.Allow || then.Treatment != now.Treatment)
	})
}
