package server

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"log/slog"
	"strings"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"

	"sluice.dev/sluice/internal/control/cluster"
	"sluice.dev/sluice/internal/control/kubeapi"
)

const (
	// etcdServers begins the keys by which the servers of one etcd say what their proxies run.
	etcdServers = kubeapi.ExternalPrefix + "servers/"
	// etcdLeader begins those by which they agree who writes statuses.
	etcdLeader = kubeapi.ExternalPrefix + "leader"
	// etcdLife is how long a server counts that says nothing, in seconds.
	etcdLife = 15
	// etcdRetry is between two tries to take part.
	etcdRetry = time.Second
)

// etcdReplicas is the servers whose rules are in one etcd.
type etcdReplicas struct {
	client             *clientv3.Client
	key                string // of what this server says
	log                *slog.Logger
	*cluster.Standings // the others by their keys
}

func newEtcdReplicas(client *clientv3.Client, log *slog.Logger) *etcdReplicas {
	return &etcdReplicas{client: client, key: etcdServers + rand.Text(), log: log, Standings: cluster.NewStandings()}
}

// Run implements replicas.
func (r *etcdReplicas) Run(ctx context.Context) {
	var running sync.WaitGroup
	defer running.Wait()
	running.Go(func() { r.again(ctx, "follow the other servers", r.follow) })
	r.again(ctx, "take part among the servers", r.takePart)
}

// again does something until ctx ends, whenever it failed.
func (r *etcdReplicas) again(ctx context.Context, what string, do func(context.Context) error) {
	for ctx.Err() == nil {
		if err := do(ctx); err != nil && ctx.Err() == nil {
			r.log.Warn("the servers of one etcd do not see one another", "to", what, "error", err, "again", etcdRetry)
		}
		select {
		case <-ctx.Done():
		case <-time.After(etcdRetry):
		}
	}
}

// takePart says what this server's proxies run, and writes statuses when it is its turn,
// for as long as etcd knows that it lives.
func (r *etcdReplicas) takePart(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	session, err := concurrency.NewSession(r.client, concurrency.WithTTL(etcdLife), concurrency.WithContext(ctx))
	if err != nil {
		return err
	}
	var electing sync.WaitGroup
	defer electing.Wait()
	defer func() {
		cancel()
		ending, done := context.WithTimeout(context.Background(), etcdRetry)
		defer done()
		_, _ = r.client.Revoke(ending, session.Lease()) // else what it holds ends by itself, later
		r.Lead(func() bool { return false })
	}()
	electing.Go(func() {
		if err := concurrency.NewElection(session, etcdLeader).Campaign(ctx, r.key); err != nil {
			if ctx.Err() == nil {
				r.log.Warn("this server cannot take its turn at writing statuses: it takes part anew", "error", err)
			}
			cancel() // its key may be in the way of the others as long as its lease lives
			return
		}
		r.Lead(func() bool { return ctx.Err() == nil })
	})
	for {
		said, err := json.Marshal(r.Own())
		if err == nil {
			_, err = r.client.Put(ctx, r.key, string(said), clientv3.WithLease(session.Lease()))
		}
		if err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-session.Done():
			return nil
		case <-r.Fresh():
		}
	}
}

// follow keeps what the other servers say.
func (r *etcdReplicas) follow(ctx context.Context) error {
	ctx, cancel := context.WithCancel(clientv3.WithRequireLeader(ctx))
	defer cancel()
	all, err := r.client.Get(ctx, etcdServers, clientv3.WithPrefix())
	if err != nil {
		return err
	}
	r.Change(func(others map[string]cluster.Standing) bool {
		clear(others)
		for _, one := range all.Kvs {
			r.take(others, string(one.Key), one.Value)
		}
		return true
	})
	for answer := range r.client.Watch(ctx, etcdServers, clientv3.WithPrefix(), clientv3.WithRev(all.Header.Revision+1)) {
		if err := answer.Err(); err != nil {
			return err
		}
		r.Change(func(others map[string]cluster.Standing) bool {
			for _, event := range answer.Events {
				if event.Type == clientv3.EventTypeDelete {
					delete(others, string(event.Kv.Key))
				} else {
					r.take(others, string(event.Kv.Key), event.Kv.Value)
				}
			}
			return true
		})
	}
	return ctx.Err()
}

// take takes in what one server says.
func (r *etcdReplicas) take(others map[string]cluster.Standing, key string, said []byte) {
	var standing cluster.Standing
	if key != r.key && strings.HasPrefix(key, etcdServers) && json.Unmarshal(said, &standing) == nil {
		others[key] = standing
	}
}
