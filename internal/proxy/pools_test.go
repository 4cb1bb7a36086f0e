package proxy

import (
	"bufio"
	"net"
	"sync/atomic"
	"testing"

	"sluice.dev/sluice/internal/policy"
)

// counted serves and counts the connections that it got.
func counted(n *atomic.Int32, serve func(net.Conn)) func(net.Conn) {
	return func(c net.Conn) {
		n.Add(1)
		serve(c)
	}
}

func TestAPoolOutlivesTheRequestThatMadeIt(t *testing.T) {
	n := newFakeNet(t)
	var connections atomic.Int32
	n.site("api.example.com", "93.184.215.16", 80, counted(&connections, hello))
	books := rule(t, "api.example.com:80")
	books.HTTP = []policy.HTTPMatch{{Paths: []string{"/books/*"}}}
	m := newMesh(t, n, books)
	c := m.dial("api.example.com", 80)
	r := bufio.NewReader(c)
	ask := func(path string, want int) {
		t.Helper()
		if resp := exchange(t, c, r, "GET "+path+" HTTP/1.1\r\nHost: api.example.com\r\n\r\n"); resp.StatusCode != want {
			t.Fatalf("%s: status %d, want %d", path, resp.StatusCode, want)
		}
	}
	ask("/books/1", 200)
	ask("/money/1", 403) // its bytes stand where the first request's stood
	m.allow(books, rule(t, "other.example.com"))
	ask("/books/1", 200)
	if got := connections.Load(); got != 1 {
		t.Errorf("the upstream got %d connections: a rule of somebody else ended one", got)
	}
}

func TestAnUpstreamIsVerifiedAnewWhenTheTrustedRootsChange(t *testing.T) {
	n, stranger := newFakeNet(t), newFakeNet(t)
	var connections atomic.Int32
	n.site("www.example.com", "93.184.215.15", 443, n.overTLS(counted(&connections, hello), "www.example.com"))
	www := rule(t, "www.example.com")
	m := newMesh(t, n, www)
	c := m.dial("www.example.com", 443)
	r := bufio.NewReader(c)
	const request = "GET / HTTP/1.1\r\nHost: www.example.com\r\n\r\n"
	for range 2 {
		if resp := exchange(t, c, r, request); resp.StatusCode != 200 {
			t.Fatalf("status %d", resp.StatusCode)
		}
	}
	m.net = stranger // whose CA the mesh trusts from now on, and no other
	m.allow(www)
	if resp := exchange(t, c, r, request); resp.StatusCode != 502 || resp.Header.Get("x-sluice-reason") != "upstream-certificate" {
		t.Errorf("status %d, reason %q: an open connection was used on", resp.StatusCode, resp.Header.Get("x-sluice-reason"))
	}
	if got := connections.Load(); got != 2 {
		t.Errorf("the upstream got %d connections, want the one that was open and the one that was refused", got)
	}
}
