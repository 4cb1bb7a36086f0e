package rest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"sluice.dev/sluice/api"
	"sluice.dev/sluice/api/istio"
	"sluice.dev/sluice/internal/control/inspect"
	"sluice.dev/sluice/internal/rest/fakeapi"
)

const rulePath = "/apis/config.istio.io/v1alpha2/namespaces/default/egressrules/a"

func rule(service string) *api.Object {
	return &api.Object{
		APIVersion: "config.istio.io/v1alpha2", Kind: "EgressRule", Metadata: api.Meta{Name: "a", Namespace: "default"},
		Spec: &istio.EgressRuleSpec{Destination: &istio.Service{Service: service}},
	}
}

func egressRules(t *testing.T) *api.Kind {
	t.Helper()
	kind, err := api.Lookup("egressrule")
	if err != nil {
		t.Fatal(err)
	}
	return kind
}

func newClient(t *testing.T, c Config) *Client {
	t.Helper()
	client, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	return client
}

func TestObjectsAreCreatedReadListedAndDeleted(t *testing.T) {
	server := fakeapi.New()
	client := newClient(t, Config{Server: server.Start(t)})
	ctx := context.Background()
	kind := egressRules(t)

	o := rule("a.com")
	o.Metadata.ResourceVersion, o.Metadata.UID = "5", "another's" // as a file holds that get printed
	created, err := client.Create(ctx, o)
	if err != nil || created.Metadata.ResourceVersion != "12" || created.Metadata.UID != "uid-of-a" {
		t.Fatal(created, err)
	}
	if _, err := client.Create(ctx, o); !IsAlreadyExists(err) || err.Error() != `egressrules.config.istio.io "a" already exists` {
		t.Error(err)
	}
	got, err := client.Get(ctx, kind, "default", "a")
	if err != nil || got.Spec.(*istio.EgressRuleSpec).Destination.Service != "a.com" {
		t.Error(got, err)
	}
	if _, err := client.Get(ctx, kind, "other", "a"); !IsNotFound(err) {
		t.Error(err)
	}
	for i := range pageSize + 1 {
		server.Put(fmt.Sprintf("/apis/config.istio.io/v1alpha2/namespaces/default/egressrules/b%04d", i),
			map[string]any{"metadata": map[string]any{"name": fmt.Sprint("b", i)}})
	}
	all, err := client.List(ctx, kind, "default")
	if err != nil || len(all) != pageSize+2 || all[0].Metadata.Name != "a" {
		t.Errorf("%d objects, %v", len(all), err)
	}
	if err := client.Delete(ctx, kind, "default", "a"); err != nil {
		t.Error(err)
	}
	if err := client.Delete(ctx, kind, "default", "a"); !IsNotFound(err) || err.Error() != `egressrules.config.istio.io "a" not found` {
		t.Error(err)
	}
}

func TestUpdateKeepsWhatTheStoreAloneHolds(t *testing.T) {
	server := fakeapi.New()
	address := server.Start(t)
	client := newClient(t, Config{Server: address})
	stored := func() map[string]any {
		return map[string]any{
			"apiVersion": "config.istio.io/v1alpha2", "kind": "EgressRule",
			"metadata": map[string]any{"name": "a", "finalizers": []any{"f"}, "labels": map[string]any{"old": "1"}, "annotations": map[string]any{"old": "1"}},
			"spec":     map[string]any{"useEgressProxy": false, "ports": []any{map[string]any{"port": 1}}},
			"status":   map[string]any{"observedGeneration": 3},
		}
	}
	for how, labels := range map[Update]string{Replace: "map[new:2]", Apply: "map[new:2 old:1]"} {
		server.Put(rulePath, stored())
		o := rule("b.com")
		o.Metadata.Labels = map[string]string{"new": "2"}
		if _, changed, err := client.Update(context.Background(), o, how); err != nil || !changed {
			t.Fatal(changed, err)
		}
		if _, changed, err := client.Update(context.Background(), o, how); err != nil || changed {
			t.Errorf("%v: the same once more is a change: %v", how, err)
		}
		// A dry run says what would be.
		trying := newClient(t, Config{Server: address, DryRun: true})
		if _, changed, err := trying.Update(context.Background(), o, how); err != nil || changed {
			t.Errorf("%v: a dry run of the same is a change: %v", how, err)
		}
		other := rule("c.com")
		other.Metadata.Labels = o.Metadata.Labels
		labelled := rule("b.com")
		labelled.Metadata.Labels = map[string]string{"new": "3"}
		for _, o := range []*api.Object{other, labelled} {
			if _, changed, err := trying.Update(context.Background(), o, how); err != nil || !changed {
				t.Errorf("%v: a dry run of another is no change: %v", how, err)
			}
		}
		got := server.Object(rulePath)
		metadata := got["metadata"].(map[string]any)
		if fmt.Sprint(metadata["labels"]) != labels || fmt.Sprint(metadata["finalizers"]) != "[f]" {
			t.Errorf("%v: %v", how, metadata)
		}
		if (metadata["annotations"] != nil) != (how == Apply) {
			t.Errorf("%v: annotations %v", how, metadata["annotations"])
		}
		if fmt.Sprint(got["spec"]) != "map[destination:map[service:b.com]]" || fmt.Sprint(got["status"]) != "map[observedGeneration:3]" {
			t.Errorf("%v: %v", how, got)
		}
	}
}

