package cluster

import (
	"context"
	"fmt"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/tools/cache"
)

// living leaves out the Pods that ended: nobody reaches them, and a cluster keeps
// thousands of them.
const living = "status.phase!=Succeeded,status.phase!=Failed"

// resource is one kind of the cluster that is followed.
type resource struct {
	name   string
	follow func(ctx context.Context)
	check  func(ctx context.Context) error // asks for one object
}

// resources is all that is followed of a cluster. What is not here is not needed: the fewer
// rights the server has.
func (c *Cluster) resources() []resource {
	core, discovery := c.client.CoreV1(), c.client.DiscoveryV1()
	to := target{lock: &c.mu, listed: c.listed, client: c.client}
	return []resource{
		following(to, "pods", living, new(corev1.Pod), core.Pods(metav1.NamespaceAll), c.putPod, c.removePod, stripPod),
		following(to, "services", "", new(corev1.Service), core.Services(metav1.NamespaceAll), c.putService, c.removeService, stripMeta),
		following(to, "endpointslices", "", new(discoveryv1.EndpointSlice), discovery.EndpointSlices(metav1.NamespaceAll), c.putSlice, c.removeSlice, stripMeta),
	}
}

// target is where what is followed goes.
type target struct {
	lock   *sync.Mutex
	listed func(resource string) // with the lock held, whenever all of it was taken in
	client any                   // of the cluster
}

// source lists and watches one kind.
type source[L runtime.Object] interface {
	List(ctx context.Context, options metav1.ListOptions) (L, error)
	Watch(ctx context.Context, options metav1.ListOptions) (watch.Interface, error)
}

func following[T metav1.Object, L runtime.Object](
	to target, name, selector string, expected T, from source[L], put func(T), remove func(key), strip func(metav1.Object),
) resource {
	watched := &cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, options metav1.ListOptions) (runtime.Object, error) {
			options.FieldSelector = selector
			return from.List(ctx, options)
		},
		WatchFuncWithContext: func(ctx context.Context, options metav1.ListOptions) (watch.Interface, error) {
			options.FieldSelector = selector
			return from.Watch(ctx, options)
		},
	}
	check := func(ctx context.Context) error {
		_, err := from.List(ctx, metav1.ListOptions{Limit: 1})
		if apierrors.IsForbidden(err) {
			return fmt.Errorf("the server may not list %s: apply deploy/kubernetes/rbac.yaml first (%w)", name, err)
		}
		if err != nil {
			return fmt.Errorf("list the %s of the cluster: %w", name, err)
		}
		return nil
	}
	return resource{name: name, check: check, follow: func(ctx context.Context) {
		cache.NewReflectorWithOptions(cache.ToListWatcherWithWatchListSemantics(watched, to.client), expected,
			&sink[T]{target: to, resource: name, put: put, remove: remove, strip: strip, held: make(map[key]bool)},
			cache.ReflectorOptions{
				Name: name, TypeDescription: name,
				Backoff: &wait.Backoff{Duration: 100 * time.Millisecond, Factor: 2, Jitter: 0.5, Steps: 8, Cap: 10 * time.Second},
			}).RunWithContext(ctx)
	}}
}

// sink takes what a reflector sees of one kind. One goroutine calls it.
type sink[T metav1.Object] struct {
	target
	resource string
	put      func(T) // with the lock held, as remove
	remove   func(key)
	strip    func(metav1.Object)
	held     map[key]bool // what was put
}

var (
	_ cache.ReflectorStore    = (*sink[*corev1.Pod])(nil)
	_ cache.TransformingStore = (*sink[*corev1.Pod])(nil)
)

// Transformer implements cache.TransformingStore: what a first list holds until it is whole
// is stripped as it comes.
func (s *sink[T]) Transformer() cache.TransformFunc {
	return func(seen any) (any, error) {
		if object, ok := seen.(metav1.Object); ok {
			s.strip(object)
		}
		return seen, nil
	}
}

// Add implements cache.ReflectorStore.
func (s *sink[T]) Add(seen any) error {
	object, ok := seen.(T)
	if !ok {
		return fmt.Errorf("the watch of %s delivered a %T", s.resource, seen)
	}
	s.lock.Lock()
	defer s.lock.Unlock()
	s.held[keyOf(object)] = true
	s.put(object)
	return nil
}

// Update implements cache.ReflectorStore.
func (s *sink[T]) Update(seen any) error { return s.Add(seen) }

// Delete implements cache.ReflectorStore.
func (s *sink[T]) Delete(seen any) error {
	object, ok := seen.(T)
	if !ok {
		return fmt.Errorf("the watch of %s delivered a %T", s.resource, seen)
	}
	s.lock.Lock()
	defer s.lock.Unlock()
	delete(s.held, keyOf(object))
	s.remove(keyOf(object))
	return nil
}

// Replace implements cache.ReflectorStore: after a watch was lost it says what is gone too.
func (s *sink[T]) Replace(seen []any, _ string) error {
	s.lock.Lock()
	defer s.lock.Unlock()
	there := make(map[key]bool, len(seen))
	for _, one := range seen {
		object, ok := one.(T)
		if !ok {
			return fmt.Errorf("the list of %s holds a %T", s.resource, one)
		}
		there[keyOf(object)] = true
		s.put(object)
	}
	for name := range s.held {
		if !there[name] {
			s.remove(name)
		}
	}
	s.held = there
	s.listed(s.resource)
	return nil
}

// Resync implements cache.ReflectorStore.
func (s *sink[T]) Resync() error { return nil }

func keyOf(object metav1.Object) key { return key{object.GetNamespace(), object.GetName()} }

// stripMeta drops what nobody asks for and what is large in many clusters.
func stripMeta(object metav1.Object) {
	object.SetManagedFields(nil)
	object.SetAnnotations(nil)
}
