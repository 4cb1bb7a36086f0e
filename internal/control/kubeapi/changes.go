package kubeapi

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apiserver/pkg/admission"
	"k8s.io/apiserver/pkg/endpoints/request"
	"sigs.k8s.io/yaml"

	"sluice.dev/sluice/api"
	"sluice.dev/sluice/internal/control/history"
)

// changes says of each write of a client who made it and what it changed: in a line of
// the log, and to changed. As a plugin of admission it sees what is about to be stored;
// around the handlers it sees whether it was, and holds the answer until it said so.
type changes struct {
	log     *slog.Logger
	changed func(entry history.Entry, before *history.Entry) // nil: nobody asks
}

// pending is what one request is about to change.
type pending struct {
	mu      sync.Mutex
	objects []pendingObject
}

func (p *pending) any() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.objects) > 0
}

type pendingObject struct {
	entry  history.Entry
	before *history.Entry
}

type pendingKey struct{}

var _ admission.ValidationInterface = (*changes)(nil)

// Handles implements admission.Interface.
func (*changes) Handles(operation admission.Operation) bool { return operation != admission.Connect }

// Validate notes what is about to be stored. It refuses nothing. It is asked again where
// another writer was faster; then the last call counts.
func (*changes) Validate(ctx context.Context, a admission.Attributes, _ admission.ObjectInterfaces) error {
	noted, ok := ctx.Value(pendingKey{}).(*pending)
	if !ok || a.IsDryRun() || a.GetSubresource() != "" {
		return nil
	}
	before, _ := a.GetOldObject().(*unstructured.Unstructured)
	after, _ := a.GetObject().(*unstructured.Unstructured)
	known := after
	if known == nil {
		known = before
	}
	if known == nil {
		return nil // a CRD: its line in the log is made of the request alone
	}
	object := pendingObject{entry: entryOf(after)}
	if before != nil {
		was := entryOf(before)
		object.before = &was
	}
	if after == nil {
		object.entry = *object.before
		object.entry.State = nil
	}
	key := history.Key{Resource: a.GetResource().GroupResource().String(), Namespace: known.GetNamespace(), Name: known.GetName()}
	object.entry.Key = key
	if object.before != nil {
		object.before.Key = key
	}
	noted.mu.Lock()
	defer noted.mu.Unlock()
	noted.objects = slices.DeleteFunc(noted.objects, func(o pendingObject) bool { return o.entry.Key == key })
	noted.objects = append(noted.objects, object)
	return nil
}

// lastApplied is an annotation in which kubectl keeps the whole object a second time.
const lastApplied = "kubectl.kubernetes.io/last-applied-configuration"

// entryOf is the state of an object, as far as the history keeps it.
func entryOf(object *unstructured.Unstructured) history.Entry {
	if object == nil {
		return history.Entry{}
	}
	state := &history.State{Labels: object.GetLabels(), Annotations: object.GetAnnotations()}
	delete(state.Annotations, lastApplied) // of the copy that GetAnnotations makes
	if len(state.Annotations) == 0 {
		state.Annotations = nil
	}
	if spec, err := json.Marshal(object.Object["spec"]); err == nil {
		state.Spec = spec
	}
	return history.Entry{
		Revision: parseRevision(object.GetResourceVersion()), UID: string(object.GetUID()), Generation: object.GetGeneration(), State: state,
	}
}

// note wraps the handlers behind authorization.
func (c *changes) note(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		who := callerOf(r.Context())
		info, ok := request.RequestInfoFrom(r.Context())
		if !ok || who.principal == itself || !info.IsResourceRequest || !slices.Contains(writeVerbs, info.Verb) || slices.Contains(r.URL.Query()["dryRun"], "All") {
			next.ServeHTTP(w, r)
			return
		}
		noted := new(pending)
		// A client that hangs up while its change is stored would leave no trace.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), requestTimeout)
		defer cancel()
		r = r.Clone(context.WithValue(ctx, pendingKey{}, noted))
		r.Header.Del("Accept-Encoding") // the answer is read here
		held := &heldAnswer{ResponseWriter: w}
		next.ServeHTTP(held, r)
		switch {
		case held.code >= 200 && held.code < 300:
			c.say(who, r, info, noted, held.body.Bytes())
		case held.code >= 500 && noted.any():
			c.log.Warn("a change failed, or was made without an answer", "who", who.name, "role", who.role, "verb", info.Verb,
				"object", objectName(info, info.Name), "status", held.code, "from", who.from)
		}
		held.send()
	})
}

