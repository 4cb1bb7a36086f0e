package sandbox

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Check is the wish that a port counts as ready only while a request to it is answered
// with a status from 200 to 399.
type Check struct {
	Port uint16 `json:"port"`
	Path string `json:"path"` // with the query: "/health"
}

// MaxChecks bounds the checks of Config.
const MaxChecks = 8

// Bounds of a check.
const (
	maxCheckPath = 512
	checkTimeout = time.Second
	checkLinger  = 100 * time.Millisecond // for the rest of an answer, once its status is known
	maxCheckHead = 4 << 10                // bytes that are read for the status line
	maxCheckBody = 64 << 10               // bytes that are read after it, so that the server can end well
	maxCheckWhy  = 128                    // bytes of why it failed
)

// ParseCheck reads the form of --ready: http:PATH:PORT.
func ParseCheck(text string) (Check, error) {
	rest, isHTTP := strings.CutPrefix(text, "http:")
	colon := strings.LastIndexByte(rest, ':')
	if !isHTTP || colon < 0 {
		return Check{}, errors.New("must be http:PATH:PORT, as in http:/health:9080")
	}
	path, port := rest[:colon], rest[colon+1:]
	number, err := strconv.ParseUint(port, 10, 16)
	if err != nil || number == 0 {
		return Check{}, fmt.Errorf("%q must be a port from 1 to 65535, as in http:/health:9080", port)
	}
	if err := checkPath(path); err != nil {
		return Check{}, err
	}
	return Check{Port: uint16(number), Path: path}, nil
}

// checkPath keeps what would be more than the target of one request out of it.
func checkPath(path string) error {
	switch {
	case !strings.HasPrefix(path, "/"):
		return fmt.Errorf("the path %q must begin with /, as in http:/health:9080", path)
	case len(path) > maxCheckPath:
		return fmt.Errorf("the path has %d bytes, at most %d are allowed", len(path), maxCheckPath)
	}
	for _, c := range []byte(path) {
		if c <= ' ' || c >= 0x7f || c == '#' {
			return fmt.Errorf("the path %q must be printable ASCII without blanks and #", path)
		}
	}
	return nil
}

// askHTTP makes one request, on a connection of its own that it closes, and says why it
// was not answered well. The server sees it come from this sandbox's own loopback.
func askHTTP(ctx context.Context, at netip.AddrPort, path string) (why string) {
	why = whyNot(ctx, at, path)
	if why == "" {
		return ""
	}
	shown := path
	if most := maxCheckWhy / 2; len(shown) > most {
		shown = shown[:most-3] + "..."
	}
	return "GET " + shown + " " + why
}

func whyNot(ctx context.Context, at netip.AddrPort, path string) (why string) {
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	var dialer net.Dialer
	dialer.SetMultipathTCP(false)
	conn, err := dialer.DialContext(ctx, "tcp", at.String())
	if err != nil {
		return connectFailure(err)
	}
	defer conn.Close()
	deadline, _ := ctx.Deadline()
	conn.SetDeadline(deadline)
	_, err = fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: localhost:%d\r\nUser-Agent: sluice-ready\r\nAccept: */*\r\nConnection: close\r\n\r\n", path, at.Port())
	if err != nil {
		return answerFailure(err)
	}
	in := bufio.NewReaderSize(io.LimitReader(conn, maxCheckHead+maxCheckBody), maxCheckHead)
	line, err := in.ReadSlice('\n')
	if err != nil {
		return answerFailure(err)
	}
	status, ok := readStatus(line)
	if !ok {
		return "was not answered in HTTP/1"
	}
	conn.SetReadDeadline(time.Now().Add(checkLinger))
	io.Copy(io.Discard, in) // or our close would reset what the server still writes
	if status < 200 || status > 399 {
		return fmt.Sprintf("was answered with %d", status)
	}
	return ""
}

func connectFailure(err error) string {
	var timeout net.Error
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return "could not be sent: connection refused"
	case errors.As(err, &timeout) && timeout.Timeout():
		return fmt.Sprintf("could not be sent within %v", checkTimeout)
	}
	return "could not be sent"
}

func answerFailure(err error) string {
	var timeout net.Error
	switch {
	case errors.As(err, &timeout) && timeout.Timeout():
		return fmt.Sprintf("was not answered within %v", checkTimeout)
	case errors.Is(err, bufio.ErrBufferFull):
		return "was not answered in HTTP/1"
	}
	return "was not answered: the connection ended"
}

// readStatus reads the status of a status line, RFC 9112 §4.
func readStatus(line []byte) (status int, ok bool) {
	line = bytes.TrimRight(line, "\r\n")
	if len(line) < len("HTTP/1.1 200") || !bytes.HasPrefix(line, []byte("HTTP/1.")) || !isDigit(line[7]) || line[8] != ' ' {
		return 0, false
	}
	if len(line) > 12 && line[12] != ' ' {
		return 0, false
	}
	for _, c := range line[9:12] {
		if !isDigit(c) {
			return 0, false
		}
		status = 10*status + int(c-'0')
	}
	return status, status >= 100
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }
