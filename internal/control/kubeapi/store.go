package kubeapi

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"

	"sluice.dev/sluice/api"
	"sluice.dev/sluice/api/v1alpha1"
)

// StoreConfig configures a Store.
type StoreConfig struct {
	API   *rest.Config // of the embedded API (Server.Loopback) or of a cluster
	Kinds []*api.Kind
	// Validate says that the API may hold what api.Validate refuses, as a cluster's may while
	// its webhook is not asked: such an object takes no effect, and its status says why.
	Validate bool
	// Accepted is called when a status that was written says for the first time that the object
	// takes no effect, or why, and when it takes effect again. It must return at once; nil: nobody
	// is called.
	Accepted func(object *api.Object, accepted bool, reason, text string)
	Log      *slog.Logger
}

// Store follows the rules: the typed objects of the API, held in memory. What it
// holds is bounded by what the API's own storage takes.
type Store struct {
	config  StoreConfig
	client  dynamic.Interface
	reports chan struct{} // holds a token while a report is new

	mu       sync.Mutex
	held     map[objectKey]int // index into objects
	objects  []stored
	missing  map[string]bool // kinds (by resource) that were never listed
	revision int64
	copied   []api.Object  // what Objects returns; nil when it is to be made anew
	changed  chan struct{} // closed at the next change
	report   Report
}

type objectKey struct{ resource, namespace, name string }

// stored is an object with what the store notes of it.
type stored struct {
	api.Object // without its status
	key        objectKey
	status     v1alpha1.Status
	fault      string // why the object takes no effect, whatever is compiled; "" as a rule
	// inForce is what the object was before it had the fault, where that stays in force
	// (staysInForce); nil else.
	inForce *api.Object
	// since is the revision of the newest change that Objects reports; a write of
	// the status alone moves only the object's resource version.
	since int64
}

// NewStore returns a Store; Run starts it.
func NewStore(config StoreConfig) (*Store, error) {
	if config.API == nil || config.Log == nil || len(config.Kinds) == 0 {
		return nil, errors.New("kubeapi: a field of StoreConfig is missing")
	}
	client, err := dynamic.NewForConfig(config.API)
	if err != nil {
		return nil, fmt.Errorf("reach the rule API: %w", err)
	}
	s := &Store{
		config: config, client: client,
		reports: make(chan struct{}, 1),
		held:    make(map[objectKey]int), missing: make(map[string]bool), changed: make(chan struct{}),
	}
	for _, kind := range config.Kinds {
		s.missing[kind.Resource()] = true
	}
	return s, nil
}

// Check asks for one object of each kind, and says what is missing where that fails: Run
// would try for ever.
func (s *Store) Check(ctx context.Context) error {
	for _, kind := range s.config.Kinds {
		_, err := s.client.Resource(groupVersionResource(kind)).List(ctx, metav1.ListOptions{Limit: 1})
		switch {
		case apierrors.IsNotFound(err):
			return fmt.Errorf("the cluster does not know %s: apply the definitions of deploy/crds first", kind.FullName())
		case apierrors.IsForbidden(err):
			return fmt.Errorf("the server may not list %s: apply deploy/kubernetes/rbac.yaml first (%w)", kind.FullName(), err)
		case err != nil:
			return fmt.Errorf("list %s: %w", kind.FullName(), err)
		}
	}
	return nil
}

// Run follows the API until ctx ends, and waits for all that it started.
func (s *Store) Run(ctx context.Context) {
	var running sync.WaitGroup
	defer running.Wait()
	for _, kind := range s.config.Kinds {
		running.Go(func() { s.reflector(kind).RunWithContext(ctx) })
	}
	s.writeStatuses(ctx)
}

func (s *Store) reflector(kind *api.Kind) *cache.Reflector {
	resource := s.client.Resource(groupVersionResource(kind))
	source := &cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, options metav1.ListOptions) (runtime.Object, error) {
			return resource.List(ctx, options)
		},
		WatchFuncWithContext: func(ctx context.Context, options metav1.ListOptions) (watch.Interface, error) {
			return resource.Watch(ctx, options)
		},
	}
	return cache.NewReflectorWithOptions(cache.ToListWatcherWithWatchListSemantics(source, s.client),
		new(unstructured.Unstructured), &kindSink{store: s, kind: kind}, cache.ReflectorOptions{
			Name:            kind.Resource(),
			TypeDescription: kind.FullName(),
			// In one process a failure is a restart of a part, not an overload.
			Backoff: &wait.Backoff{Duration: 50 * time.Millisecond, Factor: 2, Jitter: 0.5, Steps: 8, Cap: 5 * time.Second},
		})
}

