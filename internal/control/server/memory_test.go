package server

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"sluice.dev/sluice/internal/paths"
	"sluice.dev/sluice/internal/wire"
	"sluice.dev/sluice/internal/wire/stream"
)

// proxy is a proxy whose connection to the server a test may bar.
type proxy struct {
	*stream.Client
	barred atomic.Bool
}

func newProxy(t *testing.T, c Config) *proxy {
	t.Helper()
	p := new(proxy)
	dial := stream.DialUnix(filepath.Join(c.RuntimeDir, paths.PushSocket), nil)
	client, err := stream.NewClient(stream.Config{Dial: func(ctx context.Context) (net.Conn, error) {
		if p.barred.Load() {
			return nil, errors.New("barred")
		}
		return dial(ctx)
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	p.Client = client
	return p
}

func (p *proxy) joinDetails(t *testing.T) *stream.Membership {
	t.Helper()
	m, err := p.Join(t.Context(), wire.Workload{Service: "details", Version: "v1", Ports: []uint16{9080}})
	if err != nil {
		t.Fatal(err)
	}
	go func() { // acknowledges whatever comes
		for snapshot := range m.Snapshots() {
			m.Ack(snapshot.Version)
		}
	}()
	return m
}

func TestAWorkloadKeepsItsNameOverARestartThoughAnotherProxyIsFaster(t *testing.T) {
	c := config(t)
	s, err := start(t, c)
	if err != nil {
		t.Fatal(err)
	}
	slow, fast := newProxy(t, c), newProxy(t, c)
	old := slow.joinDetails(t)
	waitFor(t, "the first to join", old.Connected)
	slow.barred.Store(true)
	if err := s.Stop(); err != nil {
		t.Fatal(err)
	}
	if _, err := start(t, c); err != nil {
		t.Fatal(err)
	}
	fresh := fast.joinDetails(t)
	waitFor(t, "the new one to join", fresh.Connected)
	if got := fresh.Instance(); got != "details-v1/2" {
		t.Errorf("the new one is called %s", got)
	}
	slow.barred.Store(false)
	waitFor(t, "the first to come back", old.Connected)
	if got := old.Instance(); got != "details-v1/1" {
		t.Errorf("the first came back as %s", got)
	}
}

func TestWhatIsRememberedIsWrittenWhileTheServerLives(t *testing.T) {
	c := config(t)
	if _, err := start(t, c); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(c.DataDir, memoryFile)
	m := newProxy(t, c).joinDetails(t)
	waitFor(t, "the workload to be written down", func() bool {
		memory, err := readMemory(path)
		return err == nil && len(memory.Names) == 1 && memory.Names[0].Instance == "details-v1/1" && len(memory.Services) == 1
	})
	if info, err := os.Stat(path); err != nil || info.Mode() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	m.Leave()
	waitFor(t, "its end to be written down", func() bool {
		memory, err := readMemory(path)
		return err == nil && len(memory.Names) == 0 && len(memory.Services) == 1
	})
}

func TestAServerStartsWithAMemoryThatCannotBeRead(t *testing.T) {
	for what, content := range map[string]string{
		"cut":                   `{"names":[{"instance":"det`,
		"with an unknown field": `{"names":[],"leases":[]}`,
	} {
		c := config(t)
		if err := os.Mkdir(c.DataDir, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(c.DataDir, memoryFile), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := start(t, c); err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func TestAMemoryOfALaterReleaseIsLeftAsItIs(t *testing.T) {
	c := config(t)
	if err := os.Mkdir(c.DataDir, 0o700); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(c.DataDir, memoryFile)
	const later = `{"format":7,"names":"in another way"}`
	if err := os.WriteFile(path, []byte(later), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := readMemory(path); err == nil || !strings.Contains(err.Error(), "the list of workloads of the previous run has format 7; this Sluice reads formats 1 to 2: upgrade this Sluice") {
		t.Errorf("read: %v", err)
	}
	s, err := start(t, c)
	if err != nil {
		t.Fatal(err)
	}
	m := newProxy(t, c).joinDetails(t)
	waitFor(t, "the workload to join", m.Connected)
	if err := s.Stop(); err != nil {
		t.Fatal(err)
	}
	if content, err := os.ReadFile(path); err != nil || string(content) != later {
		t.Errorf("it is %q now, %v", content, err)
	}
}

func TestAMemoryOfTheFirstFormatIsStillRead(t *testing.T) {
	path := filepath.Join(t.TempDir(), memoryFile)
	const first = `{"format":1,"names":null,"services":[{"namespace":"default","service":"details","ports":[9080],"left":"2018-02-02T00:00:00Z"}]}`
	if err := os.WriteFile(path, []byte(first), 0o600); err != nil {
		t.Fatal(err)
	}
	memory, err := readMemory(path)
	if err != nil || len(memory.Services) != 1 || !slices.Equal(memory.Services[0].Ports, []uint16{9080}) {
		t.Errorf("read %+v, %v", memory, err)
	}
}

func TestAMemoryBeyondTheBoundIsNotRead(t *testing.T) {
	path := filepath.Join(t.TempDir(), memoryFile)
	if _, err := readMemory(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("none: %v", err)
	}
	if err := os.WriteFile(path, bytes.Repeat([]byte{' '}, maxMemory+1), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := readMemory(path); err == nil || !strings.Contains(err.Error(), "more than") {
		t.Errorf("got %v", err)
	}
}
