package proxy

import (
	"cmp"
	"sync"
	"syscall"
	"time"

	"sluice.dev/sluice/internal/proxy/proof"
	"sluice.dev/sluice/internal/proxy/relay"
	"sluice.dev/sluice/internal/proxy/resolve"
	"sluice.dev/sluice/internal/proxy/share"
	"sluice.dev/sluice/internal/proxy/sniff"
	"sluice.dev/sluice/internal/wire"
)

// Limits of one workload, where nothing else is set. Where the process may open few
// descriptors, the workload's part of those bounds it before.
const (
	// MaxConnections bounds the live connections of one workload. Where it is reached, its
	// HTTP connection that is idle for longest is closed; where none is, new ones wait for
	// QueueTimeout and are then reset.
	MaxConnections = 16384
	// MaxUpstreamConnections bounds the connections that are open on behalf of one
	// workload. Where it is reached, one that is idle is closed or handed over; where none
	// is, what needs one waits for QueueTimeout and is then refused: overflow.
	MaxUpstreamConnections = 16384
	// QueueTimeout is how long a connection or request waits for one of those.
	QueueTimeout = 30 * time.Second
)

// lowest is the lower of each two limits, and the default where neither is set.
func lowest(a, b wire.Limits) wire.Limits {
	return wire.Limits{
		Connections:         lower(a.Connections, b.Connections, MaxConnections),
		UpstreamConnections: lower(a.UpstreamConnections, b.UpstreamConnections, MaxUpstreamConnections),
		QueueTimeout:        lower(a.QueueTimeout, b.QueueTimeout, QueueTimeout),
	}
}

func lower[T int | time.Duration](a, b, otherwise T) T {
	if a > 0 && b > 0 {
		return min(a, b)
	}
	return cmp.Or(max(a, 0), max(b, 0), otherwise)
}

// Descriptors returns how many this process may open.
func Descriptors() uint64 {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return 1024 // what every system gives
	}
	return limit.Cur
}

// workloadsOf is how many workloads there may be: each holds some descriptors for itself.
func workloadsOf(descriptors uint64) int {
	return int(min(max(descriptors/32, 1), MaxWorkloads))
}

// stocks is how many there are of what the workloads of a process share.
type stocks struct {
	down, up   int // connections of workloads, and on their behalf
	together   int // of both, before there is a workload; 0: as many as both are
	handshakes int
	hellos     int // small buffers of first bytes
	pipes      int
	alone      bool // there is one workload, ever
}

const (
	// perWorkload is how many descriptors each workload takes for itself: its listeners, its
	// sandbox's sockets, its DNS, and its event loop.
	perWorkload = 10
	// perProcess is how many there are beside all that is counted: logs, the API, pollers.
	perProcess = 64
)

// stocksOf shares the descriptors of a process out: all but what its look-ups, its pipes
// and it itself take at most are for connections, of workloads and on their behalf. A client
// that waits for its next request needs no connection on its behalf, so there may be more
// of the one than of the other; but clients never take all of what they may be waiting for.
func stocksOf(descriptors uint64, alone bool) stocks {
	const most = 1 << 20
	descriptors = min(descriptors, most)
	pipes := max(int(min(descriptors/64, relay.MaxPipes)), 1)
	together := max(int(descriptors)-2*resolve.LookupsOf(descriptors)-2*pipes-perProcess, 2)
	return stocks{
		down: max(together*3/4, 1), up: max(together/2, 1), together: together,
		handshakes: proof.MaxHandshakes, hellos: sniff.Units, pipes: pipes, alone: alone,
	}
}

// capacity is what the workloads of a process share.
type capacity struct {
	down, up, handshakes, hellos, pipes *share.Stock

	mu        sync.Mutex
	together  int
	workloads int
}

func newCapacity(of stocks) *capacity {
	stock := func(units int, beside *share.Stock) *share.Stock {
		return share.NewStock(share.Config{Units: units, Alone: of.alone, Beside: beside})
	}
	c := &capacity{down: stock(of.down, nil), handshakes: stock(of.handshakes, nil), hellos: stock(of.hellos, nil), pipes: stock(of.pipes, nil)}
	c.up, c.together = stock(of.up, c.down), cmp.Or(of.together, of.down+of.up)
	c.count(0)
	return c
}

// count takes the descriptors of so many more workloads from those for connections.
func (c *capacity) count(n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.workloads += n
	c.down.SetTogether(max(c.together-perWorkload*max(c.workloads-1, 0), 2))
}

// portion is one workload's part of the capacity.
type portion struct {
	of                                  *capacity
	down, up, handshakes, hellos, pipes *share.Member
}

// join adds a workload. The functions begin to close one of its connections that is
// idle, and report whether there was one.
func (c *capacity) join(closeIdle, closeIdleUpstream func() bool) *portion {
	c.count(1)
	return &portion{
		of:         c,
		down:       c.down.Join(0, closeIdle),
		up:         c.up.Join(0, closeIdleUpstream),
		handshakes: c.handshakes.Join(0, nil),
		hellos:     c.hellos.Join(0, nil),
		pipes:      c.pipes.Join(0, nil),
	}
}

// keep makes the workload keep to its limits.
func (p *portion) keep(l wire.Limits) {
	p.down.SetMax(l.Connections)
	p.up.SetMax(l.UpstreamConnections)
	for _, m := range []*share.Member{p.down, p.up, p.handshakes} {
		m.SetWait(l.QueueTimeout)
	}
}

func (p *portion) leave() {
	for _, m := range []*share.Member{p.down, p.up, p.handshakes, p.hellos, p.pipes} {
		m.Leave()
	}
	p.of.count(-1)
}
