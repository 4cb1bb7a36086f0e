package server

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"runtime"
	"strings"
	"sync"
	"time"

	"k8s.io/client-go/rest"

	"sluice.dev/sluice/api"
	"sluice.dev/sluice/internal/control/authority"
	"sluice.dev/sluice/internal/control/cluster"
	"sluice.dev/sluice/internal/control/inspect"
	"sluice.dev/sluice/internal/control/kubeapi"
	"sluice.dev/sluice/internal/control/push"
	"sluice.dev/sluice/internal/control/registry"
	"sluice.dev/sluice/internal/kube/inject"
	"sluice.dev/sluice/internal/paths"
	"sluice.dev/sluice/internal/peer"
)

// ClusterConfig configures the control plane of a Kubernetes cluster. All of it is
// required but Domain, InspectListen and Acked.
type ClusterConfig struct {
	API        *rest.Config // of the cluster
	Namespace  string       // of Sluice
	Name       string       // of this server among several; a valid name of an object
	Domain     string       // of the cluster's names; "" is cluster.local
	PushListen string       // address with a port for the proxies, over TLS
	// WebhookListen is the address with a port where the cluster's API server asks about each
	// rule that is written and each Pod that is to have a sidecar.
	WebhookListen string
	// InspectListen is the loopback address with a port where questions are answered, as on
	// api.sock and in the clear; "" is none. It is for a server in a Pod of its own, where nobody
	// else reaches its loopback but who may forward ports there.
	InspectListen string
	// Sidecar is what such a Pod gets. Whether it may get around it says the MeshConfig.
	Sidecar    inject.Options
	RuntimeDir string // of api.sock; made 0700 where it is missing
	Version    string // for /sluice/version
	Peers      peer.Authenticator
	Acked      func(took time.Duration) // see push.Config
	Log        *slog.Logger
}

// Cluster is a running control plane of a Kubernetes cluster. It keeps nothing: the rules
// are the cluster's, and so is who is there. Several may run at once.
type Cluster struct {
	config    ClusterConfig
	cluster   *cluster.Cluster
	plane     *Plane
	authority *authority.Authority
	proxies   net.Listener
	webhook   net.Listener
	http      *http.Server
	inspect   net.Listener // nil: none
	quiet     func()
	lock      *lock

	cancel   context.CancelFunc
	running  sync.WaitGroup
	serving  sync.WaitGroup
	failed   chan error
	stopOnce sync.Once
}

// StartCluster starts the control plane of a cluster and returns when proxies and api.sock
// are served.
func StartCluster(ctx context.Context, config ClusterConfig) (_ *Cluster, err error) {
	if config.API == nil || config.Namespace == "" || config.Name == "" || config.PushListen == "" || config.WebhookListen == "" || config.Peers == nil || config.Log == nil {
		return nil, errors.New("server: a field of ClusterConfig is missing")
	}
	if err := config.Sidecar.Check(); err != nil {
		return nil, fmt.Errorf("the sidecar: %w", err)
	}
	s := &Cluster{config: config, failed: make(chan error, 4), quiet: kubeapi.RouteLogs(config.Log), cancel: func() {}}
	defer func() {
		if err != nil {
			s.Stop()
		}
	}()
	access := rest.CopyConfig(config.API)
	access.QPS = -1 // what asks often has bounds of its own
	if s.cluster, err = cluster.New(cluster.Config{API: access, Domain: config.Domain, Log: config.Log.With("component", "cluster")}); err != nil {
		return nil, err
	}
	background, cancel := context.WithCancel(context.Background())
	s.cancel = cancel
	store, err := kubeapi.NewStore(kubeapi.StoreConfig{API: access, Kinds: api.OnCluster(), Validate: true, Accepted: s.cluster.Events(background).Accepted, Log: config.Log})
	if err != nil {
		return nil, err
	}
	if err := errors.Join(store.Check(ctx), s.cluster.Check(ctx)); err != nil {
		return nil, err
	}
	if s.authority, err = authority.OpenShared(s.cluster.Vault(config.Namespace), s.hosts(), time.Now); err != nil {
		return nil, err
	}
	replicas := s.cluster.Replicas(config.Namespace, config.Name)
	if s.plane, err = NewPlane(PlaneConfig{
		Store: &sharedStore{Store: store, replicas: replicas}, Joined: registry.New(registry.Config{}), Census: s.cluster, Domain: config.Domain,
		Remote: &push.Remote{TLS: s.tls(), Attestor: s.cluster}, Acked: config.Acked, Log: config.Log,
		Version: inspect.Version{
			Version: config.Version, Go: runtime.Version(), PID: os.Getpid(), Started: time.Now(), Runtime: config.RuntimeDir,
		},
	}); err != nil {
		return nil, err
	}
	s.running.Go(func() { s.cluster.Run(background) })
	roots := s.cluster.Roots(s.authority.CA, replicas.Leads)
	s.running.Go(func() { roots.Run(background) })
	if err := s.cluster.Ready(ctx); err != nil {
		return nil, err
	}
	if err := s.plane.Start(ctx); err != nil {
		return nil, err
	}
	if err := s.servePush(ctx); err != nil {
		return nil, err
	}
	if err := s.serveWebhook(background, access); err != nil {
		return nil, err
	}
	if err := s.serveAPI(); err != nil {
		return nil, err
	}
	return s, s.serveInspect(ctx)
}

// hosts are the names under which the proxies of a cluster reach the server.
func (s *Cluster) hosts() []string {
	return []string{"sluice-server." + s.config.Namespace, "sluice-server." + s.config.Namespace + ".svc"}
}

// tls is what proxies speak with.
func (s *Cluster) tls() *tls.Config {
	config := s.authority.TLS()
	config.MinVersion, config.ClientAuth, config.NextProtos = tls.VersionTLS13, tls.NoClientCert, []string{"h2"}
	return config
}

func (s *Cluster) servePush(ctx context.Context) (err error) {
	if s.proxies, err = new(net.ListenConfig).Listen(ctx, "tcp", s.config.PushListen); err != nil {
		return fmt.Errorf("open --push-listen: %w", err)
	}
	s.serving.Go(func() {
		if err := s.plane.Serve(s.proxies); err != nil {
			s.failed <- err
		}
	})
	return nil
}

// serveAPI serves the questions below /sluice/ on api.sock; the rules are the cluster's.
func (s *Cluster) serveAPI() error {
	if err := paths.Make(s.config.RuntimeDir); err != nil {
		return fmt.Errorf("use the runtime folder: %w", err)
	}
	var err error
	s.lock, err = takeLock(s.config.RuntimeDir)
	if errors.Is(err, errLocked) {
		return &RunningError{Purpose: "runtime", Folder: s.config.RuntimeDir}
	}
	if err != nil {
		return fmt.Errorf("lock the runtime folder: %w", err)
	}
	path, err := paths.Socket(s.config.RuntimeDir, paths.APISocket)
	if err != nil {
		return err
	}
	listener, err := kubeapi.ListenSocket(path, s.config.Peers, s.config.Log)
	if err != nil {
		return err
	}
	s.http = &http.Server{Handler: ownHost(s.plane.Handler()), ReadHeaderTimeout: headTimeout, MaxHeaderBytes: maxHead}
	s.serving.Go(func() {
		if err := s.http.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			s.failed <- fmt.Errorf("api.sock is no longer served: %w", err)
		}
	})
	return nil
}

// serveInspect serves the same questions on a port of this machine's loopback.
func (s *Cluster) serveInspect(ctx context.Context) (err error) {
	if s.config.InspectListen == "" {
		return nil
	}
	if err := CheckInspectListen(s.config.InspectListen); err != nil {
		return err
	}
	if s.inspect, err = new(net.ListenConfig).Listen(ctx, "tcp", s.config.InspectListen); err != nil {
		return fmt.Errorf("open --inspect-listen: %w", err)
	}
	s.serving.Go(func() {
		if err := s.http.Serve(s.inspect); !errors.Is(err, http.ErrServerClosed) {
			s.failed <- fmt.Errorf("--inspect-listen is no longer served: %w", err)
		}
	})
	return nil
}

// CheckInspectListen refuses an address on which others could ask too.
func CheckInspectListen(address string) error {
	if at, err := netip.ParseAddrPort(address); err != nil || !at.Addr().IsLoopback() || at.Addr().Is4In6() {
		return fmt.Errorf("--inspect-listen %q must be a loopback address with a port, as in 127.0.0.1:15016: nobody is asked there who he is", address)
	}
	return nil
}

// ownHost answers those alone who mean this server: a page that a browser shows could have its own
// name lead to the end of somebody's port-forward.
func ownHost(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host := r.Host
		if name, _, err := net.SplitHostPort(host); err == nil {
			host = name
		}
		if address, err := netip.ParseAddr(strings.Trim(host, "[]")); host != "localhost" && host != "sluice" && (err != nil || !address.IsLoopback()) {
			http.Error(w, "this is sluice-server, which answers as localhost alone", http.StatusMisdirectedRequest)
			return
		}
		next.ServeHTTP(w, r)
	})
}

const (
	headTimeout = 10 * time.Second // for the head of a question
	maxHead     = 64 << 10         // bytes of it
)

// Stats returns what the control plane says of itself: of the proxies that are connected to
// this server, where there are several.
func (s *Cluster) Stats() Stats { return s.plane.Stats() }

// PushAddress is where the proxies are served.
func (s *Cluster) PushAddress() string { return s.proxies.Addr().String() }

// InspectAddress is where questions are answered; "" where InspectListen is.
func (s *Cluster) InspectAddress() string {
	if s.inspect == nil {
		return ""
	}
	return s.inspect.Addr().String()
}

// CA is by which proxies know the server, in PEM.
func (s *Cluster) CA() []byte { return s.authority.CA() }

// Failed delivers an error when a part of the server ended by itself.
func (s *Cluster) Failed() <-chan error { return s.failed }

// Stop ends the control plane and waits for all of it. Proxies go on with what they have,
// until another server takes them.
func (s *Cluster) Stop() {
	s.stopOnce.Do(func() {
		s.quiet()
		s.cancel()
		if s.http != nil {
			_ = s.http.Close()
		}
		if s.plane != nil {
			s.plane.Close()
		}
		s.running.Wait()
		s.serving.Wait()
		if s.lock != nil {
			s.lock.release()
		}
	})
}
