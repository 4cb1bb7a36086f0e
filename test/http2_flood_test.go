package test

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"sluice.dev/sluice/test/mesh"
	"sluice.dev/sluice/test/mesh/agent"
)

// Of each flood: how many connections take part at once, what the proxy may hold in memory, and
// what of a neighbour's calls is answered.
const (
	flooders   = 8
	mostMemory = 64 << 20 // bytes, resident
	// Of streams with bodies under way there may be 800 here: what they hold in buffers is bounded
	// for their workload, but the collector lets it double, and each has two or three goroutines.
	bodiesMemory = 192 << 20
	neighbour    = 50 // calls a second
	shortSample  = 2 * time.Second
)

// flood is one connection of a client that means ill. It writes until it fails.
type flood struct {
	net.Conn
	framer *http2.Framer
	encode *hpack.Encoder
	block  bytes.Buffer
	stream uint32
}

// dialFlood opens a connection with these settings. reads says that its answers are read.
func dialFlood(at string, reads bool, settings ...http2.Setting) (*flood, error) {
	conn, err := net.Dial("tcp", at)
	if err != nil {
		return nil, err
	}
	conn.SetDeadline(time.Now().Add(30 * time.Second))
	f := &flood{Conn: conn, framer: http2.NewFramer(conn, nil), stream: 1}
	f.encode = hpack.NewEncoder(&f.block)
	if reads {
		go io.Copy(io.Discard, conn)
	}
	io.WriteString(conn, http2.ClientPreface)
	return f, f.framer.WriteSettings(settings...)
}

// head encodes the head of a request and further fields, a name and a value each.
func (f *flood) head(method, path string, more ...string) []byte {
	f.block.Reset()
	fields := append([]string{":method", method, ":scheme", "http", ":authority", "web", ":path", path}, more...)
	for i := 0; i < len(fields); i += 2 {
		f.encode.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]})
	}
	return f.block.Bytes()
}

// begin begins the next stream.
func (f *flood) begin(block []byte, ended bool) (id uint32, err error) {
	id = f.stream
	f.stream += 2
	return id, f.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: block, EndHeaders: true, EndStream: ended})
}

// floods are what a client may do to no purpose but to cost: each does it on one connection,
// again and again, until that fails.
var floods = []struct {
	name     string
	reads    bool
	settings []http2.Setting
	most     int // bytes of memory
	again    func(f *flood) error
}{
	{"streams that are reset at once", true, nil, mostMemory, func(f *flood) error {
		id, err := f.begin(f.head("GET", "/"), true)
		if err != nil {
			return err
		}
		return f.framer.WriteRSTStream(id, http2.ErrCodeCancel)
	}},
	{"streams that we have to reset", true, nil, mostMemory, func(f *flood) error {
		_, err := f.begin(f.head("GET", "/", "connection", "close"), true)
		return err
	}},
	{"a head without an end", true, nil, mostMemory, func(f *flood) error {
		id := f.stream
		if err := f.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: f.head("GET", "/")}); err != nil {
			return err
		}
		for {
			if err := f.framer.WriteContinuation(id, false, bytes.Repeat(f.head("GET", "/", "x-a", strings.Repeat("a", 1<<10))[4:], 8)); err != nil {
				return err
			}
		}
	}},
	{"empty CONTINUATION frames", true, nil, mostMemory, func(f *flood) error {
		id := f.stream
		if err := f.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: f.head("GET", "/")}); err != nil {
			return err
		}
		for {
			if err := f.framer.WriteContinuation(id, false, nil); err != nil {
				return err
			}
		}
	}},
	{"indexed fields against a closed window", false, []http2.Setting{{ID: http2.SettingInitialWindowSize, Val: 0}}, mostMemory, func(f *flood) error {
		more := []string{"x-long", strings.Repeat("v", 4000)}
		for range 60 { // a byte or two each, once the first is in the table
			more = append(more, more[0], more[1])
		}
		_, err := f.begin(f.head("POST", "/long", more...), false)
		return err
	}},
	{"PING whose answers nobody reads", false, nil, mostMemory, func(f *flood) error { return f.framer.WritePing(false, [8]byte{}) }},
	{"SETTINGS whose answers nobody reads", false, nil, mostMemory, func(f *flood) error {
		return f.framer.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1})
	}},
	{"empty DATA", true, nil, mostMemory, func(f *flood) error {
		id, err := f.begin(f.head("POST", "/"), false)
		for err == nil {
			err = f.framer.WriteData(id, false, nil)
		}
		return err
	}},
	{"frames of a kind that there is not", true, nil, mostMemory, func(f *flood) error { return f.framer.WriteRawFrame(0xbe, 0, 0, []byte("x")) }},
	{"PRIORITY", true, nil, mostMemory, func(f *flood) error {
		return f.framer.WritePriority(1, http2.PriorityParam{StreamDep: 3})
	}},
	{"heads of streams whose bodies never come", false, nil, bodiesMemory, func(f *flood) error {
		more := make([]string, 0, 16)
		for i := range 7 {
			more = append(more, fmt.Sprint("x-", i), strings.Repeat("v", 2000))
		}
		_, err := f.begin(f.head("POST", "/", more...), false)
		return err
	}},
	{"windows of one byte", true, []http2.Setting{{ID: http2.SettingInitialWindowSize, Val: 1}}, bodiesMemory, func(f *flood) error {
		id, err := f.begin(f.head("GET", "/long"), true)
		for range 100 {
			if err == nil {
				err = f.framer.WriteWindowUpdate(id, 1)
			}
		}
		return err
	}},
	{"long answers that nobody reads", false, []http2.Setting{{ID: http2.SettingInitialWindowSize, Val: 1<<31 - 1}}, bodiesMemory, func(f *flood) error {
		if err := f.framer.WriteWindowUpdate(0, 1<<30); err != nil {
			return err
		}
		for range 100 {
			if _, err := f.begin(f.head("GET", "/long"), true); err != nil {
				return err
			}
		}
		_, err := f.begin(f.head("GET", "/long"), true) // one more than there may be
		io.ReadFull(f, make([]byte, 1<<16))
		time.Sleep(100 * time.Millisecond)
		return err
	}},
}

