package proxy

import "syscall"

// Bounds of one proxy.
const (
	// MaxWorkloads bounds the workloads of one proxy.
	MaxWorkloads = 4096
	// MaxConnections bounds the live connections of one workload; where the process
	// may open few descriptors, an eighth of those bounds them, and a quarter those
	// of all workloads together. At a bound a new connection is reset.
	MaxConnections = 16384
)

// bounds are how many live connections there may be.
type bounds struct{ workload, all int }

// boundsOf shares the descriptors of the process out: a connection takes two, three
// while its upstream is proved, and nobody may take what the others live on.
func boundsOf(workload int, descriptors uint64) bounds {
	const most = 1 << 20
	all := int(min(descriptors/4, most))
	if workload <= 0 {
		workload = min(MaxConnections, all/2)
	}
	return bounds{workload: max(workload, 1), all: max(all, 1)}
}

// descriptors returns how many the process may open.
func descriptors() uint64 {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return 1024 // what every system gives
	}
	return limit.Cur
}
