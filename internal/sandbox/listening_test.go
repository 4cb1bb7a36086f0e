package sandbox

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// listenRole does what its standard input says, line by line: "listen NETWORK ADDRESS",
// "close", "status N" of an HTTP server that "http ADDRESS" starts. It says "done" after each, and what is accepted.
func listenRole([]string) int {
	var held []io.Closer
	var status, asked atomic.Int64
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		words := strings.Fields(lines.Text())
		var err error
		switch words[0] {
		case "listen":
			var config net.ListenConfig
			if words[1] == "mptcp" {
				config.SetMultipathTCP(true)
				words[1] = "tcp"
			}
			var listener net.Listener
			if listener, err = config.Listen(context.Background(), words[1], words[2]); err == nil {
				held = append(held, listener)
				go func() {
					for {
						conn, err := listener.Accept()
						if err != nil {
							return
						}
						fmt.Println("accepted")
						conn.Close()
					}
				}()
			}
		case "http":
			var listener net.Listener
			if listener, err = net.Listen("tcp", words[1]); err == nil {
				held = append(held, listener)
				go http.Serve(listener, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					fmt.Println("asked", asked.Add(1), r.Method, r.RequestURI, r.Host, r.UserAgent())
					w.WriteHeader(int(status.Load()))
				}))
			}
		case "status":
			var n int64
			fmt.Sscan(words[1], &n)
			status.Store(n)
		case "close":
			for _, one := range held {
				one.Close()
			}
			held = nil
		}
		if err != nil {
			fmt.Println(err)
			return 1
		}
		fmt.Println("done")
	}
	return 0
}

// commanded is a sandbox whose command does what it is written.
type commanded struct {
	*place
	t     *testing.T
	write *os.File
}

func newCommanded(t *testing.T, config Config) *commanded {
	t.Helper()
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { read.Close(); write.Close() })
	config.Command, config.Stdin = []string{"listen"}, read
	c := &commanded{newPlace(t, config), t, write}
	if len(c.Unready()) != len(config.Listen) {
		t.Errorf("before the start %v is not ready, of %v", c.Unready(), config.Listen)
	}
	if err := c.Start(nil); err != nil {
		t.Fatal(err)
	}
	return c
}

func (c *commanded) do(line string) {
	c.t.Helper()
	if _, err := fmt.Fprintln(c.write, line); err != nil {
		c.t.Fatal(err)
	}
}

// until waits for what is not ready: "8000", "8000 9080", or "8000: why".
func (c *commanded) until(want string) {
	c.t.Helper()
	got := ""
	for deadline := time.After(eventuallyWithin); ; {
		var texts []string
		for _, u := range c.Unready() {
			text := fmt.Sprint(u.Port)
			if u.Why != "" {
				text += ": " + u.Why
			}
			texts = append(texts, text)
		}
		if got = strings.Join(texts, " "); got == want {
			return
		}
		select {
		case <-c.UnreadyChanged():
		case <-deadline:
			c.t.Fatalf("not ready is %q, want %q", got, want)
		}
	}
}

// end ends the command and returns what it wrote.
func (c *commanded) end() string {
	c.write.Close()
	c.Wait()
	return <-c.output
}

func TestAPortIsReadyWhereAConnectionOfTheProxyWouldBeTaken(t *testing.T) {
	c := newCommanded(t, Config{Listen: []uint16{8000}})
	for _, reached := range []string{"tcp4 127.0.0.1:8000", "mptcp :8000"} {
		c.do("listen " + reached)
		c.until("")
		c.do("close")
		c.until("8000")
	}
	if output := c.end(); strings.Contains(output, "accepted") || strings.Count(output, "done") != strings.Count(output, "\n") {
		t.Errorf("somebody connected to look, or a line failed:\n%s", output)
	}
}

