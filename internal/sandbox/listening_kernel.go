package sandbox

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"sync"

	"golang.org/x/sys/unix"

	"sluice.dev/sluice/internal/capture"
)

// kernelSockets asks the kernel, by sock_diag(7), which socket would take a connection.
// It is the look-up that a SYN gets, for one address and port: nothing is dumped, so
// its cost does not grow with what a command opens, and no connection is made.
type kernelSockets struct {
	mu       sync.Mutex
	fd       int
	sequence uint32
}

// openKernelSockets fails where the kernel does not answer. The capture sockets of this
// namespace must be open: they are what it is tried with, for a kernel without inet_diag
// gives the same answer as for a port on which nobody listens.
func openKernelSockets() (*kernelSockets, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_SOCK_DIAG)
	if err != nil {
		return nil, fmt.Errorf("open sock_diag: %w", err)
	}
	k := &kernelSockets{fd: fd}
	if listens, err := k.listens(netip.AddrPortFrom(capture.Gate4, capture.ListenPort)); err != nil || !listens {
		unix.Close(fd)
		return nil, errors.Join(errors.New("sock_diag does not find a socket that listens"), err)
	}
	return k, nil
}

// listens reports whether a connection to an address of this namespace would be taken.
func (k *kernelSockets) listens(at netip.AddrPort) (bool, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.sequence++
	if err := unix.Sendto(k.fd, diagRequest(at, k.sequence), 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return false, fmt.Errorf("ask sock_diag: %w", err)
	}
	var buffer [4096]byte // a reply has 72 bytes, and attributes that nobody asked for
	for {
		n, from, err := unix.Recvfrom(k.fd, buffer[:], 0)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return false, fmt.Errorf("ask sock_diag: %w", err)
		}
		if kernel, ok := from.(*unix.SockaddrNetlink); !ok || kernel.Pid != 0 {
			continue // of another process
		}
		if listens, ours, err := readDiagReply(buffer[:n], k.sequence); ours {
			return listens, err
		}
	}
}

// diagRequest asks for the one socket that would take a connection to at: a struct
// nlmsghdr and a struct inet_diag_req_v2, in the byte order of the machine but for ports
// and addresses.
func diagRequest(at netip.AddrPort, sequence uint32) []byte {
	b := make([]byte, 4, unix.SizeofNlMsghdr+56)
	b = binary.NativeEndian.AppendUint16(b, unix.SOCK_DIAG_BY_FAMILY)
	b = binary.NativeEndian.AppendUint16(b, unix.NLM_F_REQUEST)
	b = binary.NativeEndian.AppendUint32(b, sequence)
	b = binary.NativeEndian.AppendUint32(b, 0) // from: whoever we are

	family := byte(unix.AF_INET)
	if at.Addr().Is6() {
		family = unix.AF_INET6
	}
	b = append(b, family, unix.IPPROTO_TCP, 0, 0)
	b = binary.NativeEndian.AppendUint32(b, 1<<unix.BPF_TCP_LISTEN)
	b = binary.BigEndian.AppendUint16(b, at.Port())
	b = binary.BigEndian.AppendUint16(b, 0)
	var source, destination [16]byte
	copy(source[:], at.Addr().AsSlice())
	b = append(b, source[:]...)
	b = append(b, destination[:]...)
	b = binary.NativeEndian.AppendUint32(b, 1)          // lo, in every namespace: one bound to it counts
	b = binary.NativeEndian.AppendUint32(b, ^uint32(0)) // INET_DIAG_NOCOOKIE
	b = binary.NativeEndian.AppendUint32(b, ^uint32(0)) // INET_DIAG_NOCOOKIE
	binary.NativeEndian.PutUint32(b, uint32(len(b)))
	return b
}

// readDiagReply reads one message of the kernel; ours is false for the answer to
// another request.
func readDiagReply(b []byte, sequence uint32) (listens, ours bool, err error) {
	if len(b) < unix.SizeofNlMsghdr+4 {
		return false, true, fmt.Errorf("a reply of sock_diag has %d bytes", len(b))
	}
	if binary.NativeEndian.Uint32(b[8:]) != sequence {
		return false, false, nil
	}
	body := b[unix.SizeofNlMsghdr:]
	switch kind := binary.NativeEndian.Uint16(b[4:]); kind {
	case unix.SOCK_DIAG_BY_FAMILY:
		return body[1] == unix.BPF_TCP_LISTEN, true, nil // idiag_state
	case unix.NLMSG_ERROR:
		switch errno := unix.Errno(-int32(binary.NativeEndian.Uint32(body))); errno {
		case unix.ENOENT:
			return false, true, nil
		default:
			return false, true, fmt.Errorf("ask sock_diag: %w", errno)
		}
	default:
		return false, true, fmt.Errorf("a reply of sock_diag has type %d", kind)
	}
}

// inward returns the address at which a connection of the proxy to a port is taken, in
// the order in which capture.DialInward tries them.
func (k *kernelSockets) inward(port uint16) (at netip.AddrPort, listens bool) {
	for _, loopback := range []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1}), netip.IPv6Loopback()} {
		at := netip.AddrPortFrom(loopback, port)
		if listens, err := k.listens(at); err == nil && listens {
			return at, true
		}
	}
	return netip.AddrPort{}, false
}
