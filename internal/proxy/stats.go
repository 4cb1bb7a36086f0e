package proxy

import (
	"sync/atomic"
	"time"

	"sluice.dev/sluice/internal/proxy/dnsserver"
	"sluice.dev/sluice/internal/proxy/proof"
	"sluice.dev/sluice/internal/proxy/upstream"
)

// Stats is what a proxy says of itself at one moment. Counts are since its start.
type Stats struct {
	Connections int // of workloads, live
	Upstream    int // open on their behalf
	Pools       int
	Pooled      upstream.Stats // connections of the pools
	DNS         dnsserver.Stats
	Proofs      proof.Stats // handshakes before TLS is passed through
	Handshakes  HandshakeStats
	Certificate time.Time // when the first of the client certificates that are read expires; zero: there is none
	Workloads   []WorkloadStats
}

// HandshakeStats counts the TLS handshakes with upstreams by what came of them.
type HandshakeStats struct{ Done, Failed uint64 }

// handshakes counts them.
type handshakes struct{ done, failed atomic.Uint64 }

func (p *Proxy) shaken(err error) {
	if err != nil {
		p.handshakes.failed.Add(1)
		return
	}
	p.handshakes.done.Add(1)
}

// WorkloadStats is the rules that a workload runs.
type WorkloadStats struct {
	Version string        // of its snapshot; "" before the first
	Age     time.Duration // since the server last confirmed it
}

// Stats returns what the proxy says of itself.
func (p *Proxy) Stats() Stats {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := Stats{DNS: p.asked, Proofs: p.prover.Stats(), Handshakes: HandshakeStats{p.handshakes.done.Load(), p.handshakes.failed.Load()}}
	s.Certificate, _ = p.config.Certificates.Expires()
	for _, w := range p.workloads {
		s.Connections += w.portion.down.Used()
		s.Upstream += w.portion.up.Used()
		s.DNS = s.DNS.Plus(w.dns.Stats())
		for _, one := range []interface {
			Pools() (int, upstream.Stats)
		}{w.egress, w.mesh} {
			n, pooled := one.Pools()
			s.Pools += n
			s.Pooled.Idle += pooled.Idle
			s.Pooled.Busy += pooled.Busy
		}
		s.Workloads = append(s.Workloads, WorkloadStats{Version: w.config.Holder.Load().Version, Age: w.config.Holder.Age()})
	}
	return s
}
