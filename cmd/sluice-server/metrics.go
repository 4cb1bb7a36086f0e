package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"sync"

	"sluice.dev/sluice/internal/control/server"
	"sluice.dev/sluice/internal/telemetry/endpoint"
	"sluice.dev/sluice/internal/telemetry/metrics"
	"sluice.dev/sluice/internal/telemetry/otlp"
)

// counted is a control plane that says what it does.
type counted interface{ Stats() server.Stats }

// showMetrics serves the address of --metrics and sends to the collector of --otlp until end
// is called or ctx ends.
func showMetrics(ctx context.Context, o *options, of counted, acked *metrics.Acknowledged, log *slog.Logger) (end func(), err error) {
	if o.metrics == "" && o.otlp == "" {
		return func() {}, nil
	}
	registry, err := metrics.NewRegistry(acked, state(of))
	if err != nil {
		return nil, err
	}
	endSending := func() {}
	if o.otlp != "" {
		name, _ := os.Hostname() // without one it has no name
		exporter, err := otlp.New(otlp.Config{URL: o.otlp, Service: "sluice-server", Instance: name, Log: log})
		if err != nil {
			return nil, fmt.Errorf("--otlp: %w", err)
		}
		if endSending, err = exporter.Metrics(ctx, registry); err != nil {
			return nil, fmt.Errorf("--otlp: %w", err)
		}
		log.Info("sending metrics", "otlp", o.otlp)
	}
	if o.metrics == "" {
		return endSending, nil
	}
	listener, err := endpoint.Listen("metrics", o.metrics)
	if err != nil {
		endSending()
		return nil, err
	}
	log.Info("serving", "what", "metrics", "url", "http://"+listener.Addr().String()+metrics.Path)
	ctx, cancel := context.WithCancel(ctx)
	var served sync.WaitGroup
	served.Go(func() { endpoint.Serve(ctx, listener, endpoint.At(metrics.Path, metrics.Handler(registry, log)), log) })
	return func() {
		cancel()
		served.Wait()
		endSending()
	}, nil
}

// state is what is asked of the control plane at each scrape.
func state(of counted) *metrics.State {
	s := new(metrics.State)
	s.Gauge("sluice_server_proxies", "Proxies that are connected.", nil, func(show func(float64, ...string)) { show(float64(of.Stats().Proxies)) })
	s.Gauge("sluice_server_workloads", "Workloads that proxies have joined.", nil, func(show func(float64, ...string)) { show(float64(of.Stats().Workloads)) })
	s.Counter("sluice_server_pushes_total", "Snapshots that were sent to proxies.", nil, func(show func(float64, ...string)) { show(float64(of.Stats().Pushed)) })
	s.Counter("sluice_server_refused_pushes_total", "Snapshots that proxies refused.", nil, func(show func(float64, ...string)) { show(float64(of.Stats().Refused)) })
	s.Gauge("sluice_server_objects", "Objects in the store.", nil, func(show func(float64, ...string)) { show(float64(of.Stats().Objects)) })
	s.Gauge("sluice_server_refused_rules", "Objects of the store that are not in effect.", nil, func(show func(float64, ...string)) { show(float64(of.Stats().Problems)) })
	return s
}
