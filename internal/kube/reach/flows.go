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
	"sluice.dev/sluice/internal/pause"
	"sluice.dev/sluice/internal/record"
)

const (
	// maxLine bounds one flow, in bytes.
	maxLine = 1 << 20
	// lookAgain is how often it is looked which servers there are, while flows are followed.
	lookAgain = 5 * time.Second
	// shortest is after which time a server is followed again that ended; it doubles with each end
	// that comes early, up to lookAgain.
	shortest = time.Second
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
	ended chan struct{} // has space for one: it is to be looked which servers there are

	mu       sync.Mutex // of what is below
	w        http.ResponseWriter
	seen     *record.Seen             // a proxy that changes its server tells the other one its last ones again
	on       map[string]bool          // who is followed
	pauses   map[string]time.Duration // before who ended early is followed again
	reported map[string]bool          // of whom it was said that it does not answer
	err      error                    // of w: who asked is gone
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
	f := &followers{h: h, query: query, ended: make(chan struct{}, 1), w: w, seen: before, on: make(map[string]bool), pauses: make(map[string]time.Duration), reported: make(map[string]bool)}
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel()
	tick := time.NewTicker(h.again)
	defer tick.Stop()
	for {
		for _, server := range servers[:min(len(servers), maxServers)] {
			if f.start(server.Name) {
				running.Go(func() { f.run(ctx, server) })
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-f.ended:
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

// run follows one server to its end, and lets it be followed again after a pause.
func (f *followers) run(ctx context.Context, server Server) {
	began := time.Now()
	answered, err := f.one(ctx, server)
	f.report(ctx, server.Name, err)
	wait, first := f.pause(server.Name, time.Since(began))
	if answered && first || f.gone() {
		f.look() // its proxies go to another one, which may have come meanwhile
	}
	if pause.For(ctx, wait) != nil {
		return
	}
	f.mu.Lock()
	delete(f.on, server.Name)
	f.mu.Unlock()
	f.look()
}

// pause is how long a server that was followed for a time is not; first says that the end before
// was long ago.
func (f *followers) pause(server string, followed time.Duration) (wait time.Duration, first bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	before := f.pauses[server]
	if followed >= f.h.again {
		before = 0
	}
	if len(f.pauses) >= 2*maxServers { // of many that are gone
		clear(f.pauses)
	}
	wait = min(max(2*before, shortest), f.h.again)
	f.pauses[server] = wait
	return wait, before == 0
}

// look has it looked which servers there are.
func (f *followers) look() {
	select {
	case f.ended <- struct{}{}:
	default: // it will be
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
func (f *followers) one(ctx context.Context, server Server) (answered bool, err error) {
	response, err := ask(ctx, server, inspect.FlowsPath, f.query)
	if err != nil {
		return false, err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return false, fmt.Errorf("it answers %d", response.StatusCode)
	}
	f.report(ctx, server.Name, nil)
	lines := bufio.NewScanner(response.Body)
	lines.Buffer(nil, maxLine)
	for lines.Scan() {
		one, err := readFlow(lines.Bytes())
		if err != nil {
			return true, err
		}
		if !f.emit(one) {
			return true, nil
		}
	}
	return true, lines.Err() // nil where the server ended it, else why the way broke
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
