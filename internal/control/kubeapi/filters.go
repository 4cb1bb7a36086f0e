package kubeapi

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	apiextensions "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"sluice.dev/sluice/api"
)

// refuseProtobuf answers 415 to a protobuf body for a custom resource, which has
// no such form: the handler behind would panic.
func refuseProtobuf(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if isCustomResource(r.URL.Path) && strings.Contains(r.Header.Get("Content-Type"), "protobuf") {
			writeStatus(w, http.StatusUnsupportedMediaType, metav1.StatusReasonUnsupportedMediaType,
				"the objects of Sluice have no protobuf form: send application/json or application/yaml")
			return
		}
		next.ServeHTTP(w, r)
	})
}

// refuseHeavy answers 413 to an object of more values than any has: the parsers behind
// make several hundred bytes of each, some more than once.
func refuseHeavy(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet && r.Body != nil && isCustomResource(r.URL.Path) {
			// A byte past the bound is left for the handler behind, which refuses it.
			body, err := io.ReadAll(io.LimitReader(r.Body, maxRequestBody+1))
			if err != nil {
				writeStatus(w, http.StatusBadRequest, metav1.StatusReasonBadRequest, "read the object: "+err.Error())
				return
			}
			if api.ObjectWeight(body) > api.MaxObjectWeight {
				writeStatus(w, http.StatusRequestEntityTooLarge, metav1.StatusReasonRequestEntityTooLarge, "too many values for one object")
				return
			}
			r = r.Clone(r.Context())
			r.Body = io.NopCloser(bytes.NewReader(body))
		}
		next.ServeHTTP(w, r)
	})
}

func isCustomResource(path string) bool {
	return strings.HasPrefix(path, "/apis/") && !strings.HasPrefix(path, "/apis/"+apiextensions.GroupName+"/")
}

// front is the first handler of every request: it bounds the time of a body,
// lets watches end when stopping does, and splits off what is served beside the
// rules.
type front struct {
	rules    http.Handler
	beside   atomic.Pointer[http.Handler] // of /sluice/; nil until it is there
	stopping context.Context
}

func (f *front) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if goesOn(r) {
		ctx, cancel := context.WithCancel(r.Context())
		defer context.AfterFunc(f.stopping, cancel)()
		defer cancel()
		r = r.WithContext(ctx)
	} else {
		// A slow body or a client that does not read must not hold a slot for ever.
		control := http.NewResponseController(w)
		_ = control.SetReadDeadline(time.Now().Add(requestTimeout))
		_ = control.SetWriteDeadline(time.Now().Add(requestTimeout + 5*time.Second))
	}
	if beside := f.beside.Load(); beside != nil && *beside != nil && strings.HasPrefix(r.URL.Path, "/sluice/") {
		(*beside).ServeHTTP(w, r)
		return
	}
	// A field that we do not know is an error, whoever writes it and whatever the
	// writer asks for: a rule whose misspelt "from" was dropped would allow more.
	switch who := callerOf(r.Context()).principal; r.Method {
	case http.MethodPost, http.MethodPut, http.MethodPatch:
		if isCustomResource(r.URL.Path) && who != itself {
			query := r.URL.Query()
			query.Set("fieldValidation", metav1.FieldValidationStrict)
			r = r.Clone(r.Context())
			r.URL.RawQuery = query.Encode()
		}
	}
	f.rules.ServeHTTP(w, r)
}

// goesOn reports whether a request is answered for as long as its client stays.
func goesOn(r *http.Request) bool {
	if r.Method != http.MethodGet {
		return false // a write has an end, whatever it says
	}
	query := r.URL.Query()
	watch := strings.ToLower(query.Get("watch"))
	return query.Has("watch") && watch != "0" && watch != "false" || isTrue(query.Get("follow")) // as Kubernetes reads it
}

func isTrue(value string) bool { return value == "1" || value == "true" }
