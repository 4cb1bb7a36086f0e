package tlsio

import (
	"syscall"
	"testing"
	"time"
)

// FuzzReadNow gives bytes of a client's choice to a connection whose handshake is done: none
// of them are data, for nothing of it is sealed, and a read never waits.
func FuzzReadNow(f *testing.F) {
	for _, seed := range []string{"", "\x17", "\x17\x03\x03\x00\x28", "\x15\x03\x03\x00\x02\x01\x00", "\x14\x03\x03\x00\x01\x01", "\x16\x03\x03\x00\x04\x00\x00\x00\x00", "\x17\x03\x03\xff\xff", "GET / HTTP/1.1\r\n\r\n"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, said []byte) {
		if len(said) > 32<<10 {
			return
		}
		c, _, raw := pair(t)
		raw.SetDeadline(time.Now().Add(patience))
		raw.Write(said) // which may be refused once the rest was found to be forged
		raw.CloseWrite()
		c.SetReadDeadline(time.Now().Add(patience))
		b := make([]byte, 1<<10)
		for {
			n, errno := c.ReadNow(b)
			switch {
			case n > 0:
				t.Fatalf("%q is data: %q", said, b[:n])
			case errno == syscall.EAGAIN:
				if err := c.Wait(); err != nil {
					t.Fatal(err)
				}
			default:
				return
			}
		}
	})
}
