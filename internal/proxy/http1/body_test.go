package http1_test

import (
	"fmt"
	"golang.org/x/sys/unix"
	"io"
	"net"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"sluice.dev/sluice/internal/proxy/http1"
	"sluice.dev/sluice/internal/proxy/upstream"
	"sluice.dev/sluice/internal/refusal"
)

// reading is an origin that reads a body of n bytes and then answers.
func reading(n int) func(*originConn) {
	return func(c *originConn) {
		for {
			c.head()
			if m, err := io.CopyN(io.Discard, c.r, int64(n)); err != nil {
				c.t.Fatalf("after %d bytes: %v", m, err)
			}
			c.send(hello)
		}
	}
}

func TestARequestBodyOfAnySizePasses(t *testing.T) {
	for _, size := range []int{1, 16 << 10, 17 << 10, 100 << 10, 5 << 20} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			f := newFixture(t, reading(size), options{})
			c := f.client()
			c.t = t
			head := fmt.Sprintf("POST / HTTP/1.1\r\nHost: a.example\r\nContent-Length: %d\r\n\r\n", size)
			body := strings.Repeat("a", size)
			for range 3 {
				c.send("%s", head+body)
				c.want(hello)
				if o := f.outcome(); o.Sent != int64(len(head)+size) || o.Failure != nil {
					t.Errorf("outcome %+v", o)
				}
			}
			// Head and body in writes of their own, as many clients do.
			c.send("%s", head)
			c.send("%s", body)
			c.want(hello)
			if n := f.origin.count(); n != 1 {
				t.Errorf("%d upstream connections, want one", n)
			}
		})
	}
}

func TestARequestBodyInChunksPassesAsItComes(t *testing.T) {
	f := newFixture(t, func(c *originConn) {
		head := c.head()
		if !strings.Contains(head, "\r\ntransfer-encoding: chunked\r\n") {
			t.Errorf("the upstream got %q", head)
		}
		c.want("3\r\nabc\r\n") // while the client has not sent the rest
		c.send("HTTP/1.1 100 Continue\r\n\r\n")
		c.want("6\r\ndefghi\r\n")
		c.want("0\r\nX-T: 1\r\n\r\n")
		c.send(hello)
		c.head()
		c.send(hello)
		c.rest()
	}, options{})
	c := f.client()
	c.send("POST / HTTP/1.1\r\nHost: a.example\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r")
	c.want("HTTP/1.1 100 Continue\r\n\r\n")
	c.send("\n3\r\ndef\r\n3\r\nghi\r\n0\r")
	// The end, and the beginning of the next request, in one piece.
	c.send("\nX-T: 1\r\n\r\nGET /next HTTP/1.1\r\nHost: a.example\r\n\r\n")
	c.want(hello)
	c.want(hello)
	first, second := f.outcome(), f.outcome()
	if first.Failure != nil || second.Failure != nil || !second.Reused {
		t.Errorf("outcomes %+v, %+v", first, second)
	}
}

// Blanks around a chunk extension are read (RFC 9112, section 7.1.1) and sent to nobody.
func TestBlanksAndExtensionsOfAChunkEndHere(t *testing.T) {
	f := newFixture(t, func(c *originConn) {
		c.head()
		c.want("4\r\nabcd\r\n0\r\n\r\n")
		c.send(hello)
		c.rest()
	}, options{})
	f.client().send("POST / HTTP/1.1\r\nHost: a.example\r\nTransfer-Encoding: chunked\r\n\r\n3 ; a = b\r\nabc\r\n1\t ;\"x;y\"\r\nd\r\n0 ;z\r\n\r\n").want(hello)
}