// What the kernel is asked is what a SYN of the proxy's would meet: 127.0.0.1, then ::1.
func TestTheKernelSaysWhoWouldTakeTheConnection(t *testing.T) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_SOCK_DIAG)
	if err != nil {
		t.Skip(err)
	}
	defer unix.Close(fd)
	k := &kernelSockets{fd: fd}
	const any4, any6 = "0.0.0.0", "::"
	for what, x := range map[string]struct {
		family  int
		address string
		option  func(fd int) error
		want    string // "": no connection of the proxy's would be taken
	}{
		"every IPv4 address":          {unix.AF_INET, any4, nil, "127.0.0.1"},
		"127.0.0.1":                   {unix.AF_INET, "127.0.0.1", nil, "127.0.0.1"},
		"every address":               {unix.AF_INET6, any6, nil, "127.0.0.1"},
		"every IPv6 address":          {unix.AF_INET6, any6, v6only, "::1"},
		"::1":                         {unix.AF_INET6, "::1", nil, "::1"},
		"127.0.0.1, IPv4-mapped":      {unix.AF_INET6, "::ffff:127.0.0.1", nil, "127.0.0.1"},
		"another address of loopback": {unix.AF_INET, "127.0.0.2", nil, ""},
		"one that only binds":         {unix.AF_INET, any4, nil, ""},
	} {
		t.Run(what, func(t *testing.T) {
			fd, err := unix.Socket(x.family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
			if err != nil {
				t.Skip(err)
			}
			defer unix.Close(fd)
			if x.option != nil {
				if err := x.option(fd); err != nil {
					t.Fatal(err)
				}
			}
			address := netip.MustParseAddr(x.address)
			var bound unix.Sockaddr = &unix.SockaddrInet6{Addr: address.As16()}
			if x.family == unix.AF_INET {
				bound = &unix.SockaddrInet4{Addr: address.As4()}
			}
			if err := unix.Bind(fd, bound); err != nil {
				t.Skip(err)
			}
			if what != "one that only binds" {
				if err := unix.Listen(fd, 1); err != nil {
					t.Fatal(err)
				}
			}
			port := portOf(t, fd)
			at, listens := k.inward(port)
			if listens != (x.want != "") || listens && at != netip.AddrPortFrom(netip.MustParseAddr(x.want), port) {
				t.Errorf("found at %v: %v, want %q", at, listens, x.want)
			}
		})
	}
}

func v6only(fd int) error { return unix.SetsockoptInt(fd, unix.SOL_IPV6, unix.IPV6_V6ONLY, 1) }

func portOf(t *testing.T, fd int) uint16 {
	t.Helper()
	bound, err := unix.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	switch bound := bound.(type) {
	case *unix.SockaddrInet4:
		return uint16(bound.Port)
	case *unix.SockaddrInet6:
		return uint16(bound.Port)
	}
	t.Fatalf("bound to %T", bound)
	return 0
}

func TestEachPortIsWatchedForItself(t *testing.T) {
	c := newCommanded(t, Config{Listen: []uint16{8000, 9080}})
	c.until("8000 9080")
	c.do("listen tcp :9080")
	c.until("8000")
	c.do("listen tcp :8000")
	c.until("")
	c.do("close")
	c.until("8000 9080")
	for _, u := range c.Unready() {
		if ago := time.Since(u.Since); ago < 0 || ago > eventuallyWithin {
			t.Errorf("not ready since %v", u.Since)
		}
	}
	c.end()
}

func TestAPortWithACheckIsReadyOnceItIsAnsweredWell(t *testing.T) {
	c := newCommanded(t, Config{Listen: []uint16{8000, 9080}, Checks: []Check{{Port: 9080, Path: "/health?deep=1"}}})
	c.do("status 503")
	c.do("http :9080")
	c.do("listen tcp :8000")
	c.until("9080: GET /health?deep=1 was answered with 503")
	c.do("status 204")
	c.until("")
	c.do("close")
	c.until("8000 9080")
	output := c.end()
	if !strings.Contains(output, "asked 1 GET /health?deep=1 localhost:9080 sluice-ready\n") {
		t.Errorf("the server was asked otherwise:\n%s", output)
	}
	if strings.Contains(output, "accepted") {
		t.Errorf("a port without a check was connected to:\n%s", output)
	}
}

