package http1_test

import (
	"io"
	"strings"
	"testing"
	"time"

	"sluice.dev/sluice/internal/proxy/http1"
	"sluice.dev/sluice/internal/refusal"
)

const chunkedHead = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"

// However an answer is cut into packets, one whose first chunk is none is not begun.
func TestAMalformedFirstChunkIsA502(t *testing.T) {
	for name, tc := range map[string]struct {
		pieces []string // each sent by itself
		reason refusal.Reason
	}{
		"with the head":                  {[]string{chunkedHead + "xyz\r\n"}, refusal.UpstreamProtocol},
		"after the head":                 {[]string{chunkedHead, "xyz\r\n"}, refusal.UpstreamProtocol},
		"after a piece of its size":      {[]string{chunkedHead, "1", "0", "g\r\n"}, refusal.UpstreamProtocol},
		"a size of too many digits":      {[]string{chunkedHead, "0000000000", "0000000003\r\nabc\r\n"}, refusal.UpstreamProtocol},
		"a bare LF after the size":       {[]string{chunkedHead + "3", "\nabc\r\n"}, refusal.UpstreamProtocol},
		"a body that is not in chunks":   {[]string{chunkedHead, "<html>"}, refusal.UpstreamProtocol},
		"a last chunk with bad trailers": {[]string{chunkedHead, "0\r\n", "Content-Length: 3\r\n\r\n"}, refusal.UpstreamProtocol},
		"the end":                        {[]string{chunkedHead}, refusal.UpstreamReset},
		"the end amid a size":            {[]string{chunkedHead, "1"}, refusal.UpstreamReset},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t, func(c *originConn) {
				c.head()
				for i, piece := range tc.pieces {
					if i > 0 {
						eventually(t, "the proxy waits for a chunk", func() bool { return http1.Parked("http1.(*conn).forwardChunks") > 0 })
					}
					c.send("%s", piece)
				}
			}, options{hold: time.Hour})
			c := f.client().send(get)
			c.t = t
			if head := c.head(); status(head) != "502" || !strings.Contains(head, "\r\nx-sluice-reason: "+string(tc.reason)+"\r\n") {
				t.Errorf("answered %q", head)
			}
			if o := f.outcome(); reason(o) != tc.reason || o.Status != 502 {
				t.Errorf("outcome %+v, want %s", o, tc.reason)
			}
			if s := f.pool.Stats(); s.Idle+s.Busy != 0 {
				t.Errorf("the upstream connection was kept: %+v", s)
			}
		})
	}
}

// A server that has nothing to say yet is not kept from its client.
func TestTheHeadOfAnAnswerDoesNotWaitForEvents(t *testing.T) {
	for _, first := range []string{"", "5", "5\r\n"} {
		received := make(chan struct{})
		f := newFixture(t, func(c *originConn) {
			c.head()
			c.send("%s", chunkedHead+first)
			<-received
			c.send("%s", "5\r\nevent\r\n0\r\n\r\n"[len(first):])
			c.rest()
		}, options{})
		c := f.client().send(get).want("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
		close(received)
		c.want("5\r\nevent\r\n")
		c.want("0\r\n\r\n")
		if o := f.outcome(); o.Failure != nil || o.Status != 200 {
			t.Errorf("outcome %+v", o)
		}
		c.send(get)
	}
}

// What fails after that is cut off, and the record says of what.
func TestABadChunkAfterTheHeadWasSentIsCutOff(t *testing.T) {
	received := make(chan struct{})
	f := newFixture(t, func(c *originConn) {
		c.head()
		c.send(chunkedHead)
		<-received
		c.send("xyz\r\n")
		c.rest()
	}, options{})
	c := f.client().send(get)
	c.head()
	close(received)
	if got, _ := io.ReadAll(c.r); len(got) > 0 {
		t.Errorf("got %q", got)
	}
	if o := f.outcome(); reason(o) != refusal.UpstreamProtocol || o.Status != 200 {
		t.Errorf("outcome %+v", o)
	}
}
