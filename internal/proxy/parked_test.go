package proxy

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/netip"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"sluice.dev/sluice/internal/names"
	"sluice.dev/sluice/internal/proxy/dnsserver"
	"sluice.dev/sluice/internal/record"
	"sluice.dev/sluice/internal/refusal"
)

// silentClient is a client without anything of Go's, so that what is measured is the
// proxy's.
func silentClient(t *testing.T, to netip.AddrPort) int {
	t.Helper()
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Connect(fd, &syscall.SockaddrInet4{Port: int(to.Port()), Addr: to.Addr().As4()}); err != nil {
		t.Fatal(err)
	}
	return fd
}

// goroutines waits until there are at most so many.
func goroutines(t *testing.T, most int) {
	t.Helper()
	for deadline := time.Now().Add(patience); runtime.NumGoroutine() > most; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d goroutines, want at most %d", runtime.NumGoroutine(), most)
		}
	}
}

// inUse is what the program holds, in bytes, stacks included.
func inUse() uint64 {
	runtime.GC()
	runtime.GC() // pools are empty after two
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc + m.StackInuse
}

func TestAnIdleConnectionHasNoGoroutineAndTakesLittle(t *testing.T) {
	if raceDetector {
		t.Skip("the race detector takes memory of its own")
	}
	const count, most = 1000, 4 << 10
	if Descriptors() < 3*count {
		t.Skipf("it takes %d descriptors: ulimit -n", 3*count)
	}
	n := newFakeNet(t)
	n.site("api.example.com", "93.184.215.16", 80, hello)
	m := newMesh(t, n, rule(t, "api.example.com:80"))
	told, err := m.names.Tell(names.MustParse("api.example.com"), dnsserver.Exactly)
	if err != nil {
		t.Fatal(err)
	}
	l := m.listen()
	defer l.Close()
	at := l.Addr().(*net.TCPAddr).AddrPort()
	request := []byte("GET / HTTP/1.1\r\nHost: api.example.com\r\n\r\n")
	answer := make([]byte, 4096)
	var clients []int
	defer func() {
		for _, fd := range clients {
			syscall.Close(fd)
		}
	}()
	ask := func(fd int) {
		if _, err := syscall.Write(fd, request); err != nil {
			t.Fatal(err)
		}
		for got := 0; !strings.HasSuffix(string(answer[:got]), "api.example.com"); {
			n, err := syscall.Read(fd, answer[got:])
			if err != nil || n == 0 {
				t.Fatalf("%q, %v", answer[:got], err)
			}
			got += n
		}
	}
	open := func() {
		fd := silentClient(t, at)
		clients = append(clients, fd)
		down, err := l.AcceptTCP()
		if err != nil {
			t.Fatal(err)
		}
		go m.workload.admit(down, netip.AddrPortFrom(told.V4, 80))()
		ask(fd)
	}
	alone := runtime.NumGoroutine()
	open()
	const ours = 4 // the sweeper, the poller, and the site's end of the connection upstream
	goroutines(t, alone+ours)
	before, goroutinesBefore := inUse(), runtime.NumGoroutine()
	for range count {
		open()
	}
	goroutines(t, goroutinesBefore+ours)
	each := int(inUse()-before) / count
	t.Logf("%d bytes each", each)
	if each > most {
		t.Errorf("an idle connection takes %d bytes, want at most %d", each, most)
	}
	for _, fd := range clients { // and each goes on
		ask(fd)
	}
	if used := m.workload.portion.down.Used(); used != count+1 {
		t.Errorf("%d connections are live, want %d", used, count+1)
	}
}

// parkedClient is a client whose connection is parked: it has had its answer.
func parkedClient(t *testing.T, m *meshOf) (*client, *bufio.Reader) {
	t.Helper()
	c := m.dial("api.example.com", 80)
	r := bufio.NewReader(c)
	if got := exchange(t, c, r, "GET / HTTP/1.1\r\nHost: api.example.com\r\n\r\n").StatusCode; got != 200 {
		t.Fatalf("status %d", got)
	}
	m.carrying.Wait() // its goroutine has ended
	return c, r
}

