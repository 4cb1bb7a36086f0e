package run

import (
	"fmt"
	"time"

	"sluice.dev/sluice/api/v1alpha1"
	"sluice.dev/sluice/internal/wire"
)

// Flags of what one workload may use at most, as sluice-proxy and sluice run have them.
const (
	MaxConnectionsFlag         = "max-connections"
	MaxUpstreamConnectionsFlag = "max-upstream-connections"
	QueueTimeoutFlag           = "queue-timeout"
)

// CheckLimits checks what those flags say; 0 is what a flag says that was not given.
func CheckLimits(l wire.Limits) error {
	for _, f := range []struct {
		flag string
		n    int
	}{{MaxConnectionsFlag, l.Connections}, {MaxUpstreamConnectionsFlag, l.UpstreamConnections}} {
		if f.n < 0 || f.n > v1alpha1.MostConnections {
			return fmt.Errorf("--%s %d must be a number from 1 to %d", f.flag, f.n, v1alpha1.MostConnections)
		}
	}
	if w := l.QueueTimeout; w != 0 && (w < v1alpha1.LeastQueueTimeout || w > v1alpha1.MostQueueTimeout) {
		return fmt.Errorf("--%s %s must be from %s to %s", QueueTimeoutFlag, w, time.Duration(v1alpha1.LeastQueueTimeout), time.Duration(v1alpha1.MostQueueTimeout))
	}
	return nil
}
