package test

import (
	"bufio"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"os/exec"
	"strings"
	"testing"
	"time"

	"sluice.dev/sluice/test/mesh"
)

// closedPort is a port of loopback on which nobody listens.
func closedPort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// listenOn serves each connection to a port of loopback, 0 for any.
func listenOn(t *testing.T, port int, serve func(net.Conn)) int {
	t.Helper()
	l, err := net.Listen("tcp4", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				serve(c)
			}()
		}
	}()
	return l.Addr().(*net.TCPAddr).Port
}

// postgres is as much of a server as it takes to be told from no server: it has no TLS
// and takes no user.
func postgres(c net.Conn) {
	for {
		var head [8]byte // length, and a request's code or a version
		if _, err := io.ReadFull(c, head[:]); err != nil {
			return
		}
		const wantsTLS, wantsGSS = 80877103, 80877104
		if code := binary.BigEndian.Uint32(head[4:]); code == wantsTLS || code == wantsGSS {
			c.Write([]byte("N"))
			continue
		}
		io.CopyN(io.Discard, c, int64(binary.BigEndian.Uint32(head[:]))-8)
		text := "SFATAL\x00VFATAL\x00C57P03\x00Mthe second host answers\x00\x00"
		c.Write(append(binary.BigEndian.AppendUint32([]byte("E"), uint32(len(text)+4)), text...))
		return
	}
}

// A client that has a second host for when the first refuses comes to it.
func TestPsqlTriesItsNextHost(t *testing.T) {
	psql, err := exec.LookPath("psql")
	if err != nil {
		t.Skip("psql is missing")
	}
	for _, who := range mesh.Users(t) {
		t.Run(who.Name, func(t *testing.T) {
			place := mesh.NewPlace(t, who)
			first, second := closedPort(t), listenOn(t, 0, postgres)
			r := place.Sluice(t, "run", "--quiet", "--reach-host", fmt.Sprint(first), "--reach-host", fmt.Sprint(second), "--",
				psql, "-w", fmt.Sprintf("host=host.sluice.internal,host.sluice.internal port=%d,%d user=x dbname=x connect_timeout=20", first, second))
			if r.Code != 2 || !strings.Contains(r.Stderr, "Connection refused") || !strings.Contains(r.Stderr, "the second host answers") {
				t.Errorf("exit %d, %q, %q", r.Code, r.Stdout, r.Stderr)
			}
		})
	}
}

// A loop that waits for a server goes on until there is one.
func TestALoopThatWaitsForAPortWaits(t *testing.T) {
	if _, err := exec.LookPath("nc"); err != nil {
		t.Skip("nc is missing")
	}
	for _, who := range mesh.Users(t) {
		t.Run(who.Name, func(t *testing.T) {
			place := mesh.NewPlace(t, who)
			port := closedPort(t)
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			cmd := place.Command(ctx, "sluice", "run", "--quiet", "--reach-host", fmt.Sprint(port), "--",
				"sh", "-c", fmt.Sprintf("until nc -z host.sluice.internal %d; do echo refused; done; echo passed", port))
			said, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			lines := bufio.NewScanner(said)
			if lines.Scan(); lines.Text() != "refused" {
				t.Errorf("the loop says %q, and nobody listens", lines.Text())
			}
			listenOn(t, port, func(net.Conn) {})
			last := ""
			for lines.Scan() {
				last = lines.Text()
			}
			if err := cmd.Wait(); err != nil || last != "passed" {
				t.Errorf("%v, it ends with %q", err, last)
			}
		})
	}
}

// connecting says what comes of a connect to each HOST:PORT, from a socket that waits and
// from one that does not, all at a time.
const connecting = `
import errno, select, socket, sys, threading
socket.setdefaulttimeout(None)
def waiting(at, said):
    try:
        socket.socket().connect(at)
        said.append('connected')
    except OSError as e:
        said.append(errno.errorcode[e.errno])
def selecting(at, said):
    s = socket.socket()
    s.setblocking(False)
    said.append(errno.errorcode.get(s.connect_ex(at)))
    select.select([], [s], [])
    e = s.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    said.append(errno.errorcode[e] if e else 'connected')
def both(text, said):
    host, port = text.split(':')
    at = socket.getaddrinfo(host, int(port), socket.AF_INET, socket.SOCK_STREAM)[0][4]
    waiting(at, said)
    selecting(at, said)
tasks = [(text, []) for text in sys.argv[1:]]
threads = [threading.Thread(target=both, args=task) for task in tasks]
for t in threads: t.start()
for t in threads: t.join()
for text, said in tasks: print(text, *said)
`

