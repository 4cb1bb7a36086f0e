package proxy

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"sluice.dev/sluice/internal/policy"
	"sluice.dev/sluice/internal/record"
	"sluice.dev/sluice/internal/refusal"
)

// switching grants whatever change of protocol it is asked for, and is silent then.
func switching(c net.Conn) {
	r := bufio.NewReader(c)
	for {
		req, err := http.ReadRequest(r)
		if err != nil {
			return
		}
		if wish := req.Header.Get("Upgrade"); wish != "" {
			fmt.Fprintf(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: %s\r\n\r\n", wish)
			io.Copy(io.Discard, r)
			return
		}
		fmt.Fprint(c, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
	}
}

// What a request asks for beside its method and path is decided about too: the scheme
// of its target, and the protocol that it would change to.
func TestTheSchemeAndTheUpgradeOfARequestAreDecidedAbout(t *testing.T) {
	n := newFakeNet(t)
	n.site("www.example.com", "93.184.216.34", 80, switching)
	n.site("tls.example.com", "93.184.216.35", 443, n.overTLS(switching, "tls.example.com"))
	plain := rule(t, "www.example.com:80")
	paths, listed := plain, plain
	paths.HTTP = []policy.HTTPMatch{{Paths: []string{"/chat"}}}
	listed.HTTP = []policy.HTTPMatch{{Paths: []string{"/chat"}, Upgrades: []string{"websocket"}}}
	originates := rule(t, "tls.example.com")
	for _, x := range []struct {
		rule            policy.Rule
		host            string
		port            uint16
		target, upgrade string
		want            string
	}{
		{plain, "www.example.com", 80, "http://www.example.com/chat", "", "200"},
		{plain, "www.example.com", 80, "https://www.example.com/chat", "", "403 scheme-mismatch"},
		{plain, "www.example.com", 80, "HTTPS://www.example.com/", "", "403 scheme-mismatch"},
		{paths, "www.example.com", 80, "https://www.example.com/chat", "", "403 scheme-mismatch"},
		{paths, "www.example.com", 80, "/chat", "", "200"},
		{paths, "www.example.com", 80, "/chat", "websocket", "403 upgrade-not-allowed"},
		{paths, "www.example.com", 80, "/chat", "h2", "403 upgrade-not-allowed"},
		{paths, "www.example.com", 80, "/chat", "HTTP/2.0", "403 upgrade-not-allowed"},
		{paths, "www.example.com", 80, "/chat", "TLS/1.0", "403 upgrade-not-allowed"},
		{listed, "www.example.com", 80, "/chat", "WebSocket", "101"},
		{listed, "www.example.com", 80, "/chat", "h2", "403 upgrade-not-allowed"},
		{listed, "www.example.com", 80, "/chat", "", "200"},
		{listed, "www.example.com", 80, "/", "websocket", "403 request-not-allowed"},
		{originates, "tls.example.com", 443, "https://tls.example.com/", "", "200"},
		{plain, "www.example.com", 80, "/", "TLS/1.0", "101"}, // a rule without http allows any
		{plain, "www.example.com", 80, "/", "h2c", "200"},     // but the one that is never passed on
		{plain, "www.example.com", 80, "/", "websocket, TLS/1.0", "200"},
	} {
		t.Run(fmt.Sprintf("%v %s %s", x.rule.HTTP, x.target, x.upgrade), func(t *testing.T) {
			m := newMesh(t, n, x.rule)
			request := "GET " + x.target + " HTTP/1.1\r\nHost: " + x.host + "\r\n"
			if x.upgrade != "" {
				request += "Connection: Upgrade\r\nUpgrade: " + x.upgrade + "\r\n"
			}
			c := m.dial(x.host, x.port)
			resp := exchange(t, c, bufio.NewReader(c), request+"\r\n")
			got := strings.TrimSpace(fmt.Sprint(resp.StatusCode, " ", resp.Header.Get("x-sluice-reason")))
			if got != x.want {
				t.Errorf("%s, want %s", got, x.want)
			}
			c.Close()
			m.closed(1)
			status, reason, _ := strings.Cut(x.want, " ")
			if f := m.lastFlow(); string(f.Reason) != reason || f.Verdict == record.Denied != (reason != "") || fmt.Sprint(f.Status) != status {
				t.Errorf("the record says %+v", f)
			}
		})
	}
}

// A denial, a failure and a message that is not taken have one form, which programs
// read alike; the record says the same.
func TestEachRefusalHasTheSameForm(t *testing.T) {
	n := newFakeNet(t)
	n.site("babble.example.com", "93.184.215.5", 80, func(c net.Conn) {
		bufio.NewReader(c).ReadString('\n')
		io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n")
	})
	m := newMesh(t, n, rule(t, "babble.example.com:80"))
	for _, x := range []struct {
		host, fields string
		error        string
		status       int
		reason       refusal.Reason
		message      string
		verdict      record.Verdict
		remedies     bool
	}{
		{"denied.example.org", "", "denied", 403, refusal.NoRule, "", record.Denied, true},
		{"babble.example.com", "", "failed", 502, refusal.UpstreamProtocol, "The upstream's answer is not one unambiguous HTTP/1.1 answer: two Content-Length fields.", record.Failed, false},
		{"babble.example.com", "X : y\r\n", "denied", 400, refusal.RequestMalformed, "The request is not one unambiguous HTTP/1.1 request: a space before the colon in a field name.", record.Denied, false},
	} {
		before := m.ring.Added()
		c := m.dial(x.host, 80)
		resp := exchange(t, c, bufio.NewReader(c), "GET / HTTP/1.1\r\nAccept: application/json\r\nHost: "+x.host+"\r\n"+x.fields+"\r\n")
		m.closed(before + 1)
		f := m.lastFlow()
		if f.Verdict != x.verdict || f.Reason != x.reason || f.Status != x.status || f.Detail+"." != x.message && !x.remedies {
			t.Errorf("the record says %+v", f)
		}
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		if x.reason == refusal.RequestMalformed { // who wrote it wants to read it: Accept could not be read
			if want := x.message + "\nreason: request-malformed\n"; string(body) != want || resp.StatusCode != 400 {
				t.Errorf("told %q, want %q", body, want)
			}
			continue
		}
		var got map[string]any
		if err := json.Unmarshal(body, &got); err != nil {
			t.Fatalf("%s: %v", body, err)
		}
		if got["error"] != x.error || got["status"] != float64(x.status) || got["reason"] != string(x.reason) || got["id"] != f.ID.String() || x.message != "" && got["message"] != x.message {
			t.Errorf("told %s", body)
		}
		for _, key := range []string{"remedy", "allow", "rule"} {
			if _, ok := got[key]; ok != x.remedies {
				t.Errorf("%s: %q is there: %v", x.host, key, ok)
			}
			delete(got, key)
		}
		for key := range got {
			if !strings.Contains("error status reason id message closest", key) {
				t.Errorf("%s: an unknown part %q", x.host, key)
			}
		}
	}
}
