package proxy

import (
	"cmp"
	"syscall"
	"time"

	"sluice.dev/sluice/internal/proxy/proof"
	"sluice.dev/sluice/internal/proxy/relay"
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
	handshakes int
	hellos     int // small buffers of first bytes
	pipes      int
	alone      bool // there is one workload, ever
}

// stocksOf shares the descriptors of a process out: three eighths are for connections of
// workloads, as many for those on their behalf, and the rest is for what the process
// itself lives on: listeners, the sandboxes' sockets, DNS, pipes. The two are apart, so
// that clients which wait do not take what they wait for.
func stocksOf(descriptors uint64, alone bool) stocks {
	const most = 1 << 20
	each := max(int(min(descriptors, most)*3/8), 1)
	return stocks{
		down: each, up: each, handshakes: proof.MaxHandshakes, hellos: sniff.Units,
		pipes: max(int(min(descriptors/64, relay.MaxPipes)), 1), alone: alone,
	}
}

// capacity is what the workloads of a process share.
type capacity struct{ down, up, handshakes, hellos, pipes *share.Stock }

func newCapacity(of stocks) *capacity {
	stock := func(units int) *share.Stock { return share.NewStock(share.Config{Units: units, Alone: of.alone}) }
	return &capacity{down: stock(of.down), up: stock(of.up), handshakes: stock(of.handshakes), hellos: stock(of.hellos), pipes: stock(of.pipes)}
}

// portion is one workload's part of the capacity.
type portion struct{ down, up, handshakes, hellos, pipes *share.Member }

// join adds a workload. The functions begin to close one of its connections that is
// idle, and report whether there was one.
func (c *capacity) join(closeIdle, closeIdleUpstream func() bool) *portion {
	return &portion{
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
}
