package http1

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net/http"
	"net/http/httputil"
	"net/textproto"
	"net/url"
	"slices"
	"strings"
	"testing"

	"sluice.dev/sluice/internal/httpfield"
	"sluice.dev/sluice/internal/proxy/exchange"
)

// What this engine accepts, net/http must accept and read the same way: then
// there is a second reader that agrees about where a message ends and what it
// says.

var requestSeeds = []string{
	"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n",
	"GET / HTTP/1.0\r\n\r\n",
	"POST /a?b HTTP/1.1\r\nHost: a.example:80\r\nContent-Length: 3\r\n\r\nabc",
	"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3;x\r\nabc\r\n0\r\nX: y\r\n\r\n",
	"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n",
	"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
	"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
	"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +3\r\n\r\nabc",
	"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Length: 03\r\n\r\nabc",
	"GET http://a.example/x HTTP/1.1\r\nHost: a.example\r\n\r\n",
	"GET https://A.example?x HTTP/1.1\r\nHost: a.example\r\n\r\n",
	"GET http://a.example:80/x HTTP/1.1\r\nHost: a.example\r\n\r\n",
	"GET http://a.example HTTP/1.0\r\n\r\n",
	"GET / HTTP/1.1\r\nHost: [::1]:\r\nX_A: 1\r\n\r\n",
	"GET //b.example/x HTTP/1.1\r\nHost: a.example\r\n\r\n",
	"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
	"GET /%2e%zz HTTP/1.1\r\nHost: a\r\n\r\n",
	"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
	"GET / HTTP/1.1\r\nHost: a\r\nX: a\r\n b\r\n\r\n",
	"GET / HTTP/1.1\nHost: a\n\n",
	"GET / HTTP/1.1\r\nHost: a\r\nConnection: close, host\r\n\r\n",
	"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
	"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
	"CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n",
	"GET / HTTP/1.1\r\nHost: [::1%25eth0]:80\r\nExpect: 100-continue\r\n\r\n",
	"\x16\x03\x01\x02\x00\x01\x00\x01",
}

func FuzzRequestHead(f *testing.F) {
	for _, s := range requestSeeds {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		h := new(head)
		size, bad := h.parseRequest(b, 32<<10)
		checkPieces(t, b, size, bad)
		if size == 0 || bad != fine {
			return
		}
		d := new(conn)
		d.describe(h)
		x := &d.x
		r, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(b)))
		if err != nil {
			t.Fatalf("accepted, but net/http says: %v\n%q", err, b)
		}
		if r.Method != x.Method || !sameAuthority(h, r.Host, x.Host) {
			t.Errorf("net/http reads method %q and host %q, we %q and %q", r.Method, r.Host, x.Method, x.Host)
		}
		path, err := url.PathUnescape(x.Path)
		if err != nil {
			t.Fatalf("path %q: %v", x.Path, err)
		}
		if r.URL.Path != path && !(r.URL.Path == "" && (path == "/" || path == "*")) {
			t.Errorf("net/http reads path %q, we %q", r.URL.Path, path)
		}
		if _, query, _ := strings.Cut(x.Target, "?"); query != r.URL.RawQuery {
			t.Errorf("net/http reads query %q, we %q", r.URL.RawQuery, query)
		}
		if scheme := r.URL.Scheme; x.HTTPS != strings.EqualFold(scheme, "https") {
			t.Errorf("net/http reads the scheme %q, we https %v", scheme, x.HTTPS)
		}
		checkFraming(t, h, r.ContentLength, r.TransferEncoding)
		checkFields(t, h, r.Header, r.Trailer)
	})
}

// sameAuthority says whether two are equal but for a port that is empty or the scheme's.
func sameAuthority(h *head, a, b string) bool {
	name, port := splitAuthority([]byte(a))
	other, otherPort := splitAuthority([]byte(b))
	return equalFoldBytes(name, other) && h.portOf(port) == h.portOf(otherPort)
}

