package capture

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"testing"
)

func TestASidecarAsksFromPortsThatTheKernelGivesToNobody(t *testing.T) {
	text, err := os.ReadFile(portRange)
	if err != nil {
		t.Fatal(err)
	}
	var first, last int
	if _, err := fmt.Sscan(string(text), &first, &last); err != nil {
		t.Fatal(err)
	}
	h, err := NewPodHost()
	if err != nil {
		t.Fatal(err)
	}
	if len(h.ports) == 0 {
		t.Skip("the kernel gives nearly every port of this machine")
	}
	server, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	seen := make(map[int]bool)
	for range 64 {
		conn, err := h.DialUDP(t.Context(), server.LocalAddr().(*net.UDPAddr).AddrPort())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		port := conn.LocalAddr().(*net.UDPAddr).Port
		if port >= first && port <= last || port < lowestAsked {
			t.Errorf("it asks from port %d", port)
		}
		seen[port] = true
	}
	if len(seen) != 64 {
		t.Errorf("%d of 64 ports of open sockets differ", len(seen))
	}
	// Where it is taken, another is.
	taken, err := net.ListenUDP("udp", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	one := PodHost{ports: []uint16{uint16(taken.LocalAddr().(*net.UDPAddr).Port)}}
	conn, err := one.DialUDP(t.Context(), netip.MustParseAddrPort("127.0.0.1:9"))
	if err != nil {
		t.Fatalf("with the one port taken: %v", err)
	}
	conn.Close()
}

func TestPortsToAskFromAreThoseOutsideOfTheRange(t *testing.T) {
	ports, err := askedFrom("32768\t60999\n")
	if err != nil || len(ports) != 32768-lowestAsked+65535-60999-4 || slices.Contains(ports, PodDNSPort) || slices.Contains(ports, 40000) {
		t.Errorf("%d ports, %v", len(ports), err)
	}
	if ports, err := askedFrom("1024 65535"); err != nil || ports != nil {
		t.Errorf("where every port is given: %d, %v", len(ports), err)
	}
	for _, bad := range []string{"", "1", "x y", "70000 80000"} {
		if _, err := askedFrom(bad); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}
