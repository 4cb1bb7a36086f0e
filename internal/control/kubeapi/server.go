package kubeapi

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"k8s.io/apiextensions-apiserver/pkg/client/clientset/clientset"
	"k8s.io/apiserver/pkg/storage/storagebackend"
	"k8s.io/client-go/rest"

	"sluice.dev/sluice/api"
	"sluice.dev/sluice/internal/control/authority"
	"sluice.dev/sluice/internal/control/history"
	"sluice.dev/sluice/internal/peer"
)

const (
	// headerTimeout bounds the time from the first byte of a request to the end of
	// its head, idleTimeout that between two requests.
	headerTimeout = 10 * time.Second
	idleTimeout   = 90 * time.Second
	// maxHeaderBytes bounds the head of a request, in bytes.
	maxHeaderBytes = 64 << 10
	// drainTimeout bounds how long requests in flight may finish when the server
	// stops. Watches end at once.
	drainTimeout = time.Second
	// flushTimeout bounds the time after that in which answers leave the process.
	// A connection on which nothing was ever asked would hold it up for seconds.
	flushTimeout = 100 * time.Millisecond
)

// Config configures a Server.
type Config struct {
	DataDir     string             // holds etcd in a folder of its own; exists, ours alone
	External    *External          // keeps the rules in place of that etcd; nil: none does
	Socket      string             // path of api.sock; its folder exists, ours alone
	Definitions fs.FS              // *.yaml with the CRDs that are served
	Peers       peer.Authenticator // who may command us on Socket; required
	// Listen is an address with a port on which the API is served over TLS too, to
	// clients with a certificate of Authority; "" for none.
	Listen    string
	Authority *authority.Authority // required with Listen
	// Changed is called for each change that a client made, before it is answered; before
	// is the object as it was, nil where there was none. nil: nobody asks.
	Changed func(entry history.Entry, before *history.Entry)
	// Warn returns what whoever writes a valid object should know of it; called at
	// any time once the socket is open. nil: nothing.
	Warn func(*api.Object) []string
	Log  *slog.Logger // required

	headerTimeout time.Duration // of the TCP port; 0: headerTimeout; a test's
}

// Server is a running rule API.
type Server struct {
	config    Config
	store     storage
	crds      *crdServer
	http      *http.Server
	remote    *http.Server // of the TCP port; nil where there is none
	address   string       // of the TCP port
	memory    *pairListener
	front     *front
	stopWatch context.CancelFunc
	quiet     *atomic.Bool // set when we stop: what is cut off then is not reported
	served    sync.WaitGroup
	stopOnce  sync.Once
	stopErr   error
}

// storage keeps the rules: an etcd in this process, or one elsewhere.
type storage interface {
	configure(*storagebackend.Config)
	Failed() <-chan error // delivers an error when it ended by itself
	Close()
}

// Start starts etcd and the API on the data of config.DataDir and returns when
// objects of every kind can be created. api.sock is not open yet: see Open. The
// caller holds a lock on both folders.
func Start(ctx context.Context, config Config) (_ *Server, err error) {
	if config.Peers == nil || config.Log == nil || config.Definitions == nil || config.Listen != "" && config.Authority == nil {
		return nil, errors.New("kubeapi: a field of Config is missing")
	}
	definitions, err := readDefinitions(config.Definitions)
	if err != nil {
		return nil, fmt.Errorf("read the definitions of the kinds: %w", err)
	}
	s := &Server{config: config, quiet: routeLogs(config.Log), memory: newPairListener(itself)}
	if s.store, err = openStorage(ctx, &config); err != nil {
		return nil, err
	}
	s.crds, err = newCRDServer(s.store, s.memory.Dial, &changes{log: config.Log, changed: config.Changed}, validator{warn: config.Warn})
	if err != nil {
		s.store.Close()
		return nil, fmt.Errorf("configure the rule API: %w", err)
	}
	s.crds.Run(config.Log)
	s.serve()
	defer func() {
		if err != nil {
			_ = s.Stop() // the first error is the one to report
		}
	}()

	crds := s.crds.Informers.Apiextensions().V1().CustomResourceDefinitions()
	if err := poll(ctx, func() (bool, error) { return crds.Informer().HasSynced(), nil }); err != nil {
		return nil, fmt.Errorf("wait for the rule API: %w", err)
	}
	client, err := clientset.NewForConfig(s.Loopback())
	if err != nil {
		return nil, fmt.Errorf("reach the rule API: %w", err)
	}
	if err := ensureDefinitions(ctx, client, crds.Lister(), definitions); err != nil {
		return nil, err
	}
	// After a warm start the paths of the kinds answer a little later than the
	// definitions are there.
	for _, definition := range definitions {
		path := "/apis/" + definition.Spec.Group + "/" + definition.Spec.Versions[0].Name + "/" + definition.Spec.Names.Plural
		if err := poll(ctx, func() (bool, error) {
			return client.RESTClient().Get().AbsPath(path).Param("limit", "1").Do(ctx).Error() == nil, nil
		}); err != nil {
			return nil, fmt.Errorf("wait for the first list of %s: %w", definition.Name, err)
		}
	}
	return s, nil
}

