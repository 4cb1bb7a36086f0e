package http1

import (
	"bufio"
	"bytes"
	"io"
	"net/http"
	"slices"
	"testing"

	"sluice.dev/sluice/internal/proxy/exchange"
)

// What stands in one stream must be the same messages for us and for net/http:
// each with the same head and body, and the next one beginning at the same byte.

// reader is net/http reading a stream, which knows how far it came.
type reader struct {
	stream *bytes.Reader
	source *bufio.Reader
	size   int
}

func newReader(stream []byte) *reader {
	b := bytes.NewReader(stream)
	// Large enough for every trailer section that we take.
	return &reader{stream: b, source: bufio.NewReaderSize(b, 64<<10), size: len(stream)}
}

func (r *reader) at() int { return r.size - r.stream.Len() - r.source.Buffered() }

func FuzzRequestsOfAStream(f *testing.F) {
	for _, s := range requestSeeds {
		f.Add([]byte(s))
		f.Add([]byte(s + s))
		f.Add([]byte("POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nabcde" + s))
		f.Add([]byte("POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0005;x=\"y\"\r\nabcde\r\n0;z\r\nX: y\r\n\r\n" + s))
	}
	f.Add([]byte("POST / HTTP/1.1\r\nHost: a\r\nTrailer: Content-Length\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"))
	f.Add([]byte("POST / HTTP/1.1\r\nHost: a\r\nConnection: x-a, close\r\nContent-Length: 0\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > inSize {
			return
		}
		d := fuzzConn()
		defer d.release()
		d.w = copy(d.scratch.in, b)
		other := newReader(b)
		for d.w > d.r {
			ready, bad := d.ready()
			if bad != fine || !ready || !d.request.complete {
				return
			}
			d.describe(d.head)
			if _, bad := d.buildRequest(&exchange.Direction{SetHost: "a"}); bad != fine {
				return // its trailers are refused
			}
			r, err := http.ReadRequest(other.source)
			if err != nil {
				t.Fatalf("accepted, but net/http says: %v\n%q", err, b)
			}
			if r.Method != d.x.Method {
				t.Errorf("net/http reads the method %q, we %q", r.Method, d.x.Method)
			}
			if target := d.scratch.req.target; r.RequestURI != d.x.Target && !bytes.HasSuffix([]byte(r.RequestURI), d.scratch.req.bytes(target)) {
				t.Errorf("net/http reads the target %q, we %q", r.RequestURI, d.x.Target)
			}
			if !sameAuthority(d.head, r.Host, d.x.Host) {
				t.Errorf("net/http reads the host %q, we %q", r.Host, d.x.Host)
			}
			body := slices.Clone(d.scratch.in[d.r+d.request.head:][:d.request.body])
			theirs, err := io.ReadAll(r.Body)
			if err != nil || !bytes.Equal(theirs, body) {
				t.Fatalf("net/http reads the body %q, %v; we %q", theirs, err, body)
			}
			d.requestServed()
			if other.at() != d.r {
				t.Fatalf("for net/http the next request begins at byte %d, for us at %d of %q", other.at(), d.r, b)
			}
		}
	})
}

func FuzzAnswersOfAStream(f *testing.F) {
	for _, s := range responseSeeds {
		f.Add([]byte(s), true)
		f.Add([]byte(s+s), false)
	}
	f.Fuzz(func(t *testing.T, b []byte, toHead bool) {
		d := fuzzConn()
		defer d.release()
		request := "GET / HTTP/1.1\r\nHost: a\r\n\r\n"
		if toHead {
			request = "HEAD / HTTP/1.1\r\nHost: a\r\n\r\n"
		}
		if size, bad := d.scratch.req.parseRequest([]byte(request), 32<<10); size == 0 || bad != fine {
			t.Fatal(causeTable[bad].text)
		}
		d.head = &d.scratch.req
		d.describe(d.head)
		other := newReader(b)
		for at := 0; at < len(b); {
			size, bad := d.scratch.res.parseResponse(b[at:], 32<<10)
			if bad != fine || size == 0 {
				return
			}
			body, end, whole := d.bodyIn(b, at+size)
			if !whole {
				return // it is cut off for the client
			}
			r, err := http.ReadResponse(other.source, &http.Request{Method: d.x.Method})
			if err != nil {
				t.Fatalf("accepted, but net/http says: %v\n%q", err, b)
			}
			theirs, err := io.ReadAll(r.Body)
			if err != nil || !bytes.Equal(theirs, body) {
				t.Fatalf("net/http reads the body %q, %v; we %q", theirs, err, body)
			}
			if at = end; other.at() != at {
				t.Fatalf("for net/http the next answer begins at byte %d, for us at %d of %q", other.at(), at, b)
			}
		}
	})
}

// bodyIn is the body of the answer in scratch.res, as the engine delimits it,
// and where it ends. whole is false where it breaks off or is malformed.
func (d *conn) bodyIn(b []byte, from int) (body []byte, end int, whole bool) {
	h, rest := &d.scratch.res, slices.Clone(b[from:])
	kind := d.bodyKind()
	if h.status < 200 {
		kind = noBody
	}
	switch kind {
	case lengthBody:
		if h.length > int64(len(rest)) {
			return nil, 0, false
		}
		return rest[:h.length], from + int(h.length), true
	case chunkedBody:
		var chunks chunkDecoder
		data, used, bad := chunks.decode(rest)
		if bad != fine || !chunks.done() {
			return nil, 0, false
		}
		_, bad = chunks.appendEnd(nil)
		return rest[:data], from + used, bad == fine
	case closeBody:
		return rest, len(b), true
	}
	return nil, from, true
}

func fuzzConn() *conn {
	return &conn{server: NewServer(Config{}), scratch: scratches.Get().(*scratch)}
}
