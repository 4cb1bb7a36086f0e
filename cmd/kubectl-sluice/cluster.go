package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"time"

	"k8s.io/client-go/rest"

	"sluice.dev/sluice/api"
	"sluice.dev/sluice/internal/kube/reach"
	"sluice.dev/sluice/internal/paths"
	"sluice.dev/sluice/internal/tail"
)

// namespace is where the servers of a cluster are.
const namespace = "sluice-system"

// headTimeout bounds the head of a question of sluice.
const headTimeout = 10 * time.Second

// exitMissing is the exit status where a server did not answer and nothing else was wrong.
const exitMissing = 1

// onCluster runs a command of sluice that asks the servers of a cluster: it finds, on a socket that
// nobody else can open, what a server of one machine would serve. It returns the exit status.
func onCluster(t target, args []string) (status int, err error) {
	program, err := paths.Program("sluice")
	if err != nil {
		return 0, fmt.Errorf("%s is a command of sluice, which is neither beside kubectl-sluice nor in PATH", args[0])
	}
	config, err := t.config("").ClientConfig()
	if err != nil {
		return 0, err
	}
	handler, end, err := newBridge(config)
	if err != nil {
		return 0, err
	}
	defer end()
	if args[0] == "top" { // the screen is its own until it ends
		var later tail.Tail
		handler.warnings = &later
		defer func() {
			if text := later.String(); text != "" {
				fmt.Fprintln(os.Stderr, text)
			}
		}()
	}
	dir, err := os.MkdirTemp("", "kubectl-sluice") // of nobody else
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(dir)
	socket := filepath.Join(dir, paths.APISocket)
	listener, err := net.Listen("unix", socket)
	if err != nil {
		return 0, err
	}
	server := &http.Server{Handler: handler, ReadHeaderTimeout: headTimeout}
	go func() { _ = server.Serve(listener) }() // until it is closed
	defer server.Close()

	cmd := exec.Command(program, args...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Env = append(os.Environ(), "SLUICE_SERVER=unix:"+socket)
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM)
	defer signal.Stop(signals)
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	for {
		select {
		case s := <-signals:
			if s != syscall.SIGINT { // which the terminal gives to both
				_ = cmd.Process.Signal(s) // it may have ended
			}
		case err := <-ended:
			var exit *exec.ExitError
			switch {
			case err == nil && handler.missing():
				return exitMissing, nil
			case errors.As(err, &exit) && exit.ExitCode() > 0:
				return exit.ExitCode(), nil
			}
			return 0, err
		}
	}
}

// bridge serves what a sluice-server of one machine does, read only: questions go to the servers of the
// cluster, and the rules are its API server's.
type bridge struct {
	questions http.Handler
	rules     http.Handler

	warnings io.Writer // set before it serves
	mu       sync.Mutex
	told     map[string]bool // servers that were said to be missing
}

func newBridge(config *rest.Config) (b *bridge, end func(), err error) {
	pods, err := reach.NewPods(config, namespace)
	if err != nil {
		return nil, nil, err
	}
	base, _, err := rest.DefaultServerUrlFor(config)
	if err != nil {
		return nil, nil, err
	}
	transport, err := rest.TransportFor(config)
	if err != nil {
		return nil, nil, err
	}
	b = &bridge{told: make(map[string]bool), warnings: os.Stderr}
	b.questions = reach.New(reach.Config{Servers: pods.Servers, Missing: b.tell})
	b.rules = &httputil.ReverseProxy{
		Transport: transport,
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(&url.URL{Scheme: base.Scheme, Host: base.Host, Path: base.Path})
		},
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, err error) {
			http.Error(w, "the API server of the cluster: "+err.Error(), http.StatusBadGateway)
		},
	}
	return b, pods.Close, nil
}

// ServeHTTP implements http.Handler.
func (b *bridge) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch {
	case within(r.URL.Path, "/sluice/"):
		b.questions.ServeHTTP(w, r)
	case r.Method == http.MethodGet && slices.ContainsFunc(api.Kinds(), func(k *api.Kind) bool { return within(r.URL.Path, "/apis/"+k.APIVersion()+"/") }):
		b.rules.ServeHTTP(w, r)
	default:
		http.Error(w, r.Method+" "+r.URL.Path+" is not served for a cluster", http.StatusNotFound)
	}
}

func within(path, folder string) bool {
	return len(path) > len(folder) && path[:len(folder)] == folder
}

// tell says of a server that it did not answer.
func (b *bridge) tell(server string, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.told[server] = true
	fmt.Fprintf(b.warnings, "Warning: %s did not answer, and what the proxies that are connected to it say is missing: %v\n", server, err)
}

func (b *bridge) missing() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.told) > 0
}
