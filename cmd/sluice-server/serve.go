package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"runtime/debug"
	"time"

	"sluice.dev/sluice/internal/control/server"
	"sluice.dev/sluice/internal/paths"
	"sluice.dev/sluice/internal/peer"
	"sluice.dev/sluice/internal/version"
)

// startTimeout bounds the time until the server is ready; it is less than a
// second as a rule, and longer where a large store is read from a slow disk.
const startTimeout = 2 * time.Minute

// serve runs the control plane until ctx ends.
func serve(ctx context.Context, o options) error {
	if o.listen != "" {
		return usageError{errors.New("--listen is not supported yet, since a port needs users and roles: use api.sock")}
	}
	log, err := o.logger()
	if err != nil {
		return err
	}
	data, err := paths.Data(o.dataDir)
	if err != nil {
		return usageError{err}
	}
	notify := takeNotifySocket()
	started := time.Now()
	starting, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	control, err := server.Start(starting, server.Config{
		RuntimeDir: paths.Runtime(o.runtimeDir), DataDir: data, Version: version.String(), Peers: peer.Credentials{}, Log: log,
	})
	if err != nil {
		if ctx.Err() != nil {
			return nil // asked to stop while it started
		}
		return fmt.Errorf("start: %w", err)
	}
	withdraw, err := paths.Announce(paths.Runtime(o.runtimeDir), "sluice-server", data)
	if err != nil {
		return errors.Join(err, control.Stop())
	}
	defer withdraw()
	log.Info("ready", "runtime", paths.Runtime(o.runtimeDir), "data", data, "took", time.Since(started).Round(time.Millisecond))
	notify("READY=1")
	debug.FreeOSMemory() // starting allocates a third of what then lies idle

	var failure error
	select {
	case <-ctx.Done():
		log.Info("stopping")
	case failure = <-control.Failed():
		log.Error("stopping", "error", failure)
	}
	notify("STOPPING=1")
	stopping := time.Now()
	if err := control.Stop(); err != nil && failure == nil {
		failure = fmt.Errorf("stop: %w", err)
	}
	log.Info("stopped", "took", time.Since(stopping).Round(time.Millisecond))
	return failure
}

// takeNotifySocket returns what reports our state to systemd (sd_notify(3)), and
// takes its variable away: the API server inside would report on its own, before
// all of us is ready.
func takeNotifySocket() func(state string) {
	address := os.Getenv("NOTIFY_SOCKET")
	_ = os.Unsetenv("NOTIFY_SOCKET")
	return func(state string) {
		if address == "" {
			return
		}
		conn, err := net.Dial("unixgram", address)
		if err != nil {
			return // nobody listens; systemd will say so itself
		}
		defer conn.Close()
		_, _ = conn.Write([]byte(state))
	}
}
