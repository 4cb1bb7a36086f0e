package reach

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"sluice.dev/sluice/internal/control/inspect"
	"sluice.dev/sluice/internal/record"
	"sluice.dev/sluice/internal/wire"
)

// cluster is servers that are played, and who was said to be missing.
type cluster struct {
	mu      sync.Mutex
	servers []Server
	missing []string
}

func (c *cluster) list(context.Context) ([]Server, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.servers), nil
}

func (c *cluster) miss(server string, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.missing = append(c.missing, server+": "+err.Error())
}

func (c *cluster) said() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.missing)
}

func (c *cluster) set(servers ...Server) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.servers = servers
}

// played is a server whose answers a handler gives.
func played(t *testing.T, name string, handler http.HandlerFunc) Server {
	t.Helper()
	s := httptest.NewServer(handler)
	t.Cleanup(s.Close)
	return Server{name, to{s.Listener.Addr().String()}}
}

// to carries requests to one address.
type to struct{ at string }

func (t to) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.URL.Host = t.at
	return http.DefaultTransport.RoundTrip(r)
}

// broken is a server that nobody reaches.
type broken struct{}

func (broken) RoundTrip(*http.Request) (*http.Response, error) {
	return nil, errors.New("no way there")
}

func (c *cluster) ask(t *testing.T, target string) *httptest.ResponseRecorder {
	t.Helper()
	w := httptest.NewRecorder()
	New(Config{Servers: c.list, Missing: c.miss}).ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, target, nil))
	return w
}

func statusOf(t *testing.T, census uint64, workloads ...inspect.WorkloadStatus) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		if err := json.NewEncoder(w).Encode(inspect.Status{Format: inspect.Format, Census: census, Workloads: workloads}); err != nil {
			t.Error(err)
		}
	}
}

func workload(namespace, instance string, connected bool, since int64, census uint64) inspect.WorkloadStatus {
	return inspect.WorkloadStatus{Workload: wire.Workload{Namespace: namespace, Instance: instance}, Connected: connected, Since: time.Unix(since, 0), Census: census}
}

func TestEveryWorkloadIsShownAsTheServerSaysThatItsProxyIsConnectedTo(t *testing.T) {
	c := &cluster{servers: []Server{
		played(t, "b", statusOf(t, 9, workload("x", "web", true, 5, 9), workload("x", "db", false, 0, 0), workload("x", "moving", true, 8, 1))),
		played(t, "a", statusOf(t, 4, workload("x", "web", false, 0, 0), workload("x", "db", true, 3, 4), workload("x", "moving", true, 7, 4), workload("y", "new", false, 0, 0))),
	}}
	var got inspect.Status
	if err := json.NewDecoder(c.ask(t, inspect.StatusPath).Body).Decode(&got); err != nil {
		t.Fatal(err)
	}
	var lines []string
	for i := range got.Workloads {
		w := &got.Workloads[i]
		lines = append(lines, fmt.Sprintf("%s/%s %v %d %d", w.Namespace, w.Instance, w.Connected, w.Since.Unix(), w.Census))
	}
	// Server a is the first: what b's workload knows is everybody as b counts, so as a does here.
	want := []string{"x/db true 3 4", "x/moving true 8 0", "x/web true 5 4", "y/new false 0 0"}
	if !slices.Equal(lines, want) || got.Census != 4 || len(c.said()) > 0 {
		t.Errorf("%q, census %d, missing %q", lines, got.Census, c.said())
	}
}

