package compile

import (
	"errors"
	"fmt"
	"time"

	"sluice.dev/sluice/api/v1alpha1"
	"sluice.dev/sluice/internal/telemetry/trace"
	"sluice.dev/sluice/internal/wire"
)

// compiledMesh is what the MeshConfig comes to.
type compiledMesh struct {
	spec   *v1alpha1.MeshConfigSpec
	stale  time.Duration
	limits wire.Limits
	seen   wire.Telemetry
}

func defaultMesh() *compiledMesh {
	return &compiledMesh{spec: new(v1alpha1.MeshConfigSpec), stale: v1alpha1.DefaultMaxStale}
}

// of returns what a workload of a namespace gets: one of few values, so that the
// classes of the mesh share their parts.
func (m *compiledMesh) of(namespace string, audit bool) *wire.Mesh {
	mesh := &wire.Mesh{OutboundDefault: m.spec.OutboundDefaultOf(namespace), TrustedRoots: m.spec.TrustedRoots, MaxStale: m.stale, Limits: m.limits, Telemetry: m.seen}
	if audit {
		mesh.OutboundDefault = v1alpha1.DefaultAudit
	}
	return mesh
}

func compileMeshConfig(name string, spec *v1alpha1.MeshConfigSpec) (*compiledMesh, error) {
	if name != v1alpha1.MeshConfigName {
		return nil, fmt.Errorf("the one MeshConfig is named %s; this one has no effect", v1alpha1.MeshConfigName)
	}
	values := []string{spec.OutboundDefaultOf("")}
	for _, namespace := range spec.Namespaces {
		values = append(values, namespace.OutboundDefault)
	}
	for _, value := range values {
		if value != v1alpha1.DefaultDeny && value != v1alpha1.DefaultAudit {
			return nil, fmt.Errorf("outboundDefault %q is not supported: the mesh denies", value)
		}
	}
	stale, err := spec.StaleAfter()
	if err != nil {
		return nil, fmt.Errorf("maxStale: %w", err)
	}
	limits, err := compileLimits(spec.Limits)
	if err != nil {
		return nil, fmt.Errorf("limits: %w", err)
	}
	seen, err := compileTelemetry(spec.Telemetry)
	if err != nil {
		return nil, fmt.Errorf("telemetry: %w", err)
	}
	return &compiledMesh{spec: spec, stale: stale, limits: limits, seen: seen}, nil
}

func compileTelemetry(t *v1alpha1.Telemetry) (seen wire.Telemetry, err error) {
	if t == nil {
		return seen, nil
	}
	if t.Tracing != nil {
		share, err := t.Tracing.Share()
		if err != nil {
			return seen, fmt.Errorf("tracing.sampling: %w", err)
		}
		seen.Tracing, seen.Sampling = true, trace.Share(share)
	}
	if m := t.Metrics; m != nil {
		if m.Compatibility != "" && m.Compatibility != v1alpha1.CompatibilityIstio {
			return seen, fmt.Errorf("metrics.compatibility %q is not supported", m.Compatibility)
		}
		if m.MaxSeries != 0 && (m.MaxSeries < v1alpha1.LeastMaxSeries || m.MaxSeries > v1alpha1.MostMaxSeries) {
			return seen, fmt.Errorf("metrics.maxSeries %d is not supported", m.MaxSeries)
		}
		seen.Istio, seen.MaxSeries = m.Compatibility == v1alpha1.CompatibilityIstio, int(m.MaxSeries)
	}
	return seen, nil
}

func compileLimits(l *v1alpha1.Limits) (wire.Limits, error) {
	if l == nil {
		return wire.Limits{}, nil
	}
	wait, err := l.QueueFor()
	if err == nil && (l.MaxConnections < 0 || l.MaxUpstreamConnections < 0) {
		err = errors.New("a number of connections is below 0")
	}
	return wire.Limits{Connections: int(l.MaxConnections), UpstreamConnections: int(l.MaxUpstreamConnections), QueueTimeout: wait}, err
}
