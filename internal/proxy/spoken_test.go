package proxy

import (
	"bufio"
	"crypto/tls"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"sluice.dev/sluice/internal/policy"
	"sluice.dev/sluice/internal/proxy/mesh"
	"sluice.dev/sluice/internal/proxy/sniff"
	"sluice.dev/sluice/internal/record"
	"sluice.dev/sluice/internal/refusal"
)

// greeting is what a server says that speaks first.
const greeting = "220 ready\r\n"

// greets speaks first, and then sends back what comes.
func greets(c net.Conn) {
	io.WriteString(c, greeting)
	io.Copy(c, c)
}

// clientHello is the first record of a TLS client.
func clientHello(t *testing.T) string {
	t.Helper()
	ours, theirs := net.Pipe()
	defer ours.Close()
	go tls.Client(theirs, &tls.Config{ServerName: "db"}).Handshake()
	record := make([]byte, 5)
	if _, err := io.ReadFull(ours, record); err != nil {
		t.Fatal(err)
	}
	record = append(record, make([]byte, binary.BigEndian.Uint16(record[3:]))...)
	if _, err := io.ReadFull(ours, record[5:]); err != nil {
		t.Fatal(err)
	}
	return string(record)
}

// What the mesh does for what comes first on a connection, by what is said of the port.
// "silence" is a client that waits for its server.
func TestWhatTheMeshDoesForEachFirstByteByWhatIsSaidOfThePort(t *testing.T) {
	const (
		request = "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
		bytes   = "\x03\x00\x00\x01"
		text    = "EHLO x\r\n"
		silence = ""
		reset   = ""
		alert   = "\x15\x03\x03\x00\x02\x02\x31" // access denied
		failed  = "HTTP/1.1 502 "                // what a server of something else says is no answer
		none    = policy.ProtocolNone
	)
	hello := clientHello(t)
	for _, x := range []struct {
		spoken  policy.Protocol
		first   string
		server  func(net.Conn)
		want    string // what the client reads begins with this; "": a reset before anything
		sniffed policy.Sniffed
		verdict record.Verdict
		reason  refusal.Reason
	}{
		{policy.ProtocolHTTP, request, echo, failed, policy.HTTP, record.Failed, refusal.UpstreamProtocol},
		{policy.ProtocolHTTP, request, greets, failed, policy.HTTP, record.Failed, refusal.UpstreamProtocol},
		{policy.ProtocolHTTP, hello, echo, alert, policy.ClientHello, record.Denied, refusal.ProtocolMismatch},
		{policy.ProtocolHTTP, hello, greets, alert, policy.ClientHello, record.Denied, refusal.ProtocolMismatch},
		{policy.ProtocolHTTP, bytes, greets, reset, policy.Opaque, record.Denied, refusal.ProtocolMismatch},
		{policy.ProtocolHTTP, text, greets, reset, policy.Opaque, record.Denied, refusal.ProtocolMismatch},

		{policy.ProtocolTCP, request, echo, request, policy.Opaque, record.Allowed, ""},
		{policy.ProtocolTCP, hello, echo, hello, policy.Opaque, record.Allowed, ""},
		{policy.ProtocolTCP, bytes, echo, bytes, policy.Opaque, record.Allowed, ""},
		{policy.ProtocolTCP, text, greets, greeting, policy.Opaque, record.Allowed, ""},
		{policy.ProtocolTCP, silence, greets, greeting, policy.Opaque, record.Allowed, ""},

		{none, request, echo, failed, policy.HTTP, record.Failed, refusal.UpstreamProtocol},
		{none, request, greets, failed, policy.HTTP, record.Failed, refusal.UpstreamProtocol},
		{none, hello, echo, hello, policy.ClientHello, record.Allowed, ""},
		{none, bytes, echo, bytes, policy.Opaque, record.Allowed, ""},
		{none, text, echo, text, policy.Opaque, record.Allowed, ""},
		{none, text, greets, greeting, policy.Opaque, record.Allowed, ""},
		{none, silence, greets, greeting, policy.Opaque, record.Allowed, ""},
	} {
		server := "an echo"
		if x.want == greeting || x.want == reset {
			server = "a server that greets"
		}
		t.Run(fmt.Sprintf("%s: %.8q to %s", x.spoken, x.first, server), func(t *testing.T) {
			t.Parallel()
			m := newMesh(t, newFakeNet(t))
			m.speaking("db", x.spoken, x.server)
			c := m.dial("db.default.svc.cluster.local", 9080)
			c.SetDeadline(time.Now().Add(patience))
			io.WriteString(c, x.first)
			if x.want == reset {
				ends(t, c)
			}
			got := make([]byte, len(x.want))
			if _, err := io.ReadFull(c, got); err != nil || string(got) != x.want {
				t.Errorf("it reads %q, %v; want %q", got, err, x.want)
			}
			c.Close()
			m.closed(1)
			if f := m.lastFlow(); f.Verdict != x.verdict || f.Reason != x.reason || f.Sniffed != x.sniffed {
				t.Errorf("recorded: %s %s %s, want %s %s %s", f.Verdict, f.Reason, f.Sniffed, x.verdict, x.reason, x.sniffed)
			}
		})
	}
}