func groupVersionResource(kind *api.Kind) schema.GroupVersionResource {
	return schema.GroupVersionResource{Group: kind.Group, Version: kind.Version, Resource: kind.Plural}
}

// Objects returns every object that may take effect, in any order, the revision of the newest change,
// and a channel that is closed at the next one: a change of a spec, of labels or
// annotations, or of the set, but not of a status. ready is false until every
// kind was read once. What is returned never changes; the caller must not change
// it either.
func (s *Store) Objects() (objects []api.Object, revision int64, changed <-chan struct{}, ready bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.missing) > 0 {
		return nil, 0, s.changed, false
	}
	if s.copied == nil {
		s.copied = make([]api.Object, 0, len(s.objects))
		for i := range s.objects {
			switch each := &s.objects[i]; {
			case each.fault == "":
				s.copied = append(s.copied, each.Object)
			case each.inForce != nil:
				s.copied = append(s.copied, *each.inForce)
			}
		}
	}
	return s.copied, s.revision, s.changed, true
}

// Len returns how many objects the store holds.
func (s *Store) Len() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.objects)
}

// put takes in one object as the API served it.
func (s *Store) put(fresh stored) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.putLocked(fresh)
}

func (s *Store) putLocked(fresh stored) {
	s.revision = max(s.revision, fresh.since)
	i, known := s.held[fresh.key]
	if !known {
		s.held[fresh.key] = len(s.objects)
		s.objects = append(s.objects, fresh)
		s.markChanged()
		return
	}
	old := &s.objects[i]
	if fresh.fault != "" && staysInForce(&fresh.Object) {
		if fresh.inForce = old.inForce; old.fault == "" {
			before := old.Object
			fresh.inForce = &before
		}
	}
	switch {
	case !sameButStatus(&old.Object, &fresh.Object):
		s.markChanged()
	case fresh.since < revisionOf(&old.Object):
		return // a status that was written since, and noted
	default:
		// The old spec stays, so that who compiled it can tell by its address.
		fresh.Spec, fresh.since = old.Spec, old.since
	}
	*old = fresh
}

// staysInForce says of an object whether what it was stays in force while it has a fault. A
// rule that has one allows nothing; a MeshConfig restricts too, and what it restricts must not
// fall away.
func staysInForce(object *api.Object) bool {
	_, config := object.Spec.(*v1alpha1.MeshConfigSpec)
	return config
}

// specOf returns the spec that is held of an object in this generation, or nil, and what
// is wrong with it: a spec does not change within one, and need not be read again.
func (s *Store) specOf(key objectKey, uid string, generation int64) (spec any, fault string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	i, known := s.held[key]
	if !known || s.objects[i].Metadata.UID != uid || s.objects[i].Metadata.Generation != generation {
		return nil, ""
	}
	return s.objects[i].Spec, s.objects[i].fault
}

// sameButStatus reports whether b is a, apart from its status and from metadata
// that nobody compiles. The API counts a spec's generation.
func sameButStatus(a, b *api.Object) bool {
	return a.Metadata.UID == b.Metadata.UID && a.Metadata.Generation == b.Metadata.Generation &&
		equalMaps(a.Metadata.Labels, b.Metadata.Labels) && equalMaps(a.Metadata.Annotations, b.Metadata.Annotations)
}

func (s *Store) remove(key objectKey, revision int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.revision = max(s.revision, revision)
	s.removeLocked(key)
}

func (s *Store) removeLocked(key objectKey) {
	i, known := s.held[key]
	if !known {
		return
	}
	last := len(s.objects) - 1
	s.objects[i] = s.objects[last]
	s.held[s.objects[i].key] = i
	s.objects[last] = stored{}
	s.objects = s.objects[:last]
	delete(s.held, key)
	s.markChanged()
}

// replace takes in the whole of one kind.
func (s *Store) replace(resource string, objects map[objectKey]stored, revision int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, key := range s.keysOf(resource) {
		if _, still := objects[key]; !still {
			s.removeLocked(key)
		}
	}
	for _, object := range objects {
		s.putLocked(object)
	}
	s.revision = max(s.revision, revision)
	if s.missing[resource] {
		delete(s.missing, resource)
		s.markChanged() // perhaps all were read now
	}
}

func (s *Store) keysOf(resource string) (keys []objectKey) {
	for key := range s.held {
		if key.resource == resource {
			keys = append(keys, key)
		}
	}
	return keys
}

