package cluster

import (
	"context"
	"encoding/json"
	"log/slog"
	"sync"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/leaderelection"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
)

const (
	// leaderLease is the Lease of whoever writes statuses.
	leaderLease = "sluice-server-leader"
	// replicaPrefix begins the name of the Lease by which each server says what its proxies run.
	replicaPrefix = "sluice-server-replica-"
	// standingKey is the annotation of it that says so.
	standingKey = "sluice.dev/standing"

	// replicaLife is how long a server counts that says nothing; it speaks every third of that.
	replicaLife = 15 * time.Second
	// renewDeadline is how long a leader goes on that cannot reach the API server.
	renewDeadline = 10 * time.Second
	// retryPeriod is between two tries to lead.
	retryPeriod = 2 * time.Second
	// tellAtMost is the least time between two writes of what the proxies of one server run.
	tellAtMost = 500 * time.Millisecond
	// replicaTimeout bounds one call.
	replicaTimeout = 5 * time.Second
	// maxStanding bounds what another server says, in bytes.
	maxStanding = 1 << 10
)

// Replicas is the servers of one cluster, of which this is one. They share nothing but the
// cluster: a lease says who writes statuses, and a lease of each what its proxies run.
type Replicas struct {
	client     kubernetes.Interface
	namespace  string
	name       string
	log        *slog.Logger
	now        func() time.Time
	*Standings // the others by the names of their leases

	mu    sync.Mutex
	heard map[string]heard // by the name of the lease
}

// heard is which words of another server were the last, and when we heard them: its clock is
// not looked at.
type heard struct {
	version string
	at      time.Time
}

// Replicas returns the servers of a namespace, of which this one is called name.
func (c *Cluster) Replicas(namespace, name string) *Replicas {
	return &Replicas{
		client: c.client, namespace: namespace, name: name, log: c.config.Log, now: time.Now,
		Standings: NewStandings(), heard: make(map[string]heard),
	}
}

// Run takes part until ctx ends, and waits for all that it started.
func (r *Replicas) Run(ctx context.Context) {
	var running sync.WaitGroup
	defer running.Wait()
	leases := r.client.CoordinationV1().Leases(r.namespace)
	to := target{lock: &r.mu, listed: func(string) {}, client: r.client}
	follow := following(to, "leases", "", new(coordinationv1.Lease), leases, r.put, r.remove, func(metav1.Object) {})
	running.Go(func() { follow.follow(ctx) })
	running.Go(func() { r.tell(ctx) })
	running.Go(func() { r.prune(ctx) })
	r.elect(ctx)
}

// put takes in what a server says. The lock is held.
func (r *Replicas) put(lease *coordinationv1.Lease) {
	said := lease.Annotations[standingKey]
	if !isReplica(lease.Name) || lease.Name == replicaPrefix+r.name || len(said) > maxStanding {
		return
	}
	var fresh Standing
	if json.Unmarshal([]byte(said), &fresh) != nil {
		return
	}
	if r.heard[lease.Name].version == lease.ResourceVersion {
		return // listed anew, and not said anew
	}
	r.heard[lease.Name] = heard{lease.ResourceVersion, r.now()}
	r.Change(func(others map[string]Standing) bool {
		old, known := others[lease.Name]
		others[lease.Name] = fresh
		return !known || old != fresh
	})
}

// remove forgets a server. The lock is held.
func (r *Replicas) remove(name key) {
	r.forget(name.name)
}

// forget takes servers out of the count. The lock is held.
func (r *Replicas) forget(leases ...string) {
	r.Change(func(others map[string]Standing) (changed bool) {
		for _, name := range leases {
			_, known := others[name]
			changed = changed || known
			delete(others, name)
			delete(r.heard, name)
		}
		return changed
	})
}

func isReplica(lease string) bool {
	return len(lease) > len(replicaPrefix) && lease[:len(replicaPrefix)] == replicaPrefix
}