// openStorage opens what keeps the rules, unless a later release wrote it.
func openStorage(ctx context.Context, config *Config) (storage, error) {
	if config.External != nil {
		external, err := openExternal(ctx, config.External, config.Log)
		if err != nil {
			return nil, err // and no typed nil
		}
		return external, nil
	}
	if err := checkFormat(config.DataDir); err != nil {
		return nil, err
	}
	directory := filepath.Join(config.DataDir, "etcd")
	if err := os.MkdirAll(directory, 0o700); err != nil {
		return nil, fmt.Errorf("make the folder of the store: %w", err)
	}
	own, err := startEtcd(ctx, directory, config.Log)
	if err != nil {
		return nil, err
	}
	if err := writeFormat(config.DataDir); err != nil {
		own.Close()
		return nil, err
	}
	return own, nil
}

// serve starts the HTTP server on the pipe to ourselves.
func (s *Server) serve() {
	stopping, stopWatch := context.WithCancel(context.Background())
	s.stopWatch = stopWatch
	s.front = &front{rules: s.crds.Handler, stopping: stopping}
	s.http = &http.Server{
		Handler:           s.front,
		ConnContext:       withCaller,
		ReadHeaderTimeout: headerTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		ErrorLog:          log.New(debugWriter{s.config.Log}, "", 0),
	}
	s.served.Go(func() { _ = s.http.Serve(s.memory) }) // ends with Shutdown
}

// Open opens api.sock, and the TCP port where there is one, and serves beside on the
// paths below /sluice/.
func (s *Server) Open(ctx context.Context, beside http.Handler) error {
	listener, err := listenSocket(s.config.Socket, s.config.Peers, s.config.Log)
	if err != nil {
		return err
	}
	s.front.beside.Store(&beside)
	s.served.Go(func() {
		if err := s.http.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			s.config.Log.Error("api.sock is no longer served", "error", err)
		}
	})
	if s.config.Listen != "" {
		return s.openRemote(ctx)
	}
	return nil
}

// Loopback is the configuration of clients inside this process. It is a copy.
func (s *Server) Loopback() *rest.Config { return rest.CopyConfig(s.crds.Loopback) }

// Failed delivers an error when the store ended by itself; it delivers nothing,
// or is closed, when Stop ended it.
func (s *Server) Failed() <-chan error { return s.store.Failed() }

// Stop ends the API and then etcd, and waits for both. Whoever holds a client of
// Loopback stops first. Later calls return what the first did.
func (s *Server) Stop() error {
	s.stopOnce.Do(func() {
		ctx, cancel := context.WithTimeout(context.Background(), drainTimeout)
		defer cancel()
		s.quiet.Store(true)
		s.stopWatch()
		s.crds.Drain(ctx)
		cancel()
		ctx, cancel = context.WithTimeout(context.Background(), flushTimeout)
		defer cancel()
		for _, server := range []*http.Server{s.remote, s.http} {
			if server == nil {
				continue
			}
			if err := server.Shutdown(ctx); err != nil {
				_ = server.Close() // what did not finish was not acknowledged
			}
		}
		s.served.Wait()
		s.stopErr = s.crds.Wait()
		s.store.Close()
	})
	return s.stopErr
}

// debugWriter logs what net/http says of a connection that failed.
type debugWriter struct{ log *slog.Logger }

func (w debugWriter) Write(line []byte) (int, error) {
	w.log.Debug("api connection", "error", string(line))
	return len(line), nil
}
