package http1_test

import (
	"fmt"
	"strings"
	"testing"

	"sluice.dev/sluice/internal/proxy/exchange"
	"sluice.dev/sluice/internal/proxy/upstream"
)

// Whether an upstream connection belongs to one client shows in who gets it next.
func TestWhatBindsAnUpstreamConnectionToItsClient(t *testing.T) {
	const plain = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
	asks := func(fields string) string { return "GET / HTTP/1.1\r\nHost: a.example\r\n" + fields + "\r\n" }
	answers := func(fields string) string {
		return "HTTP/1.1 401 Unauthorized\r\n" + fields + "Content-Length: 0\r\n\r\n"
	}
	for name, tc := range map[string]struct {
		request, answer string
		binds           bool
	}{
		"NTLM":                      {asks("Authorization: NTLM TlRM\r\n"), plain, true},
		"Negotiate":                 {asks("Authorization: Negotiate YII=\r\n"), plain, true},
		"in other cases":            {asks("aUTHORIZATION:\tnTlM \tTlRM\r\n"), plain, true},
		"without a message":         {asks("Authorization:NTLM\r\n"), plain, true},
		"the second of two fields":  {asks("Authorization: Basic YTpi\r\nX-A: 1\r\nAuthorization: negotiate YII=\r\n"), plain, true},
		"the second in one field":   {asks("Authorization: Basic YTpi , NTLM TlRM\r\n"), plain, true},
		"offered":                   {asks(""), answers("WWW-Authenticate: NTLM\r\n"), true},
		"offered in other cases":    {asks(""), answers("www-AUTHENTICATE:negotiate\r\n"), true},
		"offered among others":      {asks(""), answers("WWW-Authenticate: Basic realm=\"a, b\", charset=\"UTF-8\", Negotiate\r\n"), true},
		"offered in a second field": {asks(""), answers("WWW-Authenticate: Basic realm=a\r\nWWW-Authenticate: NTLM\r\n"), true},
		"offered with success":      {asks(""), "HTTP/1.1 200 OK\r\nWWW-Authenticate: Negotiate oRQ=\r\nContent-Length: 0\r\n\r\n", true},
		"offered ahead of time":     {asks(""), "HTTP/1.1 103 Early Hints\r\nWWW-Authenticate: NTLM\r\n\r\n" + plain, true},
		"offered, and hop by hop":   {asks(""), answers("WWW-Authenticate: NTLM\r\nConnection: www-authenticate\r\n"), true},
		"nothing":                   {asks(""), plain, false},
		"Basic":                     {asks("Authorization: Basic YTpi\r\n"), answers("WWW-Authenticate: Basic realm=a\r\n"), false},
		"Bearer with such a token":  {asks("Authorization: Bearer NTLM\r\n"), plain, false},
		"a scheme of another name":  {asks("Authorization: NTLMish x\r\n"), answers("WWW-Authenticate: Negotiate2\r\n"), false},
		"a field of another name":   {asks("X-Authorization: NTLM x\r\n"), plain, false},
		"to a proxy":                {asks("Proxy-Authorization: NTLM x\r\n"), answers("Proxy-Authenticate: NTLM\r\n"), false},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t, answering(tc.answer), options{})
			first := f.client().send("%s", tc.request)
			if status(first.head()) == "103" {
				first.head()
			}
			f.outcome()
			f.client().send(get).head() // another client
			f.outcome()
			want := 1
			if tc.binds {
				want = 2
			}
			if got := f.origin.count(); got != want {
				t.Errorf("%d upstream connections, want %d", got, want)
			}
			first.send(get).head()
			if o := f.outcome(); !o.Reused || f.origin.count() != want {
				t.Errorf("the first client's next request: %+v", o)
			}
		})
	}
}

func TestASignInThatTheDirectorAddsBindsToo(t *testing.T) {
	for _, append := range []bool{false, true} {
		f := newFixture(t, answering(hello), options{direction: func(f *fixture, x *exchange.Request) exchange.Direction {
			dir, added := exchange.Direction{Upstream: f.pool}, []exchange.Field{{Name: "x-a", Value: "NTLM"}, {Name: "authorization", Value: "NTLM TlRM"}}
			if append {
				dir.Append = added
			} else {
				dir.Set = added
			}
			return dir
		}})
		f.client().send(get).want(hello)
		f.client().send(get).want(hello)
		if got := f.origin.count(); got != 2 {
			t.Errorf("%d upstream connections for two clients", got)
		}
	}
}

