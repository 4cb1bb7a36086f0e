package sniff

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"syscall"
	"testing"
	"time"

	"sluice.dev/sluice/internal/policy"
)

// connected returns both ends of a TCP connection over loopback. Our end comes
// without a deadline, as an accepted one does.
func connected(t testing.TB) (client, ours *net.TCPConn) {
	t.Helper()
	l, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	client, err = net.DialTCP("tcp", nil, l.Addr().(*net.TCPAddr))
	if err != nil {
		t.Fatal(err)
	}
	ours, err = l.AcceptTCP()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close(); ours.Close() })
	client.SetDeadline(time.Now().Add(time.Minute))
	return client, ours
}

func TestReadStopsWhenItKnows(t *testing.T) {
	big := one(madeUp(padding(40<<10), serverName("www.example.com"), versions13))
	for name, c := range map[string]struct {
		bytes string
		kind  policy.Sniffed
		name  string
	}{
		"a hello":              {string(helloOf(t, &tls.Config{ServerName: "www.example.com"})), policy.ClientHello, "www.example.com"},
		"a hello of 40 KiB":    {string(big), policy.ClientHello, "www.example.com"},
		"in records of a byte": {string(records(madeUp(serverName("www.example.com")), 1)), policy.ClientHello, "www.example.com"},
		"a request":            {"GET / HTTP/1.1\r\nHost: a\r\n\r\n", policy.HTTP, ""},
		"something else":       {"\x00\x01\x02", policy.Opaque, ""},
	} {
		for _, piece := range []int{len(c.bytes), 1000, 7} {
			client, ours := connected(t)
			go func() {
				for rest := []byte(c.bytes); len(rest) > 0; {
					n := min(piece, len(rest))
					client.Write(rest[:n])
					rest = rest[n:]
				}
			}()
			buf := new(Buffers).NewBuffer(nil)
			r, prefix, err := Read(t.Context(), ours, buf, Limits{})
			if err != nil || r.Kind != c.kind || r.Err != nil || r.Name.String() != c.name || r.Silent || r.Ended {
				t.Errorf("%s in pieces of %d: %+v, %v", name, piece, r, err)
			}
			// What comes after is still the socket's, and no deadline is left.
			rest := make([]byte, len(c.bytes)-len(prefix))
			if _, err := io.ReadFull(ours, rest); err != nil || string(prefix)+string(rest) != c.bytes {
				t.Errorf("%s in pieces of %d: %d bytes and %d more, %v", name, piece, len(prefix), len(rest), err)
			}
			buf.Release()
			if buf.Bytes() != nil {
				t.Error("a released buffer holds bytes")
			}
		}
	}
}

func TestAClientThatSaysNothingIsSilent(t *testing.T) {
	_, ours := connected(t)
	buf := new(Buffers).NewBuffer(nil)
	r, prefix, err := Read(t.Context(), ours, buf, Limits{Silence: time.Millisecond})
	if err != nil || r.Kind != policy.Opaque || !r.Silent || r.Ended || len(prefix) != 0 {
		t.Errorf("%+v, %q, %v", r, prefix, err)
	}
	if buf.small != nil {
		t.Error("a silent client holds a buffer")
	}
}

func TestTheDeadlinesOfReadAreGoneAfterIt(t *testing.T) {
	client, ours := connected(t)
	if r, _, err := Read(t.Context(), ours, new(Buffers).NewBuffer(nil), Limits{Silence: time.Millisecond}); err != nil || !r.Silent {
		t.Fatalf("%+v, %v", r, err)
	}
	go func() {
		time.Sleep(5 * time.Millisecond)
		client.Write([]byte("x"))
	}()
	if _, err := ours.Read(make([]byte, 1)); err != nil {
		t.Errorf("a later read: %v", err)
	}
}

