package kubeapi

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sluice.dev/sluice/deploy/crds"
	"sluice.dev/sluice/internal/peer"
)

// testServer is a server on folders of the test, with a client on its socket.
type testServer struct {
	*Server
	socket string
	client *http.Client
}

func testLog() *slog.Logger {
	level := slog.LevelError + 1
	if os.Getenv("SLUICE_TEST_LOG") != "" {
		level = slog.LevelDebug
	}
	return slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: level}))
}

// asked is an authenticator of a test's making.
type asked func() error

func (a asked) Authenticate(net.Conn) (peer.Peer, error) { return peer.Peer{}, a() }

// acceptAll lets everybody in.
var acceptAll = asked(func() error { return nil })

// start starts a server on data, "" for a fresh folder, and stops it when the
// test ends.
func start(t testing.TB, data string, peers peer.Authenticator) *testServer {
	t.Helper()
	if data == "" {
		data = t.TempDir()
	}
	return startWith(t, Config{DataDir: data, Peers: peers})
}

// startWith is start with a Config that lacks what every server of a test has.
func startWith(t testing.TB, config Config) *testServer {
	t.Helper()
	run, err := os.MkdirTemp("", "sluice-api") // t.TempDir may be too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(run) })
	socket := filepath.Join(run, "api.sock")
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	config.Socket, config.Definitions, config.Log = socket, crds.Files, testLog()
	server, err := Start(ctx, config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Stop(); err != nil {
			t.Errorf("stop: %v", err)
		}
	})
	if err := server.Open(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	return &testServer{Server: server, socket: socket, client: socketClient(t, socket)}
}

func socketClient(t testing.TB, socket string) *http.Client {
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", socket)
	}}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: 30 * time.Second}
}

// do sends a request and returns the answer's status and body.
func (s *testServer) do(t testing.TB, method, path, contentType, body string) (int, string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, "http://sluice"+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if contentType != "" {
		request.Header.Set("Content-Type", contentType)
	}
	response, err := s.client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(answer)
}

const egressRules = "/apis/config.istio.io/v1alpha2/namespaces/default/egressrules"

// egressRule is a valid EgressRule in JSON.
func egressRule(name, host string) string {
	return fmt.Sprintf(`{"apiVersion":"config.istio.io/v1alpha2","kind":"EgressRule","metadata":{"name":%q},"spec":{"destination":{"service":%q},"ports":[{"port":443,"protocol":"https"}]}}`, name, host)
}

func (s *testServer) create(t testing.TB, name, host string) {
	t.Helper()
	if code, body := s.do(t, "POST", egressRules, "application/json", egressRule(name, host)); code != http.StatusCreated {
		t.Fatalf("create %s: %d %s", name, code, body)
	}
}

func decode[T any](t testing.TB, body string) (value T) {
	t.Helper()
	if err := json.NewDecoder(bytes.NewReader([]byte(body))).Decode(&value); err != nil {
		t.Fatalf("decode %s: %v", body, err)
	}
	return value
}
