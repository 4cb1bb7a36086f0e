package server

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sluice.dev/sluice/internal/control/inspect"
	"sluice.dev/sluice/internal/paths"
	"sluice.dev/sluice/internal/peer"
)

// anybody is let in.
type anybody struct{}

func (anybody) Authenticate(net.Conn) (peer.Peer, error) { return peer.Peer{}, nil }

func config(t *testing.T) Config {
	t.Helper()
	root, err := os.MkdirTemp("", "sluice-server") // t.TempDir may be too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(root) })
	return Config{
		RuntimeDir: filepath.Join(root, "run"), DataDir: filepath.Join(root, "data"), Version: "test",
		Peers: anybody{},
		Log:   slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError + 1})),
	}
}

func start(t *testing.T, c Config) (*Server, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	s, err := Start(ctx, c)
	if err == nil {
		t.Cleanup(func() {
			if err := s.Stop(); err != nil {
				t.Errorf("stop: %v", err)
			}
		})
	}
	return s, err
}

// ask sends a request over api.sock.
func ask(t *testing.T, c Config, method, path, body string) (int, string) {
	t.Helper()
	code, _, answer := askForHeader(t, c, method, path, body)
	return code, answer
}

// askForHeader is ask, with the answer's header too.
func askForHeader(t *testing.T, c Config, method, path, body string) (int, http.Header, string) {
	t.Helper()
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", filepath.Join(c.RuntimeDir, paths.APISocket))
	}}
	defer transport.CloseIdleConnections()
	request, err := http.NewRequestWithContext(t.Context(), method, "http://sluice"+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/json")
	response, err := transport.RoundTrip(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	answer, _ := io.ReadAll(response.Body)
	return response.StatusCode, response.Header, string(answer)
}

const egressRules = "/apis/config.istio.io/v1alpha2/namespaces/default/egressrules"

func create(t *testing.T, c Config, name, host string) {
	t.Helper()
	rule := `{"apiVersion":"config.istio.io/v1alpha2","kind":"EgressRule","metadata":{"name":"` + name +
		`"},"spec":{"destination":{"service":"` + host + `"},"ports":[{"port":443,"protocol":"https"}]}}`
	if code, answer := ask(t, c, "POST", egressRules, rule); code != http.StatusCreated {
		t.Fatalf("create %s: %d %s", name, code, answer)
	}
}

func decode[T any](t *testing.T, text string) (value T) {
	t.Helper()
	if err := json.Unmarshal([]byte(text), &value); err != nil {
		t.Fatalf("decode %s: %v", text, err)
	}
	return value
}

func waitFor(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

func TestARuleChangesTheAnswerOfWhyAndStatusCountsIt(t *testing.T) {
	c := config(t)
	if _, err := start(t, c); err != nil {
		t.Fatal(err)
	}
	why := func() inspect.Why {
		code, answer := ask(t, c, "GET", "/sluice/why?from=details-v2&url=https://www.googleapis.com/", "")
		if code != http.StatusOK {
			t.Fatalf("why: %d %s", code, answer)
		}
		return decode[inspect.Why](t, answer)
	}
	if before := why(); before.Verdict != "deny" || before.Remedy == nil || !before.Hypothetical {
		t.Errorf("before the rule: %+v", before)
	}
	create(t, c, "googleapis", "*.googleapis.com")
	waitFor(t, "the rule to take effect", func() bool { return why().Verdict == "allow" })
	if after := why(); after.Rule != "egress-rule/default/googleapis" {
		t.Errorf("after the rule: %+v", after)
	}
	_, answer := ask(t, c, "GET", "/sluice/status", "")
	if status := decode[inspect.Status](t, answer); status.Rules != 1 || status.Revision == 0 || status.Server.PID != os.Getpid() {
		t.Errorf("status: %s", answer)
	}
}

func TestASecondServerIsRefusedAndToldWhoLivesThere(t *testing.T) {
	c := config(t)
	if _, err := start(t, c); err != nil {
		t.Fatal(err)
	}
	var running *RunningError
	if _, err := start(t, c); !errors.As(err, &running) || running.Purpose != "runtime" || running.PID != os.Getpid() {
		t.Errorf("beside it: %v", err)
	}
	elsewhere := c
	elsewhere.RuntimeDir = filepath.Join(filepath.Dir(c.RuntimeDir), "other")
	if _, err := start(t, elsewhere); !errors.As(err, &running) || running.Purpose != "data" {
		t.Errorf("on its data: %v", err)
	}
	if code, _ := ask(t, c, "GET", "/sluice/version", ""); code != http.StatusOK {
		t.Errorf("the first was disturbed: %d", code)
	}
}

func TestAfterTheStopNothingIsLeftInTheRuntimeFolder(t *testing.T) {
	c := config(t)
	s, err := start(t, c)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Stop(); err != nil {
		t.Fatal(err)
	}
	left, err := os.ReadDir(c.RuntimeDir)
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	if _, err := start(t, c); err != nil {
		t.Errorf("the next one: %v", err)
	}
}

func TestFoldersThatOthersMayReadAreRefused(t *testing.T) {
	for _, which := range []func(*Config) string{
		func(c *Config) string { return c.RuntimeDir },
		func(c *Config) string { return c.DataDir },
	} {
		c := config(t)
		folder := which(&c)
		if err := os.MkdirAll(folder, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(folder, 0o755); err != nil {
			t.Fatal(err)
		}
		if _, err := start(t, c); err == nil || !strings.Contains(err.Error(), "open to other users") {
			t.Errorf("%s: %v", folder, err)
		}
	}
}
