package proxy

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"regexp"
	"strings"
	"testing"

	"sluice.dev/sluice/internal/policy"
	"sluice.dev/sluice/internal/record"
	"sluice.dev/sluice/internal/refusal"
)

// A port that a service does not serve is answered in the caller's own protocol, and the
// record says so. The workload behind the service is never reached.
func TestAPortThatAServiceDoesNotServeIsAnsweredWithTheReason(t *testing.T) {
	n := newFakeNet(t)
	m := newMesh(t, n)
	m.service("details", func(net.Conn) { t.Error("the workload was reached") })
	const details, want = "details.default.svc.cluster.local", "details.default.svc.cluster.local does not serve port 9999; it serves 9080"
	recorded := func(sniffed policy.Sniffed) {
		t.Helper()
		f := m.lastFlow()
		if f.Verdict != record.Failed || f.Reason != refusal.NoSuchPort || f.Port != 9999 || f.Sniffed != sniffed || !strings.Contains(f.Detail, want) {
			t.Errorf("recorded: %+v", f)
		}
	}
	t.Run("HTTP", func(t *testing.T) {
		c := m.dial(details, 9999)
		r := bufio.NewReader(c)
		for range 2 { // the connection goes on
			resp := exchange(t, c, r, "GET / HTTP/1.1\r\nHost: details:9999\r\n\r\n")
			if resp.StatusCode != 503 || resp.Header.Get("x-sluice-reason") != "no-such-port" {
				t.Errorf("%s, reason %q", resp.Status, resp.Header.Get("x-sluice-reason"))
			}
		}
		c.Close()
		m.closed(2)
		recorded(policy.HTTP)
	})
	t.Run("TLS", func(t *testing.T) {
		if err := n.shake(m.dial(details, 9999), "details"); err == nil || !strings.Contains(err.Error(), "internal error") {
			t.Errorf("the handshake says %v, want an alert", err)
		}
		m.closed(3)
		recorded(policy.ClientHello)
	})
	t.Run("neither", func(t *testing.T) {
		c := m.dial(details, 9999)
		io.WriteString(c, "\x00\x01\x02")
		ends(t, c)
		m.closed(4)
		recorded(policy.Opaque)
	})
	t.Run("a client that waits", func(t *testing.T) {
		ends(t, m.dial(details, 9999))
		m.closed(5)
		recorded(policy.Opaque)
	})
}

// tellID answers with the x-request-id that came, as the body.
func tellID(c net.Conn) {
	request, err := http.ReadRequest(bufio.NewReader(c))
	if err != nil {
		return
	}
	(&http.Response{
		ProtoMajor: 1, ProtoMinor: 1, StatusCode: 200, Body: io.NopCloser(strings.NewReader(strings.Join(request.Header["X-Request-Id"], "|"))), ContentLength: -1,
	}).Write(c)
}

// Inside the mesh a request without an id is given one and one that has an id keeps it;
// what comes from outside is always given one; none leaves the mesh.
func TestARequestInsideTheMeshHasAnID(t *testing.T) {
	n := newFakeNet(t)
	n.site("api.example.com", "93.184.215.16", 80, tellID)
	m := newMesh(t, n)
	m.service("details", tellID)
	m.allow(rule(t, "api.example.com:80"))
	ingress := m.ingress("/.*")
	inside := func() net.Conn { return m.dial("details.default.svc.cluster.local", 9080) }
	outside := func() net.Conn { return m.dial("api.example.com", 80) }
	const mine = "x-request-id: mine\r\n"
	uuid := regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`)
	seen := make(map[string]bool)
	for _, x := range []struct {
		what, host string
		dial       func() net.Conn
		fields     string
		want       string // "": a new one
	}{
		{"inside, without", "details", inside, "", ""},
		{"inside, without, once more", "details", inside, "", ""},
		{"inside, with an empty one", "details", inside, "x-request-id:\r\n", ""},
		{"inside, with one", "details", inside, mine, "mine"},
		{"from outside, without", "details", ingress, "", ""},
		{"from outside, with one", "details", ingress, mine, ""},
		{"to outside, without", "api.example.com", outside, "", "none"},
		{"to outside, with one", "api.example.com", outside, mine, "none"},
	} {
		c := x.dial()
		resp := exchange(t, c, bufio.NewReader(c), "GET / HTTP/1.1\r\nHost: "+x.host+"\r\n"+x.fields+"\r\n")
		body, err := io.ReadAll(resp.Body)
		got := string(body)
		c.Close()
		switch {
		case err != nil || resp.StatusCode != 200:
			t.Errorf("%s: %s, %v", x.what, resp.Status, err)
		case x.want == "none":
			if got != "" {
				t.Errorf("%s: it got %q", x.what, got)
			}
		case x.want != "" && got != x.want, x.want == "" && (!uuid.MatchString(got) || seen[got]):
			t.Errorf("%s: %q", x.what, got)
		}
		seen[got] = true
	}
}
