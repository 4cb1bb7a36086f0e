package visible

import (
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

func TestVerdictsAreReadFromAnswers(t *testing.T) {
	cases := []struct {
		status int
		reason string
		want   string
	}{
		{200, "", allowed},
		{404, "", allowed}, // the far server's own word
		{403, "", allowed}, // so is this
		{403, "no-rule", denied},
		{503, "upstream-connect", "error 503 upstream-connect"},
	}
	for _, c := range cases {
		if got := verdictOf(c.status, c.reason); got != c.want {
			t.Errorf("%d %q: got %q, want %q", c.status, c.reason, got, c.want)
		}
	}
}

func TestTheClientSaysEachChangeOnceAndDialsAnew(t *testing.T) {
	var deny atomic.Bool
	deny.Store(true)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if deny.Load() {
			w.Header().Set("x-sluice-reason", "no-rule")
			w.WriteHeader(http.StatusForbidden)
		}
	}))
	defer server.Close()
	host, port, err := net.SplitHostPort(strings.TrimPrefix(server.URL, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	said, out := io.Pipe()
	ended := make(chan error, 1)
	go func() { ended <- Poll(host, port, out) }()
	changes := json.NewDecoder(said)
	next := func(want string) {
		t.Helper()
		var c Change
		if err := changes.Decode(&c); err != nil || c.Verdict != want || c.At < c.Asked || c.Asked == 0 {
			t.Fatalf("got %+v, %v, want %q", c, err, want)
		}
	}
	next(denied)
	deny.Store(false)
	next(allowed)
	deny.Store(true)
	server.CloseClientConnections()
	next(denied)
	said.Close() // nobody listens: the next change ends it
	deny.Store(false)
	select {
	case err := <-ended:
		if err == nil {
			t.Error("it ended without an error")
		}
	case <-time.After(time.Minute):
		t.Error("it did not end")
	}
}
