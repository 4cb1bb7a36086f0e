package compile

import (
	"cmp"
	"fmt"
	"time"

	"sluice.dev/sluice/api/v1alpha1"
	"sluice.dev/sluice/internal/wire"
)

// MaxStale is how long a proxy goes on without its server unless the MeshConfig
// says otherwise.
const MaxStale = 24 * time.Hour

// OutboundDeny is the one outbound default that is built.
const OutboundDeny = "Deny"

// meshConfigName is the name of the one MeshConfig that counts.
const meshConfigName = "default"

func defaultMesh() *wire.Mesh { return &wire.Mesh{OutboundDefault: OutboundDeny, MaxStale: MaxStale} }

func compileMeshConfig(name string, spec *v1alpha1.MeshConfigSpec) (*wire.Mesh, error) {
	if name != meshConfigName {
		return nil, fmt.Errorf("the one MeshConfig is named %s; this one has no effect", meshConfigName)
	}
	mesh := defaultMesh()
	if outbound := cmp.Or(spec.OutboundDefault, OutboundDeny); outbound != OutboundDeny {
		return nil, fmt.Errorf("outboundDefault %s is not supported yet", outbound)
	}
	mesh.TrustedRoots = spec.TrustedRoots
	if spec.MaxStale != "" {
		stale, err := time.ParseDuration(spec.MaxStale)
		if err != nil || stale <= 0 {
			return nil, fmt.Errorf("maxStale %q is not a duration above zero", spec.MaxStale)
		}
		mesh.MaxStale = stale
	}
	return mesh, nil
}