const ntlm = "GET / HTTP/1.1\r\nHost: a.example\r\nAuthorization: NTLM TlRM\r\n\r\n"

func TestABoundConnectionEndsWithItsClient(t *testing.T) {
	ended := make(chan struct{})
	f := newFixture(t, func(c *originConn) {
		c.head()
		c.send(hello)
		c.wantEnd()
		close(ended)
	}, options{})
	c := f.client().send(ntlm).want(hello)
	if s := f.pool.Stats(); s != (upstream.Stats{Busy: 1}) {
		t.Errorf("while the client is there: %+v", s)
	}
	c.Close()
	<-ended
}

func TestABoundConnectionThatEndedOrSpokeIsReplaced(t *testing.T) {
	for name, says := range map[string]string{"ended": "", "spoke": "HTTP/1.1 408 Request Timeout\r\n\r\n"} {
		t.Run(name, func(t *testing.T) {
			said := make(chan struct{})
			f := newFixture(t, func(c *originConn) {
				c.head()
				c.send(hello)
				if c.number == 1 {
					c.send("%s", says)
					c.CloseWrite()
					close(said)
				}
				c.rest()
			}, options{})
			c := f.client().send(ntlm).want(hello)
			<-said
			f.outcome()
			c.send("%s", strings.Replace(ntlm, "GET", "POST", 1)).want(hello) // a request that is not sent twice
			if o := f.outcome(); o.Reused || o.Failure != nil {
				t.Errorf("%+v", o)
			}
		})
	}
}

// What is withdrawn ends, though its client keeps it for itself.
func TestABoundConnectionEndsWithItsPool(t *testing.T) {
	for _, abort := range []bool{false, true} {
		ended := make(chan struct{})
		f := newFixture(t, func(c *originConn) {
			c.head()
			c.send(hello)
			c.wantEnd()
			close(ended)
		}, options{})
		c := f.client().send(ntlm).want(hello)
		f.outcome()
		f.pool.Close(abort)
		<-ended
		c.send(ntlm)
		if head := c.head(); status(head) != "503" || !strings.Contains(head, "x-sluice-reason: withdrawn\r\n") {
			t.Errorf("answered %q", head)
		}
	}
}

// A client of many upstreams binds a few of their connections; the oldest gives way.
func TestAClientBindsFewConnections(t *testing.T) {
	var all []*upstream.Pool
	o := newOrigin(t, answering(hello))
	defer o.close()
	for range 6 {
		p, err := upstream.NewPool(upstream.Config{Allowance: allowance(16), Dial: dialTo(o.address())})
		if err != nil {
			t.Fatal(err)
		}
		defer p.Close(true)
		all = append(all, p)
	}
	f := newFixture(t, answering(hello), options{direction: func(f *fixture, x *exchange.Request) exchange.Direction {
		var n int
		fmt.Sscanf(x.Path, "/%d", &n)
		if len(x.Bound) != min(n, 4) || n > 0 && x.Bound[len(x.Bound)-1] != exchange.Upstream(all[n-1]) {
			t.Errorf("the director of request %d sees %d bound upstreams", n, len(x.Bound))
		}
		return exchange.Direction{Upstream: all[n]}
	}})
	c := f.client()
	for n := range all {
		c.send("GET /%d HTTP/1.1\r\nHost: a.example\r\nAuthorization: NTLM TlRM\r\n\r\n", n).want(hello)
		f.outcome()
	}
	for n, p := range all {
		if got := p.Stats().Busy; (got == 1) != (n >= 2) {
			t.Errorf("%d connections to upstream %d are bound", got, n)
		}
	}
	c.Close()
	eventually(t, "all of them end with the client", func() bool {
		open := 0
		for _, p := range all {
			open += p.Stats().Busy
		}
		return open == 0
	})
}
