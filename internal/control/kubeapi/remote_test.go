package kubeapi

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"sluice.dev/sluice/internal/control/authority"
	"sluice.dev/sluice/internal/control/history"
)

// testClock is a clock that runs ahead of the true one as far as a test says.
type testClock struct {
	mu    sync.Mutex
	ahead time.Duration
}

func (c *testClock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return time.Now().Add(c.ahead)
}

func (c *testClock) advance(by time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ahead += by
}

func newAuthority(t testing.TB, now func() time.Time) *authority.Authority {
	t.Helper()
	a, err := authority.Open(filepath.Join(t.TempDir(), "ca.pem"), []string{"127.0.0.1"}, now)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// credential is a client certificate of an authority.
func credential(t testing.TB, a *authority.Authority, role string, lifetime time.Duration) tls.Certificate {
	t.Helper()
	key, request, err := authority.NewRequest()
	if err != nil {
		t.Fatal(err)
	}
	certificate, _, err := a.Issue(request, "jason", role, lifetime)
	if err != nil {
		t.Fatal(err)
	}
	pair, err := tls.X509KeyPair(certificate, key)
	if err != nil {
		t.Fatal(err)
	}
	return pair
}

// remoteServer is a server with a TCP port.
type remoteServer struct {
	*testServer
	authority *authority.Authority
	clock     *testClock

	mu      sync.Mutex
	entries []history.Entry
}

func (r *remoteServer) changes() []history.Entry {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.entries)
}

func startRemote(t testing.TB) *remoteServer {
	t.Helper()
	return startRemoteWith(t, 2*time.Second)
}

func startRemoteWith(t testing.TB, headerTimeout time.Duration) *remoteServer {
	t.Helper()
	r := &remoteServer{clock: new(testClock)}
	r.authority = newAuthority(t, r.clock.now)
	r.testServer = startWith(t, Config{
		DataDir: t.TempDir(), Peers: acceptAll, Listen: "127.0.0.1:0", Authority: r.authority, headerTimeout: headerTimeout,
		Changed: func(entry history.Entry, _ *history.Entry) {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.entries = append(r.entries, entry)
		},
	})
	return r
}

func (r *remoteServer) config(certificates ...tls.Certificate) *tls.Config {
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(r.authority.CA())
	return &tls.Config{RootCAs: roots, ServerName: authority.ServerName, GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
		if len(certificates) == 0 {
			return new(tls.Certificate), nil
		}
		return &certificates[0], nil // even one of an authority that the server does not name
	}}
}

// as is a client of the port with a certificate, over HTTP/2.
func (r *remoteServer) as(t testing.TB, certificates ...tls.Certificate) *testServer {
	t.Helper()
	transport := &http.Transport{TLSClientConfig: r.config(certificates...), ForceAttemptHTTP2: true}
	t.Cleanup(transport.CloseIdleConnections)
	return &testServer{client: &http.Client{Timeout: 30 * time.Second, Transport: rebased{r.Address(), transport}}}
}

// rebased sends the requests of testServer.do to an address over TLS.
type rebased struct {
	address string
	http.RoundTripper
}

func (r rebased) RoundTrip(request *http.Request) (*http.Response, error) {
	request = request.Clone(request.Context())
	request.URL.Scheme, request.URL.Host, request.Host = "https", r.address, r.address
	return r.RoundTripper.RoundTrip(request)
}

