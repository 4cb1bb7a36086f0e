package proxy

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os/exec"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sluice.dev/sluice/internal/policy"
)

// urgently sends b, whose last byte is urgent.
func urgently(t *testing.T, c net.Conn, b string) {
	t.Helper()
	if ours, ok := c.(*client); ok {
		defer ours.use(true)
		c = ours.TCPConn
	}
	raw, err := c.(*net.TCPConn).SyscallConn()
	if err != nil {
		t.Error(err)
		return
	}
	left := []byte(b)
	raw.Write(func(fd uintptr) bool {
		n, err := unix.SendmsgN(int(fd), left, nil, nil, unix.MSG_OOB) // as much as there is place for
		if err != nil && err != unix.EAGAIN {
			t.Error(err)
			return true
		}
		left = left[max(n, 0):]
		return len(left) == 0
	})
}

func TestUrgentDataIsCarriedInItsPlace(t *testing.T) {
	n := newFakeNet(t)
	answer := func(c net.Conn) { // says urgently what it reads
		r := bufio.NewReader(c)
		for {
			line, err := r.ReadString('\n')
			if err != nil {
				return
			}
			urgently(t, c, line)
		}
	}
	n.site("db.example.com", "93.184.216.34", 5000, answer)
	n.site("mail.example.com", "93.184.216.35", 5001, func(c net.Conn) {
		urgently(t, c, "220 hello\n")
		answer(c)
	})
	m := newMesh(t, n, rule(t, "db.example.com:5000"), rule(t, "mail.example.com:5001"))
	m.service("echo", answer)
	m.allow(rule(t, "db.example.com:5000"), rule(t, "mail.example.com:5001"))
	for name, port := range map[string]uint16{
		"db.example.com": 5000, "mail.example.com": 5001, "echo.default.svc.cluster.local": 9080,
	} {
		t.Run(name, func(t *testing.T) {
			c := m.dial(name, port)
			c.SetDeadline(time.Now().Add(patience))
			raw, err := c.SyscallConn()
			if err != nil {
				t.Fatal(err)
			}
			raw.Control(func(fd uintptr) { unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_OOBINLINE, 1) })
			r := bufio.NewReaderSize(c, 1<<20)
			if name == "mail.example.com" {
				if line, err := r.ReadString('\n'); err != nil || line != "220 hello\n" {
					t.Fatalf("the greeting is %q, %v", line, err)
				}
			}
			for _, say := range []string{"\x01first\n", "again\n", strings.Repeat("a", 300<<10) + "\n", "after\n"} {
				urgently(t, c, say)
				if line, err := r.ReadString('\n'); err != nil || line != say {
					t.Fatalf("%.10q, %d bytes, is answered with %.10q, %d bytes, %v", say, len(say), line, len(line), err)
				}
			}
		})
	}
}

// To the engine an urgent byte is one of the head like any other: what is decided about is
// what the server is asked.
func TestAnUrgentByteInARequestIsNoTrick(t *testing.T) {
	n := newFakeNet(t)
	asked := make(chan string, 1)
	n.site("api.example.com", "93.184.216.34", 80, func(c net.Conn) {
		line, err := bufio.NewReader(c).ReadString('\n')
		if err == nil {
			asked <- line
			io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
		}
	})
	api := rule(t, "api.example.com:80")
	api.HTTP = []policy.HTTPMatch{{Methods: []string{"GET"}, Paths: []string{"/public/*"}}}
	m := newMesh(t, n, api)
	for path, want := range map[string]int{"/public/a": 200, "/publi/../secret": 403, "/publix": 403} {
		c := m.dial("api.example.com", 80)
		urgently(t, c, "GET "+path)
		resp := exchange(t, c, bufio.NewReader(c), " HTTP/1.1\r\nHost: api.example.com\r\n\r\n")
		if resp.StatusCode != want {
			t.Errorf("%s: status %d, want %d", path, resp.StatusCode, want)
		}
		if want == 200 {
			if line := <-asked; line != "GET "+path+" HTTP/1.1\r\n" {
				t.Errorf("the server is asked %q", line)
			}
		}
	}
	if len(asked) != 0 {
		t.Error("the server was asked")
	}
}

// ftplib aborts with an urgent line end.
func TestFTPOfPythonIsAborted(t *testing.T) {
	python, err := exec.LookPath("python3")
	if err != nil {
		t.Skip("python3 is not here")
	}
	n := newFakeNet(t)
	n.site("ftp.example.com", "93.184.216.34", 21, func(c net.Conn) {
		fmt.Fprint(c, "220 ready\r\n")
		r := bufio.NewReader(c)
		for {
			line, err := r.ReadString('\n')
			if err != nil {
				return
			}
			switch strings.TrimSpace(line) {
			case "ABOR":
				fmt.Fprint(c, "226 aborted\r\n")
			case "QUIT":
				fmt.Fprint(c, "221 bye\r\n")
				return
			default:
				fmt.Fprint(c, "502 not that\r\n")
			}
		}
	})
	m := newMesh(t, n, rule(t, "93.184.216.34:21"))
	l := m.listen()
	var out bytes.Buffer
	client := exec.CommandContext(t.Context(), python, "-c", `
import ftplib, sys
f = ftplib.FTP(timeout=60)
print(f.connect("127.0.0.1", int(sys.argv[1])))
print(f.abort())
print(f.quit())`, fmt.Sprint(l.Addr().(*net.TCPAddr).Port))
	client.Stdout, client.Stderr = &out, &out
	if err := client.Start(); err != nil {
		t.Fatal(err)
	}
	m.take(l, netip.MustParseAddrPort("93.184.216.34:21"))
	err = client.Wait()
	if got := out.String(); err != nil || got != "220 ready\n226 aborted\n221 bye\n" {
		t.Errorf("%v: %s", err, got)
	}
}
