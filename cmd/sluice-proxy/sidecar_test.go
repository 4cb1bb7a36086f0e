package main

import (
	"context"
	"encoding/json"
	"encoding/pem"
	"errors"
	"maps"
	"net"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"sluice.dev/sluice/internal/kube/inject"
	"sluice.dev/sluice/internal/wire"
)

func TestTheLabelsOfThePodAreReadAsTheDownwardAPIWritesThem(t *testing.T) {
	got, err := readLabels(strings.NewReader("app=\"web\"\n\nexample.com/note=\"a \\\"b\\\"\\n=c\"\n"))
	if want := map[string]string{"app": "web", "example.com/note": "a \"b\"\n=c"}; err != nil || !maps.Equal(got, want) {
		t.Errorf("got %q, %v", got, err)
	}
	for _, text := range []string{"app", "app=web", `="x"`, "a=\"b\"\nb=\"c"} {
		if got, err := readLabels(strings.NewReader(text)); err == nil || !strings.Contains(err.Error(), `is not key="value"`) {
			t.Errorf("%q is read as %q, %v", text, got, err)
		}
	}
}

func TestASidecarIsReadyFromItsFirstRulesUntilItStops(t *testing.T) {
	ctx, stop := context.WithCancel(t.Context())
	var ready atomic.Bool
	for _, step := range []struct {
		do   func()
		code int
	}{{func() {}, 503}, {func() { ready.Store(true) }, 200}, {stop, 503}} {
		step.do()
		w := httptest.NewRecorder()
		answerHealth(ctx, &ready).ServeHTTP(w, httptest.NewRequest("GET", inject.ReadyPath, nil))
		if w.Code != step.code {
			t.Errorf("%d %s, want %d", w.Code, w.Body, step.code)
		}
	}
}

func FuzzReadLabels(f *testing.F) {
	f.Add("app=\"web\"\nversion=\"v1\"\n")
	f.Fuzz(func(t *testing.T, text string) {
		if labels, err := readLabels(strings.NewReader(text)); err != nil && labels != nil {
			t.Error("labels beside an error")
		}
	})
}

func TestASidecarSaysWhichWorkloadItIsAndAtWhichLevel(t *testing.T) {
	t.Setenv("POD_NAMESPACE", "shop")
	t.Setenv("POD_SERVICE_ACCOUNT", "web")
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "labels"), []byte("app=\"web\"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	o := sidecarOptions{identity: dir, listen: []string{"9080"}}
	w, err := o.workload()
	if err != nil || w.Namespace != "shop" || w.Account != "web" || w.Labels["app"] != "web" || w.Ports[0] != 9080 || w.Level != wire.LevelSidecar {
		t.Errorf("%+v, %v", w, err)
	}
	o.lowered = []string{"somebody"}
	if w, _ := o.workload(); w.Level != wire.LevelLowered {
		t.Errorf("with somebody who may get around it the level is %s", w.Level)
	}
	o.bypassed = []string{"something"}
	if w, _ := o.workload(); w.Level != wire.LevelBypassed {
		t.Errorf("with something bypassed the level is %s", w.Level)
	}
	if _, err := (&sidecarOptions{listen: []string{"x"}}).workload(); err == nil {
		t.Error("port x is taken")
	}
}

// What kube-inject writes is what this program takes.
func TestTheFlagsOfAnInjectedPodAreKnown(t *testing.T) {
	for _, inbound := range []string{"80", ""} {
		text := `{"apiVersion":"v1","kind":"Pod","metadata":{"name":"a","annotations":{
"traffic.sidecar.istio.io/includeOutboundIPRanges":"10.0.0.0/8","traffic.sidecar.istio.io/excludeOutboundIPRanges":"10.1.0.0/16",
"traffic.sidecar.istio.io/includeInboundPorts":"` + inbound + `","traffic.sidecar.istio.io/excludeInboundPorts":"81"}},
"spec":{"containers":[{"name":"c","ports":[{"containerPort":80}]}]}}`
		result, err := inject.File("pod", []byte(text), inject.Options{Image: "i:1", AllowBypass: true})
		if err != nil {
			t.Fatal(err)
		}
		var pod struct {
			Spec struct {
				InitContainers []struct{ Args []string }
			}
		}
		if err := json.Unmarshal(result.Data, &pod); err != nil || len(pod.Spec.InitContainers) != 2 {
			t.Fatal(err, string(result.Data))
		}
		for _, container := range pod.Spec.InitContainers {
			command, rest, err := newCommand().Find(container.Args)
			if err == nil {
				err = command.ParseFlags(rest)
			}
			if err != nil || command.Flags().Changed("no-inbound") && command.Flags().Changed("exclude-inbound-ports") {
				t.Errorf("%q: %v", container.Args, err)
			}
		}
	}
}

func TestASidecarSpeaksToAServerOfTheClustersRootsAndShowsTheNewestToken(t *testing.T) {
	server := httptest.NewTLSServer(nil)
	defer server.Close()
	_, port, err := net.SplitHostPort(server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	write := func(name string, data []byte) {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	o := options{sidecar: sidecarOptions{server: "127.0.0.1:" + port, identity: dir}}
	config, err := o.sidecarServer()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := config.Dial(t.Context()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("without roots: %v", err)
	}
	write("root-cert.pem", []byte("nothing"))
	if _, err := config.Dial(t.Context()); err == nil || !strings.Contains(err.Error(), "holds no certificate") {
		t.Errorf("with a file that holds none: %v", err)
	}
	write("root-cert.pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}))
	if conn, err := config.Dial(t.Context()); err == nil || !strings.Contains(err.Error(), "protocol") { // ALPN: it speaks no h2
		t.Errorf("with the server's roots: %v, %v", conn, err)
	}
	for _, token := range []string{"first", "next"} {
		write("token", []byte(token+"\n"))
		if got, err := config.Token(); got != token || err != nil {
			t.Errorf("the token is %q, %v", got, err)
		}
	}
	for _, bad := range []string{"sluice-server", ":15012", "host:0", "host:x"} {
		if _, err := (&options{sidecar: sidecarOptions{server: bad}}).sidecarServer(); err == nil {
			t.Errorf("--server %s is taken", bad)
		}
	}
}
