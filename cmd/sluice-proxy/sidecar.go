package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/net/netutil"

	"sluice.dev/sluice/internal/capture"
	"sluice.dev/sluice/internal/paths"
	"sluice.dev/sluice/internal/peer"
	"sluice.dev/sluice/internal/proxy"
	"sluice.dev/sluice/internal/proxy/snapshot"
	"sluice.dev/sluice/internal/wire"
	"sluice.dev/sluice/internal/wire/stream"
)

// sidecarOptions are the flags of a sidecar.
type sidecarOptions struct {
	on       bool
	server   string
	identity string // folder
	listen   []string
	bypassed []string
	lowered  []string
}

// Bounds of the port that says whether the sidecar is ready.
const (
	healthConnections = 64
	healthTime        = 5 * time.Second // of one request
	healthHead        = 4 << 10         // bytes
	maxIdentityFile   = 1 << 20
)

func portNumber(text string) (uint16, error) {
	port, err := strconv.ParseUint(text, 10, 16)
	if err != nil || port == 0 {
		return 0, fmt.Errorf("%q is not a port from 1 to 65535", text)
	}
	return uint16(port), nil
}

// ownPort reports whether the port of HOST:PORT is one of the sidecar's.
func ownPort(address string) bool {
	_, text, err := net.SplitHostPort(address)
	if err != nil {
		return false // and it is refused when it is opened
	}
	port, err := portNumber(text)
	return err == nil && slices.Contains([]uint16{capture.PodOutboundPort, capture.PodInboundPort, capture.PodHealthPort, capture.PodDNSPort}, port)
}

// workload is what the sidecar says of the Pod that it is in.
func (o *sidecarOptions) workload() (w wire.Workload, err error) {
	w = wire.Workload{Namespace: os.Getenv("POD_NAMESPACE"), Account: os.Getenv("POD_SERVICE_ACCOUNT"), Level: wire.LevelSidecar}
	switch {
	case len(o.bypassed) > 0:
		w.Level = wire.LevelBypassed
	case len(o.lowered) > 0:
		w.Level = wire.LevelLowered
	}
	for _, text := range o.listen {
		port, err := portNumber(text)
		if err != nil {
			return w, fmt.Errorf("--listen: %w", err)
		}
		w.Ports = append(w.Ports, port)
	}
	data, err := o.readIdentity("labels")
	if errors.Is(err, os.ErrNotExist) {
		return w, nil
	}
	if err == nil {
		w.Labels, err = readLabels(bytes.NewReader(data))
	}
	if err != nil {
		return w, fmt.Errorf("read the labels of the Pod: %w", err)
	}
	return w, nil
}

// readLabels reads labels as the downward API of Kubernetes writes them: key="value", the
// value quoted as Go quotes it.
func readLabels(from io.Reader) (map[string]string, error) {
	labels := make(map[string]string)
	lines := bufio.NewScanner(from)
	for n := 1; lines.Scan(); n++ {
		line := bytes.TrimSpace(lines.Bytes())
		if len(line) == 0 {
			continue
		}
		key, quoted, found := strings.Cut(string(line), "=")
		value, err := strconv.Unquote(quoted)
		if !found || key == "" || err != nil {
			return nil, fmt.Errorf("line %d is not key=\"value\"", n)
		}
		labels[key] = value
	}
	return labels, lines.Err()
}