func TestAConfigWithPortsThatMakeNoSenseIsRefused(t *testing.T) {
	var many []uint16
	var checks []Check
	for i := range MaxListen + 1 {
		many = append(many, uint16(i+1))
		checks = append(checks, Check{Port: uint16(i + 1), Path: "/"})
	}
	for want, config := range map[string]Config{
		"at most 64":              {Listen: many},
		"at most 8":               {Listen: many[:MaxListen], Checks: checks[:MaxChecks+1]},
		"not one on which":        {Listen: []uint16{1}, Checks: []Check{{Port: 2, Path: "/"}}},
		"more than one check":     {Listen: []uint16{1}, Checks: []Check{{Port: 1, Path: "/"}, {Port: 1, Path: "/a"}}},
		`must begin with /`:       {Listen: []uint16{1}, Checks: []Check{{Port: 1, Path: "a"}}},
		"without blanks and #":    {Listen: []uint16{1}, Checks: []Check{{Port: 1, Path: "/ HTTP/1.1\r\nhost: a"}}},
		"at most 512 are allowed": {Listen: []uint16{1}, Checks: []Check{{Port: 1, Path: "/" + strings.Repeat("a", 512)}}},
	} {
		config.Command = []string{"true"}
		if err := config.validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
	largest := Config{Command: []string{"true"}, Listen: many[:MaxListen], Checks: slices.Clone(checks[:MaxChecks])}
	for i := range largest.Checks {
		largest.Checks[i].Path = "/" + strings.Repeat("a", maxCheckPath-1)
	}
	needSandbox(t)
	s, err := New(t.Context(), largest)
	if err != nil {
		t.Fatalf("at the bounds: %v", err)
	}
	defer s.Kill()
	if len(s.Unready()) != MaxListen {
		t.Errorf("%d ports are not ready", len(s.Unready()))
	}
}

// A kernel without inet_diag answers as if nobody listened: that must not be believed.
func TestAKernelThatDoesNotFindTheCaptureSocketsIsNotAsked(t *testing.T) {
	if k, err := openKernelSockets(); err == nil { // in our own namespace there are none
		unix.Close(k.fd)
		t.Error("it is believed")
	}
	wanted := setup{Listen: []uint16{8000, 9080}, Checks: []Check{{Port: 9080, Path: "/"}}}
	var outcome ready
	w := newPortWatch(nil, &wanted, &outcome)
	at, listens := w.listens(9080)
	if !slices.Equal(wanted.Listen, []uint16{9080}) || len(outcome.Unready) != 1 || outcome.Unready[0].Port != 9080 || len(outcome.Notes) != 1 || !listens || at.Port() != 9080 {
		t.Errorf("watched: %v, %+v", wanted.Listen, outcome)
	}
}

func TestRepliesOfTheKernelAreReadWithinTheirBounds(t *testing.T) {
	found := diagRequest(netip.MustParseAddrPort("127.0.0.1:8000"), 7) // looks like its answer
	found[17] = unix.BPF_TCP_LISTEN
	established := slices.Clone(found)
	established[17] = 1
	failed := slices.Clone(found[:20])
	failed[4] = unix.NLMSG_ERROR
	copy(failed[16:], []byte{0xfe, 0xff, 0xff, 0xff}) // -ENOENT
	denied := slices.Clone(failed)
	denied[16] = 0xff // -EPERM
	other := slices.Clone(found)
	other[8] = 6
	for what, x := range map[string]struct {
		reply         []byte
		listens, ours bool
		fails         bool
	}{
		"a socket that listens": {found, true, true, false},
		"one that is connected": {established, false, true, false},
		"nobody":                {failed, false, true, false},
		"an error":              {denied, false, true, true},
		"of another request":    {other, false, false, false},
		"too short":             {found[:19], false, true, true},
		"empty":                 {nil, false, true, true},
	} {
		if listens, ours, err := readDiagReply(x.reply, 7); listens != x.listens || ours != x.ours || (err != nil) != x.fails {
			t.Errorf("%s: %v, %v, %v", what, listens, ours, err)
		}
	}
}
