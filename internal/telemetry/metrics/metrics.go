// Package metrics counts what a proxy carries and what a server does, and shows it to
// Prometheus. The proxy hands it closed records as a sink, and is asked for the rest at each
// scrape. It never blocks the data path and never makes a label of what strangers choose.
package metrics

import (
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"sluice.dev/sluice/internal/record"
)

// Bounds of the series of one process.
const (
	// MaxSeries is how many series a proxy shows at the most, where nothing else is said:
	// what finds none is counted as "other".
	MaxSeries = 10_000
	// MinSeries is the least that may be said.
	MinSeries = 500
	// FixedSeries of them are kept for what is not of traffic: the process, its snapshots,
	// its pools, DNS.
	FixedSeries = 200
)

// Path is where metrics are found.
const Path = "/metrics"

// Bounds of a scrape.
const (
	MaxScrapes    = 4 // at a time
	ScrapeTimeout = 10 * time.Second
)

// Proxy is the metrics of a proxy: a record.Sink.
type Proxy struct {
	registry *prometheus.Registry
	traffic  *traffic

	mu       sync.Mutex
	settings Settings
}

// Settings are what may change while a proxy runs.
type Settings struct {
	Series int // that are shown at the most; from MinSeries on
	// Istio shows traffic under the names of Istio 1.0 too.
	Istio  bool
	Domain string // of the mesh, in what Istio says of service accounts
}

// Set changes the settings. It costs little where they are the same.
func (m *Proxy) Set(s Settings) error {
	if s.Series < MinSeries {
		return fmt.Errorf("%d series are fewer than %d", s.Series, MinSeries)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if s == m.settings {
		return nil
	}
	m.settings = s
	var names *istio
	if s.Istio {
		names = &istio{domain: s.Domain}
	}
	m.traffic.set(s.Series-FixedSeries, names)
	return nil
}

// Gatherer is what a scrape shows, for whoever sends it elsewhere.
func (m *Proxy) Gatherer() prometheus.Gatherer { return m.registry }

// NewProxy returns metrics that make at most so many series. more are what is asked at
// each scrape.
func NewProxy(series int, more ...prometheus.Collector) (*Proxy, error) {
	if series < MinSeries {
		return nil, fmt.Errorf("%d series are fewer than %d", series, MinSeries)
	}
	m := &Proxy{traffic: newTraffic(series - FixedSeries), settings: Settings{Series: series}}
	var err error
	m.registry, err = NewRegistry(append(more, m.traffic)...)
	return m, err
}

// Closed implements record.Sink.
func (m *Proxy) Closed(r *record.Record) { m.traffic.closed(r) }

// Dropped implements record.Sink: what finds no series of its own is counted as "other".
func (m *Proxy) Dropped() uint64 { return 0 }

// Handler answers scrapes.
func (m *Proxy) Handler(log *slog.Logger) http.Handler { return Handler(m.registry, log) }

// NewRegistry returns a registry of collectors, and of those of the process.
func NewRegistry(all ...prometheus.Collector) (*prometheus.Registry, error) {
	r := prometheus.NewRegistry()
	all = append(all, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	for _, c := range all {
		if err := r.Register(c); err != nil {
			return nil, fmt.Errorf("register metrics: %w", err)
		}
	}
	return r, nil
}

// Handler answers scrapes of a registry.
func Handler(r *prometheus.Registry, log *slog.Logger) http.Handler {
	return promhttp.HandlerFor(r, promhttp.HandlerOpts{
		ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelError), MaxRequestsInFlight: MaxScrapes, Timeout: ScrapeTimeout,
	})
}