func TestAClientThatStopsInTheMiddle(t *testing.T) {
	hello := helloOf(t, &tls.Config{ServerName: "www.example.com"})
	for name, c := range map[string]struct {
		bytes string
		kind  policy.Sniffed
		late  *HelloError // where it only stops
		ended *HelloError // where it sends FIN
	}{
		"a hello":          {string(hello[:100]), policy.ClientHello, ErrHelloSlow, ErrHelloEnded},
		"its first byte":   {string(hello[:1]), policy.ClientHello, ErrHelloSlow, ErrHelloEnded},
		"a request":        {"GET / HT", policy.HTTP, nil, nil},
		"a word":           {"PING", policy.Opaque, nil, nil},
		"half of a binary": {"\x80\x01\x01", policy.Opaque, nil, nil},
	} {
		t.Run(name, func(t *testing.T) {
			client, ours := connected(t)
			client.Write([]byte(c.bytes))
			r, prefix, err := Read(t.Context(), ours, new(Buffers).NewBuffer(nil), Limits{Rest: time.Millisecond})
			if err != nil || r.Kind != c.kind || r.Err != c.late || r.SNIBad != (c.late != nil) || r.Silent || r.Ended || string(prefix) != c.bytes {
				t.Errorf("where it stops: %+v, %q, %v", r, prefix, err)
			}
			client, ours = connected(t)
			client.Write([]byte(c.bytes))
			client.CloseWrite()
			r, prefix, err = Read(t.Context(), ours, new(Buffers).NewBuffer(nil), Limits{})
			if c.ended != nil {
				c.kind = policy.Opaque // no server takes half a hello
			}
			if err != nil || r.Kind != c.kind || r.Err != c.ended || r.SNIBad || r.Silent || !r.Ended || string(prefix) != c.bytes {
				t.Errorf("where it ends: %+v, %q, %v", r, prefix, err)
			}
		})
	}
}

func TestASlowHelloIsGivenUpHoweverBusyItsClientIs(t *testing.T) {
	hello := records(madeUp(padding(5000), serverName("www.example.com")), 1)
	client, ours := connected(t)
	go func() {
		for _, b := range hello {
			if _, err := client.Write([]byte{b}); err != nil {
				return
			}
			time.Sleep(time.Millisecond)
		}
	}()
	r, _, err := Read(t.Context(), ours, new(Buffers).NewBuffer(nil), Limits{Rest: 50 * time.Millisecond})
	if err != nil || r.Err != ErrHelloSlow {
		t.Errorf("%+v, %v", r, err)
	}
}

func TestAHelloWithoutEndIsRefusedInBoundedMemory(t *testing.T) {
	client, ours := connected(t)
	go func() {
		client.Write(records(make16(20<<10), 1)) // more than 64 KiB on the wire
	}()
	buf := new(Buffers).NewBuffer(nil)
	r, prefix, err := Read(t.Context(), ours, buf, Limits{})
	if err != nil || r.Err != ErrHelloTooLong || len(prefix) > MaxHello {
		t.Errorf("%+v, %d bytes, %v", r, len(prefix), err)
	}
}

func TestAClientThatLeavesAtOnceEnded(t *testing.T) {
	client, ours := connected(t)
	client.Close()
	if r, _, err := Read(t.Context(), ours, new(Buffers).NewBuffer(nil), Limits{}); err != nil || !r.Ended || !r.Silent || r.Kind != policy.Opaque {
		t.Errorf("%+v, %v", r, err)
	}
	client, ours = connected(t)
	client.SetLinger(0)
	client.Close()
	if _, _, err := Read(t.Context(), ours, new(Buffers).NewBuffer(nil), Limits{}); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("after a reset: %v", err)
	}
}

func TestReadEndsWhenItsConnectionIsClosedElsewhere(t *testing.T) {
	client, ours := connected(t)
	client.Write([]byte("GET"))
	done := make(chan error, 1)
	go func() {
		_, _, err := Read(t.Context(), ours, new(Buffers).NewBuffer(nil), Limits{Rest: time.Minute})
		done <- err
	}()
	time.Sleep(5 * time.Millisecond)
	ours.Close()
	if err := <-done; !errors.Is(err, net.ErrClosed) {
		t.Errorf("got %v", err)
	}
}

func TestABufferIsUsedAgain(t *testing.T) {
	var pool Buffers
	for range 3 {
		client, ours := connected(t)
		wire := one(madeUp(padding(20<<10), serverName("www.example.com")))
		go client.Write(wire)
		buf := pool.NewBuffer(nil)
		if r, prefix, err := Read(t.Context(), ours, buf, Limits{}); err != nil || r.Name.IsZero() || !bytes.Equal(prefix, wire) {
			t.Fatalf("%+v, %v", r, err)
		}
		buf.Release()
		buf.Release() // twice does no harm
	}
}

func BenchmarkRead(b *testing.B) {
	hello := helloOf(b, &tls.Config{ServerName: "www.example.com"})
	var pool Buffers
	client, ours := connected(b)
	client.SetDeadline(time.Time{})
	b.ReportAllocs()
	for b.Loop() {
		client.Write(hello)
		buf := pool.NewBuffer(nil)
		if r, _, err := Read(b.Context(), ours, buf, Limits{}); err != nil || r.Name.IsZero() {
			b.Fatal(r, err)
		}
		buf.Release()
	}
}
