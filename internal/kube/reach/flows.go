package reach

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"sync"
	"time"

	"sluice.dev/sluice/internal/control/inspect"
	"sluice.dev/sluice/internal/record"
)

const (
	// maxLine bounds one flow, in bytes.
	maxLine = 1 << 20
	// lookAgain is how often it is looked which servers there are, while flows are followed.
	lookAgain = 5 * time.Second
)

// flow is one line of a server.
type flow struct {
	id    record.ID
	start time.Time
	line  []byte // with its end
}

func readFlow(line []byte) (f flow, err error) {
	var r record.Record
	if err := json.Unmarshal(line, &r); err != nil {
		return f, fmt.Errorf("read a flow: %w", err)
	}
	return flow{r.ID, r.Start, append(bytes.Clone(line), '\n')}, nil
}

// flows joins the past or the open flows of all servers, oldest first.
func (h *Handler) flows(w http.ResponseWriter, r *http.Request, servers []Server) {
	past, ok := h.past(r.Context(), w, r.URL.Query(), servers, new(record.Seen))
	if !ok {
		return
	}
	begin(w)
	for i := range past {
		if _, err := w.Write(past[i].line); err != nil {
			return // who asked is gone
		}
	}
}

func begin(w http.ResponseWriter) {
	w.Header().Set("Content-Type", "application/x-ndjson")
	w.Header().Set(inspect.FormatHeader, strconv.Itoa(inspect.Format))
}

// past gathers the newest flows of all servers, as many as are asked for.
func (h *Handler) past(ctx context.Context, w http.ResponseWriter, query url.Values, servers []Server, before *record.Seen) (past []flow, ok bool) {
	all, ok := h.answered(w, h.askAll(ctx, servers, inspect.FlowsPath, query))
	if !ok {
		return nil, false
	}
	for i := range all {
		lines := bufio.NewScanner(bytes.NewReader(all[i].body))
		lines.Buffer(nil, maxLine)
		for lines.Scan() {
			one, err := readFlow(lines.Bytes())
			if err != nil {
				h.config.Missing(all[i].server, err)
				break
			}
			if before.Fresh(one.id) {
				past = append(past, one)
			}
		}
		if err := lines.Err(); err != nil {
			h.config.Missing(all[i].server, err)
		}
	}
	slices.SortStableFunc(past, func(a, b flow) int { return a.start.Compare(b.start) })
	if n, err := strconv.Atoi(query.Get("n")); err == nil && n >= 0 {
		past = past[max(0, len(past)-n):]
	}
	return past, true
}

// followers hand on the flows of all servers as they come, until who asked is gone.
type followers struct {
	h     *Handler
	query url.Values
	ended chan string // a server that is not followed any more

	mu       sync.Mutex // of what is below
	w        http.ResponseWriter
	seen     *record.Seen    // a proxy that changes its server tells the other one its last ones again
	on       map[string]bool // who is followed
	reported map[string]bool // of whom it was said that it does not answer
	err      error           // of w: who asked is gone
}

// follow hands on the past flows in order, then each new one. Servers that come later are
// followed too.
func (h *Handler) follow(w http.ResponseWriter, r *http.Request, servers []Server) {
	ctx, cancel := context.WithCancel(r.Context())
	query, before := r.URL.Query(), new(record.Seen)
	pastQuery := r.URL.Query()
	pastQuery.Del("follow")
	past, ok := h.past(ctx, w, pastQuery, servers, before)
	if !ok {
		cancel()
		return
	}
	begin(w)
	for i := range past {
		if _, err := w.Write(past[i].line); err != nil {
			cancel()
			return // who asked is gone
		}
	}
	_ = http.NewResponseController(w).Flush()
	f := &followers{h: h, query: query, ended: make(chan string, maxServers), w: w, seen: before, on: make(map[string]bool), reported: make(map[string]bool)}
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel()
	tick := time.NewTicker(h.again)
	defer tick.Stop()
	for {
		for _, server := range servers[:min(len(servers), maxServers)] {
			if f.start(server.Name) {
				running.Go(func() {
					f.report(ctx, server.Name, f.one(ctx, server))
					f.stop(server.Name)
				})
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-f.ended:
			// Its proxies go to another one, which may have come meanwhile.
		case <-tick.C:
		}
		if f.gone() {
			return
		}
		var err error
		if servers, err = h.config.Servers(ctx); err != nil {
			f.report(ctx, "the cluster", err)
			servers = nil
		}
	}
}

func (f *followers) start(server string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.on[server] || len(f.on) >= maxServers {
		return false
	}
	f.on[server] = true
	return true
}

func (f *followers) stop(server string) {
	f.mu.Lock()
	delete(f.on, server)
	f.mu.Unlock()
	select {
	case f.ended <- server:
	default: // it is looked again anyhow
	}
}

func (f *followers) gone() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.err != nil
}

// report says once of a server that it does not answer, until it does again.
func (f *followers) report(ctx context.Context, server string, err error) {
	f.mu.Lock()
	said := f.reported[server]
	f.reported[server] = err != nil
	gone := f.err != nil
	f.mu.Unlock()
	if err != nil && !said && !gone && ctx.Err() == nil {
		f.h.config.Missing(server, err)
	}
}

// one follows one server to its end. One that answered and ends is not missing: its proxies go
// to another, which is followed.
func (f *followers) one(ctx context.Context, server Server) error {
	response, err := ask(ctx, server, inspect.FlowsPath, f.query)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("it answers %d", response.StatusCode)
	}
	f.report(ctx, server.Name, nil)
	lines := bufio.NewScanner(response.Body)
	lines.Buffer(nil, maxLine)
	for lines.Scan() {
		one, err := readFlow(lines.Bytes())
		if err != nil {
			return err
		}
		if !f.emit(one) {
			return nil
		}
	}
	return nil
}

// emit hands a flow on; false where nobody takes it.
func (f *followers) emit(one flow) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.err != nil || !f.seen.Fresh(one.id) {
		return f.err == nil
	}
	if _, f.err = f.w.Write(one.line); f.err == nil {
		_ = http.NewResponseController(f.w).Flush()
	}
	return f.err == nil
}
