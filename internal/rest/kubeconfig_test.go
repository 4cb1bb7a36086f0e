package rest

import (
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sluice.dev/sluice/internal/control/authority"
)

// issued is a server over TLS with its authority, and the kubeconfig of a client.
func issued(t testing.TB, handler http.Handler) (at, kubeconfig string) {
	t.Helper()
	a, err := authority.Open(filepath.Join(t.TempDir(), "ca.pem"), []string{"127.0.0.1"}, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewUnstartedServer(handler)
	server.TLS = a.TLS()
	server.StartTLS()
	t.Cleanup(server.Close)
	key, request, err := authority.NewRequest()
	if err != nil {
		t.Fatal(err)
	}
	certificate, _, err := a.Issue(request, "jason", authority.Reader, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	encode := base64.StdEncoding.EncodeToString
	at = server.Listener.Addr().String()
	return at, fmt.Sprintf(`apiVersion: v1
kind: Config
clusters:
- name: sluice
  cluster:
    server: https://%s
    tls-server-name: sluice-server
    certificate-authority-data: %s
users:
- name: "jason"
  user:
    client-certificate-data: %s
    client-key-data: %s
contexts:
- name: sluice
  context:
    cluster: sluice
    user: "jason"
    namespace: books
current-context: sluice
`, at, encode(a.CA()), encode(certificate), encode(key))
}

func write(t testing.TB, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "kubeconfig")
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestAKubeconfigLeadsToItsServerWithItsCertificate(t *testing.T) {
	var who string
	_, text := issued(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		who = ""
		if len(r.TLS.PeerCertificates) > 0 {
			who = r.TLS.PeerCertificates[0].Subject.String()
		}
		fmt.Fprint(w, `{"format":2}`)
	}))
	path := write(t, text)
	var into struct{}
	if err := newClient(t, Config{Server: path}).Sluice(t.Context(), "/sluice/version", nil, &into); err != nil || who != "CN=jason,O=sluice:reader" {
		t.Errorf("the server saw %q: %v", who, err)
	}
	if got := Namespace(path); got != "books" {
		t.Errorf("namespace %q", got)
	}
	if got := Namespace(write(t, strings.Replace(text, "    namespace: books\n", "", 1))); got != "default" {
		t.Errorf("namespace %q where the file names none", got)
	}
}

func TestAFileNamedLikeAnAddressTakesNotItsPlace(t *testing.T) {
	_, text := issued(t, nil)
	t.Chdir(t.TempDir())
	if err := os.MkdirAll("http:", 0o700); err != nil {
		t.Fatal(err)
	}
	for _, server := range []string{"127.0.0.1:8001", "[::1]:8001", "localhost:8001", "unix:api.sock", "http://127.0.0.1:8001"} {
		if err := os.WriteFile(server, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if at, err := resolve(server); err != nil || at.tls != nil || Namespace(server) != "default" {
			t.Errorf("%s: %+v, %v, namespace %s", server, at, err, Namespace(server))
		}
		// As --kubeconfig names it, it is a file like another.
		path, err := FileAddress(server)
		if err != nil {
			t.Fatal(err)
		}
		if at, err := resolve(path); err != nil || at.tls == nil {
			t.Errorf("the file %s: %+v, %v", server, at, err)
		}
	}
}

func TestAServerThatTheKubeconfigDoesNotKnowGetsNoRequest(t *testing.T) {
	_, text := issued(t, nil)
	other, _ := issued(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("it got a request") }))
	at, _, _ := strings.Cut(text[strings.Index(text, "https://"):], "\n")
	err := newClient(t, Config{Server: write(t, strings.Replace(text, at, "https://"+other, 1))}).Sluice(t.Context(), "/sluice/version", nil, nil)
	if err == nil || !strings.Contains(err.Error(), "the kubeconfig is of another server, or of an earlier authority of it; write it anew with sluice kubeconfig") {
		t.Error(err)
	}
}

func TestAServerOfAKubeconfigThatIsGoneIsMissing(t *testing.T) {
	at, text := issued(t, nil)
	err := newClient(t, Config{Server: write(t, strings.Replace(text, at, "127.0.0.1:1", 1))}).Sluice(t.Context(), "/sluice/version", nil, nil)
	if !errors.Is(err, ErrNoServer) || !strings.Contains(err.Error(), "--api-listen") {
		t.Error(err)
	}
}

