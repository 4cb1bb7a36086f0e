package kubeapi

import (
	"bufio"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// socketsOf lists the lines of a table of /proc/net that are sockets of ours.
func socketsOf(t *testing.T, table string) (lines []string) {
	t.Helper()
	ours := make(map[string]bool)
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		link, _ := os.Readlink("/proc/self/fd/" + entry.Name())
		if inode, ok := strings.CutPrefix(link, "socket:["); ok {
			ours[strings.TrimSuffix(inode, "]")] = true
		}
	}
	file, err := os.Open("/proc/net/" + table)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	column := 9 // of tcp and udp
	if table == "unix" {
		column = 6
	}
	for scanner := bufio.NewScanner(file); scanner.Scan(); {
		if fields := strings.Fields(scanner.Text()); len(fields) > column && ours[fields[column]] {
			lines = append(lines, scanner.Text())
		}
	}
	return lines
}

func TestNothingListensButTheSocket(t *testing.T) {
	s := start(t, "", acceptAll)
	s.create(t, "googleapis", "*.googleapis.com") // all of it is at work
	for _, table := range []string{"tcp", "tcp6", "udp", "udp6"} {
		if lines := socketsOf(t, table); len(lines) > 0 {
			t.Errorf("%s sockets of ours: %q", table, lines)
		}
	}
	found := false
	for _, line := range socketsOf(t, "unix") {
		fields := strings.Fields(line)
		if len(fields) == 8 && strings.HasPrefix(fields[7], "@") {
			t.Errorf("an abstract socket: %q", line)
		}
		found = found || len(fields) == 8 && fields[7] == s.socket
	}
	if !found {
		t.Error("the table of sockets does not show api.sock: the test cannot see")
	}
}

func TestTheSocketIsForItsOwnerAlone(t *testing.T) {
	s := start(t, "", acceptAll)
	info, err := os.Stat(s.socket)
	if err != nil || info.Mode() != os.ModeSocket|0o600 {
		t.Errorf("%v %v", info.Mode(), err)
	}
	if err := s.Stop(); err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(s.socket); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the socket is left behind: %v", err)
	}
}

func TestAPeerThatFailsTheCheckIsNotServed(t *testing.T) {
	refuse := make(chan struct{}, 1)
	s := start(t, "", asked(func() error { refuse <- struct{}{}; return errors.New("a stranger") }))
	if response, err := s.client.Get("http://sluice/healthz"); err == nil {
		t.Errorf("a stranger was answered %s", response.Status)
	}
	if len(refuse) == 0 {
		t.Error("nobody was asked")
	}
}

func TestASocketThatIsInTheWayIsReplacedAndAFileIsNot(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	first, err := ListenPrivate(path)
	if err != nil {
		t.Fatal(err)
	}
	first.SetUnlinkOnClose(false)
	first.Close() // as after SIGKILL
	second, err := ListenPrivate(path)
	if err != nil {
		t.Fatal(err)
	}
	second.Close()
	if err := os.WriteFile(path, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := ListenPrivate(path); err == nil {
		t.Error("a file was replaced")
	}
}

func TestBeyondTheBoundConnectionsAreToldSo(t *testing.T) {
	s := start(t, "", acceptAll)
	var open []net.Conn
	defer func() {
		for _, conn := range open {
			conn.Close()
		}
	}()
	for range maxConnections {
		conn, err := net.Dial("unix", s.socket)
		if err != nil {
			t.Fatal(err)
		}
		open = append(open, conn)
	}
	over, err := net.Dial("unix", s.socket)
	if err != nil {
		t.Fatal(err)
	}
	defer over.Close()
	_ = over.SetReadDeadline(time.Now().Add(60 * time.Second))
	answer, _ := io.ReadAll(over)
	if !strings.HasPrefix(string(answer), "HTTP/1.1 503 ") {
		t.Errorf("%q", answer)
	}
	for _, conn := range open {
		conn.Close()
	}
	open = nil
	waitFor(t, "a free place", func() bool {
		response, err := s.client.Get("http://sluice/healthz")
		if err != nil {
			return false
		}
		response.Body.Close()
		return response.StatusCode == 200
	})
}