// A client of a port that is http may take its time: until it has asked, no server is
// dialled for it, and nothing that one says reaches it past the route rules.
func TestASilentClientOfAPortThatIsHTTPReachesNobody(t *testing.T) {
	t.Parallel()
	reached := make(chan struct{}, 8)
	m := newMesh(t, newFakeNet(t))
	m.speaking("details", policy.ProtocolHTTP, func(c net.Conn) {
		reached <- struct{}{}
		greets(c)
	})
	c := m.dial("details.default.svc.cluster.local", 9080)
	c.SetReadDeadline(time.Now().Add(sniff.DefaultSilence + time.Second)) // longer than anybody is waited for
	if n, err := c.Read(make([]byte, 1)); n > 0 || len(reached) > 0 {
		t.Errorf("it reads %d bytes, %v; %d servers were dialled", n, err, len(reached))
	}
	if got := got(t, c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n"); got != "502 upstream-protocol" {
		t.Errorf("its request is answered %s", got)
	}
}

// On a port of which nobody said anything one endpoint is dialled for a client that is
// silent. It gets nothing of a request that comes after all: that is routed afresh.
func TestARequestThatComesLateIsRoutedAfresh(t *testing.T) {
	n := newFakeNet(t)
	var passed atomic.Int64
	n.changes = append(n.changes, func(c *Config) { c.Now = func() time.Time { return time.Now().Add(time.Duration(passed.Load())) } })
	m := newMesh(t, n)
	type served struct{ first string }
	accepted, ended := make(chan struct{}, 8), make(chan served, 8)
	m.service("details", func(c net.Conn) {
		accepted <- struct{}{}
		first, _ := bufio.NewReader(c).ReadString('\n')
		if first != "" {
			io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
		}
		ended <- served{first}
	})
	c := m.dial("details.default.svc.cluster.local", 9080).waits()
	within(t, patience, "no endpoint was dialled for a client that is silent", func() { <-accepted })
	passed.Add(int64(mesh.LookAfter)) // in which the server says nothing
	if got := got(t, c, "GET /late HTTP/1.1\r\nHost: details:9080\r\n\r\n"); got != "200 ok" {
		t.Errorf("the request is answered %s", got)
	}
	c.Close()
	seen := map[string]int{(<-ended).first: 1, (<-ended).first: 1}
	if seen[""] != 1 || seen["GET /late HTTP/1.1\r\n"] != 1 {
		t.Errorf("the endpoints got %v", seen)
	}
	m.closed(2)
	all := m.ring.Recent(2, record.Filter{})
	for _, f := range all {
		if f.Verdict != record.Allowed || f.Upstream != "details-v1/1" || f.Sniffed == policy.Opaque {
			t.Errorf("recorded: %+v", f)
		}
	}
	// The server had the time to speak and did not: nobody is dialled for the next one.
	c = m.dial("details.default.svc.cluster.local", 9080)
	c.SetReadDeadline(time.Now().Add(5 * mesh.LookAfter))
	if _, err := c.Read(make([]byte, 1)); err == nil || len(accepted) > 1 {
		t.Errorf("then %d endpoints are dialled for a client that is silent, %v", len(accepted)-1, err)
	}
}

// What a client says to a server that spoke goes to that server, unless it is a request:
// that one would be carried past the route rules.
func TestARequestToAServerThatSpokeIsRefused(t *testing.T) {
	m := newMesh(t, newFakeNet(t))
	m.service("db", greets)
	c := m.dial("db.default.svc.cluster.local", 9080)
	c.SetDeadline(time.Now().Add(patience))
	if _, err := io.ReadFull(c, make([]byte, len(greeting))); err != nil {
		t.Fatal(err)
	}
	io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	ends(t, c)
	m.closed(1)
	if f := m.lastFlow(); f.Verdict != record.Denied || f.Reason != refusal.ProtocolMismatch {
		t.Errorf("recorded: %+v", f)
	}
	c = m.dial("db.default.svc.cluster.local", 9080)
	c.SetDeadline(time.Now().Add(patience))
	r := bufio.NewReader(c)
	for _, line := range []string{greeting, "one\r\n", "two\r\n"} {
		if line != greeting {
			io.WriteString(c, line)
		}
		if got, err := r.ReadString('\n'); got != line {
			t.Fatalf("%q, %v; want %q", got, err, line)
		}
	}
	c.Close()
	m.closed(2)
	if f := m.lastFlow(); f.Verdict != record.Allowed || f.Received != int64(len(greeting)+10) || f.Sent != 10 || f.Upstream != "db-v1/1" {
		t.Errorf("recorded: %+v", f)
	}
}

// Where the endpoint that is dialled for a silent client refuses, a request that comes
// late is answered with the reason all the same.
func TestALateRequestIsAnsweredThoughNobodyWasReached(t *testing.T) {
	m := newMesh(t, newFakeNet(t))
	m.service("details", hello)
	m.peer("details-v1/1").Close()
	c := m.dial("details.default.svc.cluster.local", 9080)
	c.SetReadDeadline(time.Now().Add(5 * mesh.LookAfter))
	if _, err := c.Read(make([]byte, 1)); !strings.Contains(fmt.Sprint(err), "timeout") {
		t.Fatalf("a client that is silent: %v", err)
	}
	if got := got(t, c, "GET / HTTP/1.1\r\nHost: details:9080\r\n\r\n"); got != "503 no-healthy-upstream" {
		t.Errorf("the request is answered %s", got)
	}
}
