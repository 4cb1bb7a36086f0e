package http1_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"sluice.dev/sluice/internal/proxy/exchange"
	"sluice.dev/sluice/internal/proxy/http1"
	"sluice.dev/sluice/internal/refusal"
)

// rejected is a message that is not taken and what everybody reads of it.
type rejected struct {
	message string
	reason  refusal.Reason
	cause   string // "" where the reason says it all
}

// sentence is what the client reads.
func (x rejected) sentence() string {
	if x.cause == "" {
		return x.reason.Text()
	}
	return strings.TrimSuffix(x.reason.Text(), ".") + ": " + x.cause + "."
}

const hostLine = "Host: a.example\r\n"

// requestsNotTaken holds a request for each cause there is.
func requestsNotTaken() []rejected {
	const malformed = refusal.RequestMalformed
	field := func(lines string) string { return "POST / HTTP/1.1\r\n" + hostLine + lines + "\r\n" }
	target := func(t string) string { return "GET " + t + " HTTP/1.1\r\n" + hostLine + "\r\n" }
	return []rejected{
		{"GET / HTTP/1.1\n" + hostLine + "\r\n", malformed, "a line that ends in LF without CR"},
		{"GET / HTTP/1.1\r\nHost: a.example\n\r\n", malformed, "a line that ends in LF without CR"},
		{"GET\r\n" + hostLine + "\r\n", malformed, "a request line that is not method, target and version with one space between them"},
		{"GET HTTP/1.1\r\n" + hostLine + "\r\n", malformed, "a request line that is not method, target and version with one space between them"},
		{"G(T / HTTP/1.1\r\n" + hostLine + "\r\n", malformed, "a method that is not a token"},
		{"GET / http/1.1\r\n" + hostLine + "\r\n", malformed, "a malformed HTTP version"},
		{target("/a b"), malformed, "a space in the request target"},
		{target("/a#b"), malformed, "a fragment (#) in the request target"},
		{target("/\xc3\xa4"), malformed, "a byte in the request target that must be percent-encoded"},
		{target("a.example:80"), malformed, "a request target that is neither a path nor an http or https URL"},
		{target("*"), malformed, "the request target * with another method than OPTIONS"},
		{target("http://b.example/"), malformed, "a URL as request target whose authority is not that of the Host field"},
		{target("/a%2"), malformed, "broken percent-encoding in the path"},
		{"GET / HTTP/1.1\r\nX: y\r\n\r\n", malformed, "no Host field"},
		{field(hostLine), malformed, "two Host fields"},
		{"GET / HTTP/1.1\r\nHost:\r\n\r\n", malformed, "an empty Host field"},
		{"GET / HTTP/1.1\r\nHost: b@a.example\r\n\r\n", malformed, "a byte in the Host field that no host and port have"},
		{"GET / HTTP/1.1\r\nHost: a::\r\n\r\n", malformed, "a Host field or URL that is not one host and at most one port"},
		{"GET / HTTP/1.1\r\nHost: [::1]::\r\n\r\n", malformed, "a Host field or URL that is not one host and at most one port"},
		{"GET / HTTP/1.1\r\nHost: a:80:80\r\n\r\n", malformed, "a Host field or URL that is not one host and at most one port"},
		{"GET / HTTP/1.1\r\nHost: a:http\r\n\r\n", malformed, "a Host field or URL that is not one host and at most one port"},
		{"GET / HTTP/1.1\r\nHost: a:800000\r\n\r\n", malformed, "a Host field or URL that is not one host and at most one port"},
		{"GET / HTTP/1.1\r\nHost: a%41\r\n\r\n", malformed, "a Host field or URL that is not one host and at most one port"},
		{"GET / HTTP/1.1\r\nHost: [\r\n\r\n", malformed, "a Host field or URL that is not one host and at most one port"},
		{"GET / HTTP/1.1\r\nHost: ]\r\n\r\n", malformed, "a Host field or URL that is not one host and at most one port"},
		{"GET / HTTP/1.1\r\nHost: []\r\n\r\n", malformed, "a Host field or URL that is not one host and at most one port"},
		{"GET / HTTP/1.1\r\nHost: a[::1]\r\n\r\n", malformed, "a Host field or URL that is not one host and at most one port"},
		{"GET / HTTP/1.1\r\nHost: [::1]a\r\n\r\n", malformed, "a Host field or URL that is not one host and at most one port"},
		{"GET / HTTP/1.1\r\nHost: [::1\r\n\r\n", malformed, "a Host field or URL that is not one host and at most one port"},
		{"GET / HTTP/1.1\r\nHost: [1.2.3.4]\r\n\r\n", malformed, "a Host field or URL that is not one host and at most one port"},
		{"GET / HTTP/1.1\r\nHost: [a]\r\n\r\n", malformed, "a Host field or URL that is not one host and at most one port"},
		{"GET / HTTP/1.1\r\nHost: [::1]:a\r\n\r\n", malformed, "a Host field or URL that is not one host and at most one port"},
		{"GET / HTTP/1.1\r\nHost: [::1]:80:80\r\n\r\n", malformed, "a Host field or URL that is not one host and at most one port"},
		{"GET / HTTP/1.1\r\nHost: [::1%eth0]\r\n\r\n", malformed, "a Host field or URL that is not one host and at most one port"},
		{"GET / HTTP/1.1\r\nHost: [::1%25]\r\n\r\n", malformed, "a Host field or URL that is not one host and at most one port"},
		{"GET / HTTP/1.1\r\nHost: [::1%25a%25]\r\n\r\n", malformed, "a Host field or URL that is not one host and at most one port"},
		{"GET http://[ HTTP/1.0\r\n\r\n", malformed, "a Host field or URL that is not one host and at most one port"},
		{field("X: a\r\n b\r\n"), malformed, "a field line that begins with a space (a folded line)"},
		{field("X : a\r\n"), malformed, "a space before the colon in a field name"},
		{field(": a\r\n"), malformed, "a field line without a name"},
		{field("XY\r\n"), malformed, "a field line without a colon"},
		{field("X Y: a\r\n"), malformed, "a byte in a field name that no token has"},
		{field("X: a\x00b\r\n"), malformed, "a control byte in a field value"},
		{field("X: a\rb\r\n"), malformed, "a control byte in a field value"},
		{field("Content-Length: 3\r\nContent-Length: 3\r\n"), malformed, "two Content-Length fields"},
		{field("Content-Length: 3\r\nTransfer-Encoding: chunked\r\n"), malformed, "Content-Length and Transfer-Encoding together"},
		{field("Transfer-Encoding: chunked\r\nContent-Length: 3\r\n"), malformed, "Content-Length and Transfer-Encoding together"},
		{field("Content-Length: 3, 3\r\n"), malformed, "a Content-Length that is not one decimal number of at most 18 digits"},
		{field("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"), malformed, "two Transfer-Encoding fields"},
		{field("Transfer-Encoding: gzip, chunked\r\n"), malformed, "a Transfer-Encoding other than chunked"},
		{"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", malformed, "Transfer-Encoding in HTTP/1.0"},
		{field("Connection: a b\r\n"), malformed, "a Connection option that is not a token"},
		{field("Connection: authorization\r\n"), malformed, "a Connection option that names a field which every recipient needs"},
		{field("Content_Length: 3\r\n"), malformed, "a field name that is Content-Length or Transfer-Encoding but for its separators, which some servers take for the real field"},
		{field("Trailer: host\r\n"), malformed, "a Trailer field that announces a field which cannot come after the body"},

		{chunked("+3\r\n"), malformed, "a malformed chunk size"},
		{chunked("3 \r\n"), malformed, "a malformed chunk size"},
		{chunked("3 a\r\n"), malformed, "a malformed chunk size"},
		{chunked("3 \n"), malformed, "a line that ends in LF without CR"},
		{chunked(" 3\r\n"), malformed, "a malformed chunk size"},
		{chunked("3" + strings.Repeat(" ", 300)), malformed, "more than 256 bytes of extensions in one chunk"},
		{chunked("3\n"), malformed, "a line that ends in LF without CR"},
		{chunked("0000000000000003\r\n"), malformed, "a chunk size of more than 15 digits"},
		{chunked("3;a\x00\r\n"), malformed, "a control byte in a chunk extension"},
		{chunked("3;" + strings.Repeat("a", 300) + "\r\n"), malformed, "more than 256 bytes of extensions in one chunk"},
		{chunked(strings.Repeat("1;"+strings.Repeat("a", 200)+"\r\nb\r\n", 82)), malformed, "more than 16 KiB of chunk extensions in one body"},
		{chunked("3\r\nabcd"), malformed, "a chunk that is longer than its size says"},
		{chunked("3\r\nabc\rd"), malformed, "a CR without LF after a chunk or its size"},
		{chunked("3\rabc"), malformed, "a CR without LF after a chunk or its size"},
		{chunked("0\r\n\rX"), malformed, "a CR without LF after the last chunk"},
		{chunked("0\r\nX: " + strings.Repeat("a", 9000)), malformed, "more than 8 KiB of trailers"},
		{chunked("0\r\nHost: b\r\n\r\n"), malformed, "a trailer field that cannot come after the body"},
		{chunked("0\r\nX : y\r\n\r\n"), malformed, "a space before the colon in a field name"},

		{field("X: " + strings.Repeat("a", 40<<10) + "\r\n"), refusal.HeadersTooLarge, "more than 32 KiB of head"},
		{field(strings.Repeat("X: a\r\n", 128)), refusal.HeadersTooLarge, "more than 128 fields"},
		{field("Content-Length: 1048577\r\n"), refusal.RequestTooLarge, "more than 1 MiB of body"},
		{field("Expect: magic\r\n"), refusal.ExpectationUnknown, ""},
		{"CONNECT a.example:443 HTTP/1.1\r\n" + hostLine + "\r\n", refusal.ConnectNotSupported, ""},
		{"TRACE / HTTP/1.1\r\n" + hostLine + "\r\n", refusal.TraceRefused, ""},
		{"GET / HTTP/1.2\r\n" + hostLine + "\r\n", refusal.VersionNotSupported, ""},
	}
}