// markChanged wakes who waits for a change. The lock is held.
func (s *Store) markChanged() {
	s.copied = nil
	close(s.changed)
	s.changed = make(chan struct{})
}

func wakeUp(token chan struct{}) {
	select {
	case token <- struct{}{}:
	default:
	}
}

func revisionOf(object *api.Object) int64 { return parseRevision(object.Metadata.ResourceVersion) }

// parseRevision reads a resource version, which our own etcd makes a number.
func parseRevision(version string) int64 {
	revision, _ := strconv.ParseInt(version, 10, 64)
	return revision
}

func equalMaps(a, b map[string]string) bool {
	if len(a) != len(b) {
		return false
	}
	for key, value := range a {
		if other, ok := b[key]; !ok || other != value {
			return false
		}
	}
	return true
}

// kindSink is where the reflector of one kind puts what it sees.
type kindSink struct {
	store *Store
	kind  *api.Kind
}

var _ cache.ReflectorStore = (*kindSink)(nil)

func (k *kindSink) Add(seen any) error {
	object, err := k.decode(seen)
	if err != nil {
		return err
	}
	k.store.put(object)
	return nil
}

func (k *kindSink) Update(seen any) error { return k.Add(seen) }

func (k *kindSink) Delete(seen any) error {
	item, err := asUnstructured(seen)
	if err != nil {
		return err
	}
	k.store.remove(k.keyOf(item), parseRevision(item.GetResourceVersion()))
	return nil
}

func (k *kindSink) Replace(seen []any, version string) error {
	objects := make(map[objectKey]stored, len(seen))
	for _, one := range seen {
		object, err := k.decode(one)
		if err != nil {
			// What is no object must not hide the others.
			k.store.config.Log.Error("an object of the store cannot be read", "kind", k.kind.Name, "error", err)
			continue
		}
		objects[object.key] = object
	}
	k.store.replace(k.kind.Resource(), objects, parseRevision(version))
	return nil
}

func (k *kindSink) Resync() error { return nil }

func (k *kindSink) keyOf(item *unstructured.Unstructured) objectKey {
	return objectKey{k.kind.Resource(), item.GetNamespace(), item.GetName()}
}

// decode turns what the API served into an object with a typed spec.
func (k *kindSink) decode(seen any) (stored, error) {
	item, err := asUnstructured(seen)
	if err != nil {
		return stored{}, err
	}
	key := k.keyOf(item)
	object := stored{key: key, status: readStatus(item.Object["status"]), Object: api.Object{
		APIVersion: k.kind.APIVersion(), Kind: k.kind.Name,
		Metadata: api.Meta{
			Name: key.name, Namespace: key.namespace,
			Labels: item.GetLabels(), Annotations: item.GetAnnotations(),
			ResourceVersion: item.GetResourceVersion(), UID: string(item.GetUID()),
			Generation: item.GetGeneration(), CreationTimestamp: item.GetCreationTimestamp().Time,
		},
	}}
	object.since = revisionOf(&object.Object)
	if object.Spec, object.fault = k.store.specOf(key, object.Metadata.UID, object.Metadata.Generation); object.Spec != nil {
		return object, nil
	}
	object.Spec = k.kind.NewSpec()
	if spec, ok := item.Object["spec"].(map[string]any); ok {
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(spec, object.Spec); err != nil {
			// It must not hide the others, nor an earlier form of itself.
			object.Spec, object.fault = k.kind.NewSpec(), "spec cannot be read: "+err.Error()
			return object, nil
		}
	}
	if k.store.config.Validate {
		object.fault = faultsOf(&object.Object)
	}
	return object, nil
}

// faultsOf returns what api.Validate says of an object, in one text; "" where it is valid.
func faultsOf(object *api.Object) string {
	faults := api.Validate(object)
	texts := make([]string, len(faults))
	for i, fault := range faults {
		texts[i] = fault.Error()
	}
	return strings.Join(texts, "; ")
}

func asUnstructured(seen any) (*unstructured.Unstructured, error) {
	switch item := seen.(type) {
	case *unstructured.Unstructured:
		return item, nil
	case cache.DeletedFinalStateUnknown:
		return asUnstructured(item.Obj)
	}
	return nil, fmt.Errorf("the watch delivered a %T", seen)
}

// sortedByRevision returns the objects that report speaks of, oldest first.
func sortedByRevision(objects []stored, revision int64) []stored {
	due := make([]stored, 0, len(objects))
	for _, object := range objects {
		if object.since <= revision {
			due = append(due, object)
		}
	}
	slices.SortFunc(due, func(a, b stored) int { return cmp.Compare(a.since, b.since) })
	return due
}
