package main

import (
	"context"
	"log/slog"
	"sync"

	"sluice.dev/sluice/internal/control/server"
	"sluice.dev/sluice/internal/telemetry/endpoint"
	"sluice.dev/sluice/internal/telemetry/metrics"
)

// serveMetrics serves the address of --metrics until end is called or ctx ends.
func serveMetrics(ctx context.Context, address string, of *server.Server, acked *metrics.Acknowledged, log *slog.Logger) (end func(), err error) {
	if address == "" {
		return func() {}, nil
	}
	registry, err := metrics.NewRegistry(acked, state(of))
	if err != nil {
		return nil, err
	}
	listener, err := endpoint.Listen("metrics", address)
	if err != nil {
		return nil, err
	}
	log.Info("serving", "what", "metrics", "url", "http://"+listener.Addr().String()+metrics.Path)
	ctx, cancel := context.WithCancel(ctx)
	var served sync.WaitGroup
	served.Go(func() { endpoint.Serve(ctx, listener, endpoint.At(metrics.Path, metrics.Handler(registry, log)), log) })
	return func() {
		cancel()
		served.Wait()
	}, nil
}

// state is what is asked of the control plane at each scrape.
func state(of *server.Server) *metrics.State {
	s := new(metrics.State)
	s.Gauge("sluice_server_proxies", "Proxies that are connected.", nil, func(show func(float64, ...string)) { show(float64(of.Stats().Proxies)) })
	s.Gauge("sluice_server_workloads", "Workloads that proxies have joined.", nil, func(show func(float64, ...string)) { show(float64(of.Stats().Workloads)) })
	s.Counter("sluice_server_pushes_total", "Snapshots that were sent to proxies.", nil, func(show func(float64, ...string)) { show(float64(of.Stats().Pushed)) })
	s.Counter("sluice_server_refused_pushes_total", "Snapshots that proxies refused.", nil, func(show func(float64, ...string)) { show(float64(of.Stats().Refused)) })
	s.Gauge("sluice_server_objects", "Objects in the store.", nil, func(show func(float64, ...string)) { show(float64(of.Stats().Objects)) })
	s.Gauge("sluice_server_refused_rules", "Objects of the store that are not in effect.", nil, func(show func(float64, ...string)) { show(float64(of.Stats().Problems)) })
	return s
}
