package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"sluice.dev/sluice/api"
	"sluice.dev/sluice/deploy/crds"
	"sluice.dev/sluice/internal/control/authority"
	"sluice.dev/sluice/internal/control/flowstore"
	"sluice.dev/sluice/internal/control/history"
	"sluice.dev/sluice/internal/control/inspect"
	"sluice.dev/sluice/internal/control/kubeapi"
	"sluice.dev/sluice/internal/control/registry"
	"sluice.dev/sluice/internal/paths"
	"sluice.dev/sluice/internal/peer"
)

// Config configures a Server.
type Config struct {
	RuntimeDir string // of the sockets; made 0700 where it is missing
	DataDir    string // of the store; made 0700 where it is missing
	Version    string // for /sluice/version
	// APIListen is the address with a port on which the API is served over TLS too; ""
	// for none.
	APIListen string
	// Etcd keeps the rules in place of the data folder, for several servers; nil: none does.
	Etcd *kubeapi.External
	// Peers says who may give commands on api.sock and read every rule on push.sock.
	Peers peer.Authenticator
	Acked func(took time.Duration) // see push.Config; may be nil
	Log   *slog.Logger
}

// Server is the running control plane of one machine: its rules are in the data
// folder, its workloads are those of the proxies here, and it is spoken to by
// sockets in the runtime folder.
type Server struct {
	config    Config
	locks     []*lock
	api       *kubeapi.Server
	workloads *registry.Registry
	forgetful bool // what a later release remembered is not replaced
	plane     *Plane
	authority *authority.Authority // nil where there is no APIListen
	history   *history.Book
	flows     *flowstore.Store
	etcd      *clientv3.Client // nil where the rules are in the data folder

	cancel   context.CancelFunc
	running  sync.WaitGroup // what reads the registry
	serving  sync.WaitGroup // push.sock
	failed   chan error
	stopOnce sync.Once
	stopErr  error
}

// Start starts the control plane of this machine and returns when both of its
// sockets take connections. An error of type *RunningError says that another
// server uses one of the folders.
func Start(ctx context.Context, config Config) (_ *Server, err error) {
	s := &Server{config: config, failed: make(chan error, 2)}
	defer func() {
		if err != nil {
			_ = s.Stop() // the first error is the one to report
		}
	}()
	if err := s.takeFolders(); err != nil {
		return nil, err
	}
	apiSocket, err := paths.Socket(config.RuntimeDir, paths.APISocket)
	if err != nil {
		return nil, err
	}
	if err := s.openAuthority(); err != nil {
		return nil, err
	}
	s.history = history.Open(filepath.Join(config.DataDir, historyFile), config.Log)
	s.flows = flowstore.Open(filepath.Join(config.DataDir, flowsFile), time.Now, config.Log)
	if s.api, err = kubeapi.Start(ctx, kubeapi.Config{
		DataDir: config.DataDir, External: config.Etcd, Socket: apiSocket, Definitions: crds.Files, Peers: config.Peers, Log: config.Log,
		Listen: config.APIListen, Authority: s.authority, Changed: s.history.Add,
		// Asked once the socket is open: the plane is there by then.
		Warn: func(object *api.Object) []string { return s.plane.WarningsOf(object) },
	}); err != nil {
		return nil, err
	}
	store, err := kubeapi.NewStore(kubeapi.StoreConfig{API: s.api.Loopback(), Kinds: api.Kinds(), Log: config.Log})
	if err != nil {
		return nil, err
	}
	rules, err := s.share(store)
	if err != nil {
		return nil, err
	}
	s.workloads = registry.New(registry.Config{Memory: s.recall()})
	if s.plane, err = NewPlane(PlaneConfig{
		Store: rules, Joined: s.workloads, Census: s.workloads, Proxies: config.Peers, Keep: s.flows, Versions: filepath.Join(config.DataDir, versionsFile), Acked: config.Acked, Log: config.Log,
		Version: inspect.Version{
			Version: config.Version, Go: runtime.Version(), PID: os.Getpid(), Started: time.Now(),
			Runtime: config.RuntimeDir, Data: config.DataDir,
		},
	}); err != nil {
		return nil, err
	}
	background, cancel := context.WithCancel(context.Background())
	s.cancel = cancel
	s.running.Go(func() { s.remember(background) })
	if err := s.plane.Start(ctx); err != nil {
		return nil, err
	}
	if err := s.servePush(); err != nil {
		return nil, err
	}
	if err := s.api.Open(ctx, s.handler()); err != nil {
		return nil, err
	}
	s.serving.Go(func() {
		select {
		case err, open := <-s.api.Failed():
			if open && err != nil {
				s.failed <- fmt.Errorf("the store ended: %w", err)
			}
		case <-background.Done():
		}
	})
	return s, nil
}

