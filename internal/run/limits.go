package run

import (
	"fmt"
	"strconv"
	"time"

	"sluice.dev/sluice/api/v1alpha1"
	"sluice.dev/sluice/internal/sandbox"
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

// sayReached says which limits of the command's resources were reached: how it ended
// does not tell.
func sayReached(c Config, r sandbox.Reached) {
	if r.MemoryKills > 0 {
		fmt.Fprintf(c.Stderr, "sluice: out of memory: the limit of --memory %s was reached, and %s killed for it\n", size(c.Resources.Memory), times(r.MemoryKills, "process was", "processes were"))
	}
	if r.ForksRefused > 0 {
		fmt.Fprintf(c.Stderr, "sluice: out of processes: the limit of --pids %d was reached, and %s not started\n", c.Resources.Pids, times(r.ForksRefused, "process was", "processes were"))
	}
}

func times(n uint64, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return strconv.FormatUint(n, 10) + " " + many
}

// size writes bytes as --memory takes them.
func size(bytes int64) string {
	for _, unit := range []struct {
		name  string
		bytes int64
	}{{"G", 1 << 30}, {"M", 1 << 20}, {"K", 1 << 10}} {
		if bytes%unit.bytes == 0 {
			return strconv.FormatInt(bytes/unit.bytes, 10) + unit.name
		}
	}
	return strconv.FormatInt(bytes, 10)
}