func TestARequestInTheClearToTheTLSPortSaysWhatToWrite(t *testing.T) {
	at, _ := issued(t, nil)
	want := at + " speaks TLS, and wants a client certificate: write a file with sluice kubeconfig on its machine, and name it here: --kubeconfig FILE"
	client := newClient(t, Config{Server: at})
	if err := client.Sluice(t.Context(), "/sluice/version", nil, nil); err == nil || err.Error() != want {
		t.Error(err)
	}
	if err := client.Follow(t.Context(), "/sluice/flows", nil, nil); err == nil || err.Error() != want {
		t.Error(err)
	}
}

func TestAKubeconfigThatSaysMoreThanIsReadIsRefusedByName(t *testing.T) {
	_, text := issued(t, nil)
	for name, c := range map[string]struct{ from, to, says string }{
		"in the clear":        {"server: https://", "server: http://", "must look like https://"},
		"a path":              {"    tls-server-name", "    # x\n    tls-server-name", ""},
		"no check":            {"    tls-server-name: sluice-server", "    insecure-skip-tls-verify: true", "has insecure-skip-tls-verify, which is not supported"},
		"a proxy":             {"    tls-server-name: sluice-server", "    proxy-url: http://p:1", "has proxy-url, which is not supported"},
		"a program":           {"  user:\n", "  user:\n    exec: {command: x}\n", "has exec, which is not supported"},
		"a token":             {"  user:\n", "  user:\n    token: s3cr3t\n", "has token, which is not supported"},
		"no context":          {"current-context: sluice", "current-context: other", `it has no context "other"`},
		"no current context":  {"current-context: sluice", "", "names no current-context"},
		"another cluster":     {"    cluster: sluice\n", "    cluster: other\n", `it has no cluster "other"`},
		"another user":        {"    user: \"jason\"", "    user: other", `it has no user "other"`},
		"a namespace":         {"namespace: books", "namespace: Books/x", "cannot be one"},
		"no authority":        {"    certificate-authority-data: ", "    certificate-authority-data: AAAA # ", "holds no certificate"},
		"a key that is no":    {"    client-key-data: ", "    client-key-data: czNjcjN0 # ", "has no client certificate with its key"},
		"a key not in base64": {"    client-key-data: ", "    client-key-data: s3cr3t! # ", "client-key-data of user \"jason\" is not valid base64"},
		"not YAML":            {"apiVersion: v1", "{", "it is not the YAML of a kubeconfig"},
		"too long":            {"apiVersion: v1", "# " + strings.Repeat("x", maxKubeconfig), "it is longer than 262144 bytes"},
	} {
		changed := strings.Replace(text, c.from, c.to, 1)
		if changed == text {
			t.Fatalf("%s: nothing was changed", name)
		}
		_, err := New(Config{Server: write(t, changed)})
		switch {
		case c.says == "" && err != nil, c.says != "" && (err == nil || !strings.Contains(err.Error(), c.says)):
			t.Errorf("%s: %v: want %q", name, err, c.says)
		case err != nil && (strings.Contains(err.Error(), "s3cr3t") || strings.Contains(err.Error(), "czNjcjN0")):
			t.Errorf("%s: the error holds the secret: %v", name, err)
		}
	}
}

func FuzzAKubeconfigIsReadOrRefused(f *testing.F) {
	_, text := issued(f, nil)
	f.Add([]byte(text))
	f.Add([]byte("current-context: a\ncontexts: [{name: a, context: {cluster: b, user: c}}]\nclusters: [{name: b, cluster: {server: 'https://h'}}]\n"))
	f.Add([]byte("a: &a [*a]"))
	f.Fuzz(func(t *testing.T, content []byte) {
		config, err := parseKubeconfig(content)
		if err == nil && (config.TLS == nil || config.TLS.RootCAs == nil || config.TLS.InsecureSkipVerify || config.TLS.ServerName == "" || len(config.TLS.Certificates) != 1 || config.At == "") {
			t.Errorf("%+v", config)
		}
	})
}