func TestAServerThatDoesNotAnswerIsSaidAndWhereNoneDoesNothingIsShown(t *testing.T) {
	whole := played(t, "whole", statusOf(t, 1, workload("x", "web", true, 5, 1)))
	old := played(t, "old", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, `{"format":1,"workloads":[]}`) })
	sick := played(t, "sick", func(w http.ResponseWriter, _ *http.Request) { fail(w, 503, errors.New("it is sick")) })
	c := &cluster{servers: []Server{whole, old, sick, {"gone", broken{}}}}
	if w := c.ask(t, inspect.StatusPath); w.Code != 200 || !strings.Contains(w.Body.String(), `"web"`) {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	said := strings.Join(c.said(), "\n")
	for _, want := range []string{"gone: no way there", "sick: it is sick", "old: "} {
		if !strings.Contains(said, want) {
			t.Errorf("%q is not said: %q", want, said)
		}
	}
	c.set(sick, Server{"gone", broken{}})
	for _, path := range []string{inspect.StatusPath, inspect.FlowsPath, inspect.FlowsPath + "?follow=1", inspect.WhyPath + "?url=a"} {
		if w := c.ask(t, path); w.Code != 503 || !strings.Contains(w.Body.String(), "gone did not answer: no way there") {
			t.Errorf("%s: %d %s", path, w.Code, w.Body)
		}
	}
	many := make([]Server, maxServers+1)
	for i := range many {
		many[i] = Server{fmt.Sprint(i), broken{}}
	}
	c.set(many...)
	if w := c.ask(t, inspect.StatusPath); w.Code != 503 || !strings.Contains(w.Body.String(), "at most 64") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

func TestAQuestionIsAnsweredByTheServerThatKnows(t *testing.T) {
	answer := func(code int, text string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			if code != 200 {
				fail(w, code, errors.New(text))
				return
			}
			_, _ = io.WriteString(w, text)
		}
	}
	noRules, unknown, known := played(t, "a", answer(409, "no snapshot yet")), played(t, "b", answer(404, "no such flow")), played(t, "c", answer(200, "because"))
	gone := Server{"d", broken{}}
	for _, each := range []struct {
		servers []Server
		code    int
		text    string
	}{
		{[]Server{noRules, unknown, known}, 200, "because"},
		{[]Server{gone, known}, 200, "because"},
		{[]Server{unknown, noRules}, 409, "no snapshot yet"},
		{[]Server{unknown, unknown}, 404, "no such flow"},
		{[]Server{unknown, gone}, 503, "d did not answer: no way there"},
	} {
		c := &cluster{servers: each.servers}
		if w := c.ask(t, inspect.WhyPath+"/0123"); w.Code != each.code || !strings.Contains(w.Body.String(), each.text) {
			t.Errorf("%d %s, want %d %s", w.Code, w.Body, each.code, each.text)
		}
	}
	c := &cluster{servers: []Server{known}}
	w := httptest.NewRecorder()
	New(Config{Servers: c.list, Missing: c.miss}).ServeHTTP(w, httptest.NewRequest(http.MethodPost, inspect.CredentialPath, nil))
	if w.Code != http.StatusMethodNotAllowed {
		t.Errorf("a write is answered %d", w.Code)
	}
}

// line is a flow as a server writes it.
func line(t *testing.T, id, second int) string {
	t.Helper()
	text, err := json.Marshal(record.Record{ID: flowID(t, id), Start: time.Unix(int64(second), 0)})
	if err != nil {
		t.Fatal(err)
	}
	return string(text) + "\n"
}

func flowID(t *testing.T, n int) record.ID {
	t.Helper()
	var id record.ID
	if err := id.UnmarshalText(fmt.Appendf(nil, "%016x", n)); err != nil {
		t.Fatal(err)
	}
	return id
}

func TestFlowsOfAllServersComeInTheOrderInWhichTheyBeganAndEachOnce(t *testing.T) {
	c := &cluster{servers: []Server{
		played(t, "a", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, line(t, 1, 10)+line(t, 2, 30)) }),
		played(t, "b", func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, line(t, 3, 20)+line(t, 2, 30)+line(t, 4, 40))
		}),
	}}
	want := line(t, 1, 10) + line(t, 3, 20) + line(t, 2, 30) + line(t, 4, 40)
	w := c.ask(t, inspect.FlowsPath+"?n=10")
	if w.Body.String() != want || w.Header().Get(inspect.FormatHeader) != fmt.Sprint(inspect.Format) {
		t.Errorf("%s, want\n%s", w.Body, want)
	}
	if w := c.ask(t, inspect.FlowsPath+"?n=1"); w.Body.String() != line(t, 4, 40) {
		t.Errorf("the newest: %s", w.Body)
	}
}

