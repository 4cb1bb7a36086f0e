package http2_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	xhttp2 "golang.org/x/net/http2"

	"sluice.dev/sluice/internal/proxy/exchange"
	"sluice.dev/sluice/internal/proxy/http1"
	"sluice.dev/sluice/internal/proxy/http2"
	"sluice.dev/sluice/internal/proxy/upstream"
	"sluice.dev/sluice/internal/refusal"
)

// call sends a call of gRPC with its message, and reads what the answer's heads say: fields of
// the head and of the trailers, and how many bytes of DATA came between.
func (p *peer) call(id uint32, more ...string) (said string) {
	p.t.Helper()
	p.begin(id, false, append([]string{":method", "POST", ":scheme", "http", ":authority", "a.example", ":path", "/t.T/Do", "content-type", "application/grpc", "te", "trailers"}, more...)...)
	p.framer.WriteData(id, true, []byte("\x00\x00\x00\x00\x03abc"))
	p.until("the end of the call", func(fr xhttp2.Frame) bool {
		switch fr := fr.(type) {
		case *xhttp2.MetaHeadersFrame:
			for _, field := range fr.Fields {
				said += field.Name + "=" + field.Value + " "
			}
			return fr.StreamEnded()
		case *xhttp2.DataFrame:
			said += fmt.Sprintf("%d bytes ", len(fr.Data()))
			return fr.StreamEnded()
		case *xhttp2.RSTStreamFrame:
			said += fr.ErrCode.String()
			return true
		}
		return false
	})
	return said
}

// A call ends when its client said that it would, with the status of gRPC for that; the server
// is told how long it has, and that the call is over.
func TestACallEndsAtItsDeadline(t *testing.T) {
	told := make(chan string, 100)
	f := newFixture(t, upstream.HTTP2, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		<-r.Context().Done()
		told <- r.Header.Get("grpc-timeout")
	}), http2.Limits{})
	p := f.peer(t)
	for id := uint32(1); ; id += 2 {
		if said := p.call(id, "grpc-timeout", "100m"); !strings.Contains(said, ":status=200 ") || !strings.Contains(said, "grpc-status=4 ") {
			t.Fatalf("it is answered %s", said)
		}
		if o := <-f.done; o.Failure == nil || o.Failure.Reason != refusal.UpstreamTimeout {
			t.Errorf("recorded %+v", o)
		}
		select {
		case got := <-told:
			if got != "100m" {
				t.Errorf("the server is told %q", got)
			}
			return
		case <-time.After(time.Second): // it was over before the server heard of it: once more
			if id > 100 {
				t.Fatal("the server is not told that it is over")
			}
		}
	}
}

// unreached is an Upstream to which nobody gets a connection before its time is over.
type unreached struct{}