func TestPipelinedRequestsAreAnsweredInOrder(t *testing.T) {
	f := newFixture(t, func(c *originConn) {
		for {
			head := c.head()
			path := strings.Fields(head)[1]
			if strings.HasPrefix(head, "POST") {
				c.want("abc")
			}
			c.send("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(path), path)
		}
	}, options{})
	c := f.client()
	var requests, answers strings.Builder
	for i := range 2000 {
		path := fmt.Sprintf("/%d", i)
		if i%3 == 0 {
			fmt.Fprintf(&requests, "POST %s HTTP/1.1\r\nHost: a.example\r\nContent-Length: 3\r\n\r\nabc", path)
		} else {
			fmt.Fprintf(&requests, "GET %s HTTP/1.1\r\nHost: a.example\r\n\r\n", path)
		}
		fmt.Fprintf(&answers, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(path), path)
	}
	go func() {
		io.WriteString(c.TCPConn, requests.String())
		c.CloseWrite() // and the answers still come
	}()
	c.want(answers.String())
	c.wantEnd()
}

func TestAHalfClosedClientGetsItsAnswer(t *testing.T) {
	for name, request := range map[string]string{
		"a plain request": get,
		"a long body":     "POST / HTTP/1.1\r\nHost: a.example\r\nContent-Length: 100000\r\n\r\n" + strings.Repeat("a", 100000),
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t, func(c *originConn) {
				for {
					if strings.HasPrefix(c.head(), "POST") {
						c.bytes(100000)
					}
					c.send(hello)
				}
			}, options{})
			for range 20 { // data and FIN often come together
				c := f.client()
				c.t = t
				c.send("%s", request)
				c.CloseWrite()
				c.want(hello)
				c.wantEnd()
			}
		})
	}
}

func TestAnExpectationIsForwardedAndItsAnswerRelayed(t *testing.T) {
	const head = "POST / HTTP/1.1\r\nHost: a.example\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n"
	f := newFixture(t, func(c *originConn) {
		for {
			if h := c.head(); !strings.Contains(h, "\r\nexpect: 100-continue\r\n") {
				t.Errorf("the upstream got %q", h)
			}
			c.send("HTTP/1.1 100 Continue\r\n\r\n")
			c.want("abc")
			c.send(hello)
		}
	}, options{})
	c := f.client()
	for range 2 {
		c.send(head).want("HTTP/1.1 100 Continue\r\n\r\n")
		c.send("abc").want(hello)
	}
}

func TestAnExpectationThatIsNotMetEndsTheConnection(t *testing.T) {
	f := newFixture(t, func(c *originConn) {
		c.head()
		c.send("HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n")
		if rest := c.rest(); rest != "" {
			t.Errorf("the upstream got %q", rest)
		}
	}, options{})
	c := f.client().send("POST / HTTP/1.1\r\nHost: a.example\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n")
	c.want("HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\nconnection: close\r\n\r\n")
	c.wantEnd()
}

func TestAnAnswerMayComeBeforeTheBodyIsAllSent(t *testing.T) {
	const head = "POST / HTTP/1.1\r\nHost: a.example\r\nContent-Length: 10000000\r\n\r\n"
	f := newFixture(t, func(c *originConn) {
		c.head()
		c.send("HTTP/1.1 413 Content Too Large\r\nContent-Length: 3\r\n\r\nabc")
	}, options{})
	c := f.client().send("%s", head+strings.Repeat("a", 1000))
	c.want("HTTP/1.1 413 Content Too Large\r\nContent-Length: 3\r\nconnection: close\r\n\r\nabc")
	// What the client still sends does not reset the answer.
	for range 100 {
		if _, err := c.Write(make([]byte, 10000)); err != nil {
			t.Fatalf("the client cannot send on: %v", err)
		}
	}
	c.CloseWrite()
	c.wantEnd()
	if o := f.outcome(); o.Status != 413 || o.Failure != nil {
		t.Errorf("outcome %+v", o)
	}
}

// A body that fits into the buffer is waited for, but not for ever.
func TestAnAnswerToHalfOfAShortBodyReachesTheClient(t *testing.T) {
	f := newFixture(t, func(c *originConn) {
		if head := c.head(); !strings.Contains(head, "\r\nContent-Length: 100\r\n") {
			t.Errorf("the upstream got %q", head)
		}
		c.want("half")
		c.send("HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n")
		c.rest()
	}, options{})
	c := f.client().send("POST / HTTP/1.1\r\nHost: a.example\r\nContent-Length: 100\r\n\r\nhalf")
	if head := c.head(); status(head) != "401" || !strings.Contains(head, "\r\nconnection: close\r\n") {
		t.Errorf("answered %q", head)
	}
	c.wantEnd()
	if o := f.outcome(); o.Failure != nil || o.Status != 401 {
		t.Errorf("outcome %+v", o)
	}
}