func TestWhoHasNoCredentialOfOursIsNobody(t *testing.T) {
	r := startRemote(t)
	short := credential(t, r.authority, authority.Editor, time.Hour)
	others := credential(t, newAuthority(t, time.Now), authority.Editor, time.Hour)
	for _, version := range []string{"HTTP/1.1", "HTTP/2.0"} {
		for what, x := range map[string]struct {
			certificates []tls.Certificate
			ahead        time.Duration
			says         string
		}{
			"no certificate":                {nil, 0, "a client certificate is required"},
			"one of another authority":      {[]tls.Certificate{others}, 0, "this server did not issue it"},
			"one that expired":              {[]tls.Certificate{short}, 2 * time.Hour, "it expired at "},
			"one that is valid, to compare": {[]tls.Certificate{short}, 0, ""},
		} {
			transport := &http.Transport{TLSClientConfig: r.config(x.certificates...), ForceAttemptHTTP2: version == "HTTP/2.0"}
			r.clock.advance(x.ahead)
			for _, path := range []string{egressRules, "/apis", "/openapi/v3", "/version", "/healthz", "/sluice/status", "/metrics", "/"} {
				request, err := http.NewRequestWithContext(t.Context(), "GET", "https://"+r.Address()+path, nil)
				if err != nil {
					t.Fatal(err)
				}
				response, err := transport.RoundTrip(request)
				if err != nil {
					t.Fatalf("%s: %s: %v", version, what, err)
				}
				answer, _ := io.ReadAll(response.Body)
				response.Body.Close()
				if response.Proto != version {
					t.Fatalf("it speaks %s", response.Proto)
				}
				if x.says == "" {
					if response.StatusCode == http.StatusUnauthorized {
						t.Errorf("%s: %s: %s is refused: %s", version, what, path, answer)
					}
				} else if response.StatusCode != http.StatusUnauthorized || !strings.Contains(string(answer), x.says) {
					t.Errorf("%s: %s: %s: %d %s", version, what, path, response.StatusCode, answer)
				}
			}
			r.clock.advance(-x.ahead)
			transport.CloseIdleConnections()
		}
	}
	if len(r.changes()) > 0 {
		t.Errorf("changes %+v", r.changes())
	}
}

func TestACredentialThatExpiresOnAnOpenConnectionIsRefusedThere(t *testing.T) {
	r := startRemote(t)
	editor := r.as(t, credential(t, r.authority, authority.Editor, time.Hour))
	editor.create(t, "before", "a.example.com")
	r.clock.advance(time.Hour + time.Second)
	if code, body := editor.do(t, "POST", egressRules, "application/json", egressRule("after", "a.example.com")); code != http.StatusUnauthorized {
		t.Errorf("%d %s", code, body)
	}
}

