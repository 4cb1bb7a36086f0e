// Package reach asks the servers of a cluster what one server answers below /sluice/, and joins
// what they say: each knows the proxies that are connected to it. kubectl-sluice calls it. It must
// never pass over a server that did not answer: that is said.
package reach

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"sluice.dev/sluice/internal/control/inspect"
)

// Bounds of one question.
const (
	// maxServers bounds the servers that are asked.
	maxServers = 64
	// maxAnswer bounds one answer, in bytes.
	maxAnswer = 64 << 20
	// patience bounds how long one server may take with an answer that has an end.
	patience = 20 * time.Second
)

// Server is one server of the cluster.
type Server struct {
	Name string
	// HTTP carries requests to it, whatever host they name.
	HTTP http.RoundTripper
}

// Config is what a Handler needs; all of it is required.
type Config struct {
	// Servers lists the servers that are ready now.
	Servers func(ctx context.Context) ([]Server, error)
	// Missing is told of a server that did not answer, and why. It may be called at the same
	// time as anything else.
	Missing func(server string, err error)
}

// Handler answers below /sluice/ for all servers of a cluster.
type Handler struct {
	config Config
	again  time.Duration // between two looks at which servers there are, for whoever follows
}

// New returns a Handler.
func New(config Config) *Handler { return &Handler{config: config, again: lookAgain} }

// ServeHTTP implements http.Handler.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	servers, err := h.config.Servers(r.Context())
	switch {
	case r.Method != http.MethodGet:
		fail(w, http.StatusMethodNotAllowed, fmt.Errorf("%s is not served for a cluster", r.Method))
	case err != nil:
		fail(w, http.StatusServiceUnavailable, err)
	case len(servers) > maxServers:
		fail(w, http.StatusServiceUnavailable, fmt.Errorf("%d servers: at most %d are asked", len(servers), maxServers))
	case r.URL.Path == inspect.StatusPath:
		h.status(w, r, servers)
	case r.URL.Path == inspect.FlowsPath && r.URL.Query().Get("follow") == "1":
		h.follow(w, r, servers)
	case r.URL.Path == inspect.FlowsPath:
		h.flows(w, r, servers)
	default:
		h.first(w, r, servers)
	}
}

// fail answers in the form of a server.
func fail(w http.ResponseWriter, code int, err error) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(map[string]any{"format": inspect.Format, "error": err.Error()}) // who asked may be gone
}

// said is the answer of one server.
type said struct {
	server string
	code   int
	header http.Header
	body   []byte
	err    error // it has none
}

// ask sends a question to one server.
func ask(ctx context.Context, server Server, path string, query url.Values) (*http.Response, error) {
	target := url.URL{Scheme: "http", Host: "localhost", Path: path, RawQuery: query.Encode()}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, target.String(), nil)
	if err != nil {
		return nil, err
	}
	return server.HTTP.RoundTrip(request)
}

// askAll puts a question to all, and returns the answers in the order of their names. Of a server
// that has none the caller is told.
func (h *Handler) askAll(ctx context.Context, servers []Server, path string, query url.Values) []said {
	all := make([]said, len(servers))
	var asking sync.WaitGroup
	for i, server := range servers {
		asking.Go(func() {
			one := &all[i]
			one.server = server.Name
			ctx, cancel := context.WithTimeout(ctx, patience)
			defer cancel()
			response, err := ask(ctx, server, path, query)
			if err != nil {
				one.err = err
				return
			}
			defer response.Body.Close()
			one.code, one.header = response.StatusCode, response.Header
			if one.body, one.err = io.ReadAll(io.LimitReader(response.Body, maxAnswer+1)); len(one.body) > maxAnswer {
				one.err = fmt.Errorf("its answer is longer than %d bytes", maxAnswer)
			}
		})
	}
	asking.Wait()
	slices.SortFunc(all, func(a, b said) int { return strings.Compare(a.server, b.server) })
	return all
}