func TestUpdateTriesAgainAgainstAnotherWriterUnlessAVersionIsNamed(t *testing.T) {
	server := fakeapi.New()
	client := newClient(t, Config{Server: server.Start(t)})
	put := func() {
		server.Put(rulePath, map[string]any{"apiVersion": "config.istio.io/v1alpha2", "kind": "EgressRule", "metadata": map[string]any{"name": "a"}})
	}
	put()
	others := 0
	server.Before = func(_ *fakeapi.Server, r *http.Request) {
		if r.Method == http.MethodPut && others > 0 {
			others--
			put()
		}
	}
	others = conflicts - 1
	if _, _, err := client.Update(context.Background(), rule("b.com"), Replace); err != nil {
		t.Error(err)
	}
	others = conflicts
	if _, _, err := client.Update(context.Background(), rule("c.com"), Replace); !isConflict(err) {
		t.Errorf("after %d conflicts: %v", conflicts, err)
	}
	others = 0
	o := rule("d.com")
	o.Metadata.ResourceVersion = "1"
	if _, _, err := client.Update(context.Background(), o, Replace); !isConflict(err) {
		t.Errorf("over a version that is gone: %v", err)
	}
}

func TestNamesThatLeadElsewhereAreRefusedBeforeTheyAreSent(t *testing.T) {
	server := fakeapi.New()
	server.Before = func(_ *fakeapi.Server, r *http.Request) { t.Errorf("%s %s was sent", r.Method, r.URL) }
	client := newClient(t, Config{Server: server.Start(t)})
	for _, name := range []string{"", ".", "..", "../../x", "a/b", "a%2fb", "a?b", "a#b"} {
		if err := client.Delete(context.Background(), egressRules(t), "default", name); err == nil || !strings.Contains(err.Error(), "is not a name") {
			t.Errorf("%q: %v", name, err)
		}
		if _, err := client.List(context.Background(), egressRules(t), name); err == nil || !strings.Contains(err.Error(), "is not a namespace") {
			t.Errorf("%q: %v", name, err)
		}
	}
}

func TestAServerThatDoesNotAnswerIsNamedWithWhatToDo(t *testing.T) {
	folder := t.TempDir()
	get := func(c Config) error {
		_, err := newClient(t, c).Get(context.Background(), egressRules(t), "default", "a")
		return err
	}
	err := get(Config{Server: folder})
	if !errors.Is(err, ErrNoServer) || !strings.Contains(err.Error(), filepath.Join(folder, "api.sock")+"; start one with sluice-server") {
		t.Error(err)
	}
	listener, err := net.Listen("unix", filepath.Join(folder, "api.sock"))
	if err != nil {
		t.Fatal(err)
	}
	// Nobody accepts: the kernel takes the connection, and no answer comes.
	err = get(Config{Server: folder, Timeout: 50 * time.Millisecond})
	if err == nil || !strings.Contains(err.Error(), "no whole answer within 50ms") {
		t.Error(err)
	}
	listener.(*net.UnixListener).SetUnlinkOnClose(false)
	listener.Close() // a dead server's socket
	if err := get(Config{Server: folder}); !errors.Is(err, ErrNoServer) {
		t.Error(err)
	}
}