// answersNotTaken holds an answer for each cause that is an upstream's alone, and
// for some of those that it shares with requests.
func answersNotTaken() []rejected {
	const malformed = refusal.UpstreamProtocol
	field := func(lines string) string { return "HTTP/1.1 200 OK\r\n" + lines + "\r\n" }
	return []rejected{
		{"220 ready\r\n\r\n", malformed, "a status line that is not an HTTP/1.1 or HTTP/1.0 version, a status and a phrase"},
		{"HTTP/2 200 OK\r\n\r\n", malformed, "a status line that is not an HTTP/1.1 or HTTP/1.0 version, a status and a phrase"},
		{"HTTP/1.1 2x0 OK\r\n\r\n", malformed, "a status that is not three digits from 100 on"},
		{"HTTP/1.1 2000 OK\r\n\r\n", malformed, "a status that is not three digits from 100 on"},
		{"HTTP/1.1 200 O\x00K\r\n\r\n", malformed, "a control byte in the reason phrase"},
		{"HTTP/1.1 200 OK\n\r\n", malformed, "a line that ends in LF without CR"},
		{strings.Repeat("HTTP/1.1 100 Continue\r\n\r\n", 17), malformed, "more than 16 interim answers"},
		{"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: y\r\n\r\n", malformed, "a switch to a protocol that was not asked for"},
		{"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\nContent-Length: 3\r\n\r\nabc", malformed, "a switch of protocols with a body"},
		{field("Content-Length: 3\r\nTransfer-Encoding: chunked\r\n"), malformed, "Content-Length and Transfer-Encoding together"},
		{field("Content-Length : 3\r\n"), malformed, "a space before the colon in a field name"},
		{field(strings.Repeat("X: a\r\n", 129)), malformed, "more than 128 fields"},
		{field("X: " + strings.Repeat("a", 40<<10) + "\r\n"), malformed, "more than 32 KiB of head"},
		{"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", malformed, "Transfer-Encoding in HTTP/1.0"},
		{field("Connection: content-type\r\n"), malformed, "a Connection option that names a field which every recipient needs"},
		{field("Transfer-Encoding: chunked\r\n") + "x\r\n", malformed, "a malformed chunk size"},
		{field("Transfer-Encoding: chunked\r\n") + "3" + strings.Repeat("\t", 300), malformed, "more than 256 bytes of extensions in one chunk"},
	}
}

