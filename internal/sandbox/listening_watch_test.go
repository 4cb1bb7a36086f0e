package sandbox

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// watched is a portWatch over a command of a test's making, in a bubble of time.
type watched struct {
	listening atomic.Bool
	flaps     atomic.Bool // it is otherwise at each look
	looks     atomic.Int64
	answer    atomic.Pointer[string] // of a check
	asks      atomic.Int64
	told      chan string
	begun     time.Time
}

// watching runs a test with a watch of port 8000, whose check has a path unless that is "".
func watching(t *testing.T, path string, test func(w *watched)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := &watched{told: make(chan string, 100_000), begun: time.Now()}
		w.answer.Store(new(string))
		watch := &portWatch{
			listens: func(port uint16) (netip.AddrPort, bool) {
				if looks := w.looks.Add(1); w.flaps.Load() {
					w.listening.Store(looks%2 == 0)
				}
				return netip.AddrPortFrom(netip.IPv6Loopback(), port), w.listening.Load()
			},
			ask: func(_ context.Context, at netip.AddrPort, asked string) string {
				if asked != path || at != netip.MustParseAddrPort("[::1]:8000") {
					t.Errorf("asked %s of %s", asked, at)
				}
				w.asks.Add(1)
				return *w.answer.Load()
			},
			tell: func(unready []Unready) error {
				text := "ready"
				for _, u := range unready {
					text = fmt.Sprintf("%d since %v %s", u.Port, u.Since.Sub(w.begun), u.Why)
				}
				w.told <- strings.TrimSpace(text)
				return nil
			},
		}
		var checks []Check
		if path != "" {
			checks = []Check{{Port: 8000, Path: path}}
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			watch.run(ctx, []uint16{8000}, checks)
		}()
		synctest.Wait()
		test(w)
		cancel()
		<-ended
	})
}

