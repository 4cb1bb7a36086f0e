package upstream

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sluice.dev/sluice/internal/proxy/exchange"
	"sluice.dev/sluice/internal/proxy/rawio"
)

// stopped is a clock that stands still: nothing of a test depends on how soon a
// connection is used again.
func stopped() time.Duration { return 0 }

// use makes one exchange on a connection that was dialled and gives it back.
func use(t *testing.T, c *Conn) {
	t.Helper()
	b := make([]byte, 64)
	if n, err := c.Exchange([]byte("question"), b); err != nil || string(b[:n]) != "answer" {
		t.Fatalf("%q, %v", b[:n], err)
	}
	c.Release(true)
}

// What an upstream says unasked must never be taken for the answer to the next
// request, however soon that one comes.
func TestAConnectionWhoseServerSpokeUnaskedIsNeverTaken(t *testing.T) {
	for name, say := range map[string]func(c net.Conn){
		"a second answer":   func(c net.Conn) { c.Write([]byte("second")) },
		"the end":           func(c net.Conn) { c.(*net.TCPConn).CloseWrite() },
		"a reset":           func(c net.Conn) { c.(*net.TCPConn).SetLinger(0); c.Close() },
		"one byte, and end": func(c net.Conn) { c.Write([]byte("H")); c.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			released := make(chan struct{})
			p := newPool(t, Config{Now: stopped, Dial: dialTo(server(t, func(c net.Conn) {
				c.Read(make([]byte, 64))
				c.Write([]byte("answer"))
				<-released
				say(c)
				io.Copy(io.Discard, c)
			}))})
			c := mustDial(t, p)
			use(t, c)
			close(released)
			eventually(t, "it comes", func() bool { return !rawio.Quiet(c.fd) })
			if p.Take() != nil {
				t.Error("the connection was used again")
			}
			if s := p.Stats(); s != (Stats{}) {
				t.Errorf("it is still there: %+v", s)
			}
		})
	}
}

// tlsScript is a pool whose server answers one question, and then what script says.
func tlsScript(t *testing.T, version uint16, script func(raw net.Conn, s *tls.Conn)) *Pool {
	cert, roots := certificate(t, "a.example")
	address := server(t, func(c net.Conn) {
		under := &collecting{Conn: c}
		s := tls.Server(under, &tls.Config{Certificates: []tls.Certificate{cert}, MaxVersion: version, DynamicRecordSizingDisabled: true})
		s.Read(make([]byte, 64))
		under.collects = true
		s.Write([]byte("answer"))
		script(under, s)
	})
	return newPool(t, Config{Now: stopped, Dial: dialTo(address), TLS: &tls.Config{ServerName: "a.example", RootCAs: roots}})
}

// collecting holds back what is written, once it is told to.
type collecting struct {
	net.Conn
	collects bool
	held     []byte
}

func (c *collecting) Write(b []byte) (int, error) {
	if !c.collects {
		return c.Conn.Write(b)
	}
	c.held = append(c.held, b...)
	return len(b), nil
}

// let sends the first n bytes that are held; all of them for -1.
func (c *collecting) let(n int) {
	if n < 0 {
		n = len(c.held)
	}
	c.Conn.SetWriteDeadline(time.Now().Add(patience)) // crypto/tls takes it away with CloseWrite
	c.Conn.Write(c.held[:n])
	c.held = c.held[n:]
}

func TestAConnectionWhoseServerSpokeUnaskedInTLSIsNeverTaken(t *testing.T) {
	for version, number := range map[string]uint16{"1.2": tls.VersionTLS12, "1.3": tls.VersionTLS13} {
		for name, script := range map[string]func(c *collecting, s *tls.Conn, released <-chan struct{}){
			// crypto/tls reads it with the answer, and the socket says nothing of it.
			"a second answer, in a record that came with the first": func(c *collecting, s *tls.Conn, _ <-chan struct{}) {
				s.Write([]byte("second"))
				c.let(-1)
			},
			"half of such a record": func(c *collecting, s *tls.Conn, _ <-chan struct{}) {
				first := len(c.held)
				s.Write([]byte("second"))
				c.let(first + 9)
			},
			"part of such a record's header": func(c *collecting, s *tls.Conn, _ <-chan struct{}) {
				first := len(c.held)
				s.Write([]byte("second"))
				c.let(first + 2)
			},
			"a second answer, later": func(c *collecting, s *tls.Conn, released <-chan struct{}) {
				c.let(-1)
				<-released
				s.Write([]byte("second"))
				c.let(-1)
			},
			"the end": func(c *collecting, s *tls.Conn, released <-chan struct{}) {
				s.CloseWrite()
				c.let(-1)
			},
			"the end, later": func(c *collecting, s *tls.Conn, released <-chan struct{}) {
				c.let(-1)
				<-released
				s.CloseWrite()
				c.let(-1)
			},
		} {
			t.Run(version+"/"+name, func(t *testing.T) {
				released := make(chan struct{})
				p := tlsScript(t, number, func(raw net.Conn, s *tls.Conn) {
					script(raw.(*collecting), s, released)
					io.Copy(io.Discard, raw)
				})
				c := mustDial(t, p)
				use(t, c)
				close(released)
				if strings.HasSuffix(name, "later") {
					eventually(t, "it comes", func() bool { return !rawio.Quiet(c.fd) })
				}
				if p.Take() != nil {
					t.Error("the connection was used again")
				}
				if s := p.Stats(); s != (Stats{}) {
					t.Errorf("it is still there: %+v", s)
				}
			})
		}
	}
}