func TestARoleMayDoWhatItSaysAndNothingElse(t *testing.T) {
	r := startRemote(t)
	r.create(t, "held", "a.example.com") // by the administrator
	clients := map[string]*testServer{
		authority.Reader: r.as(t, credential(t, r.authority, authority.Reader, time.Hour)),
		authority.Editor: r.as(t, credential(t, r.authority, authority.Editor, time.Hour)),
	}
	const (
		held    = egressRules + "/held"
		crd     = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/egressrules.config.istio.io"
		merge   = "application/merge-patch+json"
		apply   = "application/apply-patch+yaml"
		forever = `{"spec":{"destination":{"service":"b.example.com"}}}`
	)
	for _, x := range []struct {
		method, path, kind, body string
		reader, editor           int
		says                     string // of each refusal
	}{
		{"GET", held, "", "", 200, 200, ""},
		{"GET", egressRules, "", "", 200, 200, ""},
		{"GET", held + "/status", "", "", 200, 200, ""},
		{"GET", "/apis", "", "", 200, 200, ""},
		{"GET", "/openapi/v2", "", "", 200, 200, ""},
		{"GET", "/api/v1/namespaces/default", "", "", 200, 200, ""},
		{"GET", crd, "", "", 200, 200, ""},
		{"POST", egressRules, "application/json", egressRule("new", "a.example.com"), 403, 201, "the role reader reads only"},
		{"PUT", held, "application/json", egressRule("held", "c.example.com"), 403, 422, "the role reader reads only"}, // 422: without its version
		{"PATCH", held, merge, forever, 403, 200, "the role reader reads only"},
		{"PATCH", egressRules + "/applied?fieldManager=t", apply, egressRule("applied", "a.example.com"), 403, 201, "the role reader reads only"},
		{"PATCH", held + "/status", merge, `{"status":{"observedGeneration":9}}`, 403, 403, "statuses are the server's alone"},
		{"PUT", held + "/status", "application/json", egressRule("held", "c.example.com"), 403, 403, "statuses are the server's alone"},
		{"PATCH", crd, merge, `{"metadata":{"labels":{"a":"b"}}}`, 403, 403, "the definitions of the kinds are the server's alone"},
		{"PUT", crd + "/status", "application/json", `{}`, 403, 403, "the definitions of the kinds are the server's alone"},
		{"DELETE", crd, "", "", 403, 403, "the definitions of the kinds are the server's alone"},
		{"DELETE", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", "", "", 403, 403, "the definitions of the kinds are the server's alone"},
		{"POST", "/api/v1/namespaces", "application/json", `{}`, 403, 403, "over api.sock alone"},
		{"GET", "/api/v1/secrets", "", "", 403, 403, "over api.sock alone"},
		{"GET", "/metrics", "", "", 403, 403, "over api.sock alone"},
		{"GET", "/debug/pprof/", "", "", 403, 403, "over api.sock alone"},
		{"POST", "/apis", "", "", 403, 403, "over api.sock alone"},
		{"POST", "/sluice/credential", "application/json", `{}`, 403, 403, "over api.sock alone"},
		{"DELETE", egressRules + "/new", "", "", 403, 200, "the role reader reads only"},
		{"DELETE", egressRules, "", "", 403, 200, "the role reader reads only"},
	} {
		for role, want := range map[string]int{authority.Reader: x.reader, authority.Editor: x.editor} {
			code, body := clients[role].do(t, x.method, x.path, x.kind, x.body)
			if code != want || code == http.StatusForbidden && !strings.Contains(body, x.says) {
				t.Errorf("%s: %s %s: %d %s", role, x.method, x.path, code, body)
			}
		}
	}
}

func TestNobodyOnThePortActsAsSomebodyElse(t *testing.T) {
	r := startRemote(t)
	r.create(t, "held", "a.example.com")
	for _, header := range []string{"Impersonate-User", "impersonate-group", "Impersonate-Uid", "Impersonate-Extra-Scopes", "X-Remote-User", "X-Remote-Group", "Authorization"} {
		value := "system:masters"
		if header == "Authorization" {
			value = "Bearer secret-of-somebody"
		}
		client := r.as(t, credential(t, r.authority, authority.Reader, time.Hour))
		request, err := http.NewRequestWithContext(t.Context(), "DELETE", "http://sluice"+egressRules+"/held", nil)
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set(header, value)
		response, err := client.client.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		answer, _ := io.ReadAll(response.Body)
		response.Body.Close()
		if response.StatusCode != http.StatusForbidden || strings.Contains(string(answer), "secret-of-somebody") {
			t.Errorf("%s: %d %s", header, response.StatusCode, answer)
		}
	}
}

func TestThePortSpeaksNothingOlderThanTLS12AndNothingInTheClear(t *testing.T) {
	r := startRemote(t)
	config := r.config(credential(t, r.authority, authority.Reader, time.Hour))
	config.MinVersion, config.MaxVersion = tls.VersionTLS10, tls.VersionTLS11
	if conn, err := tls.Dial("tcp", r.Address(), config); err == nil {
		conn.Close()
		t.Error("it speaks TLS 1.1")
	}
	response, err := http.Get("http://" + r.Address() + egressRules)
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	if response.StatusCode != http.StatusBadRequest {
		t.Errorf("in the clear: %s", response.Status)
	}
}

func TestAHeadThatIsTooLongOrTooSlowEndsItsConnection(t *testing.T) {
	r := startRemote(t)
	certificate := credential(t, r.authority, authority.Editor, time.Hour)
	for _, version := range []string{"http/1.1", "h2"} {
		transport := &http.Transport{TLSClientConfig: r.config(certificate), ForceAttemptHTTP2: version == "h2"}
		request, err := http.NewRequestWithContext(t.Context(), "GET", "https://"+r.Address()+egressRules, nil)
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("X-Long", strings.Repeat("x", 2*maxHeaderBytes))
		response, err := transport.RoundTrip(request)
		if err == nil {
			response.Body.Close()
			if response.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
				t.Errorf("%s: %s", version, response.Status)
			}
		}
		transport.CloseIdleConnections()
	}
	plain, err := net.Dial("tcp", r.Address())
	if err != nil {
		t.Fatal(err)
	}
	secured, err := tls.Dial("tcp", r.Address(), r.config(certificate))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(secured, "GET "+egressRules+" HTTP/1.1\r\nHost: x\r\nX-Slow: "); err != nil {
		t.Fatal(err)
	}
	for what, conn := range map[string]net.Conn{"a handshake that never comes": plain, "a head that never ends": secured} {
		defer conn.Close()
		_ = conn.SetReadDeadline(time.Now().Add(time.Minute))
		if _, err := io.Copy(io.Discard, conn); err != nil && strings.Contains(err.Error(), "timeout") {
			t.Errorf("%s: the connection stays open", what)
		}
	}
}