// say tells of what a request changed.
func (c *changes) say(who caller, r *http.Request, info *request.RequestInfo, noted *pending, answer []byte) {
	verb, now := info.Verb, time.Now()
	if strings.HasPrefix(r.Header.Get("Content-Type"), string(types.ApplyYAMLPatchType)) {
		verb = "apply"
	}
	line := func(name string, revision int64) {
		object := objectName(info, name)
		c.log.Info("changed", "who", who.name, "role", who.role, "verb", verb, "object", object, "revision", revision, "from", who.from)
	}
	noted.mu.Lock()
	defer noted.mu.Unlock()
	if len(noted.objects) == 0 {
		if info.Verb != "deletecollection" {
			line(info.Name, revisionIn(answer))
		}
		return
	}
	for _, object := range noted.objects {
		entry := object.entry
		entry.Time, entry.Who, entry.Role, entry.From, entry.Verb = now.UTC(), who.name, who.role, who.from, verb
		if !entry.Deleted() {
			entry.Revision = revisionIn(answer)
			if object.before != nil && object.before.Revision == entry.Revision {
				continue // nothing was written
			}
		}
		line(entry.Name, entry.Revision)
		// Who manages which field, and finalizers, are in the log alone.
		if c.changed != nil && (object.before == nil || !reflect.DeepEqual(entry.State, object.before.State)) {
			c.changed(entry, object.before)
		}
	}
}

// objectName is an object as all that Sluice prints calls it, with its subresource.
func objectName(info *request.RequestInfo, name string) string {
	of := &api.Kind{Kebab: info.Resource + "." + info.APIGroup}
	for _, kind := range api.Kinds() {
		if kind.Group == info.APIGroup && kind.Plural == info.Resource {
			of = kind
		}
	}
	object := of.ID(info.Namespace, name)
	if info.Subresource != "" {
		object += " (" + info.Subresource + ")"
	}
	return object
}

// revisionIn finds the resource version of the object in an answer: the object itself,
// or a table with it, in JSON or YAML. 0 where there is none.
func revisionIn(answer []byte) int64 {
	type object struct {
		Metadata struct {
			ResourceVersion string `json:"resourceVersion"`
		} `json:"metadata"`
	}
	var read struct {
		object
		Rows []struct {
			Object object `json:"object"`
		} `json:"rows"`
	}
	if err := yaml.Unmarshal(answer, &read); err != nil {
		return 0
	}
	version := read.Metadata.ResourceVersion
	if version == "" && len(read.Rows) == 1 {
		version = read.Rows[0].Object.Metadata.ResourceVersion
	}
	revision, _ := strconv.ParseInt(version, 10, 64)
	return revision
}

// heldAnswer holds an answer back until send. The answer to a write of one object is no
// larger than that; to the deletion of a collection it lists each object.
type heldAnswer struct {
	http.ResponseWriter
	code int
	body bytes.Buffer
}

func (h *heldAnswer) WriteHeader(code int) {
	if h.code == 0 {
		h.code = code
	}
}

func (h *heldAnswer) Write(b []byte) (int, error) {
	h.WriteHeader(http.StatusOK)
	return h.body.Write(b)
}

func (h *heldAnswer) send() {
	if h.code == 0 {
		return // nothing was answered
	}
	h.ResponseWriter.WriteHeader(h.code)
	_, _ = h.ResponseWriter.Write(h.body.Bytes()) // the client is gone
}