func TestWhoFollowsFlowsGetsThoseOfAServerThatComesLaterAndNoneTwice(t *testing.T) {
	flush := func(w http.ResponseWriter, text string) {
		_, _ = io.WriteString(w, text)
		_ = http.NewResponseController(w).Flush()
	}
	end := make(chan struct{})
	first := played(t, "first", func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Get("follow") == "" {
			flush(w, line(t, 1, 10))
			return
		}
		flush(w, line(t, 1, 10)+line(t, 2, 20))
		<-end // it is killed
	})
	second := played(t, "second", func(w http.ResponseWriter, r *http.Request) {
		// The proxy has come here, and tells its last ones again.
		flush(w, line(t, 1, 10)+line(t, 2, 20)+line(t, 3, 30))
		<-r.Context().Done()
	})
	c := &cluster{servers: []Server{first}}
	handler := New(Config{Servers: c.list, Missing: c.miss})
	handler.again = time.Hour // it looks again as the first one ends
	served := httptest.NewServer(handler)
	defer served.Close()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, served.URL+inspect.FlowsPath+"?follow=1&n=5", nil)
	if err != nil {
		t.Fatal(err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	lines := bufio.NewReader(response.Body)
	for i, want := range []string{line(t, 1, 10), line(t, 2, 20), line(t, 3, 30)} {
		if i == 2 {
			c.set(second)
			close(end)
		}
		if got, err := lines.ReadString('\n'); got != want {
			t.Fatalf("flow %d: %s, %v", i, got, err)
		}
	}
	if said := c.said(); len(said) > 0 {
		t.Errorf("a server that is replaced is said to be missing: %q", said)
	}
}

// asked is a server in memory: what it answers who follows it, and how often it was followed.
type asked struct {
	follow   func() (*http.Response, error)
	followed atomic.Int32
}

func (a *asked) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.Query().Get("follow") == "" {
		return saying(strings.NewReader("")), nil
	}
	a.followed.Add(1)
	return a.follow()
}

// saying is an answer.
func saying(body io.Reader) *http.Response {
	return &http.Response{StatusCode: http.StatusOK, Header: make(http.Header), Body: io.NopCloser(body)}
}

// followed follows a cluster for a time of the bubble.
func (c *cluster) followed(t *testing.T, lists *atomic.Int32, during time.Duration) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), during)
	defer cancel()
	w := httptest.NewRecorder()
	servers := func(ctx context.Context) ([]Server, error) { lists.Add(1); return c.list(ctx) }
	New(Config{Servers: servers, Missing: c.miss}).ServeHTTP(w, httptest.NewRequestWithContext(ctx, http.MethodGet, inspect.FlowsPath+"?follow=1", nil))
	return w.Body.String()
}

func TestAServerThatEndsAtOnceIsFollowedAgainMoreAndMoreSeldom(t *testing.T) {
	for what, follow := range map[string]func() (*http.Response, error){
		"is not reached": func() (*http.Response, error) { return nil, errors.New("no way there") },
		"ends at once":   func() (*http.Response, error) { return saying(strings.NewReader("")), nil },
	} {
		synctest.Test(t, func(t *testing.T) {
			one := &asked{follow: follow}
			c, lists := &cluster{servers: []Server{{"one", one}}}, new(atomic.Int32)
			c.followed(t, lists, time.Minute-time.Millisecond)
			// After 0, 1, 3, 7, 12, 17, ... 57 seconds; it is looked as often again by the clock.
			if got := one.followed.Load(); got != 14 {
				t.Errorf("a server that %s is followed %d times in a minute, want 14", what, got)
			}
			if got := lists.Load(); got > 30 {
				t.Errorf("of a server that %s: it is looked %d times in a minute which there are", what, got)
			}
		})
	}
}

func TestAWayToAServerThatBreaksIsSaidAndAServerThatEndsIsNot(t *testing.T) {
	for what, each := range map[string]struct {
		body func() io.Reader
		want []string
	}{
		"breaks": {func() io.Reader {
			return io.MultiReader(strings.NewReader(line(t, 1, 10)), iotest.ErrReader(errors.New("lost connection to pod")))
		}, []string{"one: lost connection to pod"}},
		"ends": {func() io.Reader { return strings.NewReader(line(t, 1, 10)) }, nil},
	} {
		synctest.Test(t, func(t *testing.T) {
			one := &asked{follow: func() (*http.Response, error) { return saying(each.body()), nil }}
			c := &cluster{servers: []Server{{"one", one}}}
			got := c.followed(t, new(atomic.Int32), 900*time.Millisecond)
			if said := c.said(); !slices.Equal(said, each.want) || got != line(t, 1, 10) {
				t.Errorf("of a way that %s is said %q, want %q; the flows are %s", what, said, each.want, got)
			}
		})
	}
}