// answered tells of those that did not answer, and returns the others. Where there is none it
// answers itself.
func (h *Handler) answered(w http.ResponseWriter, all []said) (rest []said, ok bool) {
	for i := range all {
		if all[i].err == nil && all[i].code == http.StatusOK {
			rest = append(rest, all[i])
		}
	}
	if len(rest) == 0 {
		refuse(w, all)
		return nil, false
	}
	for i := range all {
		if err := all[i].failure(); err != nil {
			h.config.Missing(all[i].server, err)
		}
	}
	return rest, true
}

// failure is why a server has no answer, nil where it has.
func (s *said) failure() error {
	if s.err != nil || s.code == http.StatusOK {
		return s.err
	}
	return s.refusal()
}

// refusal is what a server says is wrong.
func (s *said) refusal() error {
	var body struct{ Error string }
	if json.Unmarshal(s.body, &body) == nil && body.Error != "" {
		return fmt.Errorf("%s", body.Error)
	}
	return fmt.Errorf("it answers %d", s.code)
}

// refuse answers where no server has what is asked. One that could not be asked might have had
// it; else a server that knows whose question it is says more than one that does not.
func refuse(w http.ResponseWriter, all []said) {
	worst := slices.MinFunc(all, func(a, b said) int { return cmp.Compare(a.weight(), b.weight()) })
	if worst.err != nil {
		fail(w, http.StatusServiceUnavailable, fmt.Errorf("%s did not answer: %w", worst.server, worst.err))
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(worst.code)
	_, _ = w.Write(worst.body) // who asked may be gone
}

func (s *said) weight() int {
	switch {
	case s.err != nil:
		return 0
	case s.code >= http.StatusInternalServerError && s.code != http.StatusNotImplemented:
		return 1
	case s.code == http.StatusConflict:
		return 2
	}
	return 3
}

// first passes on the answer of the first server that has one.
func (h *Handler) first(w http.ResponseWriter, r *http.Request, servers []Server) {
	all := h.askAll(r.Context(), servers, r.URL.Path, r.URL.Query())
	for i := range all {
		if all[i].err == nil && all[i].code == http.StatusOK {
			for _, name := range []string{"Content-Type", inspect.FormatHeader} {
				if value := all[i].header.Get(name); value != "" {
					w.Header().Set(name, value)
				}
			}
			_, _ = w.Write(all[i].body) // who asked may be gone
			return
		}
	}
	refuse(w, all)
}

// status joins who is there: each server counts all Pods, and knows more of those whose proxies
// are connected to it.
func (h *Handler) status(w http.ResponseWriter, r *http.Request, servers []Server) {
	all, ok := h.answered(w, h.askAll(r.Context(), servers, r.URL.Path, r.URL.Query()))
	if !ok {
		return
	}
	type name struct{ namespace, instance string }
	known := make(map[name]inspect.WorkloadStatus)
	var joined *inspect.Status
	for i := range all {
		var one inspect.Status
		err := inspect.Answers.CheckJSON(all[i].body)
		if err == nil {
			err = json.Unmarshal(all[i].body, &one)
		}
		if err != nil {
			h.config.Missing(all[i].server, err)
			continue
		}
		if joined == nil {
			joined = &one
		}
		for _, workload := range one.Workloads {
			// The numbers of censuses are each server's own.
			if workload.Census == one.Census {
				workload.Census = joined.Census
			} else {
				workload.Census = 0
			}
			at := name{workload.Namespace, workload.Instance}
			if other, there := known[at]; !there || newer(&workload, &other) {
				known[at] = workload
			}
		}
	}
	if joined == nil {
		fail(w, http.StatusBadGateway, fmt.Errorf("no server has an answer that can be read: %w", inspect.Answers.CheckJSON(all[0].body)))
		return
	}
	joined.Workloads = make([]inspect.WorkloadStatus, 0, len(known))
	for _, workload := range known {
		joined.Workloads = append(joined.Workloads, workload)
	}
	slices.SortFunc(joined.Workloads, func(a, b inspect.WorkloadStatus) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Instance, b.Instance))
	})
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(joined) // who asked may be gone
}

// newer reports whether one server knows more of a workload than another: its proxy is connected
// to it, since later where it is to both (it changes from one to the other).
func newer(a, b *inspect.WorkloadStatus) bool {
	if a.Connected != b.Connected {
		return a.Connected
	}
	return a.Since.After(b.Since)
}
