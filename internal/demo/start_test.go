package demo

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func newRuntime(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "sld") // short: a unix socket's path has 108 bytes
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func TestADemoIsRefusedBesideAServer(t *testing.T) {
	runtime := newRuntime(t)
	l, err := net.Listen("unix", filepath.Join(runtime, "api.sock"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	err = Run(t.Context(), Config{Runtime: runtime, Ingress: "127.0.0.1:0", Out: io.Discard, Err: io.Discard})
	if err == nil || !strings.Contains(err.Error(), "runs in "+runtime+" already") || !strings.Contains(err.Error(), "SLUICE_RUNTIME") {
		t.Errorf("said: %v", err)
	}
	if _, err := os.Stat(filepath.Join(runtime, "demo")); err == nil {
		t.Error("it made folders all the same")
	}
}

func TestASecondDemoThatStartsAtOnceIsRefused(t *testing.T) {
	p := placesOf(Config{Runtime: newRuntime(t)})
	defer p.remove()
	unlock, err := p.make()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(p.private, "mine"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := p.make(); err == nil || !strings.Contains(err.Error(), "another demo") {
		t.Errorf("the second says: %v", err)
	}
	if _, err := os.Stat(filepath.Join(p.private, "mine")); err != nil {
		t.Errorf("the second took away what is the first's: %v", err)
	}
	unlock()
	unlock, err = p.make()
	if err != nil {
		t.Fatalf("after the first ended: %v", err)
	}
	defer unlock()
	if left, _ := os.ReadDir(p.private); len(left) != 0 {
		t.Errorf("what the first left is still there: %v", left)
	}
}

func TestAMachineWithoutSandboxesIsToldBeforeAnythingStarts(t *testing.T) {
	runtime, why := newRuntime(t), errors.New("user namespaces are off: run sysctl")
	err := Run(t.Context(), Config{Runtime: runtime, Ingress: "127.0.0.1:0", Out: io.Discard, Err: io.Discard,
		Probe: func(context.Context) error { return why }})
	if !errors.Is(err, why) {
		t.Errorf("said: %v", err)
	}
	if left, _ := os.ReadDir(runtime); len(left) != 0 {
		t.Errorf("it left %v", left)
	}
}

func TestAMissingBinaryIsNamedWithTheRemedy(t *testing.T) {
	err := Run(t.Context(), Config{Runtime: newRuntime(t), Binaries: t.TempDir(), Ingress: "127.0.0.1:0", Out: io.Discard, Err: io.Discard,
		Probe: func(context.Context) error { return nil }})
	if err == nil || !strings.Contains(err.Error(), "make build") {
		t.Errorf("said: %v", err)
	}
}

func TestTakenPortsMoveThePage(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	got, err := portsOf(l.Addr().String()).free()
	if err != nil || got.ingress == l.Addr().String() || !strings.HasPrefix(got.ingress, "127.0.0.1:") {
		t.Errorf("beside %s: %s, %v", l.Addr(), got.ingress, err)
	}
	// One that is moved does not take the port that another one wants.
	same := portsOf("127.0.0.1:0")
	same.health, same.serverMetrics = same.proxyMetrics, same.proxyMetrics
	if got, err := same.free(); err != nil || got.health == got.proxyMetrics || got.serverMetrics == got.health || got.serverMetrics == got.proxyMetrics {
		t.Errorf("three that want one port get %+v, %v", got, err)
	}
	if _, err := portsOf("192.0.2.1:8080").free(); err == nil || !strings.Contains(err.Error(), "192.0.2.1:8080") {
		t.Errorf("an address that is not ours: %v", err)
	}
	for _, bad := range []string{"127.0.0.1", "127.0.0.1:http", "127.0.0.1:70000"} {
		if _, err := portsOf(bad).free(); err == nil {
			t.Errorf("%s is taken", bad)
		}
	}
}
