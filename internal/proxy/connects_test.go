package proxy

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"testing"
	"time"

	"sluice.dev/sluice/internal/capture"
	"sluice.dev/sluice/internal/names"
	"sluice.dev/sluice/internal/policy"
	"sluice.dev/sluice/internal/proxy/dnsserver"
	"sluice.dev/sluice/internal/proxy/egress"
	"sluice.dev/sluice/internal/record"
	"sluice.dev/sluice/internal/refusal"
)

// source is where the workload of these tests connects from.
var source = netip.MustParseAddrPort("198.18.0.1:40000")

// at is the workload's address of a name.
func (m *meshOf) at(name string, port uint16) netip.AddrPort {
	m.t.Helper()
	told, err := m.names.Tell(names.MustParse(name), dnsserver.Exactly)
	if err != nil {
		m.t.Fatal(err)
	}
	return netip.AddrPortFrom(told.V4, port)
}

// foretell asks what will become of a connect, and waits for the answer.
func (m *meshOf) foretell(from, to netip.AddrPort) capture.Answer {
	m.t.Helper()
	return <-m.asking(from, to)
}

func (m *meshOf) asking(from, to netip.AddrPort) <-chan capture.Answer {
	answers := make(chan capture.Answer, 2)
	m.workload.foretell(capture.Connecting{From: from, To: to}, func(a capture.Answer) { answers <- a })
	return answers
}

// arrive is the connection of a connect that goes on.
func (m *meshOf) arrive(to netip.AddrPort) (conn net.Conn, from netip.AddrPort, accept func()) {
	m.t.Helper()
	l := m.listen()
	ours, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		m.t.Fatal(err)
	}
	m.t.Cleanup(func() { ours.Close() })
	return ours, ours.LocalAddr().(*net.TCPAddr).AddrPort(), func() { m.take(l, to) }
}

const tcpRule = "db.example:5432/tcp"

func TestAConnectIsAnsweredWithWhatBecomesOfIt(t *testing.T) {
	n := newFakeNet(t)
	n.site("db.example", "93.184.216.34", 5432, echo)
	n.leads("down.example", "93.184.216.35", syscall.ECONNREFUSED)
	n.leads("host.example", "93.184.216.36", syscall.EHOSTUNREACH)
	n.leads("net.example", "93.184.216.37", syscall.ENETUNREACH)
	n.leads("slow.example", "93.184.216.38", syscall.ETIMEDOUT)
	n.leads("private.example", "10.0.0.1", nil)
	m := newMesh(t, n,
		rule(t, tcpRule), rule(t, "down.example:5432/tcp"), rule(t, "host.example:5432/tcp"), rule(t, "net.example:5432/tcp"), rule(t, "slow.example:5432/tcp"),
		rule(t, "private.example:5432/tcp"), rule(t, "gone.example:5432/tcp"), rule(t, "web.example:443/tls"), rule(t, "web.example:8443/tls"))
	for _, c := range []struct {
		name   string
		port   uint16
		want   capture.Answer
		reason refusal.Reason // of its record; "" where it has none
	}{
		{"down.example", 5432, capture.Answer{Errno: syscall.ECONNREFUSED}, refusal.ConnectRefused},
		{"host.example", 5432, capture.Answer{Errno: syscall.EHOSTUNREACH}, refusal.ConnectFailed},
		{"net.example", 5432, capture.Answer{Errno: syscall.ENETUNREACH}, refusal.ConnectFailed},
		{"slow.example", 5432, capture.Answer{Errno: syscall.ETIMEDOUT}, refusal.ConnectTimeout},
		{"gone.example", 5432, capture.Answer{Errno: syscall.EHOSTUNREACH}, refusal.NoAddress},
		{"private.example", 5432, capture.Answer{Errno: syscall.ECONNREFUSED}, refusal.PrivateAddress},
		{"db.example", 22, capture.Answer{Errno: syscall.ECONNREFUSED}, refusal.NoRule},     // no rule on the port
		{"evil.example", 8443, capture.Answer{Errno: syscall.ECONNREFUSED}, refusal.NoRule}, // none for the name
		{"evil.example", 443, capture.Answer{Always: true}, ""},                             // is answered in TLS
		{"evil.example", 80, capture.Answer{Always: true}, ""},                              // is answered in HTTP
		{"web.example", 443, capture.Answer{Always: true}, ""},                              // is allowed by what it says
		{"web.example", 8443, capture.Answer{Always: true}, ""},
	} {
		before := len(m.ring.Recent(100, record.Filter{}))
		if got := m.foretell(source, m.at(c.name, c.port)); got != c.want {
			t.Errorf("%s:%d: %+v, want %+v", c.name, c.port, got, c.want)
		}
		if c.reason == "" {
			if all := m.ring.Recent(100, record.Filter{}); len(all) != before {
				t.Errorf("%s:%d has a record: %+v", c.name, c.port, all[len(all)-1])
			}
			continue
		}
		m.closed(uint64(before + 1))
		all := m.ring.Recent(100, record.Filter{})
		last := all[len(all)-1]
		if len(all) != before+1 || last.Reason != c.reason || last.Dialled != c.name || last.Port != c.port {
			t.Errorf("%s:%d: %d records, the last %+v, want one with %q", c.name, c.port, len(all)-before, last, c.reason)
		}
	}
}