func (unreached) Take() exchange.Stream { return nil }
func (unreached) Dial(ctx context.Context) (exchange.Stream, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

// A call whose message is not there yet ends in time while it waits for a connection too, however
// long its rule lets an answer take.
func TestACallThatIsNotWholeEndsAtItsDeadlineBeforeItIsConnected(t *testing.T) {
	f := newFixtureWithin(t, upstream.HTTP2, nil, http2.Limits{}, http1.Limits{AnswerTimeout: 2 * patience, UpgradeTimeout: 80 * time.Millisecond}) // so that deadlines are looked at often
	for _, x := range []struct {
		what      string
		direction exchange.Direction
		timeout   string
	}{
		{"by its client's word", exchange.Direction{Upstream: unreached{}}, "50m"},
		{"by its rule", exchange.Direction{Upstream: unreached{}, Timeout: 50 * time.Millisecond, HeadTimeout: 3 * patience}, "1H"},
	} {
		f.directs(func(*exchange.Request) exchange.Direction { return x.direction })
		p := f.peer(t)
		p.begin(1, false, ":method", "POST", ":scheme", "http", ":authority", "a.example", ":path", "/t.T/Do", "content-type", "application/grpc", "te", "trailers", "grpc-timeout", x.timeout)
		var said string
		p.until("the end of the call", func(fr xhttp2.Frame) bool {
			head, ok := fr.(*xhttp2.MetaHeadersFrame)
			if ok {
				said = fmt.Sprint(head.RegularFields())
			}
			return ok
		})
		if !strings.Contains(said, `"grpc-status" = "4"`) {
			t.Errorf("%s: it is answered %s", x.what, said)
		}
		if o := <-f.done; o.Failure == nil || o.Failure.Reason != refusal.UpstreamTimeout {
			t.Errorf("%s: recorded %+v", x.what, o)
		}
	}
}

// again is a Retrier that says yes so many times, to what may be sent again as follow says.
type again struct{ left int }

func (a *again) AttemptTimeout() time.Duration { return 0 }
func (a *again) Again(at exchange.Attempt) (time.Duration, bool) {
	a.left--
	return 0, a.left >= 0 && (at.Unavailable || at.Status >= 500)
}

// A call whose answer is UNAVAILABLE and nothing more is sent again where its rule says so, with
// its message; not one whose answer has begun, one that is too long to be held, or of any other
// status.
func TestACallThatIsUnavailableIsSentAgain(t *testing.T) {
	answers := make(chan func(w http.ResponseWriter), 10) // that are to come
	got := make(chan string, 10)
	f := newFixtureWithin(t, upstream.HTTP2, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		got <- string(b)
		w.Header().Set("content-type", "application/grpc")
		(<-answers)(w)
	}), http2.Limits{}, http1.Limits{GatherTimeout: patience})
	f.directs(func(*exchange.Request) exchange.Direction {
		return exchange.Direction{Upstream: f.pool, Retry: &again{left: 1}}
	})
	status := func(code string) func(http.ResponseWriter) {
		return func(w http.ResponseWriter) { w.Header().Set("grpc-status", code) }
	}
	begun := func(code string) func(http.ResponseWriter) {
		return func(w http.ResponseWriter) {
			w.Header().Set("trailer", "grpc-status")
			io.WriteString(w, "data")
			w.(http.Flusher).Flush()
			w.Header().Set("grpc-status", code)
		}
	}
	p := f.peer(t)
	for i, x := range []struct {
		what    string
		answers []func(http.ResponseWriter)
		want    string
	}{
		{"at first", []func(http.ResponseWriter){status("14"), begun("0")}, "4 bytes grpc-status=0 "},
		{"each time", []func(http.ResponseWriter){status("14"), status("14")}, "grpc-status=14 "},
		{"after data", []func(http.ResponseWriter){begun("14")}, "4 bytes grpc-status=14 "},
		{"another status", []func(http.ResponseWriter){status("8")}, "grpc-status=8 "},
	} {
		for _, a := range x.answers {
			answers <- a
		}
		if said := p.call(uint32(2*i + 1)); !strings.Contains(said, x.want) {
			t.Errorf("%s: it is answered %s", x.what, said)
		}
		for range x.answers {
			if said := <-got; said != "\x00\x00\x00\x00\x03abc" {
				t.Errorf("%s: the server gets %q", x.what, said)
			}
		}
		if len(got) > 0 {
			t.Errorf("%s: the server is asked %d times more", x.what, len(got))
		}
	}
}

// A call that may be sent again is held to the bound of a body too, before its server hears of it.
func TestACallThatMayBeSentAgainIsBoundedInItsSize(t *testing.T) {
	got := make(chan string, 1)
	f := newFixtureWithin(t, upstream.HTTP2, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		got <- string(b)
	}), http2.Limits{}, http1.Limits{GatherTimeout: patience, MaxBodyBytes: 7})
	directed := make(chan struct{}, 1)
	f.directs(func(*exchange.Request) exchange.Direction {
		directed <- struct{}{}
		return exchange.Direction{Upstream: f.pool, Retry: &again{left: 1}}
	})
	p := f.peer(t)
	p.begin(1, false, ":method", "POST", ":scheme", "http", ":authority", "a.example", ":path", "/t.T/Do", "content-type", "application/grpc", "te", "trailers")
	<-directed
	p.framer.WriteData(1, true, []byte("\x00\x00\x00\x00\x03abc"))
	if o := <-f.done; o.Failure == nil || o.Failure.Reason != refusal.RequestTooLarge {
		t.Errorf("recorded %+v", o)
	}
	if len(got) > 0 {
		t.Errorf("the server gets %q", <-got)
	}
}
