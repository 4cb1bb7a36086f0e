package proxy

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"
)

// An answer that broke off does not look whole to a client that speaks TLS, where it is the
// end of the connection that ends the answer.
func TestAnAnswerThatBrokeOffDoesNotEndWellInTLS(t *testing.T) {
	for name, x := range map[string]struct {
		head, request string
		withdrawn     bool // by a reload; else the service closes amid its chunks
	}{
		"chunks for a client of HTTP/1.0": {"transfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n", "GET / HTTP/1.0\r\nHost: a.example.com\r\n\r\n", false},
		"a rule that is withdrawn":        {"connection: close\r\n\r\nhalf", "GET / HTTP/1.1\r\nHost: a.example.com\r\n\r\n", true},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMesh(t, newFakeNet(t))
			breaks := make(chan struct{})
			m.service("details", func(c net.Conn) {
				r := bufio.NewReader(c)
				for {
					line, err := r.ReadString('\n')
					if err != nil {
						return
					}
					if line == "\r\n" {
						break
					}
				}
				fmt.Fprint(c, "HTTP/1.1 200 OK\r\n"+x.head)
				if x.withdrawn {
					io.Copy(io.Discard, r) // until the proxy ends it
					return
				}
				<-breaks
				c.Close()
			})
			s := &secrets{t: t, folder: t.TempDir()}
			roots := s.hold("a", "a.example.com")
			m.rules(twoShops)
			_, at, _ := m.tlsIngress(s)
			c, err := handshake(at, "a.example.com", roots, nil)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			c.SetDeadline(time.Now().Add(patience))
			io.WriteString(c, x.request)
			for r, got := bufio.NewReader(c), ""; !strings.HasSuffix(got, "half"); {
				b, err := r.ReadByte()
				if err != nil {
					t.Fatalf("after %q: %v", got, err)
				}
				got += string(b)
			}
			if close(breaks); x.withdrawn {
				m.rules(strings.Replace(twoShops, "path: /,", "path: /other,", 1))
			}
			if rest, err := io.ReadAll(c); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("the client saw its end: %q, %v", rest, err)
			}
		})
	}
}