// One that comes late is not cut, nor is what follows it.
func TestTheRestOfAShortBodyMayComeLate(t *testing.T) {
	began := make(chan struct{}, 1)
	f := newFixture(t, func(c *originConn) {
		for {
			c.head()
			c.want("half")
			began <- struct{}{}
			c.want("half")
			c.send(hello)
			c.head()
			c.send(hello)
		}
	}, options{})
	c := f.client()
	for range 2 {
		c.send("POST / HTTP/1.1\r\nHost: a.example\r\nContent-Length: 8\r\n\r\nhalf")
		<-began // the proxy has not waited
		c.send("half").want(hello)
		c.send(get).want(hello)
		for range 2 {
			if o := f.outcome(); o.Failure != nil || o.Status != 200 {
				t.Errorf("outcome %+v", o)
			}
		}
	}
	if n := f.origin.count(); n != 1 {
		t.Errorf("%d upstream connections", n)
	}
}

// One that comes in time leaves with its head in one piece, and the connection waits for
// the next request as long as ever.
func TestTheRestOfAShortBodyIsWaitedFor(t *testing.T) {
	f := newFixture(t, func(c *originConn) {
		for {
			b := make([]byte, 1000)
			n, err := c.TCPConn.Read(b)
			if err != nil {
				return
			}
			if !strings.HasSuffix(string(b[:n]), "halfhalf") && !strings.HasPrefix(string(b[:n]), "GET") {
				t.Errorf("the upstream got %q by itself", b[:n])
			}
			c.send(hello)
		}
	}, options{patience: time.Hour})
	c := f.client()
	for range 3 {
		c.send("POST / HTTP/1.1\r\nHost: a.example\r\nContent-Length: 8\r\n\r\nhalf")
		eventually(t, "the proxy waits for the rest", func() bool { return f.server.InPhase(http1.Reading) })
		c.send("half").want(hello)
		c.send(get).want(hello)
	}
}

func TestBothBodiesMayFlowAtOnce(t *testing.T) {
	f := newFixture(t, func(c *originConn) {
		c.head()
		c.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
		for {
			if size := c.line(); size == "0\r\n" {
				c.want("\r\n")
				c.send("0\r\n\r\n")
				return
			}
			piece := c.bytes(3)
			c.send("3\r\n%s\r\n", piece)
			c.want("\r\n")
		}
	}, options{})
	c := f.client().send("POST / HTTP/1.1\r\nHost: a.example\r\nTransfer-Encoding: chunked\r\n\r\n")
	c.want("HTTP/1.1 200 OK\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n")
	for i := range 50 {
		piece := fmt.Sprintf("%03d", i)
		c.send("3\r\n%s\r\n", piece)
		c.want("3\r\n" + piece + "\r\n")
	}
	c.send("0\r\n\r\n")
	c.want("0\r\n\r\n")
	c.wantEnd()
}

func (c *client) line() string {
	s, err := c.r.ReadString('\n')
	if err != nil {
		c.t.Fatalf("after %q: %v", s, err)
	}
	return s
}

func TestABodyThatGoesWrongOnItsWay(t *testing.T) {
	const length = "POST / HTTP/1.1\r\nHost: a.example\r\nContent-Length: 100000\r\n\r\n"
	const chunks = "POST / HTTP/1.1\r\nHost: a.example\r\nTransfer-Encoding: chunked\r\n\r\n"
	cases := []struct {
		name, first, then string
		status            string
		failure           refusal.Reason
	}{
		{"a bad chunk", chunks + "3\r\nabc\r\n", "x\r\n", "400", refusal.RequestMalformed},
		{"a bad trailer", chunks + "3\r\nabc\r\n", "0\r\nHost: b\r\n\r\n", "400", refusal.RequestMalformed},
		{"too many chunks", chunks + "3\r\nabc\r\n", strings.Repeat("10000\r\n"+strings.Repeat("a", 0x10000)+"\r\n", 20), "413", refusal.RequestTooLarge},
		{"an end before its length", length + "abc", "", "", refusal.ClientGone},
		{"an end before its last chunk", chunks + "3\r\nabc\r\n", "", "", refusal.ClientGone},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			began := make(chan struct{})
			ended := make(chan error, 1)
			f := newFixture(t, func(c *originConn) {
				c.head()
				close(began)
				_, err := io.Copy(io.Discard, c.r)
				ended <- err
			}, options{limits: http1.Limits{MaxBodyBytes: 1 << 20}})
			c := f.client()
			c.t = t
			c.send("%s", tc.first)
			<-began
			if tc.then == "" {
				c.CloseWrite()
			} else {
				go io.WriteString(c.TCPConn, tc.then)
			}
			if tc.status == "" {
				c.wantEnd()
			} else if head := c.head(); status(head) != tc.status {
				t.Errorf("answered %q", head)
			}
			if o := f.outcome(); reason(o) != tc.failure {
				t.Errorf("outcome %+v, want %s", o, tc.failure)
			}
			<-ended
		})
	}
}

