package relay

import (
	"context"
	"io"
	"net"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// benchmark runs one relay and returns its far ends.
func benchmark(b *testing.B, memory *Memory) (client, destination *net.TCPConn) {
	client, down := connected(b)
	up, destination := connected(b)
	done := make(chan struct{})
	go func() {
		defer close(done)
		New(Config{Down: down, Up: up, Memory: memory}).Run(context.Background())
	}()
	b.Cleanup(func() {
		client.Close()
		destination.Close()
		<-done
	})
	return client, destination
}

// BenchmarkBulk carries bytes one way. The CPU is that of the whole process,
// sender and receiver included, which are the same for all: compare by ratio.
func BenchmarkBulk(b *testing.B) {
	for _, way := range []struct {
		name string
		far  func(*testing.B) (client, destination *net.TCPConn)
	}{
		{"splice", func(b *testing.B) (client, destination *net.TCPConn) { return benchmark(b, newMemory(b)) }},
		{"copy", func(b *testing.B) (client, destination *net.TCPConn) {
			memory := newMemory(b)
			memory.none = true
			return benchmark(b, memory)
		}},
		{"io.Copy", copied},
		{"direct", func(b *testing.B) (client, destination *net.TCPConn) { return connected(b) }},
	} {
		b.Run(way.name, func(b *testing.B) {
			client, destination := way.far(b)
			piece := make([]byte, 256<<10)
			b.SetBytes(int64(len(piece)))
			go func() {
				for {
					if _, err := client.Write(piece); err != nil {
						return
					}
				}
			}()
			got := make([]byte, len(piece))
			before := usedCPU(b)
			for b.Loop() {
				if _, err := io.ReadFull(destination, got); err != nil {
					b.Fatal(err)
				}
			}
			gigabytes := float64(b.N) * float64(len(piece)) / 1e9
			b.ReportMetric((usedCPU(b)-before).Seconds()/gigabytes, "cpu-s/GB")
		})
	}
}

// copied is what most proxies do: io.Copy, which splices too.
func copied(b *testing.B) (client, destination *net.TCPConn) {
	client, down := connected(b)
	up, destination := connected(b)
	go io.Copy(up, down)
	return client, destination
}

func usedCPU(b *testing.B) time.Duration {
	var usage unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &usage); err != nil {
		b.Fatal(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

func BenchmarkPingPong(b *testing.B) {
	client, destination := benchmark(b, newMemory(b))
	go io.Copy(destination, destination)
	message := make([]byte, 100)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := client.Write(message); err != nil {
			b.Fatal(err)
		}
		if _, err := io.ReadFull(client, message); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkShortConnection(b *testing.B) {
	memory := newMemory(b)
	l, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	dial := func() (*net.TCPConn, *net.TCPConn) {
		d, err := net.DialTCP("tcp", nil, l.Addr().(*net.TCPAddr))
		if err != nil {
			b.Fatal(err)
		}
		a, err := l.AcceptTCP()
		if err != nil {
			b.Fatal(err)
		}
		return d, a
	}
	b.ReportAllocs()
	for b.Loop() {
		client, down := dial()
		up, destination := dial()
		client.CloseWrite()
		destination.CloseWrite()
		New(Config{Down: down, Up: up, Memory: memory}).Run(context.Background())
		client.Close()
		destination.Close()
	}
}

func TestASteadyRelayAllocatesNothing(t *testing.T) {
	x := start(t, t.Context(), Config{})
	go io.Copy(x.destination, x.destination)
	message := make([]byte, 100)
	exchange := func() {
		if _, err := x.client.Write(message); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(x.client, message); err != nil {
			t.Fatal(err)
		}
	}
	exchange()
	if n := testing.AllocsPerRun(500, exchange); n > 0.1 {
		t.Errorf("an exchange allocates %v times", n)
	}
}