// checkPieces holds that a head is refused, or asked to go on, for what is in
// it, and not for how it was cut.
func checkPieces(t *testing.T, b []byte, size int, bad cause) {
	if size > len(b) || size > 32<<10 {
		t.Fatalf("a head of %d bytes in %d", size, len(b))
	}
	if size > 0 && bad == fine {
		h := new(head)
		for _, n := range []int{size - 1, size / 2} {
			if got, f := h.parseRequest(b[:n], 32<<10); got != 0 || f != fine {
				t.Errorf("%d of %d bytes: %d, %d", n, size, got, f)
			}
		}
	}
}

func checkFraming(t *testing.T, h *head, length int64, codings []string) {
	t.Helper()
	chunked := len(codings) == 1 && codings[0] == "chunked"
	if chunked != h.chunked || len(codings) > 1 {
		t.Errorf("net/http reads the codings %q, we chunked %v", codings, h.chunked)
	}
	if !h.chunked && max(h.length, 0) != max(length, 0) {
		t.Errorf("net/http reads the length %d, we %d", length, h.length)
	}
}

// checkFields compares the fields that net/http leaves in the map.
func checkFields(t *testing.T, h *head, fields, trailer http.Header) {
	t.Helper()
	got := map[string][]string{}
	for i := range h.fields[:h.count] {
		f := &h.fields[i]
		name := textproto.CanonicalMIMEHeaderKey(string(f.name(h.raw)))
		switch name {
		case "Host", "Transfer-Encoding", "Trailer", "Pragma", "Cache-Control":
			continue // moved elsewhere, or added to
		}
		got[name] = append(got[name], h.text(f.value))
	}
	for name, values := range fields {
		if name == "Cache-Control" || name == "Pragma" || name == "Host" {
			continue
		}
		if strings.Join(values, "\n") != strings.Join(got[name], "\n") {
			t.Errorf("net/http reads %s as %q, we as %q", name, values, got[name])
		}
		delete(got, name)
	}
	for name, values := range got {
		t.Errorf("net/http does not read %s, we as %q", name, values)
	}
}

var responseSeeds = []string{
	"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc",
	"HTTP/1.0 200\r\n\r\nabc",
	"HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n",
	"HTTP/1.1 304 \r\nETag: x\r\n\r\n",
	"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
	"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n0\r\n\r\n",
	"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n",
	"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
	"HTTP/1.1 200 OK\nX: y\n\n",
	"HTTP/1.1 200 OK\r\nConnection: x, close\r\nX: y\r\n\r\n",
	"HTTP/1.1 999 \xff\r\n\r\n",
	"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3;x\r\nabc\r\n0\r\nX: y\r\n\r\n",
	"HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
	"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc",
}

func FuzzResponseHead(f *testing.F) {
	for _, s := range responseSeeds {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		h := new(head)
		size, bad := h.parseResponse(b, 32<<10)
		if size == 0 || bad != fine {
			return
		}
		r, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(b)), &http.Request{Method: "GET"})
		if err != nil {
			t.Fatalf("accepted, but net/http says: %v\n%q", err, b)
		}
		if r.StatusCode != h.status || (r.ProtoMinor == 0) != h.http10 {
			t.Errorf("net/http reads %s %d, we %d", r.Proto, r.StatusCode, h.status)
		}
		if h.status >= 200 && h.status != 204 && h.status != 304 {
			checkFraming(t, h, r.ContentLength, r.TransferEncoding)
		}
		r.Header.Del("Content-Length")
		for i := range h.fields[:h.count] {
			if h.fields[i].kind == contentLengthField {
				h.fields[i].line, h.fields[i].nameEnd = span{}, 0
			}
		}
		// What we write of it is read as the same answer again.
		out := append(h.appendStatus(nil), "\r\n"...)
		again := new(head)
		if n, bad := again.parseResponse(out, 64<<10); n != len(out) || bad != fine || again.status != h.status {
			t.Errorf("wrote %q, which reads as %d bytes, %q", out, n, causeTable[bad].text)
		}
	})
}

