package tlsio

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"math/big"
	"net"
	"os"
	"syscall"
	"testing"
	"time"
)

const patience = time.Minute

// pair is the server's end of a connection, its client, and the client's socket.
func pair(t *testing.T) (*Conn, *tls.Conn, *net.TCPConn) {
	t.Helper()
	return pairOver(t, tls.VersionTLS13, func(c net.Conn) net.Conn { return c }, (*tls.Conn).Handshake)
}

// pairOver is pair where the client speaks a version of TLS, writes by what over makes of its socket, and begins with
// what begin does.
func pairOver(t *testing.T, version uint16, over func(net.Conn) net.Conn, begin func(*tls.Conn) error) (*Conn, *tls.Conn, *net.TCPConn) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	of := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), DNSNames: []string{"a"}}
	der, err := x509.CreateCertificate(rand.Reader, of, of, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	raw, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	down, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { raw.Close(); down.Close() })
	client := tls.Client(over(raw), &tls.Config{InsecureSkipVerify: true, MaxVersion: version})
	shaken := make(chan error, 1)
	go func() { shaken <- begin(client) }()
	c, err := Server(t.Context(), down.(*net.TCPConn), nil, &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}, SessionTicketsDisabled: true})
	if err != nil {
		t.Fatal(err)
	}
	if err := <-shaken; err != nil {
		t.Fatal(err)
	}
	return c, client, raw.(*net.TCPConn)
}

// Whoever ends a connection may hold a lock: it waits for no write that the peer does not take,
// and for no room for the close_notify.
func TestClosingWaitsForNoPeerThatDoesNotRead(t *testing.T) {
	c, _, _ := pair(t)
	written := make(chan error, 1)
	go func() {
		_, err := c.Write(make([]byte, 64<<20))
		written <- err
	}()
	for busy := false; !busy; time.Sleep(time.Millisecond) { // until the write has begun
		c.under.mu.Lock()
		busy = c.under.writing > 0
		c.under.mu.Unlock()
	}
	closed := make(chan struct{})
	go func() { c.Close(); close(closed) }()
	select {
	case <-closed:
	case <-time.After(patience):
		t.Fatal("Close waits for the write")
	}
	if err := <-written; err == nil {
		t.Error("the write was taken whole")
	}
}

func TestTheEndIsSaidInTLSAndNothingIsSentAfterIt(t *testing.T) {
	c, client, _ := pair(t)
	if _, err := c.Write([]byte("last")); err != nil {
		t.Fatal(err)
	}
	if err := c.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	client.SetDeadline(time.Now().Add(patience))
	text, err := io.ReadAll(client) // an end without close_notify is an error
	if err != nil || string(text) != "last" {
		t.Errorf("%q, %v", text, err)
	}
	c.Close()
	c.Close()
}

// What broke off must not look whole: an answer may end with its connection.
func TestAConnectionThatIsResetIsNotSaidToHaveEnded(t *testing.T) {
	for name, x := range map[string]struct {
		end   func(*Conn) error
		fails bool
	}{"Close": {(*Conn).Close, true}, "CloseWrite": {(*Conn).CloseWrite, false}} {
		c, client, raw := pair(t)
		if _, err := c.Write([]byte("half")); err != nil {
			t.Fatal(err)
		}
		raw.SetDeadline(time.Now().Add(patience))
		if _, err := io.ReadFull(client, make([]byte, 4)); err != nil { // a reset may take what was sent with it
			t.Fatal(err)
		}
		c.SetLinger(0)
		if err := x.end(c); err != nil {
			t.Fatal(err)
		}
		if n, err := raw.Read(make([]byte, 100)); n > 0 || errors.Is(err, syscall.ECONNRESET) != x.fails {
			t.Errorf("%s: the client got %d bytes more, %v", name, n, err)
		}
		if n, err := c.Conn.NetConn().Write([]byte("more")); err == nil {
			t.Errorf("%s: then %d bytes are taken to be sent", name, n)
		}
	}
}

