package proxy

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"sluice.dev/sluice/internal/record"
	"sluice.dev/sluice/internal/refusal"
	"sluice.dev/sluice/internal/wire"
)

const detailsName = "details.default.svc.cluster.local"

// numbered answers each request of a connection with the endpoint's number, and counts
// the connections.
func numbered(n int, connections *atomic.Int64) func(net.Conn) {
	return func(c net.Conn) {
		connections.Add(1)
		in := bufio.NewReader(c)
		for {
			request, err := http.ReadRequest(in)
			if err != nil {
				return
			}
			io.Copy(io.Discard, request.Body)
			fmt.Fprintf(c, "HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n%d", n)
		}
	}
}

// ask sends one request to details on a connection of its own.
func (m *meshOf) ask(method, body string) (status int, text string) {
	m.t.Helper()
	c := m.dial(detailsName, 9080)
	defer c.Close()
	c.SetDeadline(time.Now().Add(patience))
	fmt.Fprintf(c, "%s / HTTP/1.1\r\nHost: details:9080\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s", method, len(body), body)
	response, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		m.t.Fatal(err)
	}
	defer response.Body.Close()
	all, _ := io.ReadAll(response.Body)
	return response.StatusCode, string(all)
}

func quiet(why string) []wire.Unready {
	return []wire.Unready{{Port: 9080, Since: time.Now().Add(-12 * time.Hour), Why: why}}
}

func TestARefusedConnectGoesToAnotherEndpointWhateverTheMethod(t *testing.T) {
	m := newMesh(t, newFakeNet(t))
	var connections atomic.Int64
	m.instance("details", 1, numbered(1, &connections)).Close() // ends as a process that crashed
	m.instance("details", 2, numbered(2, &connections))
	for i := range 8 {
		method, body := "GET", ""
		if i%2 == 1 {
			method, body = "POST", "a body that is sent once"
		}
		if status, text := m.ask(method, body); status != 200 || text != "2" {
			t.Errorf("%s %d: %d %q", method, i, status, text)
		}
	}
	m.closed(8)
	for _, r := range m.ring.Recent(8, record.Filter{}) {
		if r.Upstream != "details-v1/2" || r.Verdict != record.Allowed {
			t.Errorf("the record says %s, %s", r.Upstream, r.Verdict)
		}
	}
}

// What was taken may have been read: it is not sent to a second one.
func TestARequestThatMayHaveBeenSentIsNotTriedElsewhere(t *testing.T) {
	m := newMesh(t, newFakeNet(t))
	var first, second atomic.Int64
	m.instance("details", 1, func(c net.Conn) {
		first.Add(1)
		bufio.NewReader(c).ReadString('\n') // and ends
	})
	m.instance("details", 2, numbered(2, &second))
	m.peer("details-v1/2").SetUnready(quiet(""))
	if status, text := m.ask("POST", "once"); status != 502 || !strings.Contains(text, string(refusal.UpstreamReset)) {
		t.Errorf("%d %s", status, text)
	}
	if first.Load() != 1 || second.Load() != 0 {
		t.Errorf("the first got %d, the second %d", first.Load(), second.Load())
	}
}

func TestAnEndpointThatIsNotReadyGetsNoConnectionWhileAnotherIs(t *testing.T) {
	m := newMesh(t, newFakeNet(t))
	var first, second atomic.Int64
	m.instance("details", 1, numbered(1, &first))
	m.instance("details", 2, numbered(2, &second))
	all := func(want string) {
		t.Helper()
		got := ""
		for range 4 {
			_, text := m.ask("GET", "")
			got += text
		}
		if got != want {
			t.Errorf("answered by %s, want %s", got, want)
		}
	}
	m.peer("details-v1/1").SetUnready(quiet(""))
	all("2222")
	if n := first.Load(); n != 0 {
		t.Errorf("one that is not ready was connected to %d times", n)
	}
	m.peer("details-v1/1").SetUnready(nil)
	all("1212")
	m.peer("details-v1/2").SetUnready(quiet("GET /health was answered with 503"))
	all("1111")
}

func TestWhereNobodyListensTheAnswerSaysWhoDoesNotAndForHowLong(t *testing.T) {
	m := newMesh(t, newFakeNet(t))
	listener := m.instance("details", 1, func(c net.Conn) { // and keeps no connection
		http.ReadRequest(bufio.NewReader(c))
		io.WriteString(c, "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 1\r\n\r\n1")
	})
	m.peer("details-v1/1").SetUnready(quiet(""))
	// It listens already and nobody has seen it yet: a real call is no look.
	if status, text := m.ask("GET", ""); status != 200 || text != "1" {
		t.Errorf("%d %s", status, text)
	}
	m.closed(1) // its answer comes before its record
	listener.Close()
	m.peer("details-v1/1").SetUnready(quiet(""))
	status, text := m.ask("GET", "")
	if status != 503 || !strings.Contains(text, "details-v1/1 is not listening on 9080 for 12 h 0 min") {
		t.Errorf("%d %s", status, text)
	}
	m.closed(2)
	if r := m.lastFlow(); r.Reason != refusal.NoHealthyUpstream || r.Verdict != record.Failed || !strings.Contains(r.Detail, "not listening on 9080 for 12 h 0 min") {
		t.Errorf("the record says %s %s %q", r.Verdict, r.Reason, r.Detail)
	}
}

func TestOneThatItsOwnersCheckHoldsBackIsNeverConnectedTo(t *testing.T) {
	m := newMesh(t, newFakeNet(t))
	var connections atomic.Int64
	m.instance("details", 1, numbered(1, &connections))
	m.peer("details-v1/1").SetUnready(quiet("GET /health was answered with 503"))
	status, text := m.ask("GET", "")
	if status != 503 || !strings.Contains(text, "not ready on 9080 for 12 h 0 min: GET /health was answered with 503") || connections.Load() != 0 {
		t.Errorf("%d %s, after %d connections", status, text, connections.Load())
	}
}

func TestBytesGoToAnotherEndpointToo(t *testing.T) {
	m := newMesh(t, newFakeNet(t))
	echo := func(c net.Conn) { io.Copy(c, c) }
	m.instance("details", 1, echo).Close()
	m.instance("details", 2, echo)
	for range 2 {
		c := m.dial(detailsName, 9080)
		c.SetDeadline(time.Now().Add(patience))
		const line = "*1\r\n$4\r\nPING\r\n" // no HTTP, no TLS
		io.WriteString(c, line)
		got := make([]byte, len(line))
		if _, err := io.ReadFull(c, got); err != nil || string(got) != line {
			t.Errorf("%q, %v", got, err)
		}
		c.Close()
	}
	m.closed(2)
	for _, r := range m.ring.Recent(2, record.Filter{}) {
		if r.Upstream != "details-v1/2" {
			t.Errorf("the record says %s", r.Upstream)
		}
	}
}

func TestWhatIsNotReadyIsForgottenWithItsWorkload(t *testing.T) {
	m := newMesh(t, newFakeNet(t))
	m.instance("details", 1, numbered(1, new(atomic.Int64)))
	w := m.peer("details-v1/1")
	w.SetUnready(quiet(""))
	if unready, ok := m.proxy.unready.of("details-v1/1"); !ok || len(unready) != 1 {
		t.Errorf("%v, %v", unready, ok)
	}
	w.Close()
	w.SetUnready(quiet("")) // a report that comes late
	if unready, ok := m.proxy.unready.of("details-v1/1"); ok {
		t.Errorf("kept: %v", unready)
	}
}
