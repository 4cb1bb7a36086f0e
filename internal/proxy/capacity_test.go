package proxy

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	"sluice.dev/sluice/internal/proxy/resolve"
	"sluice.dev/sluice/internal/record"
	"sluice.dev/sluice/internal/refusal"
	"sluice.dev/sluice/internal/wire"
)

func TestDescriptorsAreSharedOut(t *testing.T) {
	for n, want := range map[uint64]int{1 << 20: MaxWorkloads, 1024: 32, 0: 1, ^uint64(0): MaxWorkloads} {
		if got := workloadsOf(n); got != want {
			t.Errorf("%d descriptors: %d workloads, want %d", n, got, want)
		}
	}
	for n, want := range map[uint64]stocks{
		1 << 20: {down: 784800, up: 523200, together: 1046400}, ^uint64(0): {down: 784800, up: 523200, together: 1046400},
		20000: {down: 13368, up: 8912, together: 17824}, 1024: {down: 504, up: 336, together: 672}, 0: {down: 1, up: 1, together: 2},
	} {
		got := stocksOf(n, true)
		if got.down != want.down || got.up != want.up || got.together != want.together || !got.alone {
			t.Errorf("%d descriptors: %+v, want %+v", n, got, want)
		}
		if taken := got.together + 2*resolve.LookupsOf(n) + 2*got.pipes; n > perProcess && uint64(taken) > n {
			t.Errorf("%d of %d descriptors may be taken", taken, n)
		}
	}
}

// At the number of descriptors that many systems give, a workload of a proxy that may serve
// others has ten thousand clients that wait for their next request, and those have what
// they may wait for.
func TestTenThousandClientsThatWaitAreLetInAt20000Descriptors(t *testing.T) {
	c := newCapacity(stocksOf(20000, false))
	one := c.join(nil, nil)
	n := 0
	for one.down.Try(1) {
		n++
	}
	if n < 10000 {
		t.Errorf("%d clients are let in", n)
	}
	up := 0
	for one.up.Try(1) {
		up++
	}
	if up < 3000 {
		t.Errorf("%d connections are left on their behalf", up)
	}
	other := c.join(nil, nil)
	for i := range 500 {
		if !other.down.Try(1) || !other.up.Try(1) {
			t.Fatalf("another workload finds no more than %d connections", i)
		}
	}
	for range 100 { // each that joins takes what it lives on from them
		c.join(nil, nil)
	}
	if !one.down.Try(1) {
		one.down.Give(1000)
	}
	if one.down.Try(1) {
		t.Error("a workload that holds much is let go on though others have come")
	}
}

func TestTheLowerOfTwoLimitsCounts(t *testing.T) {
	for _, x := range []struct{ flag, mesh, want wire.Limits }{
		{wire.Limits{}, wire.Limits{}, wire.Limits{Connections: MaxConnections, UpstreamConnections: MaxUpstreamConnections, QueueTimeout: QueueTimeout}},
		{wire.Limits{Connections: 5, UpstreamConnections: 9}, wire.Limits{UpstreamConnections: 3, QueueTimeout: time.Second}, wire.Limits{Connections: 5, UpstreamConnections: 3, QueueTimeout: time.Second}},
	} {
		if got := lowest(x.flag, x.mesh); got != x.want {
			t.Errorf("%+v and %+v: %+v", x.flag, x.mesh, got)
		}
	}
}

// slow is a site that answers every request once it is let go, and counts those that
// have come.
type slow struct {
	arrived chan struct{}
	letGo   chan struct{}
}

func newSlow() *slow { return &slow{make(chan struct{}, 4096), make(chan struct{})} }

