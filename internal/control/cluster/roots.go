package cluster

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	applycore "k8s.io/client-go/applyconfigurations/core/v1"
	"k8s.io/client-go/kubernetes"

	"sluice.dev/sluice/internal/kube/inject"
)

const (
	// RootsConfigMap is what the ConfigMap of each namespace is called by which the sidecars
	// there know the server.
	RootsConfigMap = inject.RootsConfigMap
	// rootsKey is the member of it.
	rootsKey = "root-cert.pem"

	// rootsEvery is how often it is looked whether the authority changed.
	rootsEvery = time.Minute
	// rootsSoon is how long after a failure a namespace is tried again; after each further one
	// it is twice as long, and rootsEvery in the end.
	rootsSoon = time.Second
	// rootsTimeout bounds one call.
	rootsTimeout = 10 * time.Second
	// managedBy is the label of what the server writes for others, so that an uninstallation
	// finds it.
	managedBy, manager = "app.kubernetes.io/managed-by", "sluice-server"
)

// Roots keeps the ConfigMap of the authority in each namespace with a Pod that has a sidecar.
// It stays where the last one left: the next may be about to start.
type Roots struct {
	cluster *Cluster
	client  kubernetes.Interface
	ca      func() []byte
	leads   func() (leads bool, changed <-chan struct{})
	log     *slog.Logger

	mu     sync.Mutex
	listed bool
	there  map[string]rootsSeen // by namespace
	failed map[string]failure
	fresh  chan struct{} // holds a token while there may be something to write
}

// rootsSeen is what is in the ConfigMap of a namespace.
type rootsSeen struct {
	pem       string
	immutable bool
}

// failure is when a namespace is tried again.
type failure struct {
	at    time.Time
	pause time.Duration
}

// Roots returns what Run keeps; ca is the authority's certificates now, in PEM. Every server
// writes what is missing, and the one that leads what is wrong: while they know different
// authorities they would undo one another.
func (c *Cluster) Roots(ca func() []byte, leads func() (leads bool, changed <-chan struct{})) *Roots {
	return &Roots{
		cluster: c, client: c.client, ca: ca, leads: leads, log: c.config.Log,
		there: make(map[string]rootsSeen), failed: make(map[string]failure), fresh: make(chan struct{}, 1),
	}
}

// Run keeps them until ctx ends, and waits for all that it started.
func (r *Roots) Run(ctx context.Context) {
	var running sync.WaitGroup
	defer running.Wait()
	to := target{lock: &r.mu, listed: func(string) { r.listed = true; r.wake() }, client: r.client}
	all := r.client.CoreV1().ConfigMaps(metav1.NamespaceAll)
	follow := following(to, "configmaps", "metadata.name="+RootsConfigMap, new(corev1.ConfigMap), all, r.put, r.remove, stripMeta)
	running.Go(func() { follow.follow(ctx) })
	for {
		leads, lead := r.leads()
		namespaces, joined := r.cluster.joining()
		soonest := r.look(ctx, namespaces, leads)
		timer := time.NewTimer(soonest)
		select {
		case <-ctx.Done():
		case <-lead:
		case <-joined:
		case <-r.fresh:
		case <-timer.C:
		}
		timer.Stop()
		if ctx.Err() != nil {
			return
		}
	}
}

// put takes in a ConfigMap as it is now. The lock is held, as by remove.
func (r *Roots) put(seen *corev1.ConfigMap) {
	r.there[seen.Namespace] = rootsSeen{seen.Data[rootsKey], seen.Immutable != nil && *seen.Immutable}
	r.wake()
}

func (r *Roots) remove(name key) {
	delete(r.there, name.namespace)
	r.wake()
}

func (r *Roots) wake() {
	select {
	case r.fresh <- struct{}{}:
	default:
	}
}

// look writes what is missing or wrong, and returns when to look again whatever happens.
func (r *Roots) look(ctx context.Context, namespaces []string, leads bool) time.Duration {
	want, now, soonest := string(r.ca()), time.Now(), rootsEvery
	r.mu.Lock()
	listed := r.listed
	maps.DeleteFunc(r.failed, func(namespace string, _ failure) bool { return !slices.Contains(namespaces, namespace) })
	r.mu.Unlock()
	if !listed {
		return soonest
	}
	for _, namespace := range namespaces {
		r.mu.Lock()
		seen, found := r.there[namespace]
		before := r.failed[namespace]
		r.mu.Unlock()
		if found && (seen.pem == want || !leads) {
			continue
		}
		if wait := before.at.Sub(now); wait > 0 {
			soonest = min(soonest, wait)
			continue
		}
		if pause := r.wrote(ctx, namespace, before, r.write(ctx, namespace, want, seen)); pause > 0 {
			soonest = min(soonest, pause)
		}
	}
	return soonest
}

// wrote notes how a write ended, and returns after what time it is tried again, 0 for never.
func (r *Roots) wrote(ctx context.Context, namespace string, before failure, err error) time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	// A namespace that is going needs nothing.
	if err == nil || apierrors.IsNotFound(err) || apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause) {
		delete(r.failed, namespace)
		return 0
	}
	pause := min(max(2*before.pause, rootsSoon), rootsEvery)
	r.failed[namespace] = failure{time.Now().Add(pause), pause}
	if before.pause == 0 && ctx.Err() == nil {
		r.log.Warn("the sidecars of a namespace do not learn by what they know the server", "namespace", namespace, "configmap", RootsConfigMap, "error", err)
	}
	return pause
}

// write applies the ConfigMap: only so may the right to create it be bound to its name.
func (r *Roots) write(ctx context.Context, namespace, pem string, seen rootsSeen) error {
	ctx, cancel := context.WithTimeout(ctx, rootsTimeout)
	defer cancel()
	its := r.client.CoreV1().ConfigMaps(namespace)
	if seen.immutable { // somebody made it so, and nobody may change it then
		if err := its.Delete(ctx, RootsConfigMap, metav1.DeleteOptions{}); err != nil && !apierrors.IsNotFound(err) {
			return err
		}
	}
	_, err := its.Apply(ctx, applycore.ConfigMap(RootsConfigMap, namespace).
		WithLabels(map[string]string{managedBy: manager}).WithData(map[string]string{rootsKey: pem}),
		metav1.ApplyOptions{FieldManager: manager, Force: true})
	return err
}

// joining returns the namespaces with a Pod that has a sidecar, and a channel that is closed
// when there are others.
func (c *Cluster) joining() (namespaces []string, changed <-chan struct{}) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Sorted(maps.Keys(c.sidecars)), c.joined
}

// countSidecar counts a Pod's namespace in or out. The lock is held.
func (c *Cluster) countSidecar(namespace string, old, now *pod) {
	before := c.sidecars[namespace]
	after := before
	if old != nil && old.joins {
		after--
	}
	if now != nil && now.joins {
		after++
	}
	if c.sidecars[namespace] = after; after == 0 {
		delete(c.sidecars, namespace)
	}
	if (before == 0) != (after == 0) {
		close(c.joined)
		c.joined = make(chan struct{})
	}
}
