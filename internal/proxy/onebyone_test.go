package proxy

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"sluice.dev/sluice/internal/record"
	"sluice.dev/sluice/internal/refusal"
)

// elsewhere makes an address lead to a server that listens already, and a name to the
// addresses given.
func (n *fakeNet) elsewhere(name string, server net.Addr, port uint16, addresses ...string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.dns[name+"."] = strings.TrimSpace(n.dns[name+"."] + " " + strings.Join(addresses, " "))
	for _, a := range addresses {
		n.sites[netip.AddrPortFrom(netip.MustParseAddr(a), port)] = server.String()
	}
}

// oneByOne serves TLS to one connection at a time, as a simple server does: the next is
// accepted when the one before has ended. It counts them. Where last is not 0 the server
// is gone once it has accepted so many.
func (n *fakeNet) oneByOne(name string, last int32) (at net.Addr, accepted *atomic.Int32) {
	n.t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(func() { l.Close() })
	config := &tls.Config{Certificates: []tls.Certificate{n.certificate(name)}}
	accepted = new(atomic.Int32)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			if accepted.Add(1) == last {
				l.Close()
			}
			c.SetDeadline(time.Now().Add(patience))
			s := tls.Server(c, config)
			if _, err := bufio.NewReader(s).ReadString('\n'); err == nil {
				io.WriteString(s, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello")
			}
			s.Close()
		}
	}()
	return l.Addr(), accepted
}

// getTLS is what a client that brings its own TLS gets.
func (m *meshOf) getTLS(name string, port uint16) (string, error) {
	roots := x509.NewCertPool()
	roots.AddCert(m.net.ca)
	c := tls.Client(m.dial(name, port), &tls.Config{ServerName: name, RootCAs: roots})
	defer c.Close()
	c.SetDeadline(time.Now().Add(patience))
	if _, err := fmt.Fprintf(c, "GET / HTTP/1.0\r\nHost: %s\r\n\r\n", name); err != nil {
		return "", err
	}
	answer, err := io.ReadAll(c)
	line, _, _ := strings.Cut(string(answer), "\r\n")
	if line == "" && err == nil {
		err = io.ErrUnexpectedEOF
	}
	return line, err
}

func TestAServerOfOneConnectionAtATimeIsReached(t *testing.T) {
	n := newFakeNet(t)
	at, accepted := n.oneByOne("www.example.com", 0)
	n.elsewhere("www.example.com", at, 443, "93.184.215.15")
	m := newMesh(t, n, rule(t, "www.example.com"))
	for i := range 3 {
		if got, err := m.getTLS("www.example.com", 443); got != "HTTP/1.1 200 OK" {
			t.Fatalf("%d: %q %v", i, got, err)
		}
	}
	if got := accepted.Load(); got != 4 {
		t.Errorf("%d connections, want 1 of the proof and 3 of the workload", got)
	}
}

// However many come at once, one proof is made for all, and it holds none of them up.
func TestManyAtOnceToAServerOfOneConnectionAtATimeAllGetThrough(t *testing.T) {
	n := newFakeNet(t)
	at, accepted := n.oneByOne("www.example.com", 0)
	n.elsewhere("www.example.com", at, 443, "93.184.215.15")
	m := newMesh(t, n, rule(t, "www.example.com"))
	const many = 64
	var group sync.WaitGroup
	for range many {
		group.Go(func() {
			if got, err := m.getTLS("www.example.com", 443); got != "HTTP/1.1 200 OK" {
				t.Errorf("%q %v", got, err)
			}
		})
	}
	group.Wait()
	if got := accepted.Load(); got != many+1 {
		t.Errorf("%d connections, want 1 of the proof and %d of the workload", got, many)
	}
}

// A server that was proved and is gone when its connection is dialled costs nothing but
// that: the others are proved and dialled.
func TestWhereTheProvedServerIsGoneAnotherIsProved(t *testing.T) {
	n := newFakeNet(t)
	gone, before := n.oneByOne("www.example.com", 1)
	good, after := n.oneByOne("www.example.com", 0)
	stranger, _ := n.oneByOne("evil.example.com", 0)
	n.elsewhere("www.example.com", stranger, 443, "93.184.215.14")
	n.elsewhere("www.example.com", gone, 443, "93.184.215.15")
	n.elsewhere("www.example.com", good, 443, "93.184.215.16")
	m := newMesh(t, n, rule(t, "www.example.com"))
	if got, err := m.getTLS("www.example.com", 443); got != "HTTP/1.1 200 OK" {
		t.Errorf("%q %v", got, err)
	}
	if f := m.lastFlow(); f.Upstream != "93.184.215.16:443" || before.Load() != 1 || after.Load() != 2 {
		t.Errorf("it went to %s; the one that went away took %d, the other %d", f.Upstream, before.Load(), after.Load())
	}
}

