package advice

import (
	"bytes"
	"slices"

	"sluice.dev/sluice/api"
	"sluice.dev/sluice/api/v1alpha1"
	"sluice.dev/sluice/internal/names"
	"sluice.dev/sluice/internal/policy"
)

// asPolicy returns the EgressPolicy that says what a rule says, for the workloads of
// who, and false where none can say it: what `sluice create` would refuse is no
// remedy. It names the rule.
func asPolicy(rule *policy.Rule, who *Options) (api.Object, bool) {
	spec := &v1alpha1.EgressPolicySpec{PrivateAnswers: texts(rule.PrivateAnswers)}
	if len(who.Labels) > 0 {
		spec.From = &v1alpha1.WorkloadSelector{Labels: who.Labels}
	}
	spec.To.Hosts, spec.To.CIDRs = texts(rule.Hosts), texts(rule.CIDRs)
	for _, p := range rule.Ports {
		port := v1alpha1.EgressPort{Port: int32(p.Port), Protocol: p.Protocol.String()}
		if p.IdleTimeout != 0 {
			port.IdleTimeout = p.IdleTimeout.String()
		}
		if up := p.Upstream; up != (policy.Upstream{}) {
			port.Upstream = &v1alpha1.UpstreamPort{Port: int32(up.Port), Protocol: up.Protocol.String()}
		}
		spec.To.Ports = append(spec.To.Ports, port)
	}
	if rule.TLS != (policy.TLS{Mode: policy.TLSAuto}) {
		spec.TLS = &v1alpha1.EgressTLS{ServerName: rule.TLS.ServerName.String(), CABundle: rule.TLS.CABundle, MinVersion: string(rule.TLS.MinVersion)}
		if c := rule.TLS.ClientCertificate; c != (policy.ClientCertificate{}) {
			if c.Namespace != who.namespace() {
				return api.Object{}, false // a policy names files of its own namespace alone
			}
			spec.TLS.ClientCertificate = &v1alpha1.ClientCertificate{CertFile: c.CertFile, KeyFile: c.KeyFile}
		}
		if rule.TLS.Mode != policy.TLSAuto {
			spec.TLS.Mode = string(rule.TLS.Mode)
		}
	}
	for _, m := range rule.HTTP {
		spec.HTTP = append(spec.HTTP, v1alpha1.HTTPMatch{Methods: m.Methods, Paths: m.Paths, Upgrades: m.Upgrades})
	}
	object := api.Object{
		APIVersion: v1alpha1.Group + "/" + v1alpha1.Version, Kind: "EgressPolicy",
		Metadata: api.Meta{Name: objectName(rule, who), Namespace: who.namespace()}, Spec: spec,
	}
	rule.ID = object.ID()
	return object, len(api.Validate(&object)) == 0
}

// plainTLS leaves out of a rule's TLS what says nothing on its ports, which a
// policy may not say.
func plainTLS(r *policy.Rule) {
	holds := func(p policy.Protocol) bool {
		return slices.ContainsFunc(r.Ports, func(port policy.Port) bool { return port.Protocol == p })
	}
	https := holds(policy.ProtocolHTTPS) || slices.ContainsFunc(r.Ports, func(p policy.Port) bool { return p.Upstream.Protocol == policy.ProtocolHTTPS })
	switch {
	case !https && !holds(policy.ProtocolTLS):
		r.TLS = policy.TLS{}
	case !https:
		plainOrigination(r)
		if r.TLS.Mode == policy.TLSOriginate {
			r.TLS.Mode = policy.TLSAuto
		}
	case r.TLS.Mode == policy.TLSPassthrough:
		plainOrigination(r)
	case len(r.HTTP) > 0:
		r.TLS.Mode = policy.TLSOriginate // Auto cannot pass what it must look into
	}
	if r.TLS.Mode == "" {
		r.TLS.Mode = policy.TLSAuto
	}
}

// plainOrigination leaves out what is about TLS of ours alone.
func plainOrigination(r *policy.Rule) {
	r.TLS.ServerName, r.TLS.MinVersion, r.TLS.ClientCertificate = names.Name{}, "", policy.ClientCertificate{}
}

func texts[T interface{ String() string }](values []T) []string {
	var list []string
	for _, v := range values {
		list = append(list, v.String())
	}
	return list
}

// policyYAML writes a policy as `sluice create -f` takes it.
func policyYAML(o *api.Object) string {
	var b bytes.Buffer
	if err := api.WriteYAML(&b, []api.Object{*o}); err != nil {
		return "" // an object that was just validated: it cannot be
	}
	return string(bytes.TrimSuffix(b.Bytes(), []byte("---\n"))) // one document alone
}
