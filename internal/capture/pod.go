package capture

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"

	"golang.org/x/sys/unix"
)

// Ports in a Pod on which its sidecar listens. The first takes what the Pod sends, the
// second what is sent to it, and they are never redirected to themselves.
const (
	PodOutboundPort = ListenPort
	PodInboundPort  = 15006
	PodHealthPort   = 15020
	PodDNSPort      = 15053
)

// Pod is the sockets of a sidecar, in the network namespace of its Pod, to which RedirectPod
// redirects what others send and receive there.
type Pod struct {
	*Capture                    // of what the Pod sends
	Inbound  []*net.TCPListener // of what is sent to it; see Destination
}

// OpenPod opens the sockets of a sidecar. It takes no capability. v6 addresses are told for
// names only where the Pod has a way to send to them.
func OpenPod(ctx context.Context) (_ *Pod, err error) {
	p := &Pod{Capture: &Capture{redirected: true}}
	defer func() {
		if err != nil {
			p.Close()
		}
	}()
	loopbacks, everywhere := []string{"127.0.0.1"}, []string{"0.0.0.0"}
	if hasIPv6() {
		loopbacks, everywhere = append(loopbacks, "::1"), append(everywhere, "::")
	}
	for i := range loopbacks {
		out, err := listenPod(ctx, loopbacks[i], PodOutboundPort)
		if err != nil {
			return nil, err
		}
		p.TCP = append(p.TCP, out)
		in, err := listenPod(ctx, everywhere[i], PodInboundPort)
		if err != nil {
			return nil, err
		}
		p.Inbound = append(p.Inbound, in)
		if i > 0 && !reachesIPv6(ctx) {
			continue
		}
		questions, err := listenPodDNS(ctx, loopbacks[i])
		if err != nil {
			return nil, err
		}
		p.DNS = append(p.DNS, questions)
	}
	return p, nil
}

// Close closes all sockets.
func (p *Pod) Close() error {
	errs := []error{p.Capture.Close()}
	for _, listener := range p.Inbound {
		errs = append(errs, listener.Close())
	}
	return errors.Join(errs...)
}

func podFamily(host, network string) string {
	if netip.MustParseAddr(host).Is4() {
		return network + "4"
	}
	return network + "6"
}

func listenPod(ctx context.Context, host string, port uint16) (*net.TCPListener, error) {
	config := net.ListenConfig{Control: ControlUrgent}
	config.SetMultipathTCP(false)
	listener, err := config.Listen(ctx, podFamily(host, "tcp"), net.JoinHostPort(host, fmt.Sprint(port)))
	if err != nil {
		return nil, err
	}
	return listener.(*net.TCPListener), nil
}

// listenPodDNS opens a socket that tells with each packet where it came to.
func listenPodDNS(ctx context.Context, host string) (*net.UDPConn, error) {
	config := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) error {
		level, option := unix.SOL_IP, unix.IP_RECVORIGDSTADDR
		if !netip.MustParseAddr(host).Is4() {
			level, option = unix.SOL_IPV6, unix.IPV6_RECVORIGDSTADDR
		}
		var failed error
		err := raw.Control(func(fd uintptr) { failed = unix.SetsockoptInt(int(fd), level, option, 1) })
		return errors.Join(err, failed)
	}}
	conn, err := config.ListenPacket(ctx, podFamily(host, "udp"), net.JoinHostPort(host, fmt.Sprint(PodDNSPort)))
	if err != nil {
		return nil, err
	}
	return conn.(*net.UDPConn), nil
}

// reachesIPv6 reports whether there is a route for the addresses that stand for names. It
// sends nothing.
func reachesIPv6(ctx context.Context) bool {
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "udp6", netip.AddrPortFrom(SyntheticPrefix6.Addr().Next(), 53).String())
	if err != nil {
		return false
	}
	conn.Close()
	return true
}

// Destination returns where the client of a connection of the capture meant to go. It is
// untrusted, and without zone.
func (c *Capture) Destination(conn *net.TCPConn) netip.AddrPort {
	if !c.redirected {
		return OriginalDestination(conn)
	}
	return redirectedFrom(conn)
}

// redirectedFrom asks the kernel where a connection went before it was redirected; the zero
// AddrPort where it was not, or nobody knows.
func redirectedFrom(conn *net.TCPConn) (destination netip.AddrPort) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return netip.AddrPort{}
	}
	local, ok := conn.LocalAddr().(*net.TCPAddr)
	if !ok {
		return netip.AddrPort{}
	}
	err = raw.Control(func(fd uintptr) { destination = redirectedTo(int(fd), local.IP.To4() != nil) })
	if err != nil {
		return netip.AddrPort{}
	}
	return destination
}

// redirectedTo is redirectedFrom by descriptor, of a socket whose own address is of IPv4.
func redirectedTo(fd int, v4 bool) netip.AddrPort {
	const originalDestination = 80 // SO_ORIGINAL_DST, IP6T_SO_ORIGINAL_DST
	if v4 {                        // a sockaddr_in: family, port, address
		if sockaddr, err := unix.GetsockoptIPv6Mreq(fd, unix.SOL_IP, originalDestination); err == nil {
			b := sockaddr.Multiaddr
			return netip.AddrPortFrom(netip.AddrFrom4([4]byte(b[4:8])), uint16(b[2])<<8|uint16(b[3]))
		}
	} else if info, err := unix.GetsockoptIPv6MTUInfo(fd, unix.SOL_IPV6, originalDestination); err == nil {
		port := info.Addr.Port // as it is on the wire
		return netip.AddrPortFrom(netip.AddrFrom16(info.Addr.Addr).Unmap(), swapToHost(port))
	}
	return netip.AddrPort{}
}
