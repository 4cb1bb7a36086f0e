package attack

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"time"
	"unsafe"

	"github.com/google/nftables"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

var (
	permission = []error{unix.EPERM, unix.EACCES}
	family     = []error{unix.EAFNOSUPPORT}
	missing    = []error{unix.ENOSYS}
)

// call makes a system call.
func call(number uintptr, arguments ...uintptr) error {
	var a [6]uintptr
	copy(a[:], arguments)
	_, _, errno := unix.RawSyscall6(number, a[0], a[1], a[2], a[3], a[4], a[5])
	if errno != 0 {
		return errno
	}
	return nil
}

func socket(domain, kind, protocol uintptr) func(*Inside) error {
	return func(*Inside) error { return call(unix.SYS_SOCKET, domain, kind, protocol) }
}

const high = 1 << 32 // a bit that the kernel does not look at

// datagram sends something and waits shortly for an answer.
func datagram(address string) error {
	conn, err := net.Dial("udp", address)
	if err != nil {
		return err
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(300 * time.Millisecond)) // what arrives is counted at the door
	if _, err := conn.Write([]byte("hello")); err != nil {
		return err
	}
	answer := make([]byte, 4096)
	n, err := conn.Read(answer)
	return greeted(string(answer[:n]), err)
}

func reach(network string, addresses ...string) func(*Inside) error {
	return func(in *Inside) error {
		var last error
		for _, address := range addresses {
			if host, _, _ := net.SplitHostPort(address); net.ParseIP(host).To4() == nil && !in.IPv6 {
				return skipped("this kernel has no IPv6")
			}
			if network == "udp" {
				last = datagram(address)
			} else {
				last = get(address, "denied.example")
			}
			if last == nil {
				return nil
			}
		}
		return last
	}
}

func udpLite(*Inside) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, unix.IPPROTO_UDPLITE)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return unix.Sendto(fd, []byte("hello"), 0, &unix.SockaddrInet4{Port: 80, Addr: [4]byte(net.ParseIP(addressDenied).To4())})
}

// fastOpen connects and sends the first bytes at once, as TCP fast open.
func fastOpen(*Inside) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	to := &unix.SockaddrInet4{Port: 80, Addr: [4]byte(net.ParseIP(addressDenied).To4())}
	if err := unix.Sendto(fd, []byte("GET / HTTP/1.1\r\nHost: denied.example\r\n\r\n"), unix.MSG_FASTOPEN, to); err != nil {
		return err
	}
	unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 5})
	answer := make([]byte, 4096)
	n, err := unix.Read(fd, answer)
	return greeted(string(answer[:max(n, 0)]), err)
}

// mptcp connects by multipath TCP, which falls back to TCP.
func mptcp(*Inside) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, unix.IPPROTO_MPTCP)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 5})
	if err := unix.Connect(fd, &unix.SockaddrInet4{Port: 80, Addr: [4]byte(net.ParseIP(addressDenied).To4())}); err != nil {
		return err
	}
	unix.Write(fd, []byte("GET / HTTP/1.1\r\nHost: denied.example\r\n\r\n"))
	answer := make([]byte, 4096)
	n, err := unix.Read(fd, answer)
	return greeted(string(answer[:max(n, 0)]), err)
}

// onSocket does something with a TCP socket.
func onSocket(do func(fd int) error) func(*Inside) error {
	return func(*Inside) error {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
		if err != nil {
			return fmt.Errorf("the socket itself: %v", err)
		}
		defer unix.Close(fd)
		return do(fd)
	}
}

// linkDown takes the loopback down, and up again where it could.
func linkDown(*Inside) error {
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return fmt.Errorf("find lo: %v", err)
	}
	if err := netlink.LinkSetDown(lo); err != nil {
		return err
	}
	return errors.Join(netlink.LinkSetUp(lo), setUpNetwork())
}

