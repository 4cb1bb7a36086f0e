package server

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sluice.dev/sluice/internal/control/authority"
	"sluice.dev/sluice/internal/control/history"
	"sluice.dev/sluice/internal/control/inspect"
)

// credential asks for one over api.sock, and returns it with its key.
func credential(t *testing.T, c Config, role string) (inspect.Credential, tls.Certificate, string) {
	t.Helper()
	key, request, err := authority.NewRequest()
	if err != nil {
		t.Fatal(err)
	}
	body, err := json.Marshal(inspect.CredentialRequest{Format: inspect.Format, Name: "jason", Role: role, Lifetime: time.Hour, Request: string(request)})
	if err != nil {
		t.Fatal(err)
	}
	code, answer := ask(t, c, "POST", inspect.CredentialPath, string(body))
	if code != http.StatusOK {
		t.Fatalf("%d %s", code, answer)
	}
	given := decode[inspect.Credential](t, answer)
	pair, err := tls.X509KeyPair([]byte(given.Certificate), key)
	if err != nil {
		t.Fatal(err)
	}
	return given, pair, string(key)
}

// over is a client of the port with a credential.
func over(t *testing.T, given inspect.Credential, pair tls.Certificate) func(method, path, body string) int {
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM([]byte(given.CA))
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, ServerName: given.ServerName, Certificates: []tls.Certificate{pair}}}
	t.Cleanup(transport.CloseIdleConnections)
	return func(method, path, body string) int {
		request, err := http.NewRequestWithContext(t.Context(), method, "https://"+given.Address+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("Content-Type", "application/merge-patch+json")
		response, err := transport.RoundTrip(request)
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		return response.StatusCode
	}
}

func historyOf(t *testing.T, c Config, name string) []history.Entry {
	t.Helper()
	code, answer := ask(t, c, "GET", inspect.HistoryPath+"?resource=egressrules.config.istio.io&namespace=default&name="+name, "")
	if code != http.StatusOK {
		t.Fatalf("%d %s", code, answer)
	}
	return decode[inspect.History](t, answer).Entries
}

func TestACredentialAndTheHistoryOutliveTheServerAndNoSecretIsInItsLog(t *testing.T) {
	c := config(t)
	var log bytes.Buffer
	c.APIListen, c.Log = "0.0.0.0:0", slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	s, err := start(t, c)
	if err != nil {
		t.Fatal(err)
	}
	given, pair, key := credential(t, c, authority.Editor)
	create(t, c, "a", "a.example.com")
	if code := over(t, given, pair)("PATCH", egressRules+"/a", `{"spec":{"destination":{"service":"b.example.com"}}}`); code != http.StatusOK {
		t.Fatalf("a patch: %d", code)
	}
	if err := s.Stop(); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(log.String(), "msg=changed who=jason role=editor verb=patch object=egress-rule/default/a revision=") {
		t.Errorf("the log does not say who changed a:\n%s", log.String())
	}
	for _, secret := range []string{"PRIVATE KEY", key, given.Certificate, "BEGIN CERTIFICATE"} {
		if strings.Contains(log.String(), secret) {
			t.Errorf("the log holds %.30q", secret)
		}
	}
	for _, name := range []string{authorityFile, historyFile} {
		if info, err := os.Stat(filepath.Join(c.DataDir, name)); err != nil || info.Mode() != 0o600 {
			t.Errorf("%s: %v %v", name, info, err)
		}
	}

	c.Log = config(t).Log
	again, err := start(t, c)
	if err != nil {
		t.Fatal(err)
	}
	given.Address = strings.Replace(again.APIAddress(), "[::]", "127.0.0.1", 1)
	if code := over(t, given, pair)("DELETE", egressRules+"/a", ""); code != http.StatusOK {
		t.Errorf("after a restart: %d", code)
	}
	entries := historyOf(t, c, "a")
	if len(entries) != 3 || entries[0].Verb != "create" || entries[0].Role != "admin" || entries[1].Who != "jason" || entries[1].Verb != "patch" ||
		!strings.Contains(string(entries[1].State.Spec), "b.example.com") || entries[2].Verb != "delete" {
		t.Errorf("%+v", entries)
	}
}

func TestARuleFromBeforeTheHistoryIsFoundInIt(t *testing.T) {
	c := config(t)
	s, err := start(t, c)
	if err != nil {
		t.Fatal(err)
	}
	create(t, c, "a", "a.example.com")
	if err := s.Stop(); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(c.DataDir, historyFile)); err != nil {
		t.Fatal(err)
	}
	if _, err := start(t, c); err != nil {
		t.Fatal(err)
	}
	if code, answer := ask(t, c, "DELETE", egressRules+"/a", ""); code != http.StatusOK {
		t.Fatalf("%d %s", code, answer)
	}
	entries := historyOf(t, c, "a")
	if len(entries) != 2 || entries[0].Verb != history.Found || entries[0].Who != "" || !strings.Contains(string(entries[0].State.Spec), "a.example.com") {
		t.Errorf("%+v", entries)
	}
}

func TestWhatACredentialIsAskedForInIsCheckedAndBounded(t *testing.T) {
	c := config(t)
	if _, err := start(t, c); err != nil {
		t.Fatal(err)
	}
	if code, answer := ask(t, c, "POST", inspect.CredentialPath, `{"format":2,"name":"jason","role":"reader"}`); code != http.StatusUnprocessableEntity || !strings.Contains(answer, "start sluice-server with --api-listen 127.0.0.1:15010") {
		t.Errorf("without a port: %d %s", code, answer)
	}
	for body, says := range map[string]string{
		"":                 "is not valid JSON",
		`{"format":7}`:     "has format 7",
		`{"format":2,"x":`: "is not valid JSON",
		`{"format":2,"request":"` + strings.Repeat("x", 64<<10) + `"}`: "too large",
	} {
		if code, answer := ask(t, c, "POST", inspect.CredentialPath, body); code != http.StatusBadRequest || !strings.Contains(answer, says) {
			t.Errorf("%.40q: %d %s", body, code, answer)
		}
	}
	for path, want := range map[string]int{
		inspect.HistoryPath: http.StatusBadRequest, inspect.HistoryPath + "?resource=x": http.StatusBadRequest,
		inspect.HistoryPath + "?resource=x&name=y": http.StatusOK, inspect.CredentialPath: http.StatusMethodNotAllowed,
	} {
		if code, answer := ask(t, c, "GET", path, ""); code != want {
			t.Errorf("%s: %d %s", path, code, answer)
		}
	}
}

func TestAnAddressOfThePortIsCheckedBeforeAnythingStarts(t *testing.T) {
	for address, ok := range map[string]bool{
		"": true, "127.0.0.1:15010": true, "127.0.0.1:0": true, "[::1]:15010": true, "0.0.0.0:15010": true, "192.0.2.1:1": true,
		"15010": false, ":15010": false, "localhost:15010": false, "127.0.0.1": false, "127.0.0.1:70000": false, "https://127.0.0.1:1": false,
	} {
		if err := CheckAPIListen(address); (err == nil) != ok {
			t.Errorf("%q: %v", address, err)
		}
	}
}