// What is there is read without waiting, a record that has come in part too; its rest is read
// when it comes.
func TestWhatIsThereIsReadWithoutWaiting(t *testing.T) {
	c, client, _ := pair(t)
	b := make([]byte, 100)
	if n, errno := c.ReadNow(b); n != 0 || errno != syscall.EAGAIN {
		t.Fatalf("nothing is there: %d, %v", n, errno)
	}
	c.SetReadDeadline(time.Now().Add(-time.Second))
	if err := c.Wait(); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("a wait past its deadline: %v", err)
	}
	if n, errno := c.ReadNow(b); n != 0 || errno != syscall.EAGAIN {
		t.Errorf("past the deadline: %d, %v", n, errno)
	}
	c.SetReadDeadline(time.Now().Add(patience))
	if _, err := client.Write([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	read := func() string {
		for {
			n, errno := c.ReadNow(b)
			if errno == syscall.EAGAIN {
				if err := c.Wait(); err != nil {
					t.Fatal(err)
				}
				continue
			}
			if errno != 0 {
				t.Fatal(errno)
			}
			return string(b[:n])
		}
	}
	if got := read(); got != "hello" {
		t.Errorf("%q", got)
	}
	client.Close()
	if got := read(); got != "" {
		t.Errorf("after the end: %q", got)
	}
}

// Where a record is not whole there is nothing to read, and what is forged is no data.
func TestARecordInPiecesIsReadOnceItIsWhole(t *testing.T) {
	c, _, raw := pair(t)
	b := make([]byte, 10)
	record := []byte{23, 3, 3, 0, 40}
	c.ReadNow(b) // nothing: so that Wait waits
	if _, err := raw.Write(record); err != nil {
		t.Fatal(err)
	}
	c.SetReadDeadline(time.Now().Add(patience))
	if err := c.Wait(); err != nil {
		t.Fatal(err)
	}
	if n, errno := c.ReadNow(b); n != 0 || errno != syscall.EAGAIN {
		t.Errorf("the header of a record: %d, %v", n, errno)
	}
	if _, err := raw.Write(make([]byte, 40)); err != nil {
		t.Fatal(err)
	}
	for {
		n, errno := c.ReadNow(b)
		if errno == syscall.EAGAIN {
			if err := c.Wait(); err != nil {
				t.Fatal(err)
			}
			continue
		}
		if n != 0 || errno != syscall.ECONNRESET { // it is forged
			t.Errorf("a forged record: %d, %v", n, errno)
		}
		return
	}
}

// held keeps what is written, once it is on.
type held struct {
	net.Conn
	on   bool
	kept []byte
}

func (h *held) Write(b []byte) (int, error) {
	if !h.on {
		return h.Conn.Write(b)
	}
	h.kept = append(h.kept, b...)
	return len(b), nil
}

// together keeps what is written after the first, until it is sent all at once.
type together struct {
	held
	begun bool
}

func (c *together) Write(b []byte) (int, error) {
	c.on, c.begun = c.begun, true
	return c.held.Write(b)
}

// A client may send its request together with the end of its handshake: crypto/tls reads both,
// and nothing more comes.
func TestWhatCameWithTheHandshakeIsNotWaitedFor(t *testing.T) {
	var of *together
	c, _, _ := pairOver(t, tls.VersionTLS13, func(c net.Conn) net.Conn { of = &together{held: held{Conn: c}}; return of }, func(client *tls.Conn) error {
		if err := client.Handshake(); err != nil {
			return err
		}
		if _, err := client.Write([]byte("hello")); err != nil {
			return err
		}
		_, err := of.Conn.Write(of.kept)
		return err
	})
	c.SetReadDeadline(time.Now().Add(-time.Second)) // a wait would end with an error
	if err := c.Wait(); err != nil {
		t.Fatal(err)
	}
	c.SetReadDeadline(time.Now().Add(patience))
	b := make([]byte, 100)
	for {
		n, errno := c.ReadNow(b)
		if errno == syscall.EAGAIN {
			if err := c.Wait(); err != nil {
				t.Fatal(err)
			}
			continue
		}
		if errno != 0 || string(b[:n]) != "hello" {
			t.Errorf("%q, %v", b[:n], errno)
		}
		return
	}
}

// In TLS 1.2 crypto/tls looks at a close_notify behind data at once: where that has come in part, it is
// read once it is whole, and the connection lives until then.
func TestAnEndInPiecesBehindDataIsReadOnceItIsWhole(t *testing.T) {
	var h *held
	c, client, raw := pairOver(t, tls.VersionTLS12, func(c net.Conn) net.Conn { h = &held{Conn: c}; return h }, (*tls.Conn).Handshake)
	h.on = true
	if _, err := client.Write([]byte("last")); err != nil {
		t.Fatal(err)
	}
	data := len(h.kept)
	if err := client.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	raw.SetDeadline(time.Now().Add(patience)) // CloseWrite took it away
	if _, err := raw.Write(h.kept[:data+3]); err != nil {
		t.Fatal(err)
	}
	c.SetReadDeadline(time.Now().Add(patience))
	b := make([]byte, 100)
	got := ""
	for got == "" {
		n, errno := c.ReadNow(b)
		switch {
		case errno == syscall.EAGAIN:
			if err := c.Wait(); err != nil {
				t.Fatal(err)
			}
		case errno != 0:
			t.Fatal(errno)
		}
		got = string(b[:n])
	}
	if got != "last" {
		t.Errorf("%q", got)
	}
	if n, errno := c.ReadNow(b); n != 0 || errno != syscall.EAGAIN {
		t.Fatalf("a part of the end: %d, %v", n, errno)
	}
	if _, err := raw.Write(h.kept[data+3:]); err != nil {
		t.Fatal(err)
	}
	for {
		n, errno := c.ReadNow(b)
		if errno == syscall.EAGAIN {
			if err := c.Wait(); err != nil {
				t.Fatal(err)
			}
			continue
		}
		if n != 0 || errno != 0 {
			t.Errorf("the end: %d, %v", n, errno)
		}
		return
	}
}

func TestAHandshakeThatIsCancelledEnds(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	raw, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	down, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Server(ctx, down.(*net.TCPConn), nil, &tls.Config{}); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}
