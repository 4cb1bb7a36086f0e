package gate

import (
	"sync/atomic"
	"syscall"
)

// MaxConnections bounds the live connections of one workload; where the process may
// open few descriptors, an eighth of those bounds them, and a quarter those of all
// workloads together. At a bound a new connection is reset.
const MaxConnections = 16384

// Bounds are how many live connections there may be: of one workload, and of all
// workloads of the process together.
type Bounds struct{ Workload, All int }

// BoundsOf shares the descriptors of a process out: a connection takes two, three
// while its upstream is proved, and nobody may take what the others live on. workload
// takes the place of the bound of one workload where it is not 0.
func BoundsOf(workload int, descriptors uint64) Bounds {
	const most = 1 << 20
	all := int(min(descriptors/4, most))
	if workload <= 0 {
		workload = min(MaxConnections, all/2)
	}
	return Bounds{Workload: max(workload, 1), All: max(all, 1)}
}

// Descriptors returns how many this process may open.
func Descriptors() uint64 {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return 1024 // what every system gives
	}
	return limit.Cur
}

// Capacity counts the live connections of all workloads of a process.
type Capacity struct {
	bounds Bounds
	open   atomic.Int64
}

// NewCapacity returns a Capacity that is free.
func NewCapacity(bounds Bounds) *Capacity { return &Capacity{bounds: bounds} }

// Bounds returns what it was made with.
func (c *Capacity) Bounds() Bounds { return c.bounds }

// Open returns how many connections are live.
func (c *Capacity) Open() int64 { return c.open.Load() }

func (c *Capacity) take() bool {
	if c.open.Add(1) <= int64(c.bounds.All) {
		return true
	}
	c.open.Add(-1)
	return false
}

func (c *Capacity) give() { c.open.Add(-1) }
