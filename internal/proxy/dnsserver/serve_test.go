package dnsserver

import (
	"context"
	"encoding/binary"
	"io"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

func framed(message []byte) []byte {
	return append(binary.BigEndian.AppendUint16(nil, uint16(len(message))), message...)
}

// serveTCP serves one side of a pipe and returns the other, with what ServeTCP
// returned.
func serveTCP(ctx context.Context, t *testing.T) (net.Conn, <-chan error) {
	return servedOverTCP(ctx, newServer(t))
}

func servedOverTCP(ctx context.Context, s *Server) (net.Conn, <-chan error) {
	client, server := net.Pipe()
	done := make(chan error, 1)
	go func() { done <- s.ServeTCP(ctx, server) }()
	return client, done
}

func readReply(t *testing.T, c net.Conn) dnsmessage.Message {
	t.Helper()
	var length [2]byte
	_, err := io.ReadFull(c, length[:])
	must(t, err)
	reply := make([]byte, binary.BigEndian.Uint16(length[:]))
	_, err = io.ReadFull(c, reply)
	must(t, err)
	return unpack(t, reply)
}

func TestTCPAnswersOneQuestionAfterTheOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, done := serveTCP(t.Context(), t)
		go func() { // two at once, the second in pieces
			both := append(framed(query(t, "a.example.com.", dnsmessage.TypeA, false)), framed(query(t, "b.example.com.", dnsmessage.TypeA, true))...)
			for len(both) > 0 {
				n := min(7, len(both))
				c.Write(both[:n])
				both = both[n:]
			}
		}()
		if a := told(t, readReply(t, c)); a != addressesOf(1).V4 {
			t.Errorf("first %v", a)
		}
		if a := told(t, readReply(t, c)); a != addressesOf(2).V4 {
			t.Errorf("second %v", a)
		}
		synctest.Wait()
		c.Close()
		if err := <-done; err != nil {
			t.Errorf("ServeTCP: %v", err)
		}
	})
}

func TestTCPEndsAtItsBounds(t *testing.T) {
	for _, c := range []struct {
		name  string
		send  []byte
		after time.Duration
		want  string
	}{
		{"silence", nil, IdleTimeout, "timeout"},
		{"half a length", []byte{0}, IdleTimeout, "timeout"},
		{"half a question", framed(query(t, "a.example.com.", dnsmessage.TypeA, false))[:20], IdleTimeout, "timeout"},
		{"too long a question", []byte{0xff, 0xff}, 0, "more than 4096"},
		{"an empty message", []byte{0, 0}, 0, "it is none"},
		{"a response", framed(packed([6]uint16{1, 0x8000, 1}, wwwExample+inA)), 0, "it is none"},
		{"a reply that is not taken", framed(query(t, "a.example.com.", dnsmessage.TypeA, false)), WriteTimeout, "timeout"},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				conn, done := serveTCP(t.Context(), t)
				defer conn.Close()
				start := time.Now()
				conn.Write(c.send)
				err := <-done
				if err == nil || !strings.Contains(err.Error(), c.want) {
					t.Errorf("ServeTCP: %v, want %q", err, c.want)
				}
				if got := time.Since(start); got != c.after {
					t.Errorf("it took %v, want %v", got, c.after)
				}
			})
		})
	}
}

func TestTCPTakesALongQuestionAndBoundsHowMany(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, done := serveTCP(t.Context(), t)
		long := append(query(t, "a.example.com.", dnsmessage.TypeA, false), make([]byte, 3000)...)
		for range QuestionsPerConnection {
			go c.Write(framed(long))
			told(t, readReply(t, c))
		}
		if err := <-done; err == nil || !strings.Contains(err.Error(), "more than 1000") {
			t.Errorf("ServeTCP: %v", err)
		}
	})
}

func TestTCPEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		ctx, cancel := context.WithCancel(t.Context())
		_, done := serveTCP(ctx, t)
		synctest.Wait()
		cancel()
		if err := <-done; err == nil {
			t.Error("no error")
		}
		if took := time.Since(start); took != 0 {
			t.Errorf("it took %v", took)
		}
	})
}