// share lets other servers read the same rules, where they are in an etcd elsewhere.
func (s *Server) share(store Store) (Store, error) {
	if s.config.Etcd == nil {
		return store, nil
	}
	client, err := s.config.Etcd.Client(s.config.Log)
	if err != nil {
		return nil, err
	}
	s.etcd = client
	return &sharedStore{Store: store, replicas: newEtcdReplicas(client, s.config.Log)}, nil
}

// takeFolders makes, checks and locks the folders.
func (s *Server) takeFolders() error {
	for _, folder := range []struct{ purpose, path, locked string }{
		{"runtime", s.config.RuntimeDir, s.config.RuntimeDir},
		// The proxy keeps its own things in the data folder: only the store is ours.
		{"data", s.config.DataDir, filepath.Join(s.config.DataDir, "etcd")},
	} {
		if err := paths.Make(folder.path); err != nil {
			return fmt.Errorf("use the %s folder: %w", folder.purpose, err)
		}
		if err := paths.Make(folder.locked); err != nil {
			return fmt.Errorf("use the %s folder: %w", folder.purpose, err)
		}
		taken, err := takeLock(folder.locked)
		if errors.Is(err, errLocked) {
			return &RunningError{Purpose: folder.purpose, Folder: folder.path, PID: s.otherServer()}
		}
		if err != nil {
			return fmt.Errorf("lock the %s folder: %w", folder.purpose, err)
		}
		s.locks = append(s.locks, taken)
	}
	return nil
}

// servePush opens push.sock.
func (s *Server) servePush() error {
	path, err := paths.Socket(s.config.RuntimeDir, paths.PushSocket)
	if err != nil {
		return err
	}
	listener, err := kubeapi.ListenPrivate(path)
	if err != nil {
		return err
	}
	s.serving.Go(func() {
		if err := s.plane.Serve(listener); err != nil {
			s.failed <- err
		}
	})
	return nil
}

// Failed delivers an error when a part of the server ended by itself.
func (s *Server) Failed() <-chan error { return s.failed }

// Stats returns what the control plane says of itself.
func (s *Server) Stats() Stats { return s.plane.Stats() }

// Stop ends the server and waits for all of it: first the streams to the proxies,
// then what reads the store, then the store. Later calls return what the first
// did.
func (s *Server) Stop() error {
	s.stopOnce.Do(func() {
		if s.cancel != nil {
			s.cancel()
		}
		if s.plane != nil {
			s.plane.Close()
		}
		s.running.Wait()
		if s.cancel != nil {
			s.writeMemory(nil) // with those that were connected to the last
		}
		s.serving.Wait()
		if s.etcd != nil {
			_ = s.etcd.Close() // nothing of it is under way
		}
		if s.api != nil {
			s.stopErr = s.api.Stop()
		}
		if s.history != nil {
			s.stopErr = errors.Join(s.stopErr, s.history.Close())
		}
		if s.flows != nil {
			s.stopErr = errors.Join(s.stopErr, s.flows.Close())
		}
		for _, taken := range s.locks {
			taken.release()
		}
	})
	return s.stopErr
}
