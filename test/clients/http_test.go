package clients

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// sendsAll sends each text on a connection of its own and reads it to its end.
const sendsAll = `
import json, socket, sys
answers = []
for text in json.loads(sys.argv[1]):
    with socket.create_connection(("www.example.com", 80), 60) as c:
        c.sendall(text.encode("latin-1"))
        got = b""
        try:
            while part := c.recv(65536):
                got += part
        except ConnectionResetError:
            got += b"(reset)"
        answers.append(got.decode("latin-1"))
print(json.dumps(answers))
`

// answers reads as many answers as there are.
func answers(t *testing.T, text string) (all []*http.Response, bodies []string) {
	t.Helper()
	r := bufio.NewReader(strings.NewReader(text))
	for {
		if _, err := r.Peek(1); err == io.EOF {
			return all, bodies
		}
		answer, err := http.ReadResponse(r, nil)
		if err != nil {
			t.Errorf("not an answer: %v in %q", err, text)
			return all, bodies
		}
		body, err := io.ReadAll(answer.Body)
		if err != nil {
			t.Errorf("a body that breaks off: %v in %q", err, text)
		}
		all, bodies = append(all, answer), append(bodies, string(body))
	}
}

func TestUnusualRequestsAreCarriedOrRefusedWithAStatusLine(t *testing.T) {
	s := newSandbox(t)
	const host, last = "Host: www.example.com\r\n", "Connection: close\r\n\r\n"
	cases := []struct {
		name, request string
		status        int
		says          string // in the body where it is carried; the reason where it is refused
	}{
		{"an absolute form with an empty path", "GET http://www.example.com?q=1 HTTP/1.1\r\n" + host + last, 200, "www.example.com of the small internet"},
		{"QUERY without Content-Type", "QUERY /headers HTTP/1.1\r\n" + host + "Content-Length: 3\r\n" + last + "a=b", 200, `"method":"QUERY"`},
		{"a chunk extension with blanks", "POST /sum HTTP/1.1\r\n" + host + "Transfer-Encoding: chunked\r\n" + last + "5 ; a = b\r\nhello\r\n0\r\n\r\n", 200, `"bytes":5`},
		{"an empty port", "GET /headers HTTP/1.1\r\nHost: www.example.com:\r\n" + last, 200, `"host":"www.example.com"`},
		{"bare LF", "GET / HTTP/1.1\n" + "Host: www.example.com\n\n", 400, "request-malformed"},
		{"bare LF behind one field", "GET / HTTP/1.1\r\n" + host + "X: y\n\r\n", 400, "request-malformed"},
		{"a folded line", "GET / HTTP/1.1\r\n" + host + "X: a\r\n b\r\n\r\n", 400, "request-malformed"},
		{"a fragment", "GET /a#b HTTP/1.1\r\n" + host + "\r\n", 400, "request-malformed"},
		{"HTTP/2.0 in the request line", "GET / HTTP/2.0\r\n" + host + "\r\n", 505, "version-not-supported"},
	}
	var requests, got []string
	for _, c := range cases {
		requests = append(requests, c.request)
	}
	s.python(t, "www.example.com:80", sendsAll, requests, &got)
	carried := 0
	for i, c := range cases {
		all, bodies := answers(t, got[i])
		if len(all) != 1 || all[0].StatusCode != c.status {
			t.Errorf("%s: %q, want one answer, %d", c.name, got[i], c.status)
			continue
		}
		says := all[0].Header.Get("X-Sluice-Reason")
		if c.status == 200 {
			carried++
			says += bodies[0]
		}
		if !strings.Contains(says, c.says) {
			t.Errorf("%s: %q, want %q", c.name, says, c.says)
		}
	}
	if n := len(s.net.Requests(t, "www.example.com")); n != carried {
		t.Errorf("the server got %d requests, want the %d that are carried", n, carried)
	}
}

// As apt asks.
func TestTenRequestsSentAtOnceAreAnsweredInOrder(t *testing.T) {
	s := newSandbox(t)
	var request string
	for i := range 10 {
		last := ""
		if i == 9 {
			last = "Connection: close\r\n"
		}
		request += fmt.Sprintf("GET /delay/%d HTTP/1.1\r\nHost: www.example.com\r\n%s\r\n", 10-i, last)
	}
	var got []string
	s.python(t, "www.example.com:80", sendsAll, []string{request}, &got)
	all, bodies := answers(t, got[0])
	if len(all) != 10 {
		t.Fatalf("%d answers: %q", len(all), got[0])
	}
	for i, body := range bodies {
		if want := fmt.Sprintf("%d ms later\n", 10-i); all[i].StatusCode != 200 || body != want {
			t.Errorf("answer %d is %d %q, want %q", i, all[i].StatusCode, body, want)
		}
	}
}

func TestCurlsBodiesPassWithAndWithoutAnExpectation(t *testing.T) {
	s := newSandbox(t)
	file := filepath.Join(filepath.Dir(s.Runtime), "body")
	const size = 2 << 20
	if err := os.WriteFile(file, []byte(strings.Repeat("a", size)), 0o644); err != nil {
		t.Fatal(err)
	}
	curl := []string{client(t, "curl"), "-sSv", "--http1.1", "--max-time", "60"}
	for name, c := range map[string]struct {
		args    []string
		expects bool // so curl does, and the server reads what comes
		says    string
	}{
		"a POST above 1 MiB":         {[]string{"--data-binary", "@" + file, "http://www.example.com/sum"}, true, fmt.Sprintf(`"bytes":%d`, size)},
		"the same in chunks":         {[]string{"-H", "Transfer-Encoding: chunked", "--data-binary", "@" + file, "http://www.example.com/sum"}, true, fmt.Sprintf(`"bytes":%d`, size)},
		"the same without a promise": {[]string{"-H", "Expect:", "--data-binary", "@" + file, "http://www.example.com/sum"}, false, fmt.Sprintf(`"bytes":%d`, size)},
		"a PUT that is not read":     {[]string{"-T", file, "http://www.example.com/headers"}, false, `"method":"PUT"`},
	} {
		r := s.run(t, "www.example.com:80", append(curl, c.args...)...)
		if r.Code != 0 || !strings.Contains(r.Stdout, c.says) {
			t.Errorf("%s: exit %d, %q, %q", name, r.Code, r.Stdout, r.Stderr)
		}
		if got := strings.Contains(r.Stderr, "< HTTP/1.1 100 Continue"); got != c.expects {
			t.Errorf("%s: the answer 100 came: %v, want %v: %q", name, got, c.expects, r.Stderr)
		}
	}
}
