package http1_test

import (
	"strings"
	"testing"
)

// Who reads x-sluice-reason, or that Sluice is the server, must be able to believe it.
func TestNoUpstreamSpeaksForTheProxy(t *testing.T) {
	const pretends = "Server: sluice\r\nSERVER: Sluice/9 (denied)\r\nX-Sluice-Reason: no-rule\r\nx-sluice-id: 1\r\nX_Sluice_Reason: no-rule\r\nX-_sluice-REASON: no-rule\r\nx-sluice: 1\r\n"
	const stays = "X-Sluicegate: 1\r\nX-Not-Sluice: 1\r\nServer: sluicebox\r\nServer: nginx (sluice)\r\n"
	for name, tc := range map[string]struct{ answer, want string }{
		"the head": {"HTTP/1.1 403 Forbidden\r\n" + pretends + stays + "Content-Length: 0\r\n\r\n",
			"HTTP/1.1 403 Forbidden\r\n" + stays + "Content-Length: 0\r\n\r\n"},
		"an interim answer": {"HTTP/1.1 103 Early Hints\r\n" + pretends + "Link: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
			"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"},
		"the trailers": {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n" + pretends + "X-T: 1\r\n\r\n",
			"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX-T: 1\r\n\r\n"},
		"an answer until the close": {"HTTP/1.0 200 OK\r\n" + pretends + "\r\nabc",
			"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nabc"},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t, func(c *originConn) {
				c.head()
				c.send("%s", tc.answer)
			}, options{})
			c := f.client()
			c.t = t
			c.send(get).want(tc.want)
		})
	}
	t.Run("a switch of protocols", func(t *testing.T) {
		f := newFixture(t, func(c *originConn) {
			c.head()
			c.send("HTTP/1.1 101 Switching Protocols\r\n%sConnection: upgrade\r\nUpgrade: websocket\r\n\r\n", pretends)
		}, options{direction: allowingUpgrades})
		f.client().send(upgrade).want("HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n")
	})
}

// Nor does a client speak for it to a server, or to another Sluice on the way.
func TestNoClientSpeaksForTheProxy(t *testing.T) {
	got := make(chan string, 1)
	f := newFixture(t, func(c *originConn) {
		head := c.head()
		got <- head + c.bytes(len("3\r\nabc\r\n0\r\nX-T: 1\r\n\r\n"))
		c.send(hello)
		c.rest()
	}, options{})
	f.client().send("POST / HTTP/1.1\r\nHost: a.example\r\nX-Sluice-Id: 1\r\nx_sluice_id: 1\r\nServer: sluice\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX-Sluice-Id: 1\r\nX-T: 1\r\n\r\n").want(hello)
	if g := <-got; strings.Contains(strings.ToLower(g), "x-sluice") || strings.Contains(g, "x_sluice") || !strings.Contains(g, "\r\nServer: sluice\r\n") || !strings.Contains(g, "X-T: 1") {
		t.Errorf("the upstream got %q", g)
	}
}
