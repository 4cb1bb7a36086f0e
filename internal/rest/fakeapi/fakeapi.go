// Package fakeapi is a server that answers in the paths, codes and words of the
// Kubernetes API, for tests of those who speak to one. It keeps objects in memory,
// checks nothing of what they hold, and is never linked into a binary.
package fakeapi

import (
	"encoding/json"
	"fmt"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"sluice.dev/sluice/api"
)

// Server is the store and its handler. The revision of its first object is 12.
type Server struct {
	mu       sync.Mutex
	revision int
	objects  map[string]map[string]any // by path
	// Before, if set, is called before each request is answered, and may change
	// objects by Put.
	Before func(s *Server, r *http.Request)
	// Warn, if set, returns the Warning headers of the answer to a request.
	Warn func(r *http.Request) []string
	// Beside serves what is below /sluice/.
	Beside http.Handler
}

// New returns an empty store.
func New() *Server {
	return &Server{revision: 11, objects: map[string]map[string]any{}}
}

// Start serves on api.sock in a new runtime folder, until the test ends, and
// returns the folder. Its path is short: a socket's must be.
func (s *Server) Start(t testing.TB) string {
	t.Helper()
	folder, err := os.MkdirTemp("", "sluice")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(folder) })
	listener, err := net.Listen("unix", filepath.Join(folder, "api.sock"))
	if err != nil {
		t.Fatal(err)
	}
	server := &httptest.Server{Listener: listener, Config: &http.Server{Handler: s}}
	server.Start()
	t.Cleanup(server.Close)
	return folder
}

// Put stores an object under a path without asking, as another writer would.
func (s *Server) Put(path string, object map[string]any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.store(path, object)
}

// Object returns what is stored under a path, or nil.
func (s *Server) Object(path string) map[string]any {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.objects[path]
}

func (s *Server) store(path string, object map[string]any) {
	s.revision++
	metadata, _ := object["metadata"].(map[string]any)
	metadata["resourceVersion"] = strconv.Itoa(s.revision)
	s.objects[path] = object
}

func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if s.Before != nil {
		s.Before(s, r)
	}
	if strings.HasPrefix(r.URL.Path, "/sluice/") && s.Beside != nil {
		s.Beside.ServeHTTP(w, r)
		return
	}
	if s.Warn != nil {
		for _, header := range s.Warn(r) {
			w.Header().Add("Warning", header)
		}
	}
	kind, rest := kindOf(r.URL.Path)
	if kind == nil {
		http.Error(w, "404 page not found", http.StatusNotFound)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	name := rest
	switch {
	case r.Method == http.MethodPost && name == "":
		s.create(w, r, kind)
	case r.Method == http.MethodGet && name == "":
		s.list(w, r)
	case s.objects[r.URL.Path] == nil:
		refuse(w, http.StatusNotFound, "NotFound", fmt.Sprintf("%s %q not found", kind.Resource(), name))
	case r.Method == http.MethodGet:
		answer(w, http.StatusOK, s.objects[r.URL.Path])
	case r.Method == http.MethodPut:
		s.update(w, r, kind, name)
	case r.Method == http.MethodDelete:
		if !isDryRun(r) {
			delete(s.objects, r.URL.Path)
		}
		answer(w, http.StatusOK, map[string]any{"kind": "Status", "apiVersion": "v1", "status": "Success"})
	default:
		refuse(w, http.StatusMethodNotAllowed, "MethodNotAllowed", "the server does not allow this method on the requested resource")
	}
}

// kindOf returns the kind of a path and the name behind its plural.
func kindOf(path string) (*api.Kind, string) {
	for _, kind := range api.Kinds() {
		rest, found := strings.CutPrefix(path, "/apis/"+kind.APIVersion()+"/")
		if !found {
			continue
		}
		parts := strings.Split(rest, "/")
		if kind.Namespaced && parts[0] != kind.Plural {
			if len(parts) < 3 || parts[0] != "namespaces" {
				continue
			}
			parts = parts[2:]
		}
		if parts[0] != kind.Plural || len(parts) > 2 {
			continue
		}
		return kind, strings.Join(parts[1:], "")
	}
	return nil, ""
}

func (s *Server) create(w http.ResponseWriter, r *http.Request, kind *api.Kind) {
	object, metadata := body(w, r)
	if object == nil {
		return
	}
	if metadata["resourceVersion"] != nil {
		refuse(w, http.StatusInternalServerError, "", "resourceVersion should not be set on objects to be created")
		return
	}
	path := fmt.Sprintf("%s/%s", r.URL.Path, metadata["name"])
	if s.objects[path] != nil {
		refuse(w, http.StatusConflict, "AlreadyExists", fmt.Sprintf("%s %q already exists", kind.Resource(), metadata["name"]))
		return
	}
	metadata["uid"] = "uid-of-" + fmt.Sprint(metadata["name"])
	if !isDryRun(r) {
		s.store(path, object)
	}
	answer(w, http.StatusCreated, object)
}

func (s *Server) update(w http.ResponseWriter, r *http.Request, kind *api.Kind, name string) {
	object, metadata := body(w, r)
	if object == nil {
		return
	}
	stored := s.objects[r.URL.Path]
	version := stored["metadata"].(map[string]any)["resourceVersion"]
	if metadata["resourceVersion"] != version {
		refuse(w, http.StatusConflict, "Conflict", fmt.Sprintf("Operation cannot be fulfilled on %s %q: the object has been modified; please apply your changes to the latest version and try again", kind.Resource(), name))
		return
	}
	if isDryRun(r) {
		answer(w, http.StatusOK, object)
		return
	}
	if fmt.Sprint(stored) != fmt.Sprint(object) { // an update that changes nothing keeps the version
		s.store(r.URL.Path, object)
	}
	answer(w, http.StatusOK, s.objects[r.URL.Path])
}

// list answers by pages of limit, as the API does.
func (s *Server) list(w http.ResponseWriter, r *http.Request) {
	var paths []string
	kind, _ := kindOf(r.URL.Path)
	everywhere := kind.Namespaced && !strings.Contains(r.URL.Path, "/namespaces/")
	for path := range maps.Keys(s.objects) {
		of, _ := kindOf(path)
		if (strings.HasPrefix(path, r.URL.Path+"/") || everywhere && of == kind) && path > r.URL.Query().Get("continue") {
			paths = append(paths, path)
		}
	}
	slices.Sort(paths)
	metadata := map[string]any{"resourceVersion": strconv.Itoa(s.revision)}
	if limit, err := strconv.Atoi(r.URL.Query().Get("limit")); err == nil && len(paths) > limit {
		paths = paths[:limit]
		metadata["continue"] = paths[limit-1]
	}
	items := make([]any, 0, len(paths))
	for _, path := range paths {
		items = append(items, s.objects[path])
	}
	answer(w, http.StatusOK, map[string]any{"metadata": metadata, "items": items})
}

func isDryRun(r *http.Request) bool { return r.URL.Query().Get("dryRun") == "All" }

func body(w http.ResponseWriter, r *http.Request) (object, metadata map[string]any) {
	err := json.NewDecoder(r.Body).Decode(&object)
	metadata, named := object["metadata"].(map[string]any)
	if err != nil || !named {
		refuse(w, http.StatusBadRequest, "BadRequest", fmt.Sprintf("the body is not a valid object: %v", err))
		return nil, nil
	}
	return object, metadata
}

func refuse(w http.ResponseWriter, code int, reason, message string) {
	answer(w, code, map[string]any{"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": message, "reason": reason, "code": code})
}

func answer(w http.ResponseWriter, code int, value any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(value)
}