func (s *slow) serve(c net.Conn) {
	for r := bufio.NewReader(c); ; {
		if _, err := http.ReadRequest(r); err != nil {
			return
		}
		s.arrived <- struct{}{}
		<-s.letGo
		fmt.Fprint(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
	}
}

// statuses asks n requests at a time, each on a connection of its own, and counts how
// they are answered. It is called once all were sent.
func statuses(m *meshOf, host string, n int) func() map[int]int {
	m.t.Helper()
	counts := make(map[int]int)
	var mu sync.Mutex
	var all sync.WaitGroup
	for range n {
		c := m.dial(host, 80)
		fmt.Fprintf(c, "GET / HTTP/1.1\r\nHost: %s\r\n\r\n", host)
		all.Go(func() {
			defer c.Close()
			c.SetReadDeadline(time.Now().Add(patience))
			status := 0
			if resp, err := http.ReadResponse(bufio.NewReader(c), nil); err == nil {
				io.Copy(io.Discard, resp.Body)
				status = resp.StatusCode
			}
			mu.Lock()
			defer mu.Unlock()
			counts[status]++
		})
	}
	return func() map[int]int {
		all.Wait()
		return counts
	}
}

func Test1200SlowRequestsToOneHostAreAllUnderWayAndAllAnswered(t *testing.T) {
	n := newFakeNet(t)
	n.stocks = stocksOf(1<<20, false) // whatever the machine that tests has
	site := newSlow()
	n.site("www.example.com", "93.184.215.14", 80, site.serve)
	m := newMesh(t, n, rule(t, "www.example.com:80"))
	const requests = 1200
	answered := statuses(m, "www.example.com", requests)
	for i := range requests {
		select {
		case <-site.arrived:
		case <-time.After(patience):
			t.Fatalf("%d of %d have arrived", i, requests)
		}
	}
	close(site.letGo)
	if got := answered(); got[200] != requests {
		t.Errorf("answered %v", got)
	}
}

// With fewer connections than requests those that come too early wait for their turn.
func Test1200RequestsOnFewConnectionsAreAllAnswered(t *testing.T) {
	n := newFakeNet(t)
	n.changes = append(n.changes, func(c *Config) { c.Limits = wire.Limits{UpstreamConnections: 7, QueueTimeout: time.Hour} })
	site := newSlow()
	n.site("www.example.com", "93.184.215.14", 80, site.serve)
	m := newMesh(t, n, rule(t, "www.example.com:80"))
	const requests = 1200
	answered := statuses(m, "www.example.com", requests)
	until(t, "all others wait", func() bool { return m.workload.portion.up.Waiting() >= requests-7 })
	close(site.letGo)
	if got := answered(); got[200] != requests {
		t.Errorf("answered %v", got)
	}
	if used := m.workload.portion.up.Used(); used > 7 {
		t.Errorf("%d upstream connections are open", used)
	}
}

func TestARequestThatWaitedInVainSaysOverflowAndSoDoesItsRecord(t *testing.T) {
	n := newFakeNet(t)
	n.changes = append(n.changes, func(c *Config) {
		c.Limits = wire.Limits{UpstreamConnections: 1, QueueTimeout: 50 * time.Millisecond}
	})
	site := newSlow()
	n.site("www.example.com", "93.184.215.14", 80, site.serve)
	n.site("db.example.com", "93.184.215.15", 5000, echo)
	m := newMesh(t, n, rule(t, "www.example.com:80"), rule(t, "db.example.com:5000/tcp"))
	first := m.dial("www.example.com", 80)
	fmt.Fprint(first, "GET / HTTP/1.1\r\nHost: www.example.com\r\n\r\n")
	<-site.arrived
	if got := got(t, m.dial("www.example.com", 80), "GET / HTTP/1.1\r\nHost: www.example.com\r\n\r\n"); got != "503 overflow" {
		t.Errorf("a request: %s", got)
	}
	db := m.dial("db.example.com", 5000)
	io.WriteString(db, "ping")
	if err := ended(db); err != nil {
		t.Errorf("a connection: %v", err)
	}
	m.closed(2)
	for _, f := range m.ring.Recent(2, record.Filter{}) {
		if f.Reason != refusal.Overflow {
			t.Errorf("a record says %+v", f)
		}
	}
	close(site.letGo)
}

// What a MeshConfig says counts for workloads that run already.
func TestALimitOfTheMeshCountsWithItsSnapshot(t *testing.T) {
	n := newFakeNet(t)
	m := newMesh(t, n)
	s := *m.holder.Load()
	s.Limits = wire.Limits{Connections: 3, UpstreamConnections: 2}
	m.holder.Swap(&s)
	fill := func(try func(int) bool, give func(int)) (n int) {
		for ; try(1); n++ {
			defer give(1)
		}
		return n
	}
	down, up := m.workload.portion.down, m.workload.portion.up
	if d, u := fill(down.Try, down.Give), fill(up.Try, up.Give); d != 3 || u != 2 {
		t.Errorf("%d connections, %d upstream", d, u)
	}
}

// At the bound of a workload a new connection waits; where none ends in time it is
// reset and its record says so. One of another workload is let in.
func TestAConnectionAboveTheBoundWaitsAndIsThenResetWithARecord(t *testing.T) {
	n := newFakeNet(t)
	n.site("db.example.com", "93.184.215.14", 5000, echo)
	n.changes = append(n.changes, func(c *Config) { c.Limits = wire.Limits{Connections: 3, QueueTimeout: 50 * time.Millisecond} })
	ping := func(c net.Conn) error {
		c.SetDeadline(time.Now().Add(patience))
		io.WriteString(c, "ping")
		_, err := io.ReadFull(c, make([]byte, 4))
		return err
	}
	m := newMesh(t, n, rule(t, "db.example.com:5000"))
	other, err := m.proxy.Attach(t.Context(), WorkloadConfig{Workload: wire.Workload{Instance: "other/1", Namespace: "default"}, Holder: m.holder, Names: m.names})
	if err != nil {
		t.Fatal(err)
	}
	open := func() net.Conn { return m.dial("db.example.com", 5000) }
	first := m.workload
	var held []net.Conn
	for range 3 {
		held = append(held, open())
		if err := ping(held[len(held)-1]); err != nil {
			t.Fatal(err)
		}
	}
	if err := ping(open()); err == nil {
		t.Error("a fourth connection is carried")
	}
	if f := m.lastFlow(); f.Reason != refusal.Overflow || f.Dialled != "db.example.com" || f.Port != 5000 || f.Workload != first.Instance() {
		t.Errorf("its record says %+v", f)
	}
	m.workload = other
	if err := ping(open()); err != nil {
		t.Errorf("of another workload: %v", err)
	}
	m.workload = first
	if err := ping(held[0]); err != nil {
		t.Errorf("an open one: %v", err)
	}
	held[0].(*client).SetLinger(0)
	held[0].Close()
	for deadline := time.Now().Add(patience); ping(open()) != nil; {
		if time.Now().After(deadline) {
			t.Fatal("no room again")
		}
	}
}

// A workload that keeps connections alive makes room for its own new ones, and asks many
// hosts with few upstream connections.
func TestWhatIsIdleMakesRoomForWhatIsNew(t *testing.T) {
	n := newFakeNet(t)
	n.changes = append(n.changes, func(c *Config) {
		c.Limits = wire.Limits{Connections: 4, UpstreamConnections: 3, QueueTimeout: time.Hour}
	})
	var hosts []string
	for i := range 12 {
		hosts = append(hosts, fmt.Sprintf("www%d.example.com", i))
		n.site(hosts[i], fmt.Sprintf("93.184.215.%d", i+10), 80, hello)
	}
	m := newMesh(t, n, rule(t, "*.example.com:80"))
	for _, host := range hosts {
		if got := got(t, m.dial(host, 80), "GET / HTTP/1.1\r\nHost: "+host+"\r\n\r\n"); got != "200 "+host {
			t.Fatalf("%s: %s", host, got)
		}
	}
}

// Hellos of which the rest never comes hold the memory of their own workload alone.
func TestSlowHellosOfOneWorkloadLeaveMemoryToAnother(t *testing.T) {
	n := newFakeNet(t)
	n.stocks = stocksOf(1<<20, false)
	n.stocks.hellos = 16
	n.site("www.example.com", "93.184.215.14", 80, hello)
	m := newMesh(t, n, rule(t, "www.example.com:80"))
	other, err := m.proxy.Attach(t.Context(), WorkloadConfig{Workload: wire.Workload{Instance: "other/1", Namespace: "default"}, Holder: m.holder, Names: m.names})
	if err != nil {
		t.Fatal(err)
	}
	flooding := m.workload
	for range 40 {
		io.WriteString(m.dial("www.example.com", 80), "GET / HT")
	}
	until(t, "one waits for memory", func() bool { return flooding.portion.hellos.Waiting() > 0 })
	if used := flooding.portion.hellos.Used(); used > 16*3/4 {
		t.Errorf("one workload holds %d of 16 buffers", used)
	}
	m.workload = other
	for range 20 {
		if got := got(t, m.dial("www.example.com", 80), "GET / HTTP/1.1\r\nHost: www.example.com\r\n\r\n"); got != "200 www.example.com" {
			t.Fatal(got)
		}
	}
}