func TestAnswersOfStrangersAreToldShortAndBounded(t *testing.T) {
	var answer http.HandlerFunc
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { answer(w, r) }))
	defer server.Close()
	client := newClient(t, Config{Server: server.URL})
	get := func() string {
		_, err := client.Get(context.Background(), egressRules(t), "default", "a")
		if err == nil {
			return ""
		}
		return err.Error()
	}
	answer = func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(500)
		io.WriteString(w, "<html>"+strings.Repeat("x", 1000)+"\nsecond line")
	}
	if got := get(); !strings.HasPrefix(got, `the server answered 500: "<html>xxx`) || len(got) > 300 || strings.Contains(got, "second") {
		t.Error(got)
	}
	answer = func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/elsewhere", http.StatusFound) }
	if got := get(); !strings.HasPrefix(got, "the server answered 302") {
		t.Error(got)
	}
	answer = func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "{}") }
	if got := get(); !strings.Contains(got, "is not known") {
		t.Error(got)
	}
	answer = func(w http.ResponseWriter, _ *http.Request) {
		block := make([]byte, 1<<20)
		for range maxAnswer>>20 + 1 {
			if _, err := w.Write(block); err != nil {
				return
			}
		}
	}
	if got := get(); !strings.Contains(got, "longer than 67108864 bytes") {
		t.Error(got)
	}
}

func TestWhatIsBesideTheRulesIsAskedForAndFollowed(t *testing.T) {
	server := fakeapi.New()
	mux := http.NewServeMux()
	mux.HandleFunc("/sluice/status", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, `{"format": 2, "q": %q}`, r.URL.Query().Get("q"))
	})
	mux.HandleFunc("/sluice/flows", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set(inspect.FormatHeader, "2")
		io.WriteString(w, "{\"a\":1}\n")
		w.(http.Flusher).Flush()
		io.WriteString(w, "{\"a\":2}\n")
	})
	mux.HandleFunc("/sluice/long", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set(inspect.FormatHeader, "2")
		w.Write(make([]byte, maxLine+1))
	})
	mux.HandleFunc("/sluice/why", func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(404)
		io.WriteString(w, `{"error": "no flow has the id 5"}`)
	})
	server.Beside = mux
	client := newClient(t, Config{Server: server.Start(t)})
	ctx := context.Background()

	var status struct{ Q string }
	if err := client.Sluice(ctx, "/sluice/status", url.Values{"q": {"x y"}}, &status); err != nil || status.Q != "x y" {
		t.Error(status, err)
	}
	for name, err := range map[string]error{
		"Sluice": client.Sluice(ctx, "/sluice/why", nil, &status),
		"Follow": client.Follow(ctx, "/sluice/why", nil, func([]byte) error { return nil }),
	} {
		if err == nil || err.Error() != "no flow has the id 5" {
			t.Error(name, err)
		}
	}
	var lines []string
	err := client.Follow(ctx, "/sluice/flows", nil, func(line []byte) error { lines = append(lines, string(line)); return nil })
	if err != nil || fmt.Sprint(lines) != `[{"a":1} {"a":2}]` {
		t.Error(lines, err)
	}
	stop := errors.New("enough")
	if err := client.Follow(ctx, "/sluice/flows", nil, func([]byte) error { return stop }); !errors.Is(err, stop) {
		t.Error(err)
	}
	if err := client.Follow(ctx, "/sluice/long", nil, func([]byte) error { return nil }); err == nil {
		t.Error("a line without end was read")
	}
}

func TestAnAnswerOfAnotherFormatIsRefusedWithTheReason(t *testing.T) {
	server := fakeapi.New()
	mux := http.NewServeMux()
	mux.HandleFunc("/sluice/status", func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, r.URL.Query().Get("answer"))
	})
	mux.HandleFunc("/sluice/flows", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set(inspect.FormatHeader, r.URL.Query().Get("answer"))
		io.WriteString(w, "{}\n")
	})
	server.Beside = mux
	client := newClient(t, Config{Server: server.Start(t)})
	ctx := context.Background()
	for answer, want := range map[string]string{
		`{"format": 7, "workloads": "in another way"}`: "has format 7; this sluice reads format 2: upgrade this sluice",
		`{"workloads": []}`:                            "has format 1; this sluice reads format 2: upgrade the Sluice that wrote it",
		`nonsense`:                                     "is not valid JSON",
	} {
		if err := client.Sluice(ctx, "/sluice/status", url.Values{"answer": {answer}}, new(inspect.Status)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", answer, err)
		}
	}
	for answer, want := range map[string]string{"7": "has format 7; this sluice reads format 2", "": "has format 1", "x": "not a valid format"} {
		lines := 0
		err := client.Follow(ctx, "/sluice/flows", url.Values{"answer": {answer}}, func([]byte) error { lines++; return nil })
		if err == nil || !strings.Contains(err.Error(), want) || lines > 0 {
			t.Errorf("flows of format %q: %v after %d lines", answer, err, lines)
		}
	}
}

