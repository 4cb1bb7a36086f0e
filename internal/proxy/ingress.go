package proxy

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"

	"sluice.dev/sluice/internal/names"
	"sluice.dev/sluice/internal/policy"
	"sluice.dev/sluice/internal/proxy/httpproxy"
	"sluice.dev/sluice/internal/record"
)

// MaxIngressPaths bounds the paths of one ingress.
const MaxIngressPaths = 256

// IngressRoute leads requests on some paths to a service of the mesh.
type IngressRoute struct {
	Paths   []string // exact, or a prefix that ends in ".*", as an Ingress of 2018 has them
	Service string   // "productpage" or "productpage.default"
	Port    uint16
}

// ParseIngressRoute reads "/productpage,/static.*=productpage:9080".
func ParseIngressRoute(s string) (IngressRoute, error) {
	paths, target, ok := strings.Cut(s, "=")
	service, port, withPort := strings.Cut(target, ":")
	n, err := strconv.ParseUint(port, 10, 16)
	if !ok || !withPort || err != nil || n == 0 {
		return IngressRoute{}, fmt.Errorf("ingress route %q must look like /path,/prefix.*=service:port", s)
	}
	route := IngressRoute{Paths: strings.Split(paths, ","), Service: service, Port: uint16(n)}
	for _, path := range route.Paths {
		if !strings.HasPrefix(path, "/") {
			return IngressRoute{}, fmt.Errorf("ingress route %q: path %q must begin with /", s, path)
		}
	}
	if _, err := names.Parse(service); err != nil {
		return IngressRoute{}, fmt.Errorf("ingress route %q: %w", s, err)
	}
	return route, nil
}

// matches compares a path as it came. Behind a prefix only a path that can be read
// in one way counts: a server may take /static/../login for /login. The prefix "/"
// opens everything anyway.
func (r *IngressRoute) matches(path string) bool {
	for _, p := range r.Paths {
		prefix, isPrefix := strings.CutSuffix(p, ".*")
		if p == path || isPrefix && strings.HasPrefix(path, prefix) && (prefix == "/" || policy.IsNormalPath(path)) {
			return true
		}
	}
	return false
}

// ServeIngress takes connections from outside the mesh until the listener closes
// or the workload does. Its requests are routed as those of the workload are.
func (w *Workload) ServeIngress(listener *net.TCPListener, routes []IngressRoute) error {
	count := 0
	for _, r := range routes {
		count += len(r.Paths)
	}
	if count > MaxIngressPaths {
		return fmt.Errorf("serve ingress: %d paths, at most %d are taken", count, MaxIngressPaths)
	}
	if !w.begin() {
		return listener.Close()
	}
	defer w.work.Done()
	stop := context.AfterFunc(w.ctx, func() { listener.Close() })
	defer stop()
	for {
		down, err := listener.AcceptTCP()
		switch {
		case errors.Is(err, net.ErrClosed):
			return nil
		case err != nil:
			if !w.pause(err) {
				return nil
			}
			continue
		}
		w.work.Go(func() { w.enter(down, routes) })
	}
}

// enter carries one connection that came in by an ingress.
func (w *Workload) enter(down *net.TCPConn, routes []IngressRoute) {
	defer down.Close()
	ctx, cancel := context.WithCancel(w.ctx)
	defer cancel()
	c := &connection{
		workload: w, down: down, snapshot: w.config.Holder.Load(), start: w.proxy.config.Now(),
		ingress: routes, forwarded: forwardedFor(down), cancel: cancel,
	}
	c.chain.Sniffed = policy.HTTP
	if local, ok := down.LocalAddr().(*net.TCPAddr); ok {
		c.chain.Port = local.AddrPort().Port()
	}
	if !w.admit(c) {
		return
	}
	defer w.leave(c)
	w.http.Serve(ctx, down, nil, c)
}

// directIngress finds the service of a request's path, and routes to it.
func (c *connection) directIngress(x *httpproxy.Exchange) httpproxy.Direction {
	if reason := c.snapshot.Policy.DeniesAll(); reason != "" {
		c.requests.account.Verdict, c.requests.account.Reason = record.Denied, reason
		return c.reply(503, string(reason), reason.Text())
	}
	path := x.Path()
	for i := range c.ingress {
		r := &c.ingress[i]
		if !r.matches(path) {
			continue
		}
		name, err := names.Parse(r.Service)
		if err != nil {
			break // cannot be: it was parsed once
		}
		full, ok := c.snapshot.Directory.Service(name)
		if c.service = c.snapshot.Service(full); !ok || c.service == nil {
			c.requests.account.Verdict, c.requests.account.Reason = record.Failed, "no-healthy-upstream"
			return c.reply(503, "no-healthy-upstream", fmt.Sprintf("The service %s has no workload yet.", r.Service))
		}
		return c.directInside(x, r.Port)
	}
	c.requests.account.Verdict, c.requests.account.Reason = record.Denied, "no-route"
	return c.reply(404, "no-route", "The ingress has no route for this path.")
}

// forwarded is what an ingress tells a service of the client: headers of the
// client's own making of that name are dropped, for the edge trusts none.
type forwarded struct {
	drop  []string
	lines []byte
}

func forwardedFor(down *net.TCPConn) forwarded {
	client, ok := down.RemoteAddr().(*net.TCPAddr)
	if !ok {
		return forwarded{}
	}
	return forwarded{
		drop:  []string{"forwarded", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-real-ip"},
		lines: []byte("x-forwarded-for: " + client.AddrPort().Addr().Unmap().String() + "\r\nx-forwarded-proto: http\r\n"),
	}
}
