package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"sluice.dev/sluice/internal/attach"
	"sluice.dev/sluice/internal/capture"
	"sluice.dev/sluice/internal/notify"
	"sluice.dev/sluice/internal/paths"
	"sluice.dev/sluice/internal/peer"
	"sluice.dev/sluice/internal/proxy"
	"sluice.dev/sluice/internal/proxy/resolve"
	"sluice.dev/sluice/internal/proxy/snapshot"
	"sluice.dev/sluice/internal/record"
	"sluice.dev/sluice/internal/run"
	"sluice.dev/sluice/internal/telemetry/accesslog"
	"sluice.dev/sluice/internal/telemetry/endpoint"
	"sluice.dev/sluice/internal/telemetry/metrics"
	"sluice.dev/sluice/internal/telemetry/otlp"
	"sluice.dev/sluice/internal/wire/stream"
)

// joinTime is how long an attaching sandbox waits for the server's first word.
const joinTime = 5 * time.Second

// daemon is the process: one data plane and the stream to its server.
type daemon struct {
	options options
	log     *slog.Logger
	proxy   *proxy.Proxy
	flows   *record.Ring   // closed records
	tally   *record.Tally  // what the server keeps of them; nil for a sidecar
	metrics *metrics.Proxy // nil without --metrics and --otlp
	ready   endpoint.Health

	collector *otlp.Exporter   // nil without --otlp
	access    *accesslog.Log   // nil without --access-log
	reopened  *accesslog.Lines // its file; nil where it is none
	spans     *otlp.Spans      // nil without --otlp

	client *stream.Client
	data   string // folder
	// stopping is closed when the process is asked to end: nothing new begins.
	stopping <-chan struct{}
	kept     *snapshot.Store  // last snapshots
	builder  snapshot.Builder // shares what workloads of one class run
}

// serve runs the proxy until ctx ends.
func serve(ctx context.Context, o options) error {
	log, err := o.logger()
	if err != nil {
		return err
	}
	systemd := notify.Take()
	runtime := paths.Runtime(o.runtimeDir)
	if err := paths.Make(runtime); err != nil {
		return err
	}
	data, err := paths.Data(o.dataDir)
	if err != nil {
		return err
	}
	data = filepath.Join(data, "proxy")
	if err := paths.Make(data); err != nil {
		return err
	}
	attachPath, err := paths.Socket(runtime, paths.AttachSocket)
	if err != nil {
		return err
	}
	pushPath, err := paths.Socket(runtime, paths.PushSocket)
	if err != nil {
		return err
	}
	kept, err := snapshot.NewStore(filepath.Join(data, "snapshots"))
	if err != nil {
		return err
	}
	d := &daemon{options: o, log: log, data: data, kept: kept, stopping: ctx.Done()}
	if err := forgetNames(data, time.Now()); err != nil {
		log.Warn("synthetic addresses of workloads that are long gone could not be removed", "error", err)
	}
	if err := d.openSeen(ctx); err != nil {
		return err
	}
	defer d.endSeen()
	closeProxy, err := d.openProxy(ctx)
	if err != nil {
		return err
	}
	defer closeProxy()
	d.client, err = stream.NewClient(stream.Config{
		Dial: stream.DialUnix(pushPath, peer.Check), Proxy: o.name, Flows: d.flows, Tally: d.tally, Live: d.proxy.Live, Log: log,
	})
	if err != nil {
		return err
	}
	defer d.client.Close()
	stopping := ctx
	// What is served outlives the signal, until the requests under way are answered.
	ctx, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	var work sync.WaitGroup
	defer work.Wait()
	defer cancel(nil)
	work.Go(func() { cancel(d.drain(ctx)) })
	if o.isIngress() {
		open, err := d.openIngress(ctx)
		if err != nil {
			return err
		}
		work.Go(func() { cancel(d.serveIngress(ctx, open)) })
	}
	if err := d.serveSeen(ctx, &work); err != nil {
		return err
	}
	withdraw, err := paths.Announce(runtime, "sluice-proxy", data)
	if err != nil {
		return err
	}
	defer withdraw()
	// Listening comes last: whoever waits for attach.sock finds all of it ready.
	listener, err := attach.Listen(attachPath)
	if errors.Is(err, errInUse) {
		return fmt.Errorf("another sluice-proxy serves %s: stop it first, or choose another folder with --runtime-dir", attachPath)
	}
	if err != nil {
		return err
	}
	defer os.Remove(attachPath)
	log.Info("ready", "attach", attachPath, "ingress", strings.Join(slices.DeleteFunc([]string{o.ingress, o.ingressTLS}, func(s string) bool { return s == "" }), " "))
	systemd.Tell(notify.Ready)
	d.ready.Set(true)
	defer context.AfterFunc(stopping, func() {
		d.ready.Set(false)
		systemd.Tell(notify.Stopping)
	})()
	server := attach.NewServer(attach.ServerConfig{Check: peer.Check, Handle: d.attached, Log: log})
	err = server.Serve(ctx, listener)
	cancel(nil)
	work.Wait()
	if cause := context.Cause(ctx); cause != nil && !errors.Is(cause, context.Canceled) {
		return cause
	}
	return err
}

