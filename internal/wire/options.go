package wire

import (
	"fmt"
	"strings"

	"sluice.dev/sluice/internal/names"
	"sluice.dev/sluice/internal/policy"
)

// PolicyOptions returns what a policy.Set of the snapshot's rules is made with. The
// proxy that decides and whoever explains both ask here.
func (s *Snapshot) PolicyOptions() (policy.Options, error) {
	options := policy.Options{Version: s.Version}
	if s.Mesh != nil {
		var err error
		if options.Outbound, err = outboundDefault(s.Mesh.OutboundDefault); err != nil {
			return policy.Options{}, err
		}
	}
	if s.Directory != nil && s.Directory.Domain != "" {
		domain, err := names.Parse(s.Directory.Domain)
		if err != nil {
			return policy.Options{}, fmt.Errorf("the mesh's domain: %w", err)
		}
		options.Domain = domain
	}
	return options, nil
}

// outboundDefault reads what the control plane says of what no rule allows.
func outboundDefault(word string) (policy.Action, error) {
	switch word {
	case "Deny":
		return policy.Deny, nil
	case "Audit":
		return policy.Audit, nil
	}
	return policy.Deny, fmt.Errorf("an outbound default of %q is not supported yet", word)
}

// ServiceKey tells the services of a mesh apart.
type ServiceKey struct{ Short, Namespace string }

// SpelledService returns which service n means to a workload of a namespace, where
// it may be one: "details", "details.default", "details.default.svc", or the full
// name in the mesh's domain.
func SpelledService(n, domain names.Name, namespace string) (ServiceKey, bool) {
	short, rest, dotted := strings.Cut(n.String(), ".")
	if !dotted {
		return ServiceKey{short, namespace}, short != ""
	}
	namespace, rest, dotted = strings.Cut(rest, ".")
	key := ServiceKey{short, namespace}
	if !dotted || rest == "svc" {
		return key, true
	}
	cluster, ok := strings.CutPrefix(rest, "svc.")
	return key, ok && !domain.IsZero() && cluster == domain.String()
}
