package visible

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// Change is what the client in the sandbox says when an answer told another
// verdict than the one before.
type Change struct {
	Verdict string `json:"verdict"`
	Asked   int64  `json:"asked"`    // when the request was sent, in ns of CLOCK_MONOTONIC
	At      int64  `json:"answered"` // when its answer was there
}

// The verdicts. A connection that was cut tells none: the next request does.
const (
	allowed = "allow"
	denied  = "deny"
)

// pollTimeout bounds one request.
const pollTimeout = 10 * time.Second

// Poll is the role of the client: it asks url every millisecond on one
// connection, a new one only where that was closed, and says each change of the
// verdict. It ends when nobody listens any more.
func Poll(host, port string, out io.Writer) error {
	said := json.NewEncoder(out)
	c := client{host: host, port: port}
	defer c.hangUp()
	last := ""
	ticker := time.NewTicker(time.Millisecond)
	defer ticker.Stop()
	for range ticker.C {
		asked := monotonic()
		verdict, err := c.ask()
		if err != nil {
			c.hangUp()
			continue
		}
		if verdict == last {
			continue
		}
		if err := said.Encode(Change{Verdict: verdict, Asked: asked, At: monotonic()}); err != nil {
			return err
		}
		last = verdict
	}
	return nil
}

// client asks on one connection for as long as that lives.
type client struct {
	host, port string
	conn       net.Conn // nil where there is none
	reader     *bufio.Reader
}

// ask makes one request.
func (c *client) ask() (verdict string, err error) {
	if c.conn == nil {
		conn, err := net.DialTimeout("tcp", net.JoinHostPort(c.host, c.port), pollTimeout)
		if err != nil {
			return "", err
		}
		c.conn, c.reader = conn, bufio.NewReader(conn)
	}
	c.conn.SetDeadline(time.Now().Add(pollTimeout))
	if _, err := fmt.Fprintf(c.conn, "GET / HTTP/1.1\r\nHost: %s\r\n\r\n", c.host); err != nil {
		return "", err
	}
	response, err := http.ReadResponse(c.reader, nil)
	if err != nil {
		return "", err
	}
	_, err = io.Copy(io.Discard, response.Body)
	response.Body.Close()
	if response.Close {
		c.hangUp()
	}
	return verdictOf(response.StatusCode, response.Header.Get("X-Sluice-Reason")), err
}

func (c *client) hangUp() {
	if c.conn != nil {
		c.conn.Close()
		c.conn = nil
	}
}

// verdictOf reads an answer: the proxy's own refusal, or the far server's word.
func verdictOf(status int, reason string) string {
	switch {
	case status == http.StatusForbidden && reason != "":
		return denied
	case reason != "":
		return "error " + strconv.Itoa(status) + " " + reason
	}
	return allowed
}

// monotonic is the time that all processes of the machine share, in ns.
func monotonic() int64 {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &t); err != nil {
		return 0 // cannot be: every Linux has it
	}
	return t.Nano()
}