func TestABodyThatIsTooLargeIsRefusedAndOneOfNobodyIsNotRead(t *testing.T) {
	r := startRemote(t)
	editor := r.as(t, credential(t, r.authority, authority.Editor, time.Hour))
	large := strings.Replace(egressRule("large", "a.example.com"), `"spec"`, `"x":"`+strings.Repeat("x", 2*maxRequestBody)+`","spec"`, 1)
	if code, body := editor.do(t, "POST", egressRules, "application/json", large); code != http.StatusRequestEntityTooLarge {
		t.Errorf("%d %.200s", code, body)
	}
	conn, err := tls.Dial("tcp", r.Address(), r.config())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, "POST "+egressRules+" HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n{"); err != nil {
		t.Fatal(err)
	}
	_ = conn.SetReadDeadline(time.Now().Add(time.Minute))
	answer, err := io.ReadAll(conn) // to the end of the connection, though the body never comes
	if err != nil || !bytes.HasPrefix(answer, []byte("HTTP/1.1 401 ")) {
		t.Errorf("%.100q %v", answer, err)
	}
}

func TestThePortHasOnlySoManyConnectionsAndTheSocketIsServedBeside(t *testing.T) {
	r := startRemoteWith(t, time.Hour) // nothing but a bound closes a connection
	var open []net.Conn
	defer func() {
		for _, conn := range open {
			conn.Close()
		}
	}()
	dial := func(from string) net.Conn {
		dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
		conn, err := dialer.Dial("tcp", r.Address())
		if err != nil {
			t.Fatal(err)
		}
		open = append(open, conn)
		return conn
	}
	closed := func(what string, conn net.Conn) {
		t.Helper()
		_ = conn.SetReadDeadline(time.Now().Add(30 * time.Second))
		if n, err := conn.Read(make([]byte, 1)); n != 0 || err == nil || strings.Contains(err.Error(), "timeout") {
			t.Errorf("one beyond the bound %s is kept: %d %v", what, n, err)
		}
	}
	for range maxPerAddress {
		dial("127.0.0.1")
	}
	closed("of an address", dial("127.0.0.1"))
	for range maxRemoteConnections - maxPerAddress {
		dial("127.0.0.2")
	}
	closed("in all", dial("127.0.0.3"))
	if code, body := r.do(t, "GET", egressRules, "", ""); code != http.StatusOK {
		t.Errorf("on api.sock: %d %s", code, body)
	}
	for _, conn := range open {
		conn.Close()
	}
	open = nil
	reader := r.as(t, credential(t, r.authority, authority.Reader, time.Hour))
	waitFor(t, "a free place", func() bool {
		response, err := reader.client.Get("http://sluice" + egressRules)
		if err != nil {
			return false
		}
		response.Body.Close()
		return response.StatusCode == http.StatusOK
	})
}

func TestThePortServesOnlySoManyRequestsAndWatchesAtOnce(t *testing.T) {
	a := newAuthority(t, time.Now)
	pair := credential(t, a, authority.Reader, time.Hour)
	leaf, err := x509.ParseCertificate(pair.Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	release := make(chan struct{})
	inside := make(chan context.Context)
	d := newDoor(a, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		inside <- r.Context()
		<-release
	}), testLog())
	ask := func(path string) int {
		request := httptest.NewRequest("GET", path, nil)
		request.TLS = &tls.ConnectionState{PeerCertificates: []*x509.Certificate{leaf}}
		answer := httptest.NewRecorder()
		d.ServeHTTP(answer, request)
		return answer.Code
	}
	var running sync.WaitGroup
	for _, x := range []struct {
		path  string
		bound int
	}{{egressRules, maxRemoteRequests}, {egressRules + "?watch=1", maxRemoteWatches}} {
		for range x.bound {
			running.Go(func() { ask(x.path) })
			ctx := <-inside
			if end, ok := ctx.Deadline(); !ok || !end.Equal(leaf.NotAfter) {
				t.Fatalf("a request may outlive its credential: %v %v", end, ok)
			}
		}
		if code := ask(x.path); code != http.StatusTooManyRequests {
			t.Errorf("%s beyond the bound: %d", x.path, code)
		}
	}
	close(release)
	running.Wait()
}

func TestWithAPortThatPortAloneListens(t *testing.T) {
	r := startRemote(t)
	listening := 0
	for _, line := range socketsOf(t, "tcp") {
		if fields := strings.Fields(line); fields[3] == "0A" { // LISTEN
			listening++
			var port int
			if _, err := fmt.Sscanf(fields[1], "0100007F:%X", &port); err != nil || !strings.HasSuffix(r.Address(), fmt.Sprintf(":%d", port)) {
				t.Errorf("a listener: %q, and ours is %s", line, r.Address())
			}
		}
	}
	if listening != 1 {
		t.Errorf("%d listeners", listening)
	}
}
