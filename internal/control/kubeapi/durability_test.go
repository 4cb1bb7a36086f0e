package kubeapi

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"sluice.dev/sluice/api"
	"sluice.dev/sluice/deploy/crds"
)

// serverVariable makes the test binary a server on the folder that it names.
const serverVariable = "SLUICE_TEST_SERVER"

func TestMain(m *testing.M) {
	if folder := os.Getenv(serverVariable); folder != "" {
		serveFolder(folder)
	}
	os.Exit(m.Run())
}

// serveFolder serves until it is killed.
func serveFolder(folder string) {
	server, err := Start(context.Background(), Config{
		DataDir: folder, Socket: filepath.Join(folder, "s"), Definitions: crds.Files, Peers: acceptAll, Log: testLog(),
	})
	if err == nil {
		err = server.Open(context.Background(), nil)
	}
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println("ready")
	select {}
}

// startProcess runs a server as a process of its own.
func startProcess(t *testing.T, folder string) (*exec.Cmd, *testServer) {
	t.Helper()
	command := exec.Command(os.Args[0])
	command.Env = append(os.Environ(), serverVariable+"="+folder)
	out, err := command.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = command.Process.Kill(); _ = command.Wait() })
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || line != "ready\n" {
		t.Fatalf("the server said %q, %v", line, err)
	}
	socket := filepath.Join(folder, "s")
	return command, &testServer{socket: socket, client: socketClient(t, socket)}
}

func TestWhatWasAcknowledgedSurvivesSIGKILL(t *testing.T) {
	folder, err := os.MkdirTemp("", "sluice-kill")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(folder) })
	process, s := startProcess(t, folder)

	const rules, writers, killAfter = 1000, 8, 400
	var (
		next, acknowledged atomic.Int64
		mu                 sync.Mutex
		names              []string // acknowledged, written by this process, which goes on
		working            sync.WaitGroup
	)
	for range writers {
		working.Go(func() {
			for i := next.Add(1); i <= rules; i = next.Add(1) {
				name := fmt.Sprintf("rule-%04d", i)
				response, err := s.client.Post("http://sluice"+egressRules, "application/json",
					strings.NewReader(egressRule(name, fmt.Sprintf("h%d.example.com", i))))
				if err != nil {
					return // the server is gone
				}
				response.Body.Close()
				if response.StatusCode != http.StatusCreated {
					continue
				}
				mu.Lock()
				names = append(names, name)
				mu.Unlock()
				if acknowledged.Add(1) == killAfter {
					_ = process.Process.Kill()
				}
			}
		})
	}
	working.Wait()
	_ = process.Wait()
	if len(names) < killAfter || len(names) == rules {
		t.Fatalf("%d creates were acknowledged: the server did not die in the middle", len(names))
	}

	_, s = startProcess(t, folder)
	_, body := s.do(t, "GET", egressRules, "", "")
	held := make(map[string]bool)
	for _, item := range decode[struct{ Items []api.Object }](t, body).Items {
		held[item.Metadata.Name] = true
	}
	for _, name := range names {
		if !held[name] {
			t.Errorf("%s was acknowledged and is gone", name)
		}
	}
	t.Logf("%d acknowledged, %d held", len(names), len(held))
}

func TestARestartKeepsTheRulesAndIsReadyAtOnce(t *testing.T) {
	data := t.TempDir()
	first := start(t, data, acceptAll)
	first.create(t, "kept", "one.example.com")
	if err := first.Stop(); err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	second := start(t, data, acceptAll)
	t.Logf("warm start: %v", time.Since(begin))
	if code, body := second.do(t, "GET", egressRules+"/kept", "", ""); code != http.StatusOK {
		t.Errorf("%d %s", code, body)
	}
	second.create(t, "more", "two.example.com")
	_, calls := follow(t, second)
	nextTold := next(t, calls, "both rules", holds("egress-rule/default/kept", "egress-rule/default/more"))
	if nextTold.revision == 0 {
		t.Error("no revision")
	}
}

func TestAStoreThatCannotBeReadIsAnError(t *testing.T) {
	for name, spoil := range map[string]func(t *testing.T, etcd string){
		"a file where the folder is": func(t *testing.T, etcd string) {
			if err := os.RemoveAll(etcd); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(etcd, nil, 0o600); err != nil {
				t.Fatal(err)
			}
		},
		"a database of garbage": func(t *testing.T, etcd string) {
			if err := os.WriteFile(filepath.Join(etcd, "member", "snap", "db"), []byte(strings.Repeat("garbage ", 4096)), 0o600); err != nil {
				t.Fatal(err)
			}
		},
		"a log of garbage": func(t *testing.T, etcd string) {
			logs, _ := filepath.Glob(filepath.Join(etcd, "member", "wal", "*.wal"))
			for _, log := range logs {
				if err := os.WriteFile(log, []byte(strings.Repeat("garbage ", 4096)), 0o600); err != nil {
					t.Fatal(err)
				}
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			data := t.TempDir()
			s := start(t, data, acceptAll)
			s.create(t, "rule", "one.example.com")
			if err := s.Stop(); err != nil {
				t.Fatal(err)
			}
			spoil(t, filepath.Join(data, "etcd"))
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			server, err := Start(ctx, Config{DataDir: data, Socket: s.socket, Definitions: crds.Files, Peers: acceptAll, Log: testLog()})
			if err == nil {
				_ = server.Stop()
				t.Fatal("it started")
			}
			t.Log(err)
		})
	}
}

func TestWatchersDoNotHoldUpTheStop(t *testing.T) {
	s := start(t, "", acceptAll)
	request, err := http.NewRequestWithContext(t.Context(), "GET", "http://sluice"+egressRules+"?watch=true", nil)
	if err != nil {
		t.Fatal(err)
	}
	response, err := s.client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	s.create(t, "rule", "one.example.com")
	lines := bufio.NewReader(response.Body)
	line, err := lines.ReadString('\n')
	if err != nil || !strings.Contains(line, `"ADDED"`) {
		t.Errorf("the watch said %q, %v", line, err)
	}
	stopped := make(chan error, 1)
	go func() { stopped <- s.Stop() }()
	// The end of the stream is an orderly one: the watch was told to end, not cut off.
	if rest, err := io.ReadAll(lines); err != nil {
		t.Errorf("the watch ended with %q, %v", rest, err)
	}
	select {
	case err := <-stopped:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(time.Minute):
		t.Fatal("the stop waits for a watch")
	}
}
