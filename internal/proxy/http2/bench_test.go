package http2_test

import (
	"bufio"
	"encoding/binary"
	"net"
	"testing"

	"sluice.dev/sluice/internal/proxy/http2"
	"sluice.dev/sluice/internal/proxy/upstream"
)

// frames reads frames without an allocation, and hands each on.
func frames(r *bufio.Reader, take func(kind, flags byte, stream uint32) (goOn bool)) error {
	for {
		head, err := r.Peek(9)
		if err != nil {
			return err
		}
		kind, flags, stream := head[3], head[4], binary.BigEndian.Uint32(head[5:])
		if _, err := r.Discard(9 + (int(head[0])<<16 | int(head[1])<<8 | int(head[2]))); err != nil {
			return err
		}
		if !take(kind, flags, stream) {
			return nil
		}
	}
}

// appendRaw appends one frame.
func appendRaw(b []byte, kind, flags byte, stream uint32, payload string) []byte {
	b = append(b, 0, byte(len(payload)>>8), byte(len(payload)), kind, flags)
	return append(binary.BigEndian.AppendUint32(b, stream), payload...)
}

// BenchmarkRequest is one request of HTTP/2 after the other to a server of HTTP/2.
func BenchmarkRequest(b *testing.B) {
	one := steady(b)
	b.ReportAllocs()
	for b.Loop() {
		one()
	}
}

// steady returns what asks once and waits for the answer, of a client and a server that
// allocate nothing: what is counted is the proxy's.
func steady(t testing.TB) (one func()) {
	f := newFixture(t, upstream.HTTP2, nil, http2.Limits{})
	go func() { // the server
		c, err := f.origin.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		r := bufio.NewReader(c)
		r.Discard(24) // the preface
		out := appendRaw(nil, 4, 0, 0, "")
		c.Write(out)
		frames(r, func(kind, flags byte, stream uint32) bool {
			out = out[:0]
			if kind == 4 && flags == 0 {
				out = appendRaw(out, 4, 1, 0, "")
			}
			if kind <= 1 && flags&1 != 0 {
				out = appendRaw(out, 1, 4, stream, "\x88")
				out = appendRaw(out, 0, 1, stream, "hello")
			}
			c.Write(out)
			return true
		})
	}()
	c, err := net.Dial("tcp", f.address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	r := bufio.NewReader(c)
	out := append([]byte("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), appendRaw(nil, 4, 0, 0, "")...)
	out = appendRaw(out, 4, 1, 0, "")
	stream := uint32(1)
	ended := func(kind, flags byte, of uint32) bool { return !(kind == 0 && flags&1 != 0 && of == stream) }
	return func() {
		// :method GET, :scheme http, :path / and :authority without an index
		out = appendRaw(out, 1, 5, stream, "\x82\x86\x84\x01\x01a")
		if stream%4001 == 0 {
			out = appendRaw(out, 8, 0, 0, "\x00\x00\xff\xff")
		}
		c.Write(out)
		out = out[:0]
		if err := frames(r, ended); err != nil {
			t.Fatal(err)
		}
		stream += 2
	}
}