// An address that does not answer holds a connection up for the delay of an attempt, not
// until the proof or the dial gives it up.
func TestASilentAddressDoesNotHoldUpWhatIsPassedThrough(t *testing.T) {
	n := newFakeNet(t)
	good, _ := n.oneByOne("www.example.com", 0)
	n.leads("www.example.com", "93.184.215.14", errSilent)
	n.elsewhere("www.example.com", good, 443, "93.184.215.15")
	m := newMesh(t, n, rule(t, "www.example.com"))
	if got, err := m.getTLS("www.example.com", 443); got != "HTTP/1.1 200 OK" {
		t.Errorf("%q %v", got, err)
	}
	if err := <-n.silences; err != context.Canceled {
		t.Errorf("the silent address was given up with %v, not for the one that answered", err)
	}
}

func TestWhereNoServerIsLeftTheErrorTellsOfAll(t *testing.T) {
	n := newFakeNet(t)
	gone, _ := n.oneByOne("www.example.com", 1)
	n.elsewhere("www.example.com", gone, 443, "93.184.215.15", "93.184.215.16")
	m := newMesh(t, n, rule(t, "www.example.com"))
	if got, err := m.getTLS("www.example.com", 443); err == nil {
		t.Errorf("%q", got)
	}
	f := m.lastFlow()
	if f.Verdict != record.Failed || f.Reason != refusal.ConnectRefused || !strings.Contains(f.Detail, "93.184.215.15 and 93.184.215.16") {
		t.Errorf("%+v", f)
	}
}

// On a port of bytes the server is dialled before the client has spoken. What then must
// be proved is not proved beside that connection.
func TestAProofIsNotMadeBesideAConnectionThatWasDialledBeforeTheClientSpoke(t *testing.T) {
	n := newFakeNet(t)
	at, _ := n.oneByOne("www.example.com", 0)
	n.elsewhere("www.example.com", at, 5000, "93.184.215.15")
	m := newMesh(t, n, rule(t, "www.example.com:5000"))
	_, list := echKey(t, "www.example.com")
	roots := x509.NewCertPool()
	roots.AddCert(n.ca)
	c := m.dial("www.example.com", 5000)
	c.SetDeadline(time.Now().Add(patience))
	err := tls.Client(c, &tls.Config{ServerName: "www.example.com", RootCAs: roots, MinVersion: tls.VersionTLS13, EncryptedClientHelloConfigList: list}).Handshake()
	var rejected *tls.ECHRejectionError
	if !errors.As(err, &rejected) { // so it spoke with a server that has no use for ECH
		t.Errorf("%v; the record says %+v", err, m.lastFlow())
	}
}

// What people run: they are single-threaded, and their handshake is made in accept.
func TestRealServersOfOneHandshakeAtATimeAreReached(t *testing.T) {
	const name = "www.example.com"
	n := newFakeNet(t)
	pair := n.certificate(name)
	dir := t.TempDir()
	key, err := x509.MarshalPKCS8PrivateKey(pair.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	certFile, keyFile := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	for file, block := range map[string]*pem.Block{certFile: {Type: "CERTIFICATE", Bytes: pair.Certificate[0]}, keyFile: {Type: "PRIVATE KEY", Bytes: key}} {
		if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	const simple = `
import http.server, ssl, sys
class Hello(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"hello")
server = http.server.HTTPServer(("127.0.0.1", 0), Hello)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(sys.argv[1], sys.argv[2])
server.socket = context.wrap_socket(server.socket, server_side=True)
print("ACCEPT 127.0.0.1:%d" % server.server_address[1], flush=True)
server.serve_forever()
`
	for i, server := range [][]string{
		{"openssl", "s_server", "-www", "-accept", "127.0.0.1:0", "-cert", certFile, "-key", keyFile},
		{"python3", "-c", simple, certFile, keyFile},
	} {
		t.Run(server[0], func(t *testing.T) {
			path, err := exec.LookPath(server[0])
			if err != nil {
				t.Skipf("%s is missing", server[0])
			}
			command := exec.CommandContext(t.Context(), path, server[1:]...)
			out, err := command.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := command.Start(); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { command.Process.Kill(); command.Wait() })
			var at net.Addr
			for lines := bufio.NewScanner(out); at == nil && lines.Scan(); {
				if found := regexp.MustCompile(`^ACCEPT (127\.0\.0\.1:\d+)$`).FindStringSubmatch(lines.Text()); found != nil {
					at = net.TCPAddrFromAddrPort(netip.MustParseAddrPort(found[1]))
				}
			}
			if at == nil {
				t.Fatal("it does not say where it listens")
			}
			go io.Copy(io.Discard, out)
			n.elsewhere(fmt.Sprintf("server%d.example.com", i), at, 443)
			n.mu.Lock()
			n.dns[name+"."] = ""
			n.mu.Unlock()
			address := fmt.Sprintf("93.184.215.%d", 20+i)
			n.elsewhere(name, at, 443, address)
			m := newMesh(t, n, rule(t, name))
			for range 3 {
				if got, err := m.getTLS(name, 443); !strings.Contains(got, " 200 ") {
					t.Fatalf("%q %v; the record says %+v", got, err, m.lastFlow())
				}
			}
		})
	}
}