// The connection that was dialled ahead is used by the one that it was dialled for, once.
func TestAConnectionThatWasDialledAheadIsUsedByItsOwn(t *testing.T) {
	n := newFakeNet(t)
	var mu sync.Mutex
	accepted := 0
	n.site("db.example", "93.184.216.34", 5432, func(c net.Conn) {
		mu.Lock()
		accepted++
		mu.Unlock()
		fmt.Fprintln(c, "welcome")
		io.Copy(c, c)
	})
	m := newMesh(t, n, rule(t, tcpRule))
	to := m.at("db.example", 5432)
	conn, from, accept := m.arrive(to)
	if got := m.foretell(from, to); got != (capture.Answer{}) {
		t.Fatalf("%+v", got)
	}
	accept()
	conn.SetDeadline(time.Now().Add(patience))
	r := bufio.NewReader(conn)
	if line, err := r.ReadString('\n'); line != "welcome\n" {
		t.Fatalf("%q, %v", line, err)
	}
	fmt.Fprintln(conn, "ping")
	if line, err := r.ReadString('\n'); line != "ping\n" {
		t.Errorf("%q, %v", line, err)
	}
	conn.Close()
	m.closed(1)
	if all := m.ring.Recent(10, record.Filter{}); len(all) != 1 || all[0].Verdict != record.Allowed || all[0].Received == 0 {
		t.Errorf("records %+v", all)
	}
	mu.Lock()
	defer mu.Unlock()
	if accepted != 1 {
		t.Errorf("the server took %d connections", accepted)
	}
}

// Neither another source nor another destination gets it, and not another workload.
func TestAConnectionThatWasDialledAheadIsForNobodyElse(t *testing.T) {
	n := newFakeNet(t)
	n.site("db.example", "93.184.216.34", 5432, echo)
	m := newMesh(t, n, rule(t, tcpRule))
	to := m.at("db.example", 5432)
	conn, from, accept := m.arrive(to)
	if got := m.foretell(from, to); got.Errno != 0 {
		t.Fatal(got)
	}
	other, _, acceptOther := m.arrive(to) // from another port
	acceptOther()
	fmt.Fprintln(other, "ping")
	other.SetDeadline(time.Now().Add(patience))
	if line, err := bufio.NewReader(other).ReadString('\n'); line != "ping\n" {
		t.Errorf("%q, %v", line, err)
	}
	elsewhere := netip.AddrPortFrom(to.Addr(), 5433)
	l := m.listen()
	defer l.Close()
	peer, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer peer.Close()
	down, err := l.AcceptTCP()
	if err != nil {
		t.Fatal(err)
	}
	defer down.Close()
	if m.workload.egress.Arrived(down, elsewhere) {
		t.Error("another destination got it")
	}
	if m.workload.egress.Arrived(down, to) {
		t.Error("another source got it")
	}
	if m.ring.Added() != 0 {
		t.Error("what is for another was ended")
	}
	accept()
	conn.Close()
	other.Close()
	m.closed(2)
}

// A client that gave up is not waited for when its port begins another connection.
func TestAPortThatConnectsAnewVoidsWhatWasDialledForIt(t *testing.T) {
	n := newFakeNet(t)
	ended := make(chan error, 4)
	n.site("db.example", "93.184.216.34", 5432, func(c net.Conn) {
		_, err := c.Read(make([]byte, 1))
		ended <- err
	})
	m := newMesh(t, n, rule(t, tcpRule))
	to := m.at("db.example", 5432)
	for range 2 {
		if got := m.foretell(source, to); got.Errno != 0 {
			t.Fatal(got)
		}
	}
	if err := <-ended; err != io.EOF {
		t.Errorf("the first ended with %v", err)
	}
	m.closed(1)
	if last := m.lastFlow(); last.Reason != refusal.ClientGone || last.Verdict != record.Failed || last.Upstream != "93.184.216.34:5432" {
		t.Errorf("%+v", last)
	}
}