func FuzzChunked(f *testing.F) {
	for _, s := range []string{
		"0\r\n\r\n", "3\r\nabc\r\n0\r\n\r\nGET", "3;a=b\r\nabc\r\n0\r\nX: y\r\n\r\n", "00a\r\n0123456789\r\n0\r\n\r\n",
		"3\nabc\r\n0\r\n\r\n", "3\r\nabcd\r\n0\r\n\r\n", "+3\r\nabc\r\n0\r\n\r\n", "ffffffffffffffff\r\n", "0\r\nX\r\n\r\n", "3 \r\nabc\r\n0\r\n\r\n", "0\r\n\n",
		"3 ; a = \"b\"\r\nabc\r\n0\t \r\n\r\n", "3\t\t;\r\nabc\r\n0 ;x\r\n\r\n",
	} {
		f.Add([]byte(s), uint8(1))
		f.Add([]byte(s), uint8(200))
	}
	f.Fuzz(func(t *testing.T, b []byte, step uint8) {
		var whole, pieces chunkDecoder
		whole.reset(step&1 == 1)
		pieces.reset(step&1 == 1)
		copied := append([]byte(nil), b...)
		n, used, bad := whole.decode(copied)
		data := copied[:n]

		// How it is cut makes no difference.
		var joined []byte
		total := 0
		badPieces := fine
		for rest := append([]byte(nil), b...); len(rest) > 0 && badPieces == fine && !pieces.done(); {
			piece := rest[:min(max(int(step), 1), len(rest))]
			rest = rest[len(piece):]
			n, used, bad := pieces.decode(piece)
			joined = append(joined, piece[:n]...)
			total += used
			badPieces = bad
		}
		if bad != badPieces || whole.done() != pieces.done() || bad == fine && (total != used || !bytes.Equal(joined, data)) {
			t.Fatalf("whole: %d bytes, %q; in pieces: %d bytes, %q", used, causeTable[bad].text, total, causeTable[badPieces].text)
		}
		if bad != fine || !whole.done() {
			return
		}
		again, bad := whole.appendEnd(appendData(nil, data))
		if bad != fine {
			return
		}
		// net/http's reader agrees about the data and where the body ends, but that it takes
		// no blank before an extension.
		source := bufio.NewReader(bytes.NewReader(b))
		got, err := io.ReadAll(httputil.NewChunkedReader(source))
		if blank := bytes.Contains(b, []byte(" ;")) || bytes.Contains(b, []byte("\t;")); !blank && (err != nil || !bytes.Equal(got, data)) {
			t.Fatalf("net/http reads %q, %v; we %q", got, err, data)
		}
		// And so it does about what we make of it.
		got, err = io.ReadAll(httputil.NewChunkedReader(bytes.NewReader(again)))
		if err != nil || !bytes.Equal(got, data) {
			t.Fatalf("wrote %q, which net/http reads as %q, %v", again, got, err)
		}
	})
}

func appendData(out, data []byte) []byte {
	if len(data) == 0 {
		return out
	}
	return append(append(appendSize(out, len(data)), data...), "\r\n"...)
}

