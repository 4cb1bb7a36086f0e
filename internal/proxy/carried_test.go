package proxy

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// What a server got of one request, as net/http's reader understands it.
type arrived struct {
	method, target, host string
	header               http.Header
	body                 string
}

// serving is a server that answers each request of a connection with what answer makes of it.
func serving(answer func(r *http.Request, body string) string) func(net.Conn) {
	return func(c net.Conn) {
		requests := bufio.NewReader(c)
		for {
			r, err := http.ReadRequest(requests)
			if err != nil {
				return
			}
			body, err := io.ReadAll(r.Body)
			if err != nil {
				return
			}
			io.WriteString(c, answer(r, string(body)))
		}
	}
}

// keeping is a server that answers "ok" and hands on what it got.
func keeping(got chan<- arrived) func(net.Conn) {
	return serving(func(r *http.Request, body string) string {
		got <- arrived{r.Method, r.RequestURI, r.Host, r.Header, body}
		answer := "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n"
		if r.Method != "HEAD" {
			answer += "ok"
		}
		return answer
	})
}

// A body is a request's, whatever its method: it goes with its head, or a server would
// take it for the next request.
func TestABodyGoesWithItsRequestWhateverTheMethod(t *testing.T) {
	n := newFakeNet(t)
	got := make(chan arrived, 1)
	n.site("www.example.com", "93.184.216.34", 80, keeping(got))
	m := newMesh(t, n, rule(t, "www.example.com:80"))
	for _, method := range []string{"GET", "HEAD", "DELETE", "OPTIONS", "PUT", "QUERY"} {
		for _, size := range []int{1, 100, 100 << 10} {
			for framing, write := range map[string]func(w io.Writer, body string){
				"a length": func(w io.Writer, body string) { fmt.Fprintf(w, "Content-Length: %d\r\n\r\n%s", len(body), body) },
				"a length, the body later": func(w io.Writer, body string) {
					fmt.Fprintf(w, "Content-Length: %d\r\n\r\n", len(body))
					io.WriteString(w, body)
				},
				"chunks": func(w io.Writer, body string) {
					fmt.Fprintf(w, "Transfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n", len(body), body)
				},
			} {
				t.Run(fmt.Sprintf("%s, %d bytes, %s", method, size, framing), func(t *testing.T) {
					c := m.dial("www.example.com", 80)
					c.SetDeadline(time.Now().Add(patience))
					// It would be a second request, were it not a body.
					body := strings.Repeat("GET /smuggled HTTP/1.1\r\nHost: www.example.com\r\n\r\n", size/48+1)[:size]
					fmt.Fprintf(c, "%s /a HTTP/1.1\r\nHost: www.example.com\r\n", method)
					go write(c, body)
					answers := bufio.NewReader(c)
					r, err := http.ReadResponse(answers, &http.Request{Method: method})
					if err != nil || r.StatusCode != 200 {
						t.Fatalf("%v, %v", r, err)
					}
					if a := <-got; a.method != method || a.target != "/a" || a.body != body {
						t.Errorf("the server got %s %s with %d bytes", a.method, a.target, len(a.body))
					}
				})
			}
		}
	}
}

// What clients really send, and HTTP/1.1 has them send, is taken on the whole way: by
// what looks at the first bytes, by the rules, and by the engine.
func TestRequestsOfLessCommonFormsReachTheirHost(t *testing.T) {
	n := newFakeNet(t)
	got := make(chan arrived, 1)
	n.site("www.example.com", "93.184.216.34", 80, keeping(got))
	n.site("secure.example.com", "93.184.216.35", 443, n.overTLS(keeping(got), "secure.example.com"))
	m := newMesh(t, n, rule(t, "*.example.com:80"), rule(t, "secure.example.com"))
	for name, tc := range map[string]struct {
		dialled      string
		port         uint16
		request      string
		target, host string // as the server gets them
	}{
		"an empty line first":                   {"www.example.com", 80, "\r\nGET /a HTTP/1.1\r\nHost: www.example.com\r\n\r\n", "/a", "www.example.com"},
		"an empty port (Python's urllib, LWP)":  {"www.example.com", 80, "GET /a HTTP/1.1\r\nHost: www.example.com:\r\n\r\n", "/a", "www.example.com"},
		"an empty port, of HTTP/1.0":            {"www.example.com", 80, "GET /a HTTP/1.0\r\nHost: www.example.com:\r\n\r\n", "/a", "www.example.com"},
		"an absolute form of HTTP/1.0":          {"www.example.com", 80, "GET http://www.example.com/a HTTP/1.0\r\n\r\n", "/a", "www.example.com"},
		"an absolute form with the port":        {"www.example.com", 80, "GET http://www.example.com:80/a HTTP/1.1\r\nHost: www.example.com\r\n\r\n", "/a", "www.example.com:80"},
		"an absolute form without the port":     {"www.example.com", 80, "GET http://www.example.com/a HTTP/1.1\r\nHost: www.example.com:80\r\n\r\n", "/a", "www.example.com:80"},
		"an absolute form with an empty port":   {"www.example.com", 80, "GET http://www.example.com:/a HTTP/1.1\r\nHost: www.example.com:\r\n\r\n", "/a", "www.example.com"},
		"an empty port, with TLS of ours":       {"secure.example.com", 443, "GET /a HTTP/1.1\r\nHost: secure.example.com:\r\n\r\n", "/a", "secure.example.com"},
		"an absolute form, with TLS of ours":    {"secure.example.com", 443, "GET https://secure.example.com:443/a HTTP/1.1\r\nHost: secure.example.com\r\n\r\n", "/a", "secure.example.com:443"},
		"an absolute form of 1.0, TLS of ours":  {"secure.example.com", 443, "GET https://secure.example.com/a HTTP/1.0\r\n\r\n", "/a", "secure.example.com"},
		"an empty line, and an empty port":      {"www.example.com", 80, "\r\nGET /a HTTP/1.1\r\nHost: WWW.example.com:\r\n\r\n", "/a", "WWW.example.com"},
		"an absolute form without path or Host": {"www.example.com", 80, "GET http://www.example.com?a HTTP/1.0\r\n\r\n", "/?a", "www.example.com"},
	} {
		t.Run(name, func(t *testing.T) {
			c := m.dial(tc.dialled, tc.port)
			c.SetDeadline(time.Now().Add(patience))
			io.WriteString(c, tc.request)
			r, err := http.ReadResponse(bufio.NewReader(c), nil)
			if err != nil {
				t.Fatal(err)
			}
			text, _ := io.ReadAll(r.Body)
			if r.StatusCode != 200 {
				t.Fatalf("%d: %s", r.StatusCode, text)
			}
			if a := <-got; a.target != tc.target || a.host != tc.host {
				t.Errorf("the server got %s of %s", a.target, a.host)
			}
		})
	}
}

