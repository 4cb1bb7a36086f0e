package http1_test

import (
	"context"
	"strings"
	"testing"

	"sluice.dev/sluice/internal/proxy/exchange"
	"sluice.dev/sluice/internal/refusal"
)

const (
	upgrade  = "GET /chat HTTP/1.1\r\nHost: a.example\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: x\r\n\r\n"
	switched = "HTTP/1.1 101 Switching Protocols\r\nSec-WebSocket-Accept: y\r\nconnection: upgrade\r\nupgrade: WebSocket\r\n\r\n"
)

func allowingUpgrades(f *fixture, x *exchange.Request) exchange.Direction {
	return exchange.Direction{Upstream: f.pool, AllowUpgrade: true}
}

// upgrading echoes what comes after a 101, in upper case, and says goodbye.
func upgrading(c *originConn) {
	head := c.head()
	if !strings.HasSuffix(head, "connection: upgrade\r\nupgrade: websocket\r\n\r\n") || strings.Contains(head, "Upgrade") {
		c.send("HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
		return
	}
	c.send("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: WebSocket\r\nSec-WebSocket-Accept: y\r\n\r\n")
	b := make([]byte, 100)
	for {
		n, err := c.r.Read(b)
		if err != nil {
			c.send("bye")
			return
		}
		c.send("%s", strings.ToUpper(string(b[:n])))
	}
}

func TestAnUpgradedConnectionIsARelayWithHalfClose(t *testing.T) {
	f := newFixture(t, upgrading, options{direction: func(f *fixture, x *exchange.Request) exchange.Direction {
		if x.Upgrade != "websocket" {
			t.Errorf("upgrade to %q", x.Upgrade)
		}
		return allowingUpgrades(f, x)
	}})
	c := f.client().send(upgrade).want(switched)
	for range 10 {
		c.send("hello").want("HELLO")
	}
	c.CloseWrite()
	c.want("bye")
	c.wantEnd()
	o := f.outcome()
	if o.Failure != nil || !o.Upgraded || o.Status != 101 || o.Sent != int64(len(upgrade)+50) || o.Received != int64(len(switched)+53) {
		t.Errorf("outcome %+v", o)
	}
}

func TestBytesSentAheadOfTheSwitchAreRelayedAfterIt(t *testing.T) {
	f := newFixture(t, upgrading, options{direction: allowingUpgrades})
	c := f.client().send(upgrade + "early").want(switched).want("EARLY")
	c.CloseWrite()
	c.want("bye")
}

func TestAnUpgradeThatIsNotGrantedIsAnOrdinaryExchange(t *testing.T) {
	f := newFixture(t, answering(hello), options{direction: allowingUpgrades})
	c := f.client()
	for range 2 {
		c.send(upgrade).want(hello)
	}
}

func TestASwitchToAnotherProtocolIsRefused(t *testing.T) {
	f := newFixture(t, answering("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n"), options{direction: allowingUpgrades})
	c := f.client().send(upgrade)
	if head := c.head(); status(head) != "502" {
		t.Errorf("answered %q", head)
	}
}

// What follows a request that took its time is served outside of the event loop: an
// upgrade that was not passed on must not become a relay there either.
func TestAnUpgradeThatIsNotAllowedIsNoRelayBehindAnotherRequest(t *testing.T) {
	f := newFixture(t, func(c *originConn) {
		c.head()
		c.send("%s", hello)
		c.head()
		c.send("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
		c.rest()
	}, options{direction: func(f *fixture, x *exchange.Request) exchange.Direction {
		direction := exchange.Direction{Upstream: f.pool}
		if x.Upgrade != "" {
			return direction
		}
		return exchange.Direction{Later: func(context.Context) exchange.Direction { return direction }}
	}})
	c := f.client().send(get + upgrade).want(hello)
	if head := c.head(); status(head) != "502" {
		t.Errorf("answered %q", head)
	}
}

func TestAnUpgradeMayHaveABodyThatIsThereWhole(t *testing.T) {
	const request = "POST /attach HTTP/1.1\r\nHost: a.example\r\nConnection: Upgrade\r\nUpgrade: tcp\r\nContent-Length: 3\r\n\r\nabc"
	f := newFixture(t, func(c *originConn) {
		c.head()
		c.want("abc")
		c.send("HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp\r\nContent-Length: 0\r\n\r\n")
		c.want("early").want("later")
		c.send("bye")
	}, options{direction: allowingUpgrades})
	c := f.client().send(request + "early").want("HTTP/1.1 101 UPGRADED\r\nconnection: upgrade\r\nupgrade: tcp\r\n\r\n")
	c.send("later").want("bye")
	c.wantEnd()
}

func TestASwitchThatNobodyCouldReadIsRefused(t *testing.T) {
	const switches = "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n"
	const body = "GET /chat HTTP/1.1\r\nHost: a.example\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nContent-Length: 100000\r\n\r\nabc"
	for name, tc := range map[string]struct{ request, answer string }{
		"in the middle of the request's body": {body, switches + "\r\n"},
		"with a body of its own":              {upgrade, switches + "Content-Length: 3\r\n\r\nabc"},
		"in chunks":                           {upgrade, switches + "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"},
		"without a Connection field":          {upgrade, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n"},
		"to two protocols":                    {upgrade, switches + "Upgrade: x\r\n\r\n"},
		"to a list":                           {upgrade, "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket, x\r\n\r\n"},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t, func(c *originConn) { c.head(); c.send("%s", tc.answer); c.rest() }, options{direction: allowingUpgrades})
			c := f.client().send("%s", tc.request)
			if head := c.head(); status(head) != "502" {
				t.Errorf("answered %q", head)
			}
			if o := f.outcome(); reason(o) != refusal.UpstreamProtocol {
				t.Errorf("outcome %+v", o)
			}
		})
	}
}
