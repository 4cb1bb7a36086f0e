package tunnel

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"sluice.dev/sluice/internal/refusal"
)

// answer is what a proxy said to CONNECT.
type answer struct {
	status  int
	phrase  string   // of the status line, printable and short
	schemes []string // of authentication that it offers
}

// malformedError says that what came was not the head of an answer.
type malformedError struct{ text string }

func (e *malformedError) Error() string { return e.text }

// Bounds of what is kept of an answer.
const (
	maxPhrase  = 80
	maxSchemes = 8
)

// readAnswer reads the final answer of a proxy. Whatever follows its head stays in the
// socket: after a success it is the other end's, whatever lengths the head speaks of
// (RFC 9110, section 9.3.6).
func readAnswer(conn *net.TCPConn) (answer, error) {
	var buffer [MaxHead]byte
	for range MaxInterim + 1 {
		head, err := readHead(conn, buffer[:])
		if err != nil {
			return answer{}, err
		}
		a, err := parseAnswer(head)
		if err != nil || a.status >= 200 {
			return a, err
		}
		if a.status == 101 {
			return a, &malformedError{"it switched to another protocol"}
		}
	}
	return answer{}, &malformedError{fmt.Sprintf("more than %d answers of 1xx", MaxInterim)}
}

// readHead reads up to the empty line that ends a head, and not a byte beyond: it looks
// first at what is there.
func readHead(conn *net.TCPConn, buffer []byte) ([]byte, error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return nil, err
	}
	read := 0
	for read < len(buffer) {
		n, err := receive(raw, buffer[read:], unix.MSG_PEEK)
		if err != nil {
			return nil, err
		}
		end := headEnd(buffer[:read+n], read)
		take := n
		if end > 0 {
			take = end - read
		}
		if n, err = receive(raw, buffer[read:read+take], 0); err != nil {
			return nil, err
		}
		read += n
		if end > 0 && read == end {
			return buffer[:end], nil
		}
	}
	return nil, &malformedError{fmt.Sprintf("a head of more than %d bytes", len(buffer))}
}

// receive waits for bytes and receives them with flags. An end is io.ErrUnexpectedEOF:
// there is to be a head.
func receive(raw syscall.RawConn, b []byte, flags int) (n int, err error) {
	var failed error
	err = raw.Read(func(fd uintptr) bool {
		for {
			n, _, failed = unix.Recvfrom(int(fd), b, flags)
			if failed != unix.EINTR {
				return failed != unix.EAGAIN
			}
		}
	})
	if err = errors.Join(err, failed); err == nil && n == 0 {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

// headEnd returns how long the head is that b begins with, 0 where its end is not there.
// There is none within the first known bytes.
func headEnd(b []byte, known int) int {
	for i := max(0, known-3); i < len(b); i++ {
		if b[i] != '\n' {
			continue
		}
		switch rest := b[i+1:]; {
		case bytes.HasPrefix(rest, []byte("\n")):
			return i + 2
		case bytes.HasPrefix(rest, []byte("\r\n")):
			return i + 3
		}
	}
	return 0
}

// parseAnswer parses a head. Lines may end with a bare LF (RFC 9112, section 2.2).
func parseAnswer(head []byte) (answer, error) {
	lines := strings.Split(strings.TrimRight(string(head), "\r\n"), "\n")
	first := strings.TrimSuffix(lines[0], "\r")
	a, ok := parseStatus(first)
	if !ok {
		return answer{}, &malformedError{fmt.Sprintf("its answer begins with %q, which is not HTTP/1", short(first))}
	}
	for _, line := range lines[1:] {
		name, value, found := strings.Cut(strings.TrimSuffix(line, "\r"), ":")
		if !found || name == "" || strings.ContainsAny(name, " \t") {
			return answer{}, &malformedError{fmt.Sprintf("a line of its answer is %q, which is not a field", short(line))}
		}
		if !strings.EqualFold(name, "Proxy-Authenticate") {
			continue
		}
		scheme, _, _ := strings.Cut(strings.Trim(value, " \t"), " ")
		if scheme = short(scheme); scheme != "" && len(a.schemes) < maxSchemes && !slices.Contains(a.schemes, scheme) {
			a.schemes = append(a.schemes, scheme)
		}
	}
	return a, nil
}

// parseStatus parses HTTP/1.x SP 3DIGIT [SP phrase].
func parseStatus(line string) (a answer, ok bool) {
	rest, ok := strings.CutPrefix(line, "HTTP/1.")
	if !ok || len(rest) < 5 || rest[0] < '0' || rest[0] > '9' || rest[1] != ' ' || len(rest) > 5 && rest[5] != ' ' {
		return a, false
	}
	for _, digit := range rest[2:5] {
		if digit < '0' || digit > '9' {
			return a, false
		}
		a.status = a.status*10 + int(digit-'0')
	}
	a.phrase = short(strings.TrimSpace(rest[5:]))
	return a, a.status >= 100 && a.status <= 599
}

// short is what of a proxy's words is shown: printable, and not much.
func short(text string) string {
	text = strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, text)
	return text[:min(len(text), maxPhrase)]
}

// judge makes an error of an answer that opens no tunnel.
func (p *Proxy) judge(a answer, target string) error {
	said := strings.TrimSpace(fmt.Sprintf("%d %s", a.status, a.phrase))
	switch {
	case a.status < 300:
		return nil
	case a.status == 407:
		return refusal.New(refusal.ViaProxyAuthentication, p.unauthorized(a))
	case a.status >= 500:
		return refusal.New(refusal.ViaProxyFailed, fmt.Sprintf("%s did not reach %s: %s", p, target, said))
	}
	text := fmt.Sprintf("%s refused CONNECT %s: %s", p, target, said)
	if (a.status == 403 || a.status == 405) && !strings.HasSuffix(target, ":443") {
		text += "; many proxies take CONNECT to port 443 alone: use https, or have the owner of the proxy allow the port"
	}
	return refusal.New(refusal.ViaProxyRefused, text)
}

// unauthorized says what a proxy wants, and what there is.
func (p *Proxy) unauthorized(a answer) string {
	offered := "it names no way to authenticate"
	if len(a.schemes) > 0 {
		offered = "it takes " + strings.Join(a.schemes, ", ")
	}
	basic := slices.ContainsFunc(a.schemes, func(s string) bool { return strings.EqualFold(s, "Basic") })
	switch {
	case len(a.schemes) > 0 && !basic:
		return fmt.Sprintf("%s wants credentials in a way that is not supported: %s; supported is Basic", p, offered)
	case p.config.Authorization == "":
		return fmt.Sprintf("%s wants credentials: %s; give them by --via-proxy-credentials FILE, or within the URL of SLUICE_VIA_PROXY", p, offered)
	}
	return fmt.Sprintf("%s did not accept the credentials: %s", p, offered)
}