// refused waits for the one message that was not taken, whichever way it came to
// the Director.
func (f *fixture) refused() exchange.Outcome {
	f.t.Helper()
	var o exchange.Outcome
	eventually(f.t, "the Director knows", func() bool {
		f.mu.Lock()
		defer f.mu.Unlock()
		if len(f.refusals) > 0 {
			o = f.refusals[0]
			return true
		}
		select {
		case o = <-f.closed:
			return true
		default:
			return false
		}
	})
	return o
}

// check holds that the client reads the sentence, in both forms, and that the
// Director gets the same.
func (x rejected) check(t *testing.T, c *client, o exchange.Outcome, asJSON bool) {
	t.Helper()
	head := c.head()
	if want := fmt.Sprint(x.reason.Status()); status(head) != want || !strings.Contains(head, "\r\nx-sluice-reason: "+string(x.reason)+"\r\n") {
		t.Errorf("answered %q, want %s %s", head, want, x.reason)
	}
	if asJSON {
		var got map[string]any
		if err := json.Unmarshal([]byte(c.line()), &got); err != nil || got["message"] != x.sentence() || got["status"] != float64(x.reason.Status()) {
			t.Errorf("the client reads %v, %v, want %q", got, err, x.sentence())
		}
	} else if got := c.line(); got != x.sentence()+"\n" {
		t.Errorf("the client reads %q, want %q", got, x.sentence())
	}
	if reason(o) != x.reason || o.Failure.Error()+"." != x.sentence() && o.Failure.Error() != x.sentence() {
		t.Errorf("the Director gets %v, want %s: %s", o.Failure, x.reason, x.sentence())
	}
	if o.Status != x.reason.Status() || o.Received == 0 {
		t.Errorf("the Director gets %+v", o)
	}
}

