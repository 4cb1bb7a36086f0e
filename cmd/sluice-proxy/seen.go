package main

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"sync"
	"time"

	"sluice.dev/sluice/internal/proxy/snapshot"
	"sluice.dev/sluice/internal/telemetry/endpoint"
	"sluice.dev/sluice/internal/telemetry/metrics"
)

// openSeen makes what shows what the proxy carries.
func (d *daemon) openSeen(ctx context.Context) error {
	if err := d.openCollector(); err != nil {
		return err
	}
	if err := d.openMetrics(); err != nil {
		return err
	}
	if err := d.openAccessLog(ctx); err != nil {
		return err
	}
	return d.openSpans(ctx)
}

// openMetrics makes the metrics of --metrics and --otlp; they are asked for once all of the
// proxy is there.
func (d *daemon) openMetrics() (err error) {
	if d.options.metrics == "" && d.options.otlp == "" {
		return nil
	}
	d.metrics, err = metrics.NewProxy(cmp.Or(d.options.maxSeries, metrics.MaxSeries), d.state())
	return err
}

// meshSays takes what a snapshot says of the whole process: the last one counts, for there
// is one MeshConfig.
func (d *daemon) meshSays(s *snapshot.Snapshot) {
	if d.metrics == nil {
		return
	}
	err := d.metrics.Set(metrics.Settings{
		Series: cmp.Or(d.options.maxSeries, s.Telemetry.MaxSeries, metrics.MaxSeries), Istio: s.Telemetry.Istio, Domain: s.Domain,
	})
	if err != nil {
		d.log.Warn("what the MeshConfig says of metrics is not taken", "error", err)
	}
}

// serveSeen serves the addresses of --metrics and --health until ctx ends.
func (d *daemon) serveSeen(ctx context.Context, work *sync.WaitGroup) error {
	serve := func(flag, address, path string, handler func() http.Handler) error {
		if address == "" {
			return nil
		}
		listener, err := endpoint.Listen(flag, address)
		if err != nil {
			return err
		}
		d.log.Info("serving", "what", flag, "url", "http://"+listener.Addr().String()+path)
		work.Go(func() { endpoint.Serve(ctx, listener, endpoint.At(path, handler()), d.log) })
		return nil
	}
	d.reopen(ctx, work)
	if d.collector != nil {
		end, err := d.collector.Metrics(ctx, d.metrics.Gatherer())
		if err != nil {
			return fmt.Errorf("--otlp: %w", err)
		}
		work.Go(func() { <-ctx.Done(); end() })
		d.log.Info("sending metrics", "otlp", d.options.otlp)
	}
	if err := serve("metrics", d.options.metrics, metrics.Path, func() http.Handler { return d.metrics.Handler(d.log) }); err != nil {
		return err
	}
	return serve("health", d.options.health, endpoint.HealthPath, func() http.Handler { return &d.ready })
}

// state is what is asked of the proxy at each scrape.
func (d *daemon) state() *metrics.State {
	s := new(metrics.State)
	one := func(value func() float64) func(func(float64, ...string)) {
		return func(show func(float64, ...string)) { show(value()) }
	}
	s.Gauge("sluice_workloads", "Workloads that the proxy serves.", nil, one(func() float64 { return float64(len(d.proxy.Stats().Workloads)) }))
	s.Gauge("sluice_connections_open", "Live connections: down, of workloads; up, on their behalf.", []string{"side"}, func(show func(float64, ...string)) {
		of := d.proxy.Stats()
		show(float64(of.Connections), "down")
		show(float64(of.Upstream), "up")
	})
	s.Gauge("sluice_pools", "Pools of connections to upstreams.", nil, one(func() float64 { return float64(d.proxy.Stats().Pools) }))
	s.Gauge("sluice_pool_connections", "Connections of the pools.", []string{"state"}, func(show func(float64, ...string)) {
		of := d.proxy.Stats().Pooled
		show(float64(of.Idle), "idle")
		show(float64(of.Busy), "busy")
	})
	s.Counter("sluice_dns_questions_total", "Questions to DNS by what came of them.", []string{"outcome"}, func(show func(float64, ...string)) {
		of := d.proxy.Stats().DNS
		for outcome, n := range map[string]uint64{
			"answered": of.Answered, "empty": of.Empty, "unknown": of.Unknown, "failed": of.Failed,
			"refused": of.Refused, "malformed": of.Malformed, "ignored": of.Ignored,
		} {
			show(float64(n), outcome)
		}
	})
	s.Counter("sluice_tls_handshakes_total", "TLS handshakes of ours: for requests, and to prove a server before its TLS is passed through.", []string{"purpose", "outcome"}, func(show func(float64, ...string)) {
		of := d.proxy.Stats()
		show(float64(of.Handshakes.Done), "request", "done")
		show(float64(of.Handshakes.Failed), "request", "failed")
		show(float64(of.Proofs.Proved), "proof", "done")
		show(float64(of.Proofs.Failed), "proof", "failed")
	})
	s.Gauge("sluice_client_certificate_remaining_seconds", "Until the first of the client certificates in use expires.", nil, func(show func(float64, ...string)) {
		if until := d.proxy.Stats().Certificate; !until.IsZero() {
			show(time.Until(until).Seconds())
		}
	})
	s.Counter("sluice_records_dropped_total", "Records that someone who follows flows lost by reading too slowly.", nil, one(func() float64 { return float64(d.flows.Dropped()) }))
	d.countAccessLog(s)
	d.countSpans(s)
	s.Snapshots(func() (all []metrics.Snapshot) {
		for _, w := range d.proxy.Stats().Workloads {
			all = append(all, metrics.Snapshot{Version: w.Version, Age: w.Age})
		}
		return all
	})
	return s
}
