package capture

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"syscall"
)

// portRange is the file that says which ports the kernel gives to sockets of this namespace that
// name none.
const portRange = "/proc/sys/net/ipv4/ip_local_port_range"

const (
	// lowestAsked is the lowest port from which a sidecar asks: below are those of servers.
	lowestAsked = 10240
	// leastPorts is how many must be left to choose from; a port that can be guessed makes an
	// answer easier to forge.
	leastPorts = 4096
	// portTries bounds how often another port is chosen where one is taken.
	portTries = 16
)

// PodHost is Host for the sidecar of a Pod, which shares the Pod's network namespace. What others
// ask there is redirected to it, and the kernel remembers that of their ports for a while after they
// were closed: a question of the sidecar from such a port would come to itself. So it asks from
// ports that the kernel gives to nobody.
type PodHost struct {
	Host
	ports []uint16 // to ask from; none: whatever the kernel gives
}

// NewPodHost returns the PodHost of this namespace.
func NewPodHost() (PodHost, error) {
	text, err := os.ReadFile(portRange)
	if err != nil {
		return PodHost{}, fmt.Errorf("read which ports are given to sockets of the Pod: %w", err)
	}
	ports, err := askedFrom(string(text))
	return PodHost{ports: ports}, err
}

// askedFrom returns the ports outside of a range; none where too few are left.
func askedFrom(text string) (ports []uint16, err error) {
	var first, last uint16
	if _, err := fmt.Sscan(text, &first, &last); err != nil {
		return nil, fmt.Errorf("%s: %q is not a range of ports: %w", portRange, text, err)
	}
	for port := lowestAsked; port <= 65535; port++ {
		switch {
		case port >= int(first) && port <= int(last):
		case port == PodOutboundPort, port == PodInboundPort, port == PodHealthPort, port == PodDNSPort:
		default:
			ports = append(ports, uint16(port))
		}
	}
	if len(ports) < leastPorts {
		return nil, nil
	}
	return ports, nil
}

// DialUDP implements Sockets.
func (h PodHost) DialUDP(ctx context.Context, dst netip.AddrPort) (net.Conn, error) {
	for range portTries {
		if len(h.ports) == 0 {
			break
		}
		dialer := net.Dialer{LocalAddr: &net.UDPAddr{Port: int(h.ports[rand.N(len(h.ports))])}}
		conn, err := dialer.DialContext(ctx, "udp", dst.String())
		if !errors.Is(err, syscall.EADDRINUSE) {
			return conn, err
		}
	}
	return h.Host.DialUDP(ctx, dst)
}
