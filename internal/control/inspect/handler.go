package inspect

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"

	"sluice.dev/sluice/internal/record"
	"sluice.dev/sluice/internal/telemetry/trace"
)

// defaultFlows is how many flows a reader gets that names no number.
const defaultFlows = 100

// flowWrite bounds the time in which a reader of flows takes one, so that one
// that stopped reading does not hold a place for ever.
const flowWrite = 10 * time.Second

// Config is what the endpoints report. All of it but Past and Keeper is required.
type Config struct {
	Version  Version
	Census   Census
	Data     DataPlane
	Compiler Compiler
	Past     Past                                 // nil: of no version is known what it said
	Keeper   Keeper                               // nil: no flows are kept
	Rules    func() (revision int64, objects int) // compiled last, and in the store

	flowWrite time.Duration // 0: flowWrite; a test's
}

// endpoints serves what stands below /sluice/.
type endpoints struct{ Config }

// NewHandler returns the handler of the paths below /sluice/.
func NewHandler(config Config) http.Handler {
	e := endpoints{config}
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+VersionPath, func(w http.ResponseWriter, _ *http.Request) { e.write(w, VersionAnswer{Format, e.Version}) })
	mux.HandleFunc("GET "+StatusPath, e.status)
	mux.HandleFunc("GET "+FlowsPath, e.flows)
	mux.HandleFunc("GET "+KeptPath, e.kept)
	mux.HandleFunc("GET "+SummaryPath, e.summary)
	mux.HandleFunc("GET "+WhyPath, e.why)
	mux.HandleFunc("GET "+WhyPath+"/{id}", e.open)
	mux.HandleFunc("/sluice/", func(w http.ResponseWriter, r *http.Request) {
		writeError(w, failure(http.StatusNotFound, "%s %s is not served", r.Method, r.URL.Path))
	})
	return mux
}

func (e *endpoints) status(w http.ResponseWriter, _ *http.Request) {
	revision, objects := e.Rules()
	workloads := e.workloads() // before the number, which is then that of all that they show
	e.write(w, Status{Format: Format, Server: e.Version, Revision: revision, Rules: objects, Census: e.Census.Now().Number, Workloads: workloads})
}

// workloads lists who is there, sorted by namespace and instance. Who was counted
// by other means than its proxy's stream may have none that is connected.
func (e *endpoints) workloads() []WorkloadStatus {
	known := make(map[string]WorkloadStatus)
	for _, status := range e.Data.Workloads() {
		known[status.Instance] = status
	}
	there := e.Census.Now().Workloads
	all := make([]WorkloadStatus, 0, len(there))
	for _, workload := range there {
		status, connected := known[workload.Instance]
		if !connected {
			status = WorkloadStatus{Workload: workload}
		}
		all = append(all, status)
	}
	slices.SortFunc(all, func(a, b WorkloadStatus) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Instance, b.Instance))
	})
	return all
}

// flows streams one JSON object a line.
func (e *endpoints) flows(w http.ResponseWriter, r *http.Request) {
	query, err := flowQuery(r.URL.Query(), MaxFlows)
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
		w.Header().Set(FormatHeader, strconv.Itoa(Format))
		if query.Follow {
			_ = control.Flush() // the reader sees that it was accepted before the first flow
		}
	}
	encoder := json.NewEncoder(w)
	err = e.Data.Flows(r.Context(), query, accept, func(f record.Record) error {
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

// flowQuery reads a query of at most most flows.
func flowQuery(values url.Values, most int) (FlowQuery, error) {
	query := FlowQuery{
		Workload: values.Get("workload"), Last: defaultFlows, Follow: values.Get("follow") == "1", Open: values.Get("open") == "1",
	}
	if text := values.Get("n"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 0 || n > most {
			return query, failure(http.StatusBadRequest, "n=%q must be a number from 0 to %d", text, most)
		}
		query.Last = n
	}
	if text := values.Get("trace"); text != "" {
		var err error
		if query.Trace, err = trace.ParseID(text); err != nil {
			return query, failure(http.StatusBadRequest, "trace=%q must be the id of a trace, 32 hex digits", text)
		}
	}
	for _, name := range []string{"follow", "open"} {
		if value := values.Get(name); value != "" && value != "0" && value != "1" {
			return query, failure(http.StatusBadRequest, "%s=%q must be 0 or 1", name, value)
		}
	}
	if query.Open && query.Follow {
		return query, failure(http.StatusBadRequest, "open=1 and follow=1 exclude each other: what is open is listed as it is now")
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

// writeWithin answers with JSON, whole or not at all: a client that stops reading holds nothing
// for ever. What it leaves of the connection is as it was.
func writeWithin(w http.ResponseWriter, wait time.Duration, value any) {
	b, err := json.Marshal(value)
	if err != nil {
		writeError(w, err)
		return
	}
	b = append(b, '\n')
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(len(b)))
	control := http.NewResponseController(w)
	_ = control.SetWriteDeadline(time.Now().Add(wait))
	if _, err := w.Write(b); err != nil || control.Flush() != nil {
		return // the client is gone, or too slow
	}
	_ = control.SetWriteDeadline(time.Time{})
}

func (e *endpoints) write(w http.ResponseWriter, value any) {
	writeWithin(w, cmp.Or(e.flowWrite, flowWrite), value)
}

func writeJSON(w http.ResponseWriter, value any) { writeWithin(w, flowWrite, value) }
