package metrics

import (
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Gauge is a value that is asked for at each scrape.
type Gauge struct {
	desc   *prometheus.Desc
	kind   prometheus.ValueType
	values func(show func(value float64, labels ...string))
}

// State collects what a process says of itself.
type State struct{ all []Gauge }

// Gauge adds a value that may rise and fall. values shows it, once for each combination of
// its labels.
func (s *State) Gauge(name, help string, labels []string, values func(show func(float64, ...string))) {
	s.all = append(s.all, Gauge{prometheus.NewDesc(name, help, labels, nil), prometheus.GaugeValue, values})
}

// Counter adds a value that only rises.
func (s *State) Counter(name, help string, labels []string, values func(show func(float64, ...string))) {
	s.all = append(s.all, Gauge{prometheus.NewDesc(name, help, labels, nil), prometheus.CounterValue, values})
}

// Describe implements prometheus.Collector.
func (s *State) Describe(to chan<- *prometheus.Desc) {
	for _, g := range s.all {
		to <- g.desc
	}
}

// Collect implements prometheus.Collector.
func (s *State) Collect(to chan<- prometheus.Metric) {
	for _, g := range s.all {
		g.values(func(value float64, labels ...string) {
			to <- prometheus.MustNewConstMetric(g.desc, g.kind, value, labels...)
		})
	}
}

// Snapshot is what one workload runs.
type Snapshot struct {
	Version string
	Age     time.Duration // since the server last said that it counts
}

// MaxVersions is how many versions of snapshots are told apart; the workloads of the rest
// are counted as "other".
const MaxVersions = 16

// Snapshots adds which snapshots the workloads run.
func (s *State) Snapshots(ask func() []Snapshot) {
	s.Gauge("sluice_snapshot_workloads", "Workloads that run a version of the rules.", []string{"version"}, func(show func(float64, ...string)) {
		counts := make(map[string]int)
		for _, one := range ask() {
			counts[one.Version]++
		}
		versions := make([]string, 0, len(counts))
		for version := range counts {
			versions = append(versions, version)
		}
		slices.SortFunc(versions, func(a, b string) int { return counts[b] - counts[a] })
		rest := 0
		for i, version := range versions {
			if i < MaxVersions {
				show(float64(counts[version]), version)
			} else {
				rest += counts[version]
			}
		}
		if rest > 0 {
			show(float64(rest), Other)
		}
	})
	s.Gauge("sluice_snapshot_age_seconds", "How long ago the server last confirmed the rules of the workload that has waited longest.", nil, func(show func(float64, ...string)) {
		var oldest time.Duration
		for _, one := range ask() {
			oldest = max(oldest, one.Age)
		}
		show(oldest.Seconds())
	})
}
