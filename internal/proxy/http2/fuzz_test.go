package http2

import (
	"bytes"
	"context"
	"net"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	xhttp2 "golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"sluice.dev/sluice/internal/proxy/exchange"
)

// fieldsOf reads "name=value" lines as fields.
func fieldsOf(lines string) (fields []hpack.HeaderField) {
	for line := range strings.SplitSeq(lines, "\n") {
		name, value, _ := strings.Cut(line, "=")
		fields = append(fields, hpack.HeaderField{Name: name, Value: value})
	}
	return fields
}

// What passes as a request is one for x/net's HTTP/2 too, is one line for each field in
// HTTP/1.1, and means the same once it is HTTP/2 again.
func FuzzARequestMeansTheSameInBothVersions(f *testing.F) {
	const get = ":method=GET\n:scheme=http\n:authority=a.example\n:path=/\n"
	f.Add(get + "user-agent=x\ncookie=a=b\ncookie=c=d\nx-y=")
	f.Add(get + "cookie=\ncookie=a\ncookie=\nx=y")
	f.Add(get + "te=trailers\ncontent-length=0\ncontent-type=application/grpc+proto")
	f.Add(":method=CONNECT\n:protocol=websocket\n:scheme=https\n:authority=a:1\n:path=/x?y\nsec-websocket-version=13")
	f.Add(":method=OPTIONS\n:scheme=https\n:authority=a\n:path=*")
	f.Add(":method=CONNECT\n:authority=a:1")
	f.Add(get + "x=a\r\nb: c")
	f.Add(get + "host=A.example\nX-Upper=1")
	f.Add(get + "connection=close")
	f.Fuzz(func(t *testing.T, lines string) {
		var s section
		s.reset(32 << 10)
		for _, field := range fieldsOf(lines) {
			s.add(field)
		}
		var m message
		if s.over || s.request(&m, true) != nil {
			return
		}
		theirs(t, s.fields)
		head, rest, ok := bytes.Cut(m.text, []byte("\r\n\r\n"))
		if !ok || len(rest) > 0 || bytes.ContainsAny(bytes.ReplaceAll(head, []byte("\r\n"), nil), "\r\n\x00") {
			t.Fatalf("%q", m.text)
		}
		if m.method == "CONNECT" && m.protocol == "" || bytes.Contains(m.text, []byte(" https://")) {
			return // no server is asked so
		}
		e := newEncoder()
		if err := e.request(m.text, false); err != nil {
			t.Fatalf("%q: %v", m.text, err)
		}
		back, err := hpack.NewDecoder(4096, nil).DecodeFull(e.block)
		if err != nil {
			t.Fatal(err)
		}
		if want, got := meaning(s.fields), meaning(back); !slices.Equal(want, got) {
			t.Errorf("%q became %q", want, got)
		}
	})
}

// theirs holds that x/net's HTTP/2 takes fields that ours takes.
func theirs(t *testing.T, fields []hpack.HeaderField) {
	var block, wire bytes.Buffer
	e := hpack.NewEncoder(&block)
	for _, f := range fields {
		e.WriteField(f)
	}
	framer := xhttp2.NewFramer(&wire, &wire)
	framer.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	framer.AllowIllegalWrites = true
	for b, first := block.Bytes(), true; first || len(b) > 0; first = false {
		piece := b[:min(len(b), maxFrame)]
		b = b[len(piece):]
		if first {
			framer.WriteHeaders(xhttp2.HeadersFrameParam{StreamID: 1, BlockFragment: piece, EndHeaders: len(b) == 0})
		} else {
			framer.WriteContinuation(1, len(b) == 0, piece)
		}
	}
	if _, err := framer.ReadFrame(); err != nil {
		t.Errorf("x/net does not take %q: %v", fields, err)
	}
}

