package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"time"

	"sluice.dev/sluice/internal/control/server"
	"sluice.dev/sluice/internal/notify"
	"sluice.dev/sluice/internal/paths"
	"sluice.dev/sluice/internal/peer"
	"sluice.dev/sluice/internal/telemetry/metrics"
	"sluice.dev/sluice/internal/version"
)

// startTimeout bounds the time until the server is ready; it is less than a
// second as a rule, and longer where a large store is read from a slow disk.
const startTimeout = 2 * time.Minute

// serve runs the control plane until ctx ends.
func serve(ctx context.Context, o options) error {
	if err := server.CheckAPIListen(o.apiListen); err != nil {
		return usageError{fmt.Errorf("--api-listen: %w", err)}
	}
	etcd, err := o.etcd.external()
	if err != nil {
		return usageError{err}
	}
	log, err := o.logger()
	if err != nil {
		return err
	}
	data, err := paths.Data(o.dataDir)
	if err != nil {
		return usageError{err}
	}
	systemd := notify.Take() // the API server inside would tell it too early
	started := time.Now()
	starting, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	acked := metrics.NewAcknowledged()
	control, err := server.Start(starting, server.Config{
		RuntimeDir: paths.Runtime(o.runtimeDir), DataDir: data, APIListen: o.apiListen, Etcd: etcd, Version: version.String(), Peers: peer.Credentials{}, Acked: acked.Observe, Log: log,
	})
	if err != nil {
		if ctx.Err() != nil {
			return nil // asked to stop while it started
		}
		return fmt.Errorf("start: %w", err)
	}
	endMetrics, err := showMetrics(ctx, &o, control, acked, log)
	if err != nil {
		return errors.Join(usageError{err}, control.Stop())
	}
	defer endMetrics()
	withdraw, err := paths.Announce(paths.Runtime(o.runtimeDir), "sluice-server", data)
	if err != nil {
		return errors.Join(err, control.Stop())
	}
	defer withdraw()
	log.Info("ready", "runtime", paths.Runtime(o.runtimeDir), "data", data, "took", time.Since(started).Round(time.Millisecond))
	if address := control.APIAddress(); address != "" {
		log.Info("serving the API over TLS", "address", address)
	}
	return untilStopped(ctx, systemd, control.Failed(), control.Stop, log)
}

// untilStopped says that the server is ready, and stops it when ctx ends or a part of it has
// failed: the error is the first failure.
func untilStopped(ctx context.Context, systemd notify.Socket, failed <-chan error, stop func() error, log *slog.Logger) error {
	systemd.Tell(notify.Ready)
	debug.FreeOSMemory() // starting allocates a multiple of what then lies idle
	var failure error
	select {
	case <-ctx.Done():
		log.Info("stopping")
	case failure = <-failed:
		log.Error("stopping", "error", failure)
	}
	systemd.Tell(notify.Stopping)
	stopping := time.Now()
	if err := stop(); err != nil && failure == nil {
		failure = fmt.Errorf("stop: %w", err)
	}
	log.Info("stopped", "took", time.Since(stopping).Round(time.Millisecond))
	return failure
}
