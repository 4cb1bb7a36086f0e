package attack

import (
	"errors"
	"fmt"
	"net"
	"time"

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

// openOnly connects and sends the first bytes at once, as TCP fast open.
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