// Tickets are no answer: they do not make each connection good for one request.
func TestATicketThatComesWhileIdleIsKept(t *testing.T) {
	p := tlsEcho(t, tls.VersionTLS13)
	c := mustDial(t, p)
	eventually(t, "the ticket comes", func() bool { return !rawio.Quiet(c.fd) })
	c.Release(true)
	p.sweep() // looks in the same way
	if p.Take() != exchange.Stream(c) {
		t.Fatal("the connection is not used again")
	}
	b := make([]byte, 10)
	if n, err := c.Exchange([]byte("hello"), b); err != nil || string(b[:n]) != "hello" {
		t.Errorf("%q, %v", b[:n], err)
	}
	c.Release(false)
	if c = mustDial(t, p); !c.tls.ConnectionState().DidResume {
		t.Error("the ticket was lost")
	}
	c.Release(false)
}

// A server that asks for new keys while the connection is idle gets its answer, and
// the connection goes on under the new keys. OpenSSL's server does so at "K".
func TestAKeyUpdateThatComesWhileIdleIsAnswered(t *testing.T) {
	openssl, err := exec.LookPath("openssl")
	if err != nil {
		t.Skip("openssl is not installed")
	}
	cert, roots := certificate(t, "a.example")
	key, err := x509.MarshalPKCS8PrivateKey(cert.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "server.pem")
	both := append(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Certificate[0]}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key})...)
	if err := os.WriteFile(file, both, 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, openssl, "s_server", "-accept", "127.0.0.1:0", "-cert", file, "-key", file, "-tls1_3", "-num_tickets", "0")
	in, _ := cmd.StdinPipe()
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Wait()
	defer cancel()
	lines := bufio.NewScanner(out)
	line := func(prefix string) string {
		t.Helper()
		for lines.Scan() {
			if rest, ok := strings.CutPrefix(lines.Text(), prefix); ok {
				return rest
			}
		}
		t.Fatalf("openssl never said %q", prefix)
		return ""
	}
	p := newPool(t, Config{Dial: dialTo(line("ACCEPT ")), TLS: &tls.Config{ServerName: "a.example", RootCAs: roots}})
	c := mustDial(t, p)
	line("CIPHER is ")
	io.WriteString(in, "K\n")
	eventually(t, "the key update comes", func() bool { return !rawio.Quiet(c.fd) })
	c.Release(true)
	if p.Take() != exchange.Stream(c) {
		t.Fatal("the connection is not used again")
	}
	if err := c.Send([]byte("under new keys\n")); err != nil {
		t.Fatal(err)
	}
	line("under new keys")
	io.WriteString(in, "an answer\n")
	b := make([]byte, 64)
	if n, err := c.Exchange(nil, b); err != nil || string(b[:n]) != "an answer\n" {
		t.Errorf("%q, %v", b[:n], err)
	}
	c.Release(false)
}

func TestFramingFollowsRecordsHoweverTheyAreCut(t *testing.T) {
	stream := []byte{22, 3, 3, 0, 2, 'a', 'b', 23, 3, 3, 0, 0, 23, 3, 3, 1, 0}
	stream = append(stream, make([]byte, 256)...)
	ends := map[int]bool{0: true, 7: true, 12: true, len(stream): true}
	for step := 1; step <= len(stream); step++ {
		var f framing
		for at := 0; at < len(stream); {
			n := min(step, len(stream)-at)
			f.pass(stream[at : at+n])
			at += n
			if f.between() != ends[at] {
				t.Fatalf("in steps of %d, after %d bytes: between records %v", step, at, f.between())
			}
		}
	}
}

// BenchmarkQuiet is what looking costs each request: one system call.
func BenchmarkQuiet(b *testing.B) {
	run := func(b *testing.B, p *Pool) {
		c := mustDial(b, p)
		defer c.Release(false)
		if _, err := c.Exchange([]byte("x"), make([]byte, 16)); err != nil {
			b.Fatal(err)
		}
		b.ReportAllocs()
		for b.Loop() {
			if !c.quiet() {
				b.Fatal("somebody spoke")
			}
		}
	}
	b.Run("plain", func(b *testing.B) { run(b, newPool(b, Config{Dial: dialTo(server(b, echo))})) })
	b.Run("tls", func(b *testing.B) { run(b, tlsEcho(b, tls.VersionTLS13)) })
}
