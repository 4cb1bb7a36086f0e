package server

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"runtime"
	"strconv"
	"time"

	"sluice.dev/sluice/internal/control/inspect"
	"sluice.dev/sluice/internal/flow"
)

var goVersion = runtime.Version()

// defaultFlows is how many past flows a reader gets that names no number.
const defaultFlows = 100

// flowWrite bounds the time in which a reader of flows takes one, so that one
// that stopped reading does not hold a place for ever.
const flowWrite = 10 * time.Second

// endpoints serves what stands below /sluice/.
type endpoints struct {
	version  inspect.Version
	data     DataPlane
	compiler Compiler
	rules    func() (revision int64, objects int) // compiled last, and in the store

	flowWrite time.Duration // 0: flowWrite
}

// handler returns the endpoints of the running server.
func (s *Server) handler() http.Handler {
	return newHandler(endpoints{version: s.version, data: s.push, compiler: s.loop, rules: func() (int64, int) {
		return s.loop.Latest().Revision, s.store.Len()
	}})
}

func newHandler(e endpoints) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+inspect.VersionPath, func(w http.ResponseWriter, _ *http.Request) { writeJSON(w, e.version) })
	mux.HandleFunc("GET "+inspect.StatusPath, e.status)
	mux.HandleFunc("GET "+inspect.FlowsPath, e.flows)
	mux.HandleFunc("GET "+inspect.WhyPath, e.why)
	mux.HandleFunc("GET "+inspect.WhyPath+"/{id}", e.open)
	mux.HandleFunc("/sluice/", func(w http.ResponseWriter, r *http.Request) {
		writeError(w, failure(http.StatusNotFound, "%s %s is not served", r.Method, r.URL.Path))
	})
	return mux
}

func (e *endpoints) status(w http.ResponseWriter, _ *http.Request) {
	revision, objects := e.rules()
	workloads := e.data.Workloads()
	if workloads == nil {
		workloads = []inspect.WorkloadStatus{}
	}
	writeJSON(w, inspect.Status{Server: e.version, Revision: revision, Rules: objects, Workloads: workloads})
}

// flows streams one JSON object a line.
func (e *endpoints) flows(w http.ResponseWriter, r *http.Request) {
	query, err := flowQuery(r.URL.Query())
	if err != nil {
		writeError(w, err)
		return
	}
	control := http.NewResponseController(w)
	wait := cmp.Or(e.flowWrite, flowWrite)
	accepted := false
	accept := func() {
		accepted = true
		w.Header().Set("Content-Type", "application/x-ndjson")
		if query.Follow {
			_ = control.Flush() // the reader sees that it was accepted before the first flow
		}
	}
	encoder := json.NewEncoder(w)
	err = e.data.Flows(r.Context(), query, accept, func(f flow.Flow) error {
		_ = control.SetWriteDeadline(time.Now().Add(wait))
		if err := encoder.Encode(f); err != nil {
			return err
		}
		if query.Follow {
			return control.Flush()
		}
		return nil
	})
	if err != nil && !accepted { // a later one is the reader's own: it is gone, or too slow
		writeError(w, failure(http.StatusServiceUnavailable, "%v", err))
	}
}

func flowQuery(values url.Values) (inspect.FlowQuery, error) {
	query := inspect.FlowQuery{Workload: values.Get("workload"), Last: defaultFlows, Follow: values.Get("follow") == "1"}
	if text := values.Get("n"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 0 || n > inspect.MaxFlows {
			return query, failure(http.StatusBadRequest, "n=%q must be a number from 0 to %d", text, inspect.MaxFlows)
		}
		query.Last = n
	}
	if follow := values.Get("follow"); follow != "" && follow != "0" && follow != "1" {
		return query, failure(http.StatusBadRequest, "follow=%q must be 0 or 1", follow)
	}
	return query, nil
}

// httpError is a failure with its status code.
type httpError struct {
	code int
	text string
}

func (e *httpError) Error() string { return e.text }

func failure(code int, format string, arguments ...any) error {
	return &httpError{code, fmt.Sprintf(format, arguments...)}
}

// writeError answers in the form of Kubernetes' Status, like the rules beside.
func writeError(w http.ResponseWriter, err error) {
	code := http.StatusInternalServerError
	var known *httpError
	if errors.As(err, &known) {
		code = known.code
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(map[string]any{ // the client is gone
		"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "message": err.Error(),
	})
}

func writeJSON(w http.ResponseWriter, value any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(value) // the client is gone
}