// FuzzSmuggling holds that what reaches the upstream for one request is read by
// net/http as exactly one request: the one that was decided about.
func FuzzSmuggling(f *testing.F) {
	for _, s := range requestSeeds {
		f.Add([]byte(s), "", true)
		f.Add([]byte(s+s), "b.example", false)
	}
	f.Fuzz(func(t *testing.T, b []byte, setHost string, allowUpgrade bool) {
		if len(b) > inSize || strings.ContainsAny(setHost, "\r\n\x00") || len(setHost) > 200 || setHost != "" && !httpfield.IsAuthority(setHost) {
			return // a direction with such a host is not followed
		}
		d := fuzzConn()
		defer d.release()
		d.w = copy(d.scratch.in, b)
		for range 4 {
			if d.w <= d.r {
				return
			}
			ready, bad := d.ready()
			if bad != fine || !ready || !d.request.complete || setHost == "" && d.scratch.req.host == (span{}) {
				return
			}
			d.describe(d.head)
			method, target, host := d.x.Method, d.x.Target, d.x.Host
			if setHost != "" {
				host = setHost
			}
			out, bad := d.buildRequest(&exchange.Direction{SetHost: setHost, AllowUpgrade: allowUpgrade, Append: []exchange.Field{{Name: "x-forwarded-for", Value: "192.0.2.1"}}})
			if bad != fine {
				return
			}
			checkParts(t, out)
			checkOutside(t, out)
			source := bufio.NewReader(bytes.NewReader(out))
			r, err := http.ReadRequest(source)
			if err != nil {
				t.Fatalf("the upstream gets %q: %v", out, err)
			}
			if r.Method != method || r.RequestURI != target || r.Host != host || r.Proto != "HTTP/1.1" {
				t.Errorf("the upstream gets %s %s of %s, we decided about %s %s of %s", r.Method, r.RequestURI, r.Host, method, target, host)
			}
			if _, err := io.Copy(io.Discard, r.Body); err != nil {
				t.Fatalf("the body of %q: %v", out, err)
			}
			if _, err := http.ReadRequest(source); !errors.Is(err, io.EOF) {
				t.Fatalf("the upstream gets more than one request: %q", out)
			}
			d.requestServed()
		}
	})
}

// checkOutside holds that a copy for a server outside is the same one request, without what is
// the mesh's own.
func checkOutside(t *testing.T, out exchange.Message) {
	t.Helper()
	was, before := readWhole(t, out)
	now, after := readWhole(t, Outside(out))
	if now.Method != was.Method || now.RequestURI != was.RequestURI || now.Host != was.Host || before != after {
		t.Errorf("of %q, %q leaves", out, Outside(out))
	}
	for _, fields := range [][2]http.Header{{was.Header, now.Header}, {was.Trailer, now.Trailer}} {
		for name, values := range fields[0] {
			if left := fields[1][name]; isOfMesh([]byte(name)) && left != nil || !isOfMesh([]byte(name)) && !slices.Equal(left, values) {
				t.Errorf("of %q, %q leaves", out, Outside(out))
			}
		}
	}
}

func readWhole(t *testing.T, m exchange.Message) (*http.Request, string) {
	t.Helper()
	source := bufio.NewReader(bytes.NewReader(m))
	r, err := http.ReadRequest(source)
	if err != nil {
		t.Fatalf("%q: %v", m, err)
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatalf("the body of %q: %v", m, err)
	}
	if _, err := http.ReadRequest(source); !errors.Is(err, io.EOF) {
		t.Fatalf("%q is more than one request", m)
	}
	return r, string(body)
}

// checkParts holds that who takes a request's parts from the Message sends what is
// in its bytes.
func checkParts(t *testing.T, m exchange.Message) {
	t.Helper()
	rebuilt := m.Method() + " " + m.Target() + " HTTP/1.1\r\n"
	hosts := 0
	for name, value := range m.Fields {
		rebuilt += name + ": " + value + "\r\n"
		if strings.EqualFold(name, "host") {
			hosts++
		}
	}
	h, again := new(head), new(head)
	size, bad := h.parseRequest(m, maxHeadBytes)
	if n, f := again.parseRequest([]byte(rebuilt+"\r\n"), maxHeadBytes); bad != fine || f != fine || n == 0 || hosts != 1 {
		t.Fatalf("%q in parts is %q", m, rebuilt)
	}
	if len(m.Body()) != len(m)-size || h.count != again.count || h.text(h.method) != again.text(again.method) || h.text(h.target) != again.text(again.target) {
		t.Fatalf("%q in parts is %q and %d bytes of body", m, rebuilt, len(m.Body()))
	}
	for i := range h.fields[:h.count] {
		ours, theirs := &h.fields[i], &again.fields[i]
		if string(ours.name(h.raw)) != string(theirs.name(again.raw)) || h.text(ours.value) != again.text(theirs.value) {
			t.Errorf("%q in parts is %q", m, rebuilt)
		}
	}
}