func TestAddressesOfServers(t *testing.T) {
	folder := t.TempDir()
	if err := os.Chmod(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	long := "/" + strings.Repeat("x", 120)
	for server, want := range map[string]string{
		folder:                           "unix " + folder + "/api.sock",
		folder + "/other.sock":           "unix " + folder + "/other.sock",
		"unix:" + folder:                 "unix " + folder + "/api.sock",
		"unix://" + folder + "/api.sock": "unix " + folder + "/api.sock",
		"127.0.0.1:15010":                "tcp 127.0.0.1:15010",
		"localhost:15010":                "tcp 127.0.0.1:15010",
		"http://[::1]:15010/":            "tcp [::1]:15010",
		"":                               "unix " + folder + "/api.sock", // by SLUICE_RUNTIME
		"unix:":                          "server unix: names no path",
		"10.0.0.1:15010":                 `server "10.0.0.1:15010" is another machine's, which is spoken to over TLS alone: write a file with sluice kubeconfig on its machine, and name it here: --kubeconfig FILE`,
		"https://127.0.0.1:1":            `server "https://127.0.0.1:1": over TLS a client certificate is needed; write a file with sluice kubeconfig on its machine, and name it here: --kubeconfig FILE`,
		"http://127.0.0.1:1/x":           `server "http://127.0.0.1:1/x" must look like http://127.0.0.1:8001`,
		"example.com:80":                 `server "example.com:80" must be a unix socket, a runtime folder, a file of sluice kubeconfig, or a loopback address with a port such as 127.0.0.1:8001`,
		"127.0.0.1":                      `server "127.0.0.1" must be a unix socket, a runtime folder, a file of sluice kubeconfig, or a loopback address with a port such as 127.0.0.1:8001`,
		"127.0.0.1:0":                    `server "127.0.0.1:0" must be a unix socket, a runtime folder, a file of sluice kubeconfig, or a loopback address with a port such as 127.0.0.1:8001`,
		long:                             "the path " + long + " is too long for a unix socket (121 bytes, at most 107): name a shorter runtime folder",
	} {
		t.Setenv("SLUICE_RUNTIME", folder)
		at, err := resolve(server)
		got := at.network + " " + at.at
		if err != nil {
			got = err.Error()
		}
		if got != want {
			t.Errorf("%q:\n got %s\nwant %s", server, got, want)
		}
	}
	// In a folder that others may write to, anybody could have put the socket.
	if err := os.Chmod(folder, 0o777); err != nil {
		t.Fatal(err)
	}
	if _, err := resolve(""); err == nil || !strings.Contains(err.Error(), "open to other users") {
		t.Error(err)
	}
}

func TestWarningsOfAnAnswerAreHandedOut(t *testing.T) {
	server := fakeapi.New()
	server.Warn = func(r *http.Request) []string {
		if r.Method != http.MethodPost {
			return nil
		}
		return []string{`299 - "one, \"two\" and \\"`, `299 agent:80 "three"`, `199 - "of another kind"`, `299 - unquoted`, `299 - "`, "299 - \"a\u009bb\"", `299 - "` + strings.Repeat("x", maxWarning) + `"`}
	}
	var got []string
	client := newClient(t, Config{Server: server.Start(t), Warn: func(text string) { got = append(got, text) }})
	if _, err := client.Create(t.Context(), rule("a.com")); err != nil {
		t.Fatal(err)
	}
	if _, err := client.Get(t.Context(), egressRules(t), "default", "a"); err != nil {
		t.Fatal(err)
	}
	if want := []string{`one, "two" and \`, "three", "a?b"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}
