package main

import (
	"context"
	"fmt"
	"net"
	"time"

	"sluice.dev/sluice/internal/capture"
	"sluice.dev/sluice/internal/proxy"
	"sluice.dev/sluice/internal/proxy/ingress"
	"sluice.dev/sluice/internal/proxy/snapshot"
	"sluice.dev/sluice/internal/wire"
)

// ingressName is what the ingress is called until the server gives it its name.
const ingressName = "istio-ingress"

// openIngress takes the addresses of --ingress and --ingress-tls, so that one in use is
// reported at once, and the folder of certificates.
func (d *daemon) openIngress(ctx context.Context) (open proxy.Ingress, err error) {
	for _, text := range d.options.ingressRoutes {
		route, err := ingress.ParseRoute(text)
		if err != nil {
			return proxy.Ingress{}, err
		}
		open.Routes = append(open.Routes, route)
	}
	if open.Plain, err = listen(ctx, "--ingress", d.options.ingress); err != nil {
		return proxy.Ingress{}, err
	}
	if open.TLS, err = listen(ctx, "--ingress-tls", d.options.ingressTLS); err == nil && open.TLS != nil {
		open.Certificates, err = ingress.OpenCertificates(d.options.ingressCerts, nil, d.log)
	}
	if err != nil {
		closeIngress(open)
		return proxy.Ingress{}, err
	}
	return open, nil
}

// listen listens on the address of a flag; nil where it was not given.
func listen(ctx context.Context, flag, address string) (*net.TCPListener, error) {
	if address == "" {
		return nil, nil
	}
	config := net.ListenConfig{Control: capture.ControlUrgent}
	config.SetMultipathTCP(false)
	listener, err := config.Listen(ctx, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", flag, err)
	}
	return listener.(*net.TCPListener), nil
}

// closeIngress closes the listeners.
func closeIngress(open proxy.Ingress) {
	for _, listener := range []*net.TCPListener{open.Plain, open.TLS} {
		if listener != nil {
			listener.Close()
		}
	}
}

// serveIngress serves the listeners until the proxy stops, and what came in by them until
// ctx ends. From its start it answers: while the server sends no rules, that there are
// none.
func (d *daemon) serveIngress(ctx context.Context, open proxy.Ingress) error {
	defer open.Certificates.Close()
	defer closeIngress(open)
	hello := wire.Workload{Namespace: wire.DefaultNamespace, Level: "none", Labels: map[string]string{"app": ingressName, "istio": "ingress"}}
	workload := hello
	workload.Instance, workload.Proxy = ingressName, d.options.name
	holder := snapshot.NewHolder(snapshot.HolderConfig{})
	w, err := d.proxy.Attach(ctx, proxy.WorkloadConfig{Workload: workload, Holder: holder})
	if err != nil {
		return err
	}
	joining, giveUp := context.WithCancel(ctx)
	joined := make(chan *member, 1)
	go func() { joined <- d.joinIngress(joining, hello, w, holder) }()
	defer func() {
		giveUp()
		if m := <-joined; m != nil {
			m.leave()
		}
	}()
	defer w.Close()
	served := make(chan error, 1)
	go func() { served <- w.ServeIngress(open) }()
	select {
	case err = <-served:
		return err
	case <-d.stopping:
	case <-ctx.Done():
	}
	closeIngress(open)
	err = <-served
	<-ctx.Done()
	return err
}

// joinIngress joins the server as the ingress, which is served already, for as long as
// it takes; it returns nil where ctx ends first.
func (d *daemon) joinIngress(ctx context.Context, hello wire.Workload, w *proxy.Workload, holder *snapshot.Holder) *member {
	waits := seldom{now: time.Now}
	for ctx.Err() == nil {
		m, err := d.join(ctx, hello, holder) // which waits
		if err == nil {
			err = w.Rename(m.workload.Instance)
		}
		switch {
		case err == nil:
			d.log.Info("the ingress has its rules", "workload", m.workload.Instance)
			return m
		case m != nil:
			m.leave()
		}
		if ctx.Err() == nil && waits.due() {
			d.log.Warn("the ingress answers 503 until the server sends it rules", "error", err)
		}
		select { // what fails at once would be tried as fast as it fails
		case <-ctx.Done():
		case <-time.After(betweenJoins):
		}
	}
	return nil
}

// seldom says when something that goes on is worth a line of a log again: at once, and
// then after longer and longer times.
type seldom struct {
	now  func() time.Time
	next time.Time
	wait time.Duration // until next, from the last time
}

// betweenJoins is how long an ingress waits after one try to join and before the next.
const betweenJoins = time.Second

// Bounds of the times between two lines about the same.
const (
	leastWait = time.Minute
	mostWait  = time.Hour
)

// due reports whether it is time, and says when it will be next.
func (s *seldom) due() bool {
	now := s.now()
	if now.Before(s.next) {
		return false
	}
	s.wait = min(max(2*s.wait, leastWait), mostWait)
	s.next = now.Add(s.wait)
	return true
}
