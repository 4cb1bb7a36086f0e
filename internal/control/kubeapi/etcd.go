package kubeapi

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"time"

	"go.etcd.io/bbolt"
	bbolterrors "go.etcd.io/bbolt/errors"
	"go.etcd.io/etcd/server/v3/embed"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3rpc"
	"go.etcd.io/etcd/server/v3/storage/wal"
	"google.golang.org/grpc"
	"google.golang.org/grpc/keepalive"
	utilnet "k8s.io/apimachinery/pkg/util/net"
	"k8s.io/apiserver/pkg/server/egressselector"
	"k8s.io/apiserver/pkg/storage/storagebackend"
)

const (
	// etcdQuota bounds the store on disk, in bytes. At the bound etcd refuses
	// writes with "mvcc: database space exceeded" until it is compacted.
	etcdQuota = 512 << 20
	// etcdSegment is the size at which etcd begins another file of its log. It makes
	// each in its full size, and always one ahead: with its own 64 MB an empty store
	// takes 123 MiB on disk. An entry that is larger makes its file longer.
	etcdSegment = 1 << 20
	// etcdSnapshot is how many entries of the log there are between two snapshots. What
	// is before the last is not needed: the log on disk holds about these entries, and
	// so does the memory.
	etcdSnapshot = 1000
	// etcdCatchUp entries stay in memory for members that are behind: there is no other.
	etcdCatchUp = 100
	// etcdKeptFiles of the log, and as many snapshots, stay where they are not needed.
	etcdKeptFiles = 2
	// etcdStart bounds how long etcd may take until it is ready.
	etcdStart = 30 * time.Second
	// databaseLock is how long a lock on the database is waited for.
	databaseLock = time.Second
)

// etcdServer is one member of etcd that can be reached through memory alone.
type etcdServer struct {
	member *embed.Etcd
	grpc   *grpc.Server
	pipe   *pairListener
	served sync.WaitGroup
}

// setSegmentSize sets what etcd has as a variable of its package alone; servers of one
// process share it.
var setSegmentSize = sync.OnceFunc(func() { wal.SegmentSizeBytes = etcdSegment })

// startEtcd starts etcd on dir. Nothing of it listens: without peer and client
// URLs it opens no socket, and its gRPC services are served on a pipe. (A peer
// URL of the form unix:///path would quietly become an abstract socket, without
// any permissions.)
func startEtcd(ctx context.Context, dir string, log *slog.Logger) (*etcdServer, error) {
	if err := checkDatabase(filepath.Join(dir, "member", "snap", "db")); err != nil {
		return nil, err
	}
	config := embed.NewConfig()
	config.Name = "sluice"
	config.Dir = dir
	config.ListenPeerUrls, config.ListenClientUrls = nil, nil
	config.ListenClientHttpUrls, config.ListenMetricsUrls = nil, nil
	config.AdvertiseClientUrls = nil
	// Names the only member; never dialled, never bound.
	config.AdvertisePeerUrls = []url.URL{{Scheme: "http", Host: "127.0.0.1:1"}}
	config.InitialCluster = config.InitialClusterFromName(config.Name)
	config.TickMs, config.ElectionMs = 25, 125 // alone it is elected at once; a shorter tick only wakes it more often
	config.EnableGRPCGateway = false
	config.QuotaBackendBytes = etcdQuota
	config.SnapshotCount, config.SnapshotCatchUpEntries = etcdSnapshot, etcdCatchUp
	config.MaxWalFiles, config.MaxSnapFiles = etcdKeptFiles, etcdKeptFiles
	setSegmentSize()
	config.ZapLoggerBuilder = embed.NewZapLoggerBuilder(zapToSlog(log))

	member, err := openEtcd(config)
	if err != nil {
		return nil, fmt.Errorf("start etcd on %s: %w", dir, err)
	}
	late := time.NewTimer(etcdStart)
	defer late.Stop()
	select {
	case <-member.Server.ReadyNotify():
	case err = <-member.Err():
	case <-ctx.Done():
		err = ctx.Err()
	case <-late.C:
		err = errors.New("not ready after " + etcdStart.String())
	}
	if err != nil {
		member.Close()
		return nil, fmt.Errorf("start etcd on %s: %w", dir, err)
	}

	server := &etcdServer{member: member, pipe: newPairListener(itself)}
	// The API server's client sends keepalives more often than gRPC's default
	// policy bears.
	server.grpc = v3rpc.Server(member.Server, nil, nil, grpc.KeepaliveEnforcementPolicy(
		keepalive.EnforcementPolicy{MinTime: time.Second, PermitWithoutStream: true}))
	server.served.Go(func() { _ = server.grpc.Serve(server.pipe) }) // ends with Stop
	return server, nil
}

// checkDatabase looks into the database before etcd does, which panics in a
// goroutine of its own where it cannot read it, and waits for a lock for ever.
func checkDatabase(path string) error {
	if _, err := os.Stat(path); errors.Is(err, os.ErrNotExist) {
		return nil // a new store
	}
	database, err := bbolt.Open(path, 0o600, &bbolt.Options{ReadOnly: true, Timeout: databaseLock})
	switch {
	case errors.Is(err, bbolterrors.ErrTimeout):
		return fmt.Errorf("the store %s is locked by another process: stop it first", path)
	case err != nil:
		return fmt.Errorf("the store %s cannot be read: %w; restore it from a copy, or choose another data folder", path, err)
	}
	return database.Close()
}

// openEtcd starts the member. A store that etcd cannot read makes it panic.
func openEtcd(config *embed.Config) (member *embed.Etcd, err error) {
	defer func() {
		if why := recover(); why != nil {
			if _, ok := why.(runtime.Error); ok {
				why = "its log is damaged"
			}
			member, err = nil, fmt.Errorf("the store cannot be read: %v; restore it from a copy, or choose another data folder", why)
		}
	}()
	return embed.StartEtcd(config)
}

func (e *etcdServer) configure(storage *storagebackend.Config) {
	storage.Transport.ServerList = []string{"http://etcd.invalid:2379"} // a name for the client; Dial does not look at it
	storage.Transport.EgressLookup = func(egressselector.NetworkContext) (utilnet.DialFunc, error) { return e.Dial, nil }
}

// Dial connects to etcd's gRPC services; network and address are not looked at.
func (e *etcdServer) Dial(ctx context.Context, _, _ string) (net.Conn, error) {
	return e.pipe.Dial(ctx)
}

// Failed ends with an error when etcd stopped by itself.
func (e *etcdServer) Failed() <-chan error { return e.member.Err() }

// Close stops etcd and waits for it. All that was acknowledged is on disk.
func (e *etcdServer) Close() {
	e.grpc.Stop()
	e.served.Wait()
	_ = e.pipe.Close()
	e.member.Close()
}
