// Package endpoint serves a handler on a port of its own: metrics to whoever scrapes,
// health to whoever watches. The programs call it. It carries no traffic of workloads and
// never outlives its context.
package endpoint

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync/atomic"
	"time"
)

// Bounds of a connection.
const (
	HeaderTimeout = 5 * time.Second
	WriteTimeout  = 30 * time.Second
	IdleTimeout   = 2 * time.Minute
	MaxHeader     = 16 << 10
)

// Listen opens the address of a flag, HOST:PORT.
func Listen(flag, address string) (net.Listener, error) {
	if _, _, err := net.SplitHostPort(address); err != nil {
		return nil, fmt.Errorf("--%s %q must be HOST:PORT, as in 127.0.0.1:15090", flag, address)
	}
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("--%s: %w", flag, err)
	}
	return listener, nil
}

// Serve answers until ctx ends.
func Serve(ctx context.Context, listener net.Listener, handler http.Handler, log *slog.Logger) {
	server := &http.Server{
		Handler: handler, ReadHeaderTimeout: HeaderTimeout, ReadTimeout: HeaderTimeout, WriteTimeout: WriteTimeout,
		IdleTimeout: IdleTimeout, MaxHeaderBytes: MaxHeader, ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
	stop := context.AfterFunc(ctx, func() { server.Close() })
	defer stop()
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		log.Error("an address is not served any more", "address", listener.Addr().String(), "error", err)
	}
}

// At serves one path, and says so at others.
func At(path string, handler http.Handler) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET "+path, handler)
	return mux
}

// HealthPath is where Health answers.
const HealthPath = "/healthz/ready"

// Health says whether a process is ready. The zero Health is not.
type Health struct{ ready atomic.Bool }

// Set says from now on whether it is.
func (h *Health) Set(ready bool) { h.ready.Store(ready) }

// ServeHTTP answers 200 while it is ready, else 503.
func (h *Health) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	if !h.ready.Load() {
		http.Error(w, "not ready", http.StatusServiceUnavailable)
		return
	}
	fmt.Fprintln(w, "ready")
}
