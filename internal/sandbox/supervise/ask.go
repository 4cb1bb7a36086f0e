package supervise

import (
	"encoding/binary"
	"net/netip"
	"unsafe"

	"golang.org/x/sys/unix"

	"sluice.dev/sluice/internal/capture"
)

// destination reads the address of a connect over a network; the zero AddrPort is
// another.
func (c *call) destination() netip.AddrPort {
	if len(c.address) < 2 {
		return netip.AddrPort{}
	}
	switch family := binary.NativeEndian.Uint16(c.address); {
	case family == unix.AF_INET && len(c.address) >= unix.SizeofSockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte(c.address[4:])), binary.BigEndian.Uint16(c.address[2:]))
	case family == unix.AF_INET6 && len(c.address) >= unix.SizeofSockaddrInet6-4: // without a scope
		return netip.AddrPortFrom(netip.AddrFrom16([16]byte(c.address[8:])).Unmap(), binary.BigEndian.Uint16(c.address[2:]))
	}
	return netip.AddrPort{}
}

// holdBack marks the caller's socket where what becomes of its connect is to be asked
// first, and reports that. A mark that an earlier connect left is taken away, for nobody
// would let this one go on.
func (s *Supervisor) holdBack(c *call) (to netip.AddrPort, held bool) {
	if s.config.Asker == nil || c.family != unix.AF_INET && c.family != unix.AF_INET6 {
		return to, false
	}
	to = c.destination()
	asks := to.IsValid() && s.config.Asker.Asks(to)
	if !asks && !s.marked.Load() {
		return to, false
	}
	if protocol, errno := socketOption(c.socket, unix.SO_PROTOCOL); errno != 0 || protocol != unix.IPPROTO_TCP || !isClosed(c.socket) {
		return to, false
	}
	if asks && s.isInside(c.socket) && setMark(c.socket, capture.HeldMark) == 0 {
		s.marked.Store(true)
		return to, true
	}
	if mark, _ := socketOption(c.socket, unix.SO_MARK); mark == capture.HeldMark {
		setMark(c.socket, 0)
	}
	return to, false
}

// begun gives a connect that was held back to the asker, if it has begun; nil where it
// has ended already.
func (s *Supervisor) begun(c *call, to netip.AddrPort, underWay bool) *capture.Pending {
	if underWay {
		if from := localAddress(c.socket); from.IsValid() {
			return s.config.Asker.Begun(from, to)
		}
	}
	setMark(c.socket, 0) // as with TCP Fast Open, whose SYN is yet to come
	return nil
}

// timedOut ends a connect that waits for an answer which will not come.
func timedOut(socket int) unix.Errno {
	rawConnect(socket, make([]byte, unix.SizeofSockaddrInet4)) // AF_UNSPEC
	socketOption(socket, unix.SO_ERROR)                        // which that has set
	return unix.ETIMEDOUT
}

// isClosed reports whether a TCP socket has no connection and none under way.
func isClosed(socket int) bool {
	const closed = 7 // TCP_CLOSE
	var state [4]byte
	length := uint32(1)
	_, _, errno := unix.RawSyscall6(unix.SYS_GETSOCKOPT, uintptr(socket), unix.IPPROTO_TCP, unix.TCP_INFO,
		uintptr(unsafe.Pointer(&state)), uintptr(unsafe.Pointer(&length)), 0)
	return errno == 0 && state[0] == closed
}

// isInside reports whether a socket is of the sandbox's own network namespace: another
// one, nested in it, leads nowhere.
func (s *Supervisor) isInside(socket int) bool {
	network, err := capture.NetworkOf(socket)
	return err == nil && network == s.network
}

func setMark(socket int, mark uint32) unix.Errno {
	_, _, errno := unix.RawSyscall6(unix.SYS_SETSOCKOPT, uintptr(socket), unix.SOL_SOCKET, unix.SO_MARK,
		uintptr(unsafe.Pointer(&mark)), 4, 0)
	return errno
}

// localAddress is the source of a connection, as its other end sees it.
func localAddress(socket int) netip.AddrPort {
	var raw [unix.SizeofSockaddrAny]byte
	length := uint32(len(raw))
	if _, errno := quick(unix.SYS_GETSOCKNAME, uintptr(socket), uintptr(unsafe.Pointer(&raw)), uintptr(unsafe.Pointer(&length))); errno != 0 {
		return netip.AddrPort{}
	}
	c := call{address: raw[:min(int(length), len(raw))]}
	return c.destination()
}