// A rule that is withdrawn ends what was dialled ahead by it, and a connection that comes
// then is decided about anew.
func TestAWithdrawnRuleEndsWhatWasDialledAhead(t *testing.T) {
	n := newFakeNet(t)
	ended := make(chan error, 1)
	n.site("db.example", "93.184.216.34", 5432, func(c net.Conn) {
		_, err := c.Read(make([]byte, 1))
		ended <- err
	})
	m := newMesh(t, n, rule(t, tcpRule))
	to := m.at("db.example", 5432)
	conn, from, accept := m.arrive(to)
	if got := m.foretell(from, to); got.Errno != 0 {
		t.Fatal(got)
	}
	m.allow()
	if err := <-ended; err == nil {
		t.Error("the server was sent something")
	}
	m.closed(1)
	if last := m.lastFlow(); last.Verdict != record.Denied || last.Reason != refusal.NoRule {
		t.Errorf("%+v", last)
	}
	accept()
	conn.SetDeadline(time.Now().Add(patience))
	if _, err := conn.Read(make([]byte, 1)); err == nil || err == io.EOF {
		t.Errorf("the client's ends with %v, not with a reset", err)
	}
	m.closed(2)
}

// A connection that comes before its upstream was dialled waits for that.
func TestAConnectionThatComesBeforeTheAnswerIsCarriedToo(t *testing.T) {
	n := newFakeNet(t)
	n.leads("db.example", "93.184.216.34", errSilent)
	m := newMesh(t, n, rule(t, tcpRule))
	to := m.at("db.example", 5432)
	l := m.listen()
	defer l.Close()
	conn, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	answers := m.asking(conn.LocalAddr().(*net.TCPAddr).AddrPort(), to)
	down, err := l.AcceptTCP()
	if err != nil {
		t.Fatal(err)
	}
	until(t, "it dials", func() bool { return m.proxy.capacity.up.Used() > 0 })
	if serve := m.workload.admit(down, to); serve != nil { // as after the patience of who asks
		t.Fatal("it is not handed over")
	}
	m.allow()
	if got := <-answers; got.Errno == 0 {
		t.Errorf("%+v", got)
	}
	conn.SetDeadline(time.Now().Add(patience))
	if _, err := conn.Read(make([]byte, 1)); err == nil || err == io.EOF {
		t.Errorf("the client's ends with %v, not with a reset", err)
	}
	m.closed(1)
	if all := m.ring.Recent(10, record.Filter{}); len(all) != 1 {
		t.Errorf("records %+v", all)
	}
}

// Beyond the bound a connect goes on, to be decided about when it has come.
func TestConnectionsThatAreDialledAheadAreBounded(t *testing.T) {
	n := newFakeNet(t)
	n.leads("db.example", "93.184.216.34", errSilent)
	m := newMesh(t, n, rule(t, tcpRule))
	to := m.at("db.example", 5432)
	for i := range egress.MaxAhead {
		m.asking(netip.AddrPortFrom(source.Addr(), uint16(i+1)), to)
	}
	until(t, "as many are dialled as may be", func() bool { return m.proxy.capacity.up.Used() == egress.MaxAhead })
	if got := m.foretell(source, to); got != (capture.Answer{}) || m.proxy.capacity.up.Used() != egress.MaxAhead {
		t.Errorf("%+v, and %d upstream connections after %d", got, m.proxy.capacity.up.Used(), egress.MaxAhead)
	}
}

// By then it has gone on, and would be recorded twice.
func TestAConnectThatIsDeniedTooLateIsLeftToTheConnection(t *testing.T) {
	n := newFakeNet(t)
	m := newMesh(t, n, rule(t, tcpRule))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	to := netip.MustParseAddrPort("93.184.216.99:22")
	chain := policy.Chain{Source: &m.workload.source, Port: to.Port(), Addr: to.Addr()}
	if answer := m.workload.refuseConnect(ctx, chain, to); answer != (capture.Answer{}) {
		t.Errorf("too late: %+v", answer)
	}
	if records := m.ring.Recent(record.RingSize, record.Filter{}); len(records) != 0 {
		t.Errorf("too late: %+v", records)
	}
	if answer := m.workload.refuseConnect(t.Context(), chain, to); answer.Errno != syscall.ECONNREFUSED {
		t.Errorf("in time: %+v", answer)
	}
	if records := m.ring.Recent(record.RingSize, record.Filter{}); len(records) != 1 {
		t.Errorf("in time: %+v", records)
	}
}