// grown is how much more memory is in use than before, after a collection.
func grown(before uint64) int64 {
	return int64(inUse() - before)
}

func inUse() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapInuse + m.StackInuse
}

// floods writes until nobody is there to take it any more.
func (c *client) floods() {
	b := make([]byte, 64<<10)
	for {
		if _, err := c.Write(b); err != nil {
			return
		}
	}
}

func TestASenderIsHeldBackByItsReader(t *testing.T) {
	const count = 8
	sendersAndProxyAreParked := func(call string) func() bool {
		return func() bool {
			return http1.Parked(call) == count && http1.Parked("http1_test.(*client).floods") == count
		}
	}
	t.Run("a client by the upstream", func(t *testing.T) {
		release := make(chan struct{})
		f := newFixture(t, func(c *originConn) {
			c.head()
			<-release
		}, options{})
		before := inUse()
		var clients sync.WaitGroup
		for range count {
			c := f.client().send("POST / HTTP/1.1\r\nHost: a.example\r\nContent-Length: 2000000000\r\n\r\n")
			clients.Go(c.floods)
		}
		eventually(t, "all are held back", sendersAndProxyAreParked("upstream.(*Conn).Write"))
		if g := grown(before); g > 8<<20 {
			t.Errorf("%d stalled bodies hold %d bytes", count, g)
		}
		close(release)
		clients.Wait()
	})
	t.Run("a client that asks on and on without reading", func(t *testing.T) {
		f := newFixture(t, answering("HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n"+strings.Repeat("a", 1000)), options{})
		before := inUse()
		for range count {
			c := f.client()
			go func() {
				for requests := strings.Repeat(get, 100); ; {
					if _, err := io.WriteString(c.TCPConn, requests); err != nil {
						return
					}
				}
			}()
		}
		eventually(t, "all are held back", func() bool {
			return http1.Parked("http1.(*conn).write") == count && http1.Parked("http1_test.TestASenderIsHeldBackByItsReader.func") == 0
		})
		if g := grown(before); g > 8<<20 {
			t.Errorf("%d clients hold %d bytes", count, g)
		}
	})
	t.Run("an upstream by the client", func(t *testing.T) {
		f := newFixture(t, func(c *originConn) {
			c.head()
			c.send("HTTP/1.1 200 OK\r\nContent-Length: 2000000000\r\n\r\n")
			c.floods()
		}, options{})
		before := inUse()
		for range count {
			f.client().send(get)
		}
		eventually(t, "all are held back", sendersAndProxyAreParked("http1.(*conn).write"))
		if g := grown(before); g > 8<<20 {
			t.Errorf("%d stalled answers hold %d bytes", count, g)
		}
	})
}

func TestIdleConnectionsHoldLittle(t *testing.T) {
	if raceDetector {
		t.Skip("the race detector's own memory would be counted")
	}
	const count = 2000
	f := newFixture(t, answering(hello), options{pool: upstream.Config{MaxIdle: 1}})
	address := f.listener.Addr().(*net.TCPAddr).AddrPort()
	f.client().send(get).want(hello)
	before := inUse()
	for range count {
		// Bare sockets, so that all the memory there is is the proxy's side.
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(fd)
		if err := unix.Connect(fd, &unix.SockaddrInet4{Port: int(address.Port()), Addr: address.Addr().As4()}); err != nil {
			t.Fatal(err)
		}
		if _, err := unix.Write(fd, []byte(get)); err != nil {
			t.Fatal(err)
		}
		var b [len(hello)]byte
		if n, err := unix.Read(fd, b[:]); err != nil || string(b[:n]) != hello {
			t.Fatalf("got %q, %v", b[:n], err)
		}
	}
	each := grown(before) / count
	t.Logf("an idle connection holds %d bytes", each)
	if each > 2<<10 {
		t.Errorf("an idle connection holds %d bytes", each)
	}
}
