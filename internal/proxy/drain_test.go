package proxy

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	"sluice.dev/sluice/internal/wire"
)

// awaited serves requests whose answers come when answer is closed, and tells of
// each that came.
func awaited(asked chan<- struct{}, answer <-chan struct{}) func(net.Conn) {
	return func(c net.Conn) {
		if _, err := http.ReadRequest(bufio.NewReader(c)); err != nil {
			return
		}
		asked <- struct{}{}
		<-answer
		io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nwhole")
	}
}

func TestAProxyThatEndsAnswersWhatIsUnderWay(t *testing.T) {
	asked, answer := make(chan struct{}, 1), make(chan struct{})
	n := newFakeNet(t)
	n.site("slow.example.com", "93.184.215.18", 80, awaited(asked, answer))
	n.site("api.example.com", "93.184.215.16", 80, hello)
	m := newMesh(t, n, rule(t, "*.example.com:80"))
	idle := m.dial("api.example.com", 80)
	exchange(t, idle, bufio.NewReader(idle), "GET / HTTP/1.1\r\nHost: api.example.com\r\n\r\n")
	busy := m.dial("slow.example.com", 80)
	io.WriteString(busy, "GET / HTTP/1.1\r\nHost: slow.example.com\r\n\r\n")
	<-asked
	drained := make(chan struct{})
	go func() {
		defer close(drained)
		m.proxy.Drain(context.Background())
	}()
	if err := ended(idle); err != nil {
		t.Errorf("an idle connection lives on: %v", err)
	}
	late := m.dial("api.example.com", 80)
	resp := exchange(t, late, bufio.NewReader(late), "GET / HTTP/1.1\r\nHost: api.example.com\r\n\r\n")
	if resp.StatusCode != 503 || resp.Header.Get("x-sluice-reason") != "stopping" || resp.Header.Get("server") != "sluice" {
		t.Errorf("a new request: %d %v", resp.StatusCode, resp.Header)
	}
	select {
	case <-drained:
		t.Error("it did not wait for the request under way")
	default:
	}
	close(answer)
	busy.SetDeadline(time.Now().Add(patience))
	whole, err := http.ReadResponse(bufio.NewReader(busy), nil)
	if err != nil {
		t.Fatal(err)
	}
	if body, err := io.ReadAll(whole.Body); err != nil || string(body) != "whole" {
		t.Errorf("the answer under way: %q, %v", body, err)
	}
	<-drained
	within(t, patience, "Close hangs", m.proxy.Close)
	if _, err := m.proxy.Attach(t.Context(), WorkloadConfig{Workload: wire.Workload{Instance: "late/1"}, Holder: m.holder}); err == nil {
		t.Error("a workload is attached after the end")
	}
}

// The time to drain is bounded, and each kind of connection ends with the proxy.
func TestAProxyThatEndsWaitsForNobodyForLong(t *testing.T) {
	n := newFakeNet(t)
	for _, kind := range liveKinds(t, n) {
		t.Run(kind.name, func(t *testing.T) {
			m := newMesh(t, n, kind.rule)
			c := kind.open(t, m)
			over, cancel := context.WithCancel(t.Context())
			cancel()
			within(t, patience, "Drain hangs", func() { m.proxy.Drain(over) })
			within(t, patience, "Close hangs", m.proxy.Close)
			ends(t, c)
			for deadline := time.Now().Add(patience); m.proxy.capacity.down.Used() != 0; time.Sleep(time.Millisecond) {
				if time.Now().After(deadline) {
					t.Fatalf("%d connections are still carried", m.proxy.capacity.down.Used())
				}
			}
		})
	}
}