// Who wrote a message that is not taken must find what is wrong with it, in the
// answer and in the record.
func TestAMessageThatIsNotTakenIsRefusedWithItsCause(t *testing.T) {
	limits := http1.Limits{MaxBodyBytes: 1 << 20}
	for _, x := range requestsNotTaken() {
		t.Run("request with "+x.sentence(), func(t *testing.T) {
			f := newFixture(t, func(c *originConn) { c.rest() }, options{limits: limits})
			c := f.client().send("%s", x.message)
			c.t = t
			x.check(t, c, f.refused(), false)
		})
	}
	for _, x := range answersNotTaken() {
		for _, asJSON := range []bool{false, true} {
			t.Run(fmt.Sprint("answer with ", x.sentence(), " JSON: ", asJSON), func(t *testing.T) {
				f := newFixture(t, func(c *originConn) { c.head(); c.send("%s", x.message); c.rest() }, options{direction: allowingUpgrades})
				accept := "*/*"
				if asJSON {
					accept = "application/json"
				}
				c := f.client().send("GET / HTTP/1.1\r\n%sAccept: %s\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n", hostLine, accept)
				c.t = t
				for range strings.Count(x.message, "100 Continue") - 1 { // those are relayed
					c.head()
				}
				x.check(t, c, f.refused(), asJSON)
			})
		}
	}
}

func TestNoCauseIsWithoutATest(t *testing.T) {
	all := http1.Causes(http1.Limits{MaxBodyBytes: 1 << 20})
	if len(all) < 50 {
		t.Fatalf("only %q", all)
	}
	tested := append(requestsNotTaken(), answersNotTaken()...)
	for _, text := range all {
		if !slices.ContainsFunc(tested, func(x rejected) bool { return x.cause == text }) && text != "a switch of protocols before the request's body was read" { // in upgrade_test.go
			t.Errorf("no message is refused with %q", text)
		}
	}
}