// prune counts no server that said nothing for long. The leader removes what it left.
func (r *Replicas) prune(ctx context.Context) {
	tick := time.NewTicker(replicaLife / 3)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		ended, leads := r.ended()
		for _, name := range ended {
			if leads {
				r.drop(name)
			}
		}
	}
}

// ended forgets the servers that said nothing for long, and returns their leases.
func (r *Replicas) ended() (leases []string, leads bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for name, last := range r.heard {
		if r.now().Sub(last.at) > replicaLife {
			leases = append(leases, name)
		}
	}
	r.forget(leases...)
	leads, _ = r.Leads()
	return leases, leads
}

func (r *Replicas) drop(lease string) {
	ctx, cancel := context.WithTimeout(context.Background(), replicaTimeout)
	defer cancel()
	err := r.client.CoordinationV1().Leases(r.namespace).Delete(ctx, lease, metav1.DeleteOptions{})
	if err != nil && !apierrors.IsNotFound(err) {
		r.log.Warn("the lease of a server that ended cannot be removed", "lease", lease, "error", err)
	}
}

// tell writes what the proxies of this server run, whenever that changed and as a sign of
// life, and takes it back at the end.
func (r *Replicas) tell(ctx context.Context) {
	sign := time.NewTicker(replicaLife / 3)
	defer sign.Stop()
	defer r.drop(replicaPrefix + r.name)
	for {
		if err := r.tellOnce(ctx); err != nil && ctx.Err() == nil {
			r.log.Warn("what the proxies of this server run cannot be told to the others", "error", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(tellAtMost):
		}
		select {
		case <-ctx.Done():
			return
		case <-sign.C:
		case <-r.Fresh():
		}
	}
}

func (r *Replicas) tellOnce(ctx context.Context) error {
	said, err := json.Marshal(r.Own())
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, replicaTimeout)
	defer cancel()
	leases := r.client.CoordinationV1().Leases(r.namespace)
	name := replicaPrefix + r.name
	lease, err := leases.Get(ctx, name, metav1.GetOptions{})
	missing := apierrors.IsNotFound(err)
	if err != nil && !missing {
		return err
	}
	if missing {
		lease = &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Name: name}}
	}
	lease.Annotations = map[string]string{standingKey: string(said)}
	lease.Spec = coordinationv1.LeaseSpec{
		HolderIdentity: &r.name, LeaseDurationSeconds: new(int32(replicaLife / time.Second)), RenewTime: new(metav1.NowMicro()),
	}
	if missing {
		_, err = leases.Create(ctx, lease, metav1.CreateOptions{})
	} else {
		_, err = leases.Update(ctx, lease, metav1.UpdateOptions{})
	}
	return err
}

// elect takes part in the election of who writes statuses, until ctx ends.
func (r *Replicas) elect(ctx context.Context) {
	elector, err := leaderelection.NewLeaderElector(leaderelection.LeaderElectionConfig{
		Lock: &resourcelock.LeaseLock{
			LeaseMeta:  metav1.ObjectMeta{Namespace: r.namespace, Name: leaderLease},
			Client:     r.client.CoordinationV1(),
			LockConfig: resourcelock.ResourceLockConfig{Identity: r.name},
		},
		LeaseDuration: replicaLife, RenewDeadline: renewDeadline, RetryPeriod: retryPeriod,
		ReleaseOnCancel: true, Name: leaderLease,
		Callbacks: leaderelection.LeaderCallbacks{
			OnStartedLeading: func(leading context.Context) { r.lead(func() bool { return leading.Err() == nil }) },
			OnStoppedLeading: func() { r.lead(func() bool { return false }) },
		},
	})
	if err != nil {
		r.log.Error("no server can be elected to write statuses", "error", err)
		return
	}
	for ctx.Err() == nil {
		elector.Run(ctx) // returns when another leads
	}
}

// lead notes whether this server leads: the elector tells the beginning in a goroutine.
func (r *Replicas) lead(still func() bool) {
	if leads, changed := r.Lead(still); changed {
		r.log.Info("statuses are written by one of the servers", "this one", leads)
	}
}