func TestAConnectSaysWhatBecameOfIt(t *testing.T) {
	python, err := exec.LookPath("/usr/bin/python3") // of a folder that every user may read
	if err != nil {
		t.Skip("python3 is missing")
	}
	eachUser(t, func(t *testing.T, a *alone) {
		rules := []string{"--quiet", "--allow", "db.example.com:3306/tcp", "--allow", "refused.example.com:5432/tcp", "--allow", "blackhole.example.com:5432/tcp", "--allow", "www.example.com"}
		outcomes := map[string]string{
			"db.example.com:3306":        "connected",
			"refused.example.com:5432":   "ECONNREFUSED",
			"blackhole.example.com:5432": "ETIMEDOUT",
			"db.example.com:3307":        "ECONNREFUSED", // denied, whatever is said there
			"evil.example.net:443":       "connected",    // denied, and told in TLS
			"www.example.com:443":        "connected",
		}
		command := []string{"--", python, "-c", connecting}
		for at := range outcomes {
			command = append(command, at)
		}
		began := time.Now()
		r := a.run(t, append(rules, command...)...)
		if r.Code != 0 || len(strings.Fields(r.Stdout)) != 4*len(outcomes) {
			t.Fatalf("exit %d, %q, %q", r.Code, r.Stdout, r.Stderr)
		}
		for line := range strings.Lines(r.Stdout) {
			at, got, _ := strings.Cut(strings.TrimSpace(line), " ")
			if want := outcomes[at] + " EINPROGRESS " + outcomes[at]; got != want {
				t.Errorf("%s: %s, want %s", at, got, want)
			}
		}
		t.Logf("the last came after %v", time.Since(began))

		// Without the supervisor the proxy is not asked, and a connect succeeds before; one that
		// does not wait may see the reset that follows first.
		command = []string{"--unsupervised", "--", python, "-c", connecting, "refused.example.com:5432", "db.example.com:3307"}
		r = a.run(t, append(rules, command...)...)
		got := strings.ReplaceAll(r.Stdout, "EINPROGRESS ECONNRESET", "EINPROGRESS connected")
		if want := "refused.example.com:5432 connected EINPROGRESS connected\ndb.example.com:3307 connected EINPROGRESS connected\n"; r.Code != 0 || got != want {
			t.Errorf("--unsupervised: exit %d, %q, %q", r.Code, r.Stdout, r.Stderr)
		}
	})
}

// A denied connect is reported, once, and what is denied on the ports of the web is
// answered in the client's protocol.
func TestADeniedConnectIsReportedOnce(t *testing.T) {
	eachUser(t, func(t *testing.T, a *alone) {
		r := a.get(t, []string{"www.example.com"}, "-4", "http://evil.example.net:8080/")
		if want := "sluice: denied evil.example.net:8080 (No rule allows this destination on this port.)"; r.Code != 7 || strings.Count(r.Stderr, "sluice: denied") != 1 || !strings.Contains(r.Stderr, want) || strings.Contains(r.Stderr, "times") {
			t.Errorf("port 8080: exit %d, %q, %q", r.Code, r.Stdout, r.Stderr)
		}
		r = a.get(t, []string{"www.example.com"}, "-o", "/dev/null", "-w", "%{http_code}", "http://evil.example.net/")
		if r.Code != 0 || r.Stdout != "403" || strings.Count(r.Stderr, "sluice: denied") != 1 {
			t.Errorf("port 80: exit %d, %q, %q", r.Code, r.Stdout, r.Stderr)
		}
		r = a.get(t, []string{"www.example.com"}, "https://evil.example.net/")
		if r.Code != 35 || strings.Count(r.Stderr, "sluice: denied") != 1 {
			t.Errorf("port 443: exit %d, %q, %q", r.Code, r.Stdout, r.Stderr)
		}
	})
}

func TestNodeIsRefused(t *testing.T) {
	node, err := exec.LookPath("node")
	if err != nil {
		t.Skip("node is missing")
	}
	const script = `require('net').connect(%d, 'host.sluice.internal').on('error', e => console.log(e.errors ? e.errors.map(x => x.code).join() : e.code)).on('connect', () => { console.log('connected'); process.exit() })`
	for _, who := range mesh.Users(t) {
		t.Run(who.Name, func(t *testing.T) {
			place, port := mesh.NewPlace(t, who), closedPort(t)
			r := place.Sluice(t, "run", "--quiet", "--reach-host", fmt.Sprint(port), "--", node, "-e", fmt.Sprintf(script, port))
			if got := strings.TrimSpace(r.Stdout); r.Code != 0 || strings.Trim(strings.ReplaceAll(got, "ECONNREFUSED", ""), ",") != "" || got == "" {
				t.Errorf("exit %d, %q, %q", r.Code, r.Stdout, r.Stderr)
			}
		})
	}
}