func TestAParkedConnectionIsAsAliveAsAnyOther(t *testing.T) {
	n := newFakeNet(t)
	n.site("api.example.com", "93.184.215.16", 80, hello)
	m := newMesh(t, n, rule(t, "api.example.com:80"))
	settled := func(t *testing.T) {
		t.Helper()
		for deadline := time.Now().Add(patience); m.workload.portion.down.Used() != 0; time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("%d connections are still live", m.workload.portion.down.Used())
			}
		}
		if count := m.workload.http.Count(); count != 0 {
			t.Errorf("the engine has %d connections", count)
		}
	}
	t.Run("it serves its next request", func(t *testing.T) {
		c, r := parkedClient(t, m)
		for i := range 3 {
			if i == 1 {
				time.Sleep(2 * busyPause) // it is parked again, for it was quiet
			}
			added := m.ring.Added()
			if got := exchange(t, c, r, "GET /next HTTP/1.1\r\nHost: api.example.com\r\n\r\n"); got.StatusCode != 200 {
				t.Errorf("request %d: status %d", i, got.StatusCode)
			}
			m.closed(added + 1)
			if f := m.ring.Recent(1, record.Filter{})[0]; f.Path != "/next" || f.Verdict != record.Allowed || f.Status != 200 {
				t.Errorf("the record says %+v", f)
			}
		}
		c.Close()
		settled(t)
	})
	t.Run("it serves a request that comes in pieces", func(t *testing.T) {
		c, r := parkedClient(t, m)
		for _, piece := range []string{"GET /pieces HT", "TP/1.1\r\nHost: api.exam"} {
			io.WriteString(c, piece)
			time.Sleep(time.Millisecond)
		}
		if got := exchange(t, c, r, "ple.com\r\n\r\n"); got.StatusCode != 200 {
			t.Errorf("status %d", got.StatusCode)
		}
		c.Close()
		settled(t)
	})
	t.Run("it answers a last request whose client half-closed", func(t *testing.T) {
		c, r := parkedClient(t, m)
		io.WriteString(c, "GET / HTTP/1.1\r\nHost: api.example.com\r\n\r\n")
		c.CloseWrite()
		c.SetDeadline(time.Now().Add(patience))
		if all, err := io.ReadAll(r); err != nil || !strings.HasSuffix(string(all), "api.example.com") {
			t.Errorf("%q, %v", all, err)
		}
		settled(t)
	})
	t.Run("it ends with its client", func(t *testing.T) {
		c, _ := parkedClient(t, m)
		c.Close()
		settled(t)
	})
	t.Run("it ends with a client that resets", func(t *testing.T) {
		c, _ := parkedClient(t, m)
		c.SetLinger(0)
		c.Close()
		settled(t)
	})
	t.Run("what is no request is refused, and recorded", func(t *testing.T) {
		c, r := parkedClient(t, m)
		added := m.ring.Added()
		if got := exchange(t, c, r, "NOT A REQUEST\r\n\r\n"); got.StatusCode != 400 {
			t.Errorf("status %d", got.StatusCode)
		}
		m.closed(added + 1)
		if f := m.ring.Recent(1, record.Filter{})[0]; f.Reason != refusal.RequestMalformed {
			t.Errorf("the record says %+v", f)
		}
		c.Close()
		settled(t)
	})
	t.Run("it ends where it is idle for longest and another needs its place", func(t *testing.T) {
		c, _ := parkedClient(t, m)
		for deadline := time.Now().Add(patience); !m.workload.http.CloseIdle(); time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatal("it is not taken for idle")
			}
		}
		if err := ended(c); err != nil {
			t.Error(err)
		}
		settled(t)
	})
	t.Run("it is reset when its rule goes", func(t *testing.T) {
		c, _ := parkedClient(t, m)
		m.allow()
		_, err := c.Read(make([]byte, 1))
		if err == nil || !strings.Contains(fmt.Sprint(err), "reset") {
			t.Errorf("read: %v, want a reset", err)
		}
		settled(t)
		m.allow(rule(t, "api.example.com:80"))
	})
	t.Run("it ends when the proxy does", func(t *testing.T) {
		c, _ := parkedClient(t, m)
		within(t, patience, "Close hangs", m.proxy.Close)
		if err := ended(c); err != nil {
			t.Error(err)
		}
		settled(t)
	})
}

// busyPause is above the pause after which a connection counts as busy.
const busyPause = 60 * time.Millisecond
