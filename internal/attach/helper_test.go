package attach

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"sluice.dev/sluice/internal/capture/seqpacket"
	"sluice.dev/sluice/internal/sandbox"
)

// roleVariable makes the test binary be a command inside a sandbox.
const roleVariable = "ATTACH_TEST_ROLE"

func TestMain(m *testing.M) {
	sandbox.Init()
	switch os.Getenv(roleVariable) {
	case "":
		os.Setenv("GORACE", "atexit_sleep_ms=0 "+os.Getenv("GORACE")) // else each process that we start sleeps a second at its end
		os.Exit(m.Run())
	case "get":
		response, err := http.Get(os.Args[1])
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		io.Copy(os.Stdout, response.Body)
		os.Exit(0)
	case "sleep":
		time.Sleep(time.Hour)
	case "attach": // from inside a sandbox
		client, err := Dial(context.Background(), os.Args[1])
		if err != nil {
			fmt.Println("dial:", err)
			os.Exit(3)
		}
		_, err = client.Attach(context.Background(), Hello{}, nil, nil)
		fmt.Println(err)
		os.Exit(4)
	}
	os.Exit(99)
}

// serve starts a server in a folder of the test and returns its socket.
func serve(t *testing.T, config ServerConfig) (path string, stop func()) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "attach.sock")
	listener, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	if config.Check == nil {
		config.Check = func(*net.UnixConn) error { return nil }
	}
	config.Log = slog.New(slog.DiscardHandler)
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error, 1)
	server := NewServer(config)
	go func() { served <- server.Serve(ctx, listener) }()
	stop = func() {
		cancel()
		if err := <-served; err != nil {
			t.Error(err)
		}
		served <- nil
	}
	t.Cleanup(stop)
	return path, stop
}

// files looks like a capture without IPv6, made in our own namespace.
func files(t *testing.T) []*os.File {
	t.Helper()
	listener, err := net.ListenTCP("tcp4", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	packets, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer packets.Close()
	ours, theirs, err := seqpacket.Pair()
	if err != nil {
		t.Fatal(err)
	}
	ours.Close()
	tcp, err := listener.File()
	if err != nil {
		t.Fatal(err)
	}
	udp, err := packets.File()
	if err != nil {
		t.Fatal(err)
	}
	return []*os.File{tcp, udp, theirs}
}

func answer(conn net.Conn, destination string) {
	defer conn.Close()
	for lines := bufio.NewScanner(conn); lines.Scan() && lines.Text() != ""; {
	}
	fmt.Fprintf(conn, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s", len(destination), destination)
}

func countDescriptors() int {
	entries, _ := os.ReadDir("/proc/self/fd")
	return len(entries)
}

// patience bounds waits that end as soon as the other side has done its part.
const patience = time.Minute

func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for !condition() {
		if time.Now().After(deadline) {
			t.Fatalf("not within %v: %s", patience, what)
		}
		time.Sleep(2 * time.Millisecond)
	}
}

func needSandbox(t *testing.T) {
	t.Helper()
	if err := sandbox.Probe(t.Context()); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
}