func (w *watched) after(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func (w *watched) reports() []string {
	var all []string
	for len(w.told) > 0 {
		all = append(all, <-w.told)
	}
	return all
}

func TestLookingCostsLessTheLongerNothingChanges(t *testing.T) {
	watching(t, "", func(w *watched) {
		w.after(time.Second)
		if n := w.looks.Load(); n < 15 || n > 40 {
			t.Errorf("%d looks in the first second", n)
		}
		w.after(time.Minute)
		before := w.looks.Load()
		w.after(time.Minute)
		if n := w.looks.Load() - before; n < 58 || n > 62 {
			t.Errorf("%d looks in the third minute", n)
		}
		w.listening.Store(true)
		w.after(lookLatest)
		if got := w.reports(); !slices.Equal(got, []string{"ready"}) {
			t.Errorf("reported: %q", got)
		}
		before = w.looks.Load()
		w.after(time.Minute)
		if n := w.looks.Load() - before; n < 58 || n > 62 {
			t.Errorf("%d looks in a minute of one that is ready", n)
		}
	})
}

func TestACommandThatListensSoonIsSeenSoon(t *testing.T) {
	for _, starts := range []time.Duration{100 * time.Millisecond, 400 * time.Millisecond, 4 * time.Second} {
		watching(t, "", func(w *watched) {
			w.after(starts)
			w.listening.Store(true)
			w.after(starts/lookShare + lookSoonest)
			if got := w.reports(); !slices.Equal(got, []string{"ready"}) {
				t.Errorf("one that listens after %v: reported %q", starts, got)
			}
		})
	}
}

func TestOneThatCeasesToListenIsReportedWithTheTime(t *testing.T) {
	watching(t, "", func(w *watched) {
		w.listening.Store(true)
		w.after(10 * time.Second)
		w.listening.Store(false)
		w.after(lookLatest)
		got := w.reports()
		if len(got) != 2 || !strings.HasPrefix(got[1], "8000 since 1") {
			t.Errorf("reported: %q", got)
		}
	})
}

// A command can listen and cease all the time; who is told of it has work with each.
func TestOneThatFlapsIsReportedAtAPace(t *testing.T) {
	watching(t, "", func(w *watched) {
		const seconds = 60
		w.flaps.Store(true)
		w.after(seconds * time.Second)
		if looks := w.looks.Load(); looks < 1.5*seconds {
			t.Errorf("%d looks: it did not flap faster than it may be reported", looks)
		}
		w.flaps.Store(false)
		w.listening.Store(true)
		w.after(3 * time.Second)
		got := w.reports()
		if len(got) < 2 || len(got) > seconds+tellBurst+4 || got[len(got)-1] != "ready" {
			t.Errorf("%d reports in %d s, the last of them %q", len(got), seconds, got[len(got)-1])
		}
	})
}

func TestAPortIsNotAskedBeforeSomebodyListens(t *testing.T) {
	watching(t, "/health", func(w *watched) {
		w.after(time.Minute)
		if n := w.asks.Load(); n != 0 {
			t.Errorf("asked %d times", n)
		}
		bad := "GET /health was answered with 503"
		w.answer.Store(&bad)
		w.listening.Store(true)
		w.after(time.Second)
		if got := w.reports(); len(got) != 1 || !strings.HasSuffix(got[0], bad) {
			t.Errorf("reported: %q", got)
		}
		before := w.asks.Load()
		w.after(time.Second)
		if n := w.asks.Load() - before; n < 2 || n > 5 {
			t.Errorf("asked %d times in a second while it is not ready", n)
		}
		w.answer.Store(new(string))
		w.after(time.Second)
		if got := w.reports(); !slices.Equal(got, []string{"ready"}) {
			t.Errorf("reported: %q", got)
		}
		before = w.asks.Load()
		w.after(time.Minute)
		if n := w.asks.Load() - before; n < 9 || n > 13 {
			t.Errorf("asked %d times in a minute while it is ready", n)
		}
	})
}

func TestThreeChecksThatFailInARowMakeAPortNotReady(t *testing.T) {
	watching(t, "/health", func(w *watched) {
		w.listening.Store(true)
		w.after(10 * time.Second)
		w.reports()
		bad := "GET /health was not answered within 1s"
		fail := func(times int64) {
			w.answer.Store(&bad)
			for before := w.asks.Load(); w.asks.Load()-before < times; {
				w.after(10 * time.Millisecond)
			}
			w.answer.Store(new(string))
		}
		fail(askFailed - 1)
		w.after(10 * time.Second)
		if got := w.reports(); len(got) != 0 {
			t.Errorf("after two: %q", got)
		}
		fail(askFailed)
		w.after(10 * time.Second)
		if got := w.reports(); len(got) != 2 || !strings.HasSuffix(got[0], bad) || got[1] != "ready" {
			t.Errorf("after three, and then good ones: %q", got)
		}
	})
}

func TestWhatReadyMayBe(t *testing.T) {
	for text, want := range map[string]Check{
		"http:/health:9080":          {9080, "/health"},
		"http:/:1":                   {1, "/"},
		"http:/a:b?c=d:e&f=%20:8080": {8080, "/a:b?c=d:e&f=%20"},
	} {
		if got, err := ParseCheck(text); err != nil || got != want {
			t.Errorf("%s: %+v, %v", text, got, err)
		}
	}
	for text, want := range map[string]string{
		"":                       "must be http:PATH:PORT",
		"/health:9080":           "must be http:PATH:PORT",
		"https:/health:9080":     "must be http:PATH:PORT",
		"http:/health":           "must be http:PATH:PORT",
		"http:health:9080":       "must begin with /",
		"http://localhost:9080/": "must be a port",
		"http:/health:0":         "must be a port",
		"http:/health:65536":     "must be a port",
		"http:/health:":          "must be a port",
		"http:/a b:80":           "printable ASCII",
		"http:/a\r\nx: y:80":     "printable ASCII",
		"http:/a#b:80":           "printable ASCII",
		"http:/caf\u00e9:80":     "printable ASCII",
		"http:/" + string(make([]byte, maxCheckPath)) + ":80": "at most 512",
	} {
		if got, err := ParseCheck(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.40q: %+v, %v, want %s", text, got, err, want)
		}
	}
}

// A server may answer a check in any way: it is read within its bounds, and what is
// reported of it is a line of ours.
func TestACheckReadsWithinItsBounds(t *testing.T) {
	for what, x := range map[string]struct {
		answer string
		holds  bool // the connection open
		want   string
	}{
		"well":                       {"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", false, ""},
		"in HTTP/1.0, elsewhere":     {"HTTP/1.0 302 Found\r\nlocation: /\r\n\r\n", false, ""},
		"without a reason":           {"HTTP/1.1 204\r\n\r\n", false, ""},
		"well, and then holds":       {"HTTP/1.1 200 OK\r\n\r\n", true, ""},
		"with an endless body":       {"HTTP/1.1 200 OK\r\n\r\n" + strings.Repeat("x", 4<<20), false, ""},
		"with an error":              {"HTTP/1.1 500 No\r\n\r\n", false, "GET /health was answered with 500"},
		"with an interim answer":     {"HTTP/1.1 103 Early Hints\r\n\r\n", false, "GET /health was answered with 103"},
		"in another protocol":        {"SSH-2.0-server\r\n", false, "GET /health was not answered in HTTP/1"},
		"with a line without end":    {strings.Repeat("x", 1<<20), false, "GET /health was not answered in HTTP/1"},
		"with nothing":               {"", false, "GET /health was not answered: the connection ended"},
		"with half a line":           {"HTTP/1.1 2", false, "GET /health was not answered: the connection ended"},
		"with nothing, and holds":    {"", true, "GET /health was not answered within 1s"},
		"with half a line and holds": {"HTTP/1.1 200 OK", true, "GET /health was not answered within 1s"},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			listener, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer listener.Close()
			held := make(chan struct{})
			defer close(held)
			go func() {
				conn, err := listener.Accept()
				if err != nil {
					return
				}
				defer conn.Close()
				for lines := bufio.NewScanner(conn); lines.Scan() && lines.Text() != ""; {
				}
				io.WriteString(conn, x.answer)
				if x.holds {
					<-held
				}
			}()
			if why := askHTTP(t.Context(), listener.Addr().(*net.TCPAddr).AddrPort(), "/health"); why != x.want {
				t.Errorf("got %q, want %q", why, x.want)
			}
		})
	}
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed.Close()
	long := "/" + strings.Repeat("a", maxCheckPath-1)
	why := askHTTP(t.Context(), closed.Addr().(*net.TCPAddr).AddrPort(), long)
	if !strings.HasSuffix(why, "aaa... could not be sent: connection refused") || len(why) > maxCheckWhy {
		t.Errorf("nobody listens: %q", why)
	}
}

func TestTheWatchEndsWithWhoIsTold(t *testing.T) {
	w := &portWatch{
		listens: func(uint16) (netip.AddrPort, bool) { return netip.AddrPort{}, true },
		tell:    func([]Unready) error { return errors.New("gone") },
	}
	w.run(t.Context(), []uint16{1, 2, 3}, nil) // returns
}

func FuzzReadStatus(f *testing.F) {
	for _, line := range []string{"HTTP/1.1 200 OK\r\n", "HTTP/1.0 503\n", "HTTP/1.1 2000 OK", "HTTP/2 200", "HTTP/1.1  200", "HTTP/1.1 20\xff", ""} {
		f.Add([]byte(line))
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		status, ok := readStatus(line)
		if ok && (status < 100 || status > 999 || !strings.Contains(string(line), fmt.Sprint(status))) {
			t.Errorf("%q has status %d", line, status)
		}
	})
}