// drain waits until the process is asked to end and the requests under way are
// answered, for at most proxy.DrainTime, or until ctx ends.
func (d *daemon) drain(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return nil
	case <-d.stopping:
	}
	d.log.Info("stopping")
	ctx, cancel := context.WithTimeout(ctx, proxy.DrainTime)
	defer cancel()
	d.proxy.Drain(ctx)
	return nil
}

// openProxy makes the data plane out of the flags.
func (d *daemon) openProxy(ctx context.Context) (func(), error) {
	servers, err := resolve.ParseServers(d.options.resolvers)
	if err != nil {
		return nil, fmt.Errorf("--resolver or SLUICE_RESOLVER: %w", err)
	}
	roots, err := run.UpstreamRoots(d.options.upstreamCA)
	if err != nil {
		return nil, err
	}
	certificates, err := run.ClientCertificates(d.options.certificates)
	if err != nil {
		return nil, err
	}
	var sockets capture.Sockets = capture.Host{}
	closeSockets := func() {}
	if d.options.sidecar.on {
		host, err := capture.NewPodHost()
		if err != nil {
			return nil, err
		}
		sockets = host
	}
	if path := d.options.egressSockets; path != "" {
		factory, err := capture.DialFactory(ctx, path)
		if err != nil {
			return nil, fmt.Errorf("reach --egress-sockets: %w", err)
		}
		sockets, closeSockets = factory, func() { factory.Close() }
	}
	resolver := resolve.NewResolver(resolve.ResolverConfig{Sockets: sockets, Lookups: resolve.LookupsOf(proxy.Descriptors()), Servers: servers})
	d.flows = record.NewRing()
	sinks := []record.Sink{d.flows}
	if !d.options.sidecar.on { // a server of a cluster keeps none
		d.tally = record.NewTally()
		sinks = append(sinks, d.tally)
	}
	if d.metrics != nil {
		sinks = append(sinks, d.metrics)
	}
	if d.access != nil {
		sinks = append(sinks, d.access)
	}
	if d.spans != nil {
		sinks = append(sinks, d.spans)
	}
	d.proxy, err = proxy.New(proxy.Config{
		Sockets: sockets, Resolver: resolver, Records: record.NewBook(sinks...), Log: d.log,
		UpstreamRoots: roots, Certificates: certificates, TellAll: d.options.tellAll, Limits: d.options.limits, Alone: d.options.sidecar.on, Mesh: d.meshSays,
	})
	if err != nil {
		return nil, err
	}
	return func() {
		d.proxy.Close()
		resolver.Close()
		closeSockets()
	}, nil
}
