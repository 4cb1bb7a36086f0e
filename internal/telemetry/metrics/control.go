package metrics

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Acknowledged is how long changes take until a workload's proxy runs them.
type Acknowledged struct{ prometheus.Histogram }

// NewAcknowledged returns one that has seen nothing.
func NewAcknowledged() *Acknowledged {
	return &Acknowledged{prometheus.NewHistogram(prometheus.HistogramOpts{
		Name: "sluice_server_acknowledged_seconds", Help: "From a change of the rules to its acknowledgement by the proxy of a workload.",
		Buckets: seconds.bounds, NativeHistogramBucketFactor: 1.1, NativeHistogramMaxBucketNumber: nativeBuckets,
	})}
}

// Observe takes one.
func (a *Acknowledged) Observe(took time.Duration) { a.Histogram.Observe(took.Seconds()) }