// A name in one of these forms is a link of the chain like any other.
func TestAnAbsoluteFormNamesNoOtherHostAndPort(t *testing.T) {
	n := newFakeNet(t)
	n.site("www.example.com", "93.184.216.34", 80, hello)
	m := newMesh(t, n, rule(t, "www.example.com:80"), rule(t, "other.example.com:80"))
	for request, want := range map[string]string{
		"GET http://other.example.com/ HTTP/1.0\r\n\r\n":                                  "name-mismatch",
		"GET http://www.example.com:81/ HTTP/1.0\r\n\r\n":                                 "port-mismatch",
		"GET https://www.example.com/ HTTP/1.0\r\n\r\n":                                   "scheme-mismatch",
		"GET http://www.example.com:81/ HTTP/1.1\r\nHost: www.example.com\r\n\r\n":        "request-malformed",
		"GET http://other.example.com:80/ HTTP/1.1\r\nHost: www.example.com\r\n\r\n":      "request-malformed",
		"GET / HTTP/1.1\r\nHost: other.example.com:\r\n\r\n":                              "name-mismatch",
		"\r\n\r\nGET / HTTP/1.1\r\nHost: www.example.com\r\n\r\n":                         "request-malformed",
		"GET / HTTP/1.1\r\nHost: www.example.com\r\nTransfer---Encoding: chunked\r\n\r\n": "request-malformed",
	} {
		c := m.dial("www.example.com", 80)
		c.SetDeadline(time.Now().Add(patience))
		io.WriteString(c, request)
		r, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			t.Fatalf("%q: %v", request, err)
		}
		if got := r.Header.Get("X-Sluice-Reason"); got != want {
			t.Errorf("%q: %d, %q, want %q", request, r.StatusCode, got, want)
		}
	}
}

func TestAnAnswerToHalfARequestReachesItsClient(t *testing.T) {
	n := newFakeNet(t)
	n.site("www.example.com", "93.184.216.34", 80, func(c net.Conn) {
		r, err := http.ReadRequest(bufio.NewReader(c))
		if err != nil || r.ContentLength != 1000 {
			return
		}
		io.WriteString(c, "HTTP/1.1 413 Content Too Large\r\nContent-Length: 9\r\n\r\ntoo large")
		io.Copy(io.Discard, c)
	})
	m := newMesh(t, n, rule(t, "www.example.com:80"))
	c := m.dial("www.example.com", 80)
	c.SetDeadline(time.Now().Add(patience))
	fmt.Fprintf(c, "POST /a HTTP/1.1\r\nHost: www.example.com\r\nContent-Length: 1000\r\n\r\n%s", strings.Repeat("a", 500))
	r, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	if text, _ := io.ReadAll(r.Body); r.StatusCode != 413 || string(text) != "too large" {
		t.Errorf("%d: %s", r.StatusCode, text)
	}
}

// A service reads X_Forwarded_For for X-Forwarded-For where it is CGI or the like: the
// edge takes them all out, and says itself where a client comes from.
func TestTheEdgeTakesOutWhatMayBeTakenForItsOwnFields(t *testing.T) {
	m := newMesh(t, newFakeNet(t))
	got := make(chan arrived, 1)
	m.service("details", keeping(got))
	c := m.ingress("/.*")()
	c.SetDeadline(time.Now().Add(patience))
	io.WriteString(c, "GET / HTTP/1.1\r\nHost: a.example\r\nX-Forwarded-For: 192.0.2.1\r\nX_Forwarded_For: 192.0.2.2\r\nx-forwarded_FOR: 192.0.2.3\r\nX--Forwarded-_For: 192.0.2.4\r\n"+
		"X_Real_IP: 192.0.2.5\r\nX_FORWARDED_PROTO: https\r\nX_Forwarded_Host: b.example\r\nX_Other: kept\r\n\r\n")
	if r, err := http.ReadResponse(bufio.NewReader(c), nil); err != nil || r.StatusCode != 200 {
		t.Fatalf("%v, %v", r, err)
	}
	var all bytes.Buffer
	header := (<-got).header
	header.Write(&all)
	lower := strings.ToLower(strings.NewReplacer("_", "-", "--", "-").Replace(all.String()))
	if strings.Contains(lower, "192.0.2.") || strings.Contains(lower, "b.example") || strings.Contains(lower, "https") || header.Get("X_Other") != "kept" ||
		len(header["X-Forwarded-For"]) != 1 || header.Get("X-Forwarded-Proto") != "http" {
		t.Errorf("the service got %s", all.String())
	}
}