// Whatever a client of HTTP/2 does to no purpose, the proxy stays within a bound of memory, and a
// neighbour's calls are answered: for 2 s each, or for as long as SLUICE_FLOOD says (make flood).
func TestAFloodOfHTTP2CostsNeitherMemoryNorANeighbour(t *testing.T) {
	for_, err := time.ParseDuration(os.Getenv("SLUICE_FLOOD"))
	if err != nil {
		for_ = shortSample
	}
	ends := ends(t)
	at := freePort(t)
	m := startMachinery(t, mesh.User{Name: "user", UID: -1}, "--ingress", at, "--ingress-route", "/.*=web:8080")
	m.Background(t, nil, "sluice", "run", "--service", "web", "--listen", "8080/http2", "--", ends+"/http2", "serve", ":8080")
	m.Background(t, nil, "sluice", "run", "--service", "details", "--listen", "9080", "--", m.Bin+"/bookinfo", "details", "9080")
	quiet := m.StartWorkload(t, "--service", "neighbour")
	for _, url := range []string{"http://details:9080/health", "http://web:8080/"} {
		m.opens(t, quiet, url)
	}
	for _, x := range floods {
		var under sync.WaitGroup
		var began, ended atomic.Int64
		stop := make(chan struct{})
		for range flooders {
			under.Go(func() {
				for {
					select {
					case <-stop:
						return
					default:
					}
					f, err := dialFlood(at, x.reads, x.settings...)
					if err != nil {
						continue
					}
					began.Add(1)
					live := make(chan struct{})
					go func() {
						select {
						case <-stop:
							f.Close()
						case <-live:
						}
					}()
					for err == nil {
						err = x.again(f)
					}
					close(live)
					f.Close()
					ended.Add(1)
				}
			})
		}
		most := 0
		sampled := make(chan struct{})
		go func() {
			defer close(sampled)
			tick := time.NewTicker(50 * time.Millisecond)
			defer tick.Stop()
			for {
				select {
				case <-stop:
					return
				case <-tick.C:
					most = max(most, usageOf(t, m.proxy).memory)
				}
			}
		}()
		calls := max(int(for_.Seconds()*neighbour), 1)
		a := quiet.Do(t, agent.Ask{Do: agent.Pace, URL: "http://details:9080/health", Rate: neighbour, Count: calls, Wait: time.Minute})
		close(stop)
		under.Wait()
		<-sampled
		t.Logf("%s: %d connections, at most %d MiB, %d of %d calls of a neighbour answered", x.name, began.Load(), most>>20, a.Code, calls)
		if most > x.most {
			t.Errorf("%s: the proxy held %d MiB", x.name, most>>20)
		}
		if a.Code*100 < calls*99 {
			t.Errorf("%s: %d of a neighbour's %d calls were answered: %s", x.name, a.Code, calls, a.Error)
		}
		if began.Load() == 0 {
			t.Errorf("%s: nothing was flooded", x.name)
		}
	}
}
