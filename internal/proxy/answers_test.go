package proxy

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Each failure towards a workload has the status, the code and the words that fit,
// in the form that the client asked for.
func TestEachFailureIsToldInTheFormThatTheClientAskedFor(t *testing.T) {
	n := newFakeNet(t)
	for host, x := range map[string]struct {
		address string
		failure error
	}{
		"refused.example.com": {"93.184.215.1", syscall.ECONNREFUSED},
		"slow.example.com":    {"93.184.215.2", context.DeadlineExceeded},
		"broken.example.com":  {"93.184.215.3", syscall.EHOSTUNREACH},
		"private.example.com": {"10.0.0.1", nil},
	} {
		n.leads(host, x.address, x.failure)
	}
	n.site("silent.example.com", "93.184.215.4", 80, func(c net.Conn) { bufio.NewReader(c).ReadString('\n') })
	n.site("babble.example.com", "93.184.215.5", 80, func(c net.Conn) {
		bufio.NewReader(c).ReadString('\n')
		io.WriteString(c, "220 this is no HTTP\r\n\r\n")
	})
	n.site("plain.example.com", "93.184.215.6", 443, hello)
	n.site("wrong.example.com", "93.184.215.7", 443, n.overTLS(hello, "another.example.com"))
	m := newMesh(t, n)
	m.service("details", hello)
	m.peer("details-v1/1").Close() // its proxy serves it no more, the snapshot has it still
	m.allow(rule(t, "*.example.com:80"), rule(t, "*.example.com"))
	for _, x := range []struct {
		host   string
		port   uint16
		status int
		reason string
	}{
		{"denied.example.org", 80, 403, "no-rule"},
		{"private.example.com", 80, 403, "private-address"},
		{"absent.example.com", 80, 502, "no-address"},
		{"refused.example.com", 80, 502, "connect-refused"},
		{"broken.example.com", 80, 502, "connect-failed"},
		{"slow.example.com", 80, 504, "connect-timeout"},
		{"silent.example.com", 80, 502, "upstream-reset"},
		{"babble.example.com", 80, 502, "upstream-protocol"},
		{"plain.example.com", 443, 502, "upstream-tls"},
		{"wrong.example.com", 443, 502, "upstream-certificate"},
		{"details.default.svc.cluster.local", 9080, 503, "no-healthy-upstream"},
		{"details.default.svc.cluster.local", 9081, 503, "no-such-port"},
	} {
		for _, form := range []string{"text", "json", "HEAD", "1.0"} {
			t.Run(fmt.Sprintf("%s:%d %s", x.host, x.port, form), func(t *testing.T) {
				method, version, accept := "GET", "1.1", "text/html, */*"
				switch form {
				case "json":
					accept = "application/json"
				case "HEAD":
					method = "HEAD"
				case "1.0":
					version = "1.0"
				}
				c := m.dial(x.host, x.port)
				c.SetDeadline(time.Now().Add(patience))
				fmt.Fprintf(c, "%s / HTTP/%s\r\nHost: %s\r\nAccept: %s\r\nConnection: close\r\n\r\n", method, version, x.host, accept)
				all, err := io.ReadAll(c)
				head, body, ok := strings.Cut(string(all), "\r\n\r\n")
				lower := strings.ToLower(head)
				if err != nil || !ok || !strings.HasPrefix(head, fmt.Sprintf("HTTP/1.1 %d ", x.status)) {
					t.Fatalf("%v: %s", err, all)
				}
				for _, want := range []string{"server: sluice", "x-sluice-reason: " + x.reason, "x-sluice-id: ", "connection: close"} {
					if !strings.Contains(lower, "\r\n"+want) {
						t.Errorf("no %q in %s", want, head)
					}
				}
				var told struct{ Reason string }
				switch form {
				case "HEAD":
					if body != "" {
						t.Errorf("a body: %q", body)
					}
				case "json":
					if err := json.Unmarshal([]byte(body), &told); err != nil || told.Reason != x.reason {
						t.Errorf("%v: %s", err, body)
					}
				default:
					if !strings.Contains(body, "reason: "+x.reason) {
						t.Errorf("the body is %q", body)
					}
				}
			})
		}
	}
}

// With TellAll off, a failure says its code and nothing of addresses and rules.
func TestAWorkloadIsToldNoMoreThanTheProxyMayTell(t *testing.T) {
	n := newFakeNet(t)
	n.leads("private.example.com", "10.0.0.1", nil)
	n.changes = append(n.changes, func(c *Config) { c.TellAll = false })
	m := newMesh(t, n, rule(t, "*.example.com:80"))
	for _, host := range []string{"private.example.com", "denied.example.org"} {
		c := m.dial(host, 80)
		resp := exchange(t, c, bufio.NewReader(c), "GET / HTTP/1.1\r\nHost: "+host+"\r\n\r\n")
		body, _ := io.ReadAll(resp.Body)
		if resp.StatusCode != 403 || strings.Contains(string(body), "10.0.0.1") || strings.Contains(string(body), "--allow") || strings.Contains(string(body), "apiVersion") {
			t.Errorf("%s: %d %s", host, resp.StatusCode, body)
		}
	}
}