// serveSidecar serves the one workload that shares the network namespace of this process,
// until ctx ends.
func serveSidecar(ctx context.Context, o options) error {
	log, err := o.logger()
	if err != nil {
		return err
	}
	hello, err := o.sidecar.workload()
	if err != nil {
		return err
	}
	if hello.Namespace == "" {
		hello.Namespace = wire.DefaultNamespace
	}
	for _, why := range o.sidecar.bypassed {
		log.Warn("not all of the Pod's traffic goes through this sidecar", "bypassed", why)
	}
	for _, why := range o.sidecar.lowered {
		log.Warn("a program of the Pod may get around this sidecar", "lowered", why)
	}
	config, err := o.sidecarServer()
	if err != nil {
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
	kept, err := snapshot.NewStore(filepath.Join(data, "snapshots"))
	if err != nil {
		return err
	}
	d := &daemon{options: o, log: log, data: data, kept: kept, stopping: ctx.Done()}
	if err := d.openSeen(ctx); err != nil {
		return err
	}
	defer d.endSeen()
	closeProxy, err := d.openProxy(ctx)
	if err != nil {
		return err
	}
	defer closeProxy()
	config.Proxy, config.Flows, config.Live, config.Log = o.name, d.flows, d.proxy.Live, log
	if d.client, err = stream.NewClient(config); err != nil {
		return err
	}
	defer d.client.Close()
	pod, err := capture.OpenPod(ctx)
	if err != nil {
		return fmt.Errorf("open the ports of the sidecar: %w", err)
	}
	defer pod.Close()
	served, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	var work sync.WaitGroup
	defer work.Wait()
	defer cancel(nil)
	var ready atomic.Bool
	health, err := serveHealth(ctx, &ready, log)
	if err != nil {
		return err
	}
	defer health.Close()
	if err := d.serveSeen(served, &work); err != nil {
		return err
	}
	work.Go(func() { cancel(d.drain(served)) })
	defer context.AfterFunc(ctx, func() { d.ready.Set(false) })()
	if err := d.serveBeside(served, hello, pod, &ready); err != nil {
		return err
	}
	return nil
}

// sidecarServer says how the sidecar reaches its server.
func (o *options) sidecarServer() (stream.Config, error) {
	server := o.sidecar.server
	if path, local := strings.CutPrefix(server, "unix:"); local || strings.HasPrefix(server, "/") {
		return stream.Config{Dial: stream.DialUnix(strings.TrimPrefix(path, "//"), peer.Check)}, nil
	}
	host, port, err := net.SplitHostPort(server)
	if err != nil || host == "" {
		return stream.Config{}, fmt.Errorf("--server %q must be HOST:PORT, or the push.sock of a server on this machine", server)
	}
	if _, err := portNumber(port); err != nil {
		return stream.Config{}, fmt.Errorf("--server %q: %w", server, err)
	}
	// The roots are read for each connection: the cluster may replace them, and may not have
	// them yet.
	return stream.Config{
		Token: o.sidecar.token,
		Dial: func(ctx context.Context) (net.Conn, error) {
			roots, err := o.sidecar.roots()
			if err != nil {
				return nil, err
			}
			return stream.DialTLS(server, host, roots)(ctx)
		},
	}, nil
}

// readIdentity reads a file that the cluster writes for the Pod.
func (o *sidecarOptions) readIdentity(name string) ([]byte, error) {
	file, err := os.Open(filepath.Join(o.identity, name))
	if err != nil {
		return nil, err
	}
	defer file.Close()
	return io.ReadAll(io.LimitReader(file, maxIdentityFile))
}

// token is the one that the cluster gave the Pod last; it replaces it while the Pod runs.
func (o *sidecarOptions) token() (string, error) {
	data, err := o.readIdentity("token")
	return string(bytes.TrimSpace(data)), err
}

// roots are those that the server's certificate chains to.
func (o *sidecarOptions) roots() (*x509.CertPool, error) {
	data, err := o.readIdentity("root-cert.pem")
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(data) {
		return nil, fmt.Errorf("%s holds no certificate", filepath.Join(o.identity, "root-cert.pem"))
	}
	return roots, nil
}

// serveBeside joins as the Pod's workload, for as long as that takes, and serves it until
// ctx ends. Until it has its rules nothing is accepted, and what is redirected waits.
func (d *daemon) serveBeside(ctx context.Context, hello wire.Workload, pod *capture.Pod, ready *atomic.Bool) error {
	holder := snapshot.NewHolder(snapshot.HolderConfig{})
	waits := seldom{now: time.Now}
	var joined *member
	for joined == nil {
		m, err := d.join(ctx, hello, holder)
		if err == nil {
			joined = m
			break
		}
		if waits.due() {
			d.log.Warn("the Pod has no rules yet: nothing of it passes", "error", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-d.stopping:
			return nil
		case <-time.After(betweenJoins):
		}
	}
	defer joined.leave()
	table, save := d.names(joined.workload)
	defer save()
	w, err := d.proxy.Attach(ctx, proxy.WorkloadConfig{Workload: joined.workload, Capture: pod.Capture, Inward: proxy.IntoPod, Holder: joined.holder, Names: table})
	if err != nil {
		return err
	}
	defer w.Close()
	var inbound sync.WaitGroup
	defer inbound.Wait()
	for _, listener := range pod.Inbound {
		inbound.Go(func() { w.ServeInbound(listener) })
	}
	defer w.Close()
	d.log.Info("ready", "workload", joined.workload.Instance, "level", joined.workload.Level)
	ready.Store(true)
	d.ready.Set(true)
	select {
	case <-d.stopping:
		d.ready.Set(false)
	default:
	}
	tick := time.NewTicker(saveEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			save()
		}
	}
}

// serveHealth serves the port of the start-up probe of the sidecar.
func serveHealth(ctx context.Context, ready *atomic.Bool, log *slog.Logger) (io.Closer, error) {
	var config net.ListenConfig
	listener, err := config.Listen(ctx, "tcp", net.JoinHostPort("", strconv.Itoa(capture.PodHealthPort)))
	if err != nil {
		return nil, fmt.Errorf("open the port of the start-up probe: %w", err)
	}
	server := &http.Server{Handler: answerHealth(ctx, ready), ReadTimeout: healthTime, WriteTimeout: healthTime, IdleTimeout: healthTime, MaxHeaderBytes: healthHead}
	go func() { // until Close
		if err := server.Serve(netutil.LimitListener(listener, healthConnections)); !errors.Is(err, http.ErrServerClosed) {
			log.Error("the port of the start-up probe answers no more", "error", err)
		}
	}()
	return server, nil
}

// answerHealth says 200 once the first snapshot is there, and until ctx ends.
func answerHealth(ctx context.Context, ready *atomic.Bool) http.Handler {
	answers := http.NewServeMux()
	answers.HandleFunc("GET /ready", func(w http.ResponseWriter, _ *http.Request) {
		switch {
		case ctx.Err() != nil:
			http.Error(w, "stopping", http.StatusServiceUnavailable)
		case !ready.Load():
			http.Error(w, "no rules yet", http.StatusServiceUnavailable)
		default:
			fmt.Fprintln(w, "ready")
		}
	})
	return answers
}