func flushRules(*Inside) error {
	conn, err := nftables.New()
	if err != nil {
		return err
	}
	conn.FlushRuleset()
	return conn.Flush()
}

func tun(*Inside) error {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	request, err := unix.NewIfreq("attack0")
	if err != nil {
		return err
	}
	request.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
	return unix.IoctlIfreq(fd, unix.TUNSETIFF, request)
}

// enter joins a namespace of process 1.
func enter(kind string) func(*Inside) error {
	return func(*Inside) error {
		fd, err := unix.Open("/proc/1/ns/"+kind, unix.O_RDONLY, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		return unix.Setns(fd, 0)
	}
}

// each makes several attempts that are refused alike; the first that goes through ends
// it, as does the first that is refused otherwise.
func each(refused []error, attempts ...func(*Inside) error) func(*Inside) error {
	return func(in *Inside) (err error) {
		for i, attempt := range attempts {
			err = attempt(in)
			if err == nil || !slices.ContainsFunc(refused, func(want error) bool { return errors.Is(err, want) }) {
				if err != nil {
					err = fmt.Errorf("number %d: %w", i+1, err)
				}
				return err
			}
		}
		return err
	}
}

func networkRows() []Row {
	unreachable := []error{unix.ECONNREFUSED, unix.ENETUNREACH, unix.EHOSTUNREACH, unix.EPERM, unix.EADDRNOTAVAIL}
	return []Row{
		{ID: "direct-tcp", Tried: "Connect to an address that no rule allows, on several ports", Right: "the proxy refuses; the server sees nothing",
			Bare: everybody, Inside: reach("tcp", addressDenied+":80", addressDenied+":443", addressDenied+":5432"), Refused: unreachable},
		{ID: "direct-tcp6", Tried: "Connect to an IPv6 address that no rule allows", Right: "the proxy refuses; the server sees nothing",
			Bare: everybody, Inside: reach("tcp", "["+addressDenied6+"]:80"), Refused: unreachable},
		{ID: "mapped-address", Tried: "Connect to an IPv4 address in its IPv6 form", Right: "the proxy refuses; the server sees nothing",
			Bare: everybody, Inside: reach("tcp", "[::ffff:"+addressDenied+"]:80"), Refused: unreachable},
		{ID: "direct-udp", Tried: "Send UDP datagrams to a server outside", Right: "they are refused",
			Bare: everybody, Inside: reach("udp", addressDenied+":80", addressDenied+":443"), Refused: unreachable},
		{ID: "fast-open", Tried: "Send the first bytes with the connect (TCP fast open)", Right: "the proxy refuses; the server sees nothing",
			Bare: everybody, Inside: fastOpen, Refused: append([]error{unix.EOPNOTSUPP}, unreachable...)},
		{ID: "machine-loopback", Tried: "Connect to a server on the machine's loopback", Right: "nobody is there: the loopback is the command's own",
			Bare: everybody, Inside: reach("tcp", "127.0.0.1:80", "127.0.0.1:5432"), Refused: unreachable},
		{ID: "raw-socket", Tried: "Open a raw socket", Right: "it is not permitted", Bare: Root,
			Inside: socket(unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_ICMP), Refused: permission},
		{ID: "packet-socket", Tried: "Open a packet socket", Right: "there is no such family", Bare: Root,
			Inside: socket(unix.AF_PACKET, unix.SOCK_RAW, 0), Refused: family},
		{ID: "multipath", Tried: "Connect by multipath TCP", Right: "the proxy refuses, or there is no such protocol",
			Bare: everybody, Inside: mptcp, Refused: append([]error{unix.EPROTONOSUPPORT}, unreachable...)},
		{ID: "ping-socket", Tried: "Open a socket for ICMP echoes, of IPv4 and IPv6", Right: "it is not permitted",
			Inside: each(permission, socket(unix.AF_INET, unix.SOCK_DGRAM, unix.IPPROTO_ICMP), socket(unix.AF_INET6, unix.SOCK_RAW, unix.IPPROTO_ICMPV6)), Refused: permission},
		{ID: "udp-lite", Tried: "Send by UDP-Lite", Right: "it is refused, or there is no such protocol",
			Inside: udpLite, Refused: append([]error{unix.EPROTONOSUPPORT}, unreachable...)},
		{ID: "other-families", Tried: "Open sockets of AF_XDP, AF_ALG, Bluetooth and TIPC", Right: "there are no such families",
			Inside: each(family, socket(unix.AF_XDP, unix.SOCK_RAW, 0), socket(unix.AF_ALG, unix.SOCK_SEQPACKET, 0), socket(unix.AF_BLUETOOTH, unix.SOCK_RAW, 0),
				func(*Inside) error {
					var pair [2]int32
					return call(unix.SYS_SOCKETPAIR, unix.AF_TIPC, unix.SOCK_STREAM, 0, uintptr(unsafe.Pointer(&pair)))
				}), Refused: family},
		{ID: "mark", Tried: "Mark packets past the packet rules, or take foreign addresses", Right: "it is not permitted", Bare: Root,
			Inside: each(permission, onSocket(func(fd int) error { return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_MARK, 1) }),
				onSocket(func(fd int) error { return unix.SetsockoptInt(fd, unix.SOL_IP, unix.IP_TRANSPARENT, 1) })), Refused: permission},
		{ID: "link-down", Tried: "Take the loopback down, by netlink and by ioctl", Right: "it is not permitted", Bare: Root,
			Inside: each(permission, linkDown, onSocket(func(fd int) error {
				request, err := unix.NewIfreq("lo")
				if err != nil {
					return err
				}
				return unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, request)
			})), Refused: permission},
		{ID: "new-link", Tried: "Make a network interface", Right: "it is not permitted",
			Inside: func(*Inside) error {
				return netlink.LinkAdd(&netlink.Dummy{LinkAttrs: netlink.LinkAttrs{Name: "attack1"}})
			}, Refused: permission},
		{ID: "flush-rules", Tried: "Flush the packet rules", Right: "it is not permitted",
			Inside: flushRules, Refused: permission},
		{ID: "nested-network", Tried: "Take the loopback down and flush the packet rules, with every capability of a user namespace", Right: "it is not permitted",
			Nested: each(permission, linkDown, flushRules, socket(unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_ICMP)), Refused: permission},
		{ID: "tun", Tried: "Make a tunnel by /dev/net/tun", Right: "it is not permitted",
			Inside: tun, Refused: append([]error{unix.ENOENT, unix.ENODEV, unix.ENXIO}, permission...)},
		{ID: "setns", Tried: "Enter the network, the mounts or the user namespace of process 1", Right: "it is not permitted",
			Inside: each(permission, enter("net"), enter("mnt"), enter("user"), enter("pid")), Refused: permission},
		{ID: "sctp", Tried: "Open an SCTP socket", Right: "there is no such protocol",
			Inside: socket(unix.AF_INET, unix.SOCK_STREAM, unix.IPPROTO_SCTP), Refused: []error{unix.EPROTONOSUPPORT, unix.EPERM, unix.EACCES}},
		{ID: "vsock", Tried: "Open a vsock, also behind a bit that the kernel does not look at", Right: "there is no such family",
			Inside: func(in *Inside) error {
				if err := socket(unix.AF_VSOCK, unix.SOCK_STREAM, 0)(in); !errors.Is(err, unix.EAFNOSUPPORT) {
					return fmt.Errorf("without the bit: %w", err)
				}
				return socket(unix.AF_VSOCK|high, unix.SOCK_STREAM, 0)(in)
			}, Refused: family},
		{ID: "io-uring", Tried: "Set io_uring up, which makes calls that no filter sees", Right: "there is no such call",
			Inside: func(*Inside) error { return call(unix.SYS_IO_URING_SETUP, 8, 0) }, Refused: missing},
	}
}