// meaning is what fields say, but for what a proxy may say otherwise: the order of different
// names, cookies in several fields, TE, Host beside :authority, and WebSocket's key.
func meaning(fields []hpack.HeaderField) (out []string) {
	cookie, authority, host := "", "", ""
	for _, f := range fields {
		switch f.Name {
		case "te", "sec-websocket-key":
		case "cookie":
			if f.Value != "" { // an empty one says nothing
				cookie += "; " + f.Value
			}
		case "host":
			host = f.Value
		case ":authority":
			authority = f.Value
		default:
			out = append(out, f.Name+"="+f.Value)
		}
	}
	if authority == "" {
		authority = host
	}
	slices.SortStableFunc(out, func(a, b string) int {
		a, _, _ = strings.Cut(a, "=")
		b, _, _ = strings.Cut(b, "=")
		return strings.Compare(a, b)
	})
	return append(out, "authority="+authority, "cookie="+cookie)
}

// whole reports whether the request was read to its end.
func whole(l *Line) bool {
	l.s.mu.Lock()
	defer l.s.mu.Unlock()
	return l.textEnded
}

// quiet answers each request itself.
type quiet struct{}

func (quiet) Direct(*exchange.Request) exchange.Direction { return exchange.Direction{} }
func (quiet) Done(*exchange.Request, exchange.Outcome)    {}
func (quiet) Refused(exchange.Outcome)                    {}
func (quiet) Branch() (exchange.Branch, bool) {
	return exchange.Branch{Context: context.Background(), Director: quiet{}, Leave: func() {}}, true
}

// Whatever a client says, its connection ends when it does, with nothing left behind.
func FuzzAnythingThatAClientSaysEnds(f *testing.F) {
	var wire bytes.Buffer
	framer := xhttp2.NewFramer(&wire, nil)
	framer.AllowIllegalWrites = true
	block := func(fields string) []byte {
		var b bytes.Buffer
		e := hpack.NewEncoder(&b)
		for _, f := range fieldsOf(fields) {
			e.WriteField(f)
		}
		return b.Bytes()
	}
	add := func(write func()) {
		wire.Reset()
		framer.WriteSettings()
		write()
		f.Add(bytes.Clone(wire.Bytes()))
	}
	get := block(":method=GET\n:scheme=http\n:authority=a.example\n:path=/")
	add(func() {
		framer.WriteHeaders(xhttp2.HeadersFrameParam{StreamID: 1, BlockFragment: get, EndHeaders: true, EndStream: true})
	})
	add(func() {
		framer.WriteHeaders(xhttp2.HeadersFrameParam{StreamID: 1, BlockFragment: get[:3], PadLength: 3, Priority: xhttp2.PriorityParam{StreamDep: 3}})
		framer.WriteContinuation(1, true, get[3:])
		framer.WriteDataPadded(1, false, []byte("abc"), []byte{0, 0})
		framer.WriteHeaders(xhttp2.HeadersFrameParam{StreamID: 1, BlockFragment: block("x-trailer=1"), EndHeaders: true, EndStream: true})
	})
	add(func() {
		framer.WriteSettings(xhttp2.Setting{ID: xhttp2.SettingInitialWindowSize, Val: 1}, xhttp2.Setting{ID: xhttp2.SettingHeaderTableSize, Val: 0})
		framer.WritePing(false, [8]byte{1})
		framer.WriteWindowUpdate(0, 1<<31-1)
		framer.WriteRSTStream(1, xhttp2.ErrCodeCancel)
		framer.WriteGoAway(1, xhttp2.ErrCodeNo, []byte("x"))
	})
	f.Fuzz(func(t *testing.T, said []byte) {
		ours, theirs := net.Pipe()
		server := NewServer(Config{Serve: func(_ context.Context, line *Line, _ exchange.Director) {
			defer line.Close()
			b := make([]byte, 100)
			for {
				n, errno := line.ReadNow(b)
				switch {
				case n > 0:
					if whole(line) {
						line.Write([]byte("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"))
					}
				case errno != syscall.EAGAIN:
					return
				default:
					if line.Wait() != nil {
						return
					}
				}
			}
		}})
		done := make(chan struct{})
		go func() {
			defer close(done)
			server.Serve(context.Background(), ours, nil, quiet{})
		}()
		go func() {
			theirs.Write([]byte(preface))
			theirs.Write(said)
			theirs.Close()
		}()
		for b := make([]byte, 4096); ; {
			theirs.SetReadDeadline(time.Now().Add(time.Minute))
			if _, err := theirs.Read(b); err != nil {
				break
			}
		}
		<-done
		if server.Count() > 0 {
			t.Error("a connection is left")
		}
	})
}
