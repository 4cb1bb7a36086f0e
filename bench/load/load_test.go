package load

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"testing/iotest"
	"time"
)

func good(i int) string { return string(allAnswers()[i]) }

func TestAnAnswerIsTakenHoweverItIsCut(t *testing.T) {
	for name, from := range map[string]io.Reader{
		"in one piece":                    strings.NewReader(good(3)),
		"byte by byte":                    iotest.OneByteReader(strings.NewReader(good(3))),
		"with the end at once":            iotest.DataErrReader(strings.NewReader(good(3))),
		"with fields in another spelling": strings.NewReader(strings.ReplaceAll(good(3), "Content-Length: ", "content-length:")),
	} {
		t.Run(name, func(t *testing.T) {
			r := reader{from: from, want: body(3)}
			if err := r.next(); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestAWrongAnswerIsNoticed(t *testing.T) {
	flip := func(at int) string {
		b := []byte(good(3))
		b[len(b)-BodySize+at] ^= 1
		return string(b)
	}
	cases := []struct{ name, answer, want string }{
		{"the first byte of the body", flip(0), "byte 0 of the body"},
		{"a byte in the middle", flip(500), "byte 500 of the body"},
		{"the last byte", flip(BodySize - 1), "byte 1023 of the body"},
		{"the answer of another connection", good(4), "of the body is"},
		{"another status", strings.Replace(good(3), "200 OK", "502 Bad Gateway", 1), "502 Bad Gateway"},
		{"HTTP/1.0", strings.Replace(good(3), "HTTP/1.1", "HTTP/1.0", 1), "HTTP/1.0"},
		{"another length", strings.Replace(good(3), "1024", "1025", 1), "content-length"},
		{"no length", strings.Replace(good(3), "Content-Length: 1024\r\n", "", 1), "no content-length"},
		{"a body that is short", good(3)[:len(good(3))-1], "ended after"},
		{"nothing", "", "ended after 0 bytes"},
		{"a byte too many", good(3) + "x", "1 bytes follow"},
		{"two answers", good(3) + good(3), "bytes follow"},
		{"a head without end", "HTTP/1.1 200 OK\r\nx: " + strings.Repeat("y", maxAnswer), "too long"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			r := reader{from: strings.NewReader(c.answer), want: body(3)}
			err := r.next()
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
}

func TestEveryConnectionHasAnAnswerOfItsOwn(t *testing.T) {
	seen := map[string]int{}
	answers := allAnswers()
	for i, a := range answers {
		if other, ok := seen[string(a)]; ok {
			t.Fatalf("%d and %d have the same answer", i, other)
		}
		seen[string(a)] = i
		if got := answer(bytes.ReplaceAll(request(i), []byte("Keep-Alive: timeout=60\r\n"), nil), answers); !bytes.Equal(got, a) {
			t.Fatalf("request %d is answered with %.40q", i, got)
		}
	}
}

func TestTheServerRefusesWhatAProxyShouldHaveDropped(t *testing.T) {
	for _, spelling := range []string{"Keep-Alive:", "keep-alive:"} {
		head := bytes.Replace(request(0), []byte("Keep-Alive:"), []byte(spelling), 1)
		if got := answer(head, allAnswers()); !bytes.Contains(got, []byte(" 500 ")) {
			t.Errorf("%s: got %.60q", spelling, got)
		}
	}
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// direct is the server without a proxy: its requests are rid of what a proxy drops.
func direct(t *testing.T, mangle func([]byte) []byte) string {
	l := listen(t)
	answers := allAnswers()
	for i := range answers {
		answers[i] = mangle(answers[i])
	}
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go serve(dropping{conn}, answers)
		}
	}()
	return l.Addr().String()
}

type dropping struct{ net.Conn }

func (d dropping) Read(b []byte) (int, error) {
	n, err := d.Conn.Read(b)
	kept := bytes.ReplaceAll(b[:n], []byte("Keep-Alive: timeout=60\r\n"), nil)
	return copy(b, kept), err
}

func TestALoadCountsCheckedAnswers(t *testing.T) {
	address := direct(t, func(b []byte) []byte { return b })
	in, orders := io.Pipe()
	said, out := io.Pipe()
	ended := make(chan error, 1)
	go func() { ended <- Obey(in, out); out.Close() }()
	send, receive := json.NewEncoder(orders), json.NewDecoder(said)
	for range 2 {
		var ready Ready
		var result Result
		if err := errors.Join(send.Encode(Order{Address: address, Conns: 4, Requests: 3, Duration: 20 * time.Millisecond}), receive.Decode(&ready)); err != nil || ready.Error != "" {
			t.Fatal(err, ready)
		}
		if err := errors.Join(send.Encode("go"), receive.Decode(&result)); err != nil {
			t.Fatal(err)
		}
		if result.Error != "" || result.Requests < 4 || result.P50 <= 0 || result.P99 < result.P50 {
			t.Errorf("got %+v", result)
		}
	}
	orders.Close()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func TestALoadTellsOfAWrongByte(t *testing.T) {
	address := direct(t, func(b []byte) []byte { b[len(b)-7] ^= 4; return b })
	if _, err := Connect(Order{Address: address, Conns: 2, Requests: 1}); err == nil || !strings.Contains(err.Error(), "byte 1017 of the body") {
		t.Errorf("warming up: %v", err)
	}
	clients, err := Connect(Order{Address: address, Conns: 2, Duration: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	defer clients.Close()
	if r := clients.Run(); !strings.Contains(r.Error, "byte 1017 of the body") || r.Requests != 0 {
		t.Errorf("running: %+v", r)
	}
}

func TestALoadIsBounded(t *testing.T) {
	for _, n := range []int{0, -1, MaxConns + 1} {
		if _, err := Connect(Order{Address: "127.0.0.1:1", Conns: n}); err == nil {
			t.Errorf("%d connections were taken", n)
		}
	}
}
