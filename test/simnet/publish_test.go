package simnet

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"strings"
	"testing"
)

// A server of the tests that listens outside is reached by a name of the internet, with
// a certificate of its CA, and its connections are recorded like all others.
func TestAPublishedNameLeadsToItsServer(t *testing.T) {
	v := visit(t)
	ctx := t.Context()
	pair, err := v.Control.Certificate(ctx, "registry.example.org")
	must(t, err)
	certificate, err := tls.X509KeyPair(pair, pair)
	must(t, err)
	dir := t.TempDir()
	for _, word := range []string{"first", "second"} {
		socket := filepath.Join(dir, word)
		l, err := net.Listen("unix", socket)
		must(t, err)
		t.Cleanup(func() { l.Close() })
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				secure := tls.Server(c, &tls.Config{Certificates: []tls.Certificate{certificate}})
				line, _ := bufio.NewReader(secure).ReadString('\n')
				fmt.Fprintf(secure, "%s heard %s", word, line)
				secure.Close()
			}
		}()
		// The second time the port is moved.
		must(t, v.Control.Publish(ctx, "Registry.example.org.", 8443, socket))
		conn, err := v.dial(ctx, "registry.example.org:8443")
		must(t, err)
		secure := tls.Client(conn, &tls.Config{RootCAs: v.roots, ServerName: "registry.example.org"})
		fmt.Fprintln(secure, "hello")
		heard, err := io.ReadAll(secure)
		must(t, err)
		conn.Close()
		if want := word + " heard hello\n"; string(heard) != want {
			t.Errorf("it says %q, want %q", heard, want)
		}
	}
	if n := len(v.records(t, "registry.example.org", Connection)); n != 2 {
		t.Errorf("%d connections are recorded, want 2", n)
	}
	for name, says := range map[string]string{"www.example.com": "served by the small internet itself", "": "a name, a port and a socket are required"} {
		if err := v.Control.Publish(ctx, name, 80, "x"); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("publish %q: %v, want %q", name, err, says)
		}
	}
	for i := 1; i < maxPublished; i++ {
		must(t, v.Control.Publish(ctx, fmt.Sprintf("n%d.example.org", i), 80, "x"))
	}
	if err := v.Control.Publish(ctx, "more.example.org", 80, "x"); err == nil {
		t.Errorf("more than %d names are published", maxPublished)
	}
}
