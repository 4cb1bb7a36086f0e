package capture

import (
	"fmt"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// HeldMark is the mark of a socket whose SYNs do not leave: a packet rule drops them, and
// a holder keeps a copy. It is the namespace's own and means nothing elsewhere. What else
// a marked socket sends passes, so the mark may stay where it is.
const HeldMark = 0x5c_5c

const (
	// maxSYN is the largest SYN that is kept: 60 bytes of IP header, or 40 with
	// extensions, and 60 of TCP, and what TCP Fast Open may put behind them.
	maxSYN = 2048
	// A SYN whose copy is not there yet when it is let go is looked for again after
	// firstLook; each pause is twice as long as the one before, up to longestLook. The
	// kernel sends another one after a second.
	firstLook   = time.Millisecond
	longestLook = 100 * time.Millisecond
)

// holder has the copies of SYNs that do not leave, and sends them, or an answer to them.
// It works in the namespace in which it was made.
type holder struct {
	raw map[bool]int // sockets that send, by whether for IPv4

	mu      sync.Mutex
	packets map[bool]int // those that receive a copy of each SYN that is held; -1 where there can be none
	held    map[route]*heldSYN
}

// heldSYN is one connection that waits in SYN_SENT.
type heldSYN struct {
	route
	copy syn // of the last that was sent; without a packet where none was seen yet
}

// newHolder needs NET_RAW and NET_ADMIN in the namespace, and a kernel with AF_PACKET.
func newHolder(ipv6 bool) (_ *holder, err error) {
	h := &holder{raw: make(map[bool]int), packets: make(map[bool]int), held: make(map[route]*heldSYN)}
	defer func() {
		if err != nil {
			h.close()
		}
	}()
	// Of this type there is none, which is said where there are others.
	if _, err := unix.Socket(unix.AF_PACKET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0); err != unix.ESOCKTNOSUPPORT {
		return nil, fmt.Errorf("receive packets: %w", err)
	}
	families := []int{unix.AF_INET}
	if ipv6 {
		families = append(families, unix.AF_INET6)
	}
	for _, family := range families {
		fd, err := unix.Socket(family, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.IPPROTO_RAW)
		if err != nil {
			return nil, fmt.Errorf("a raw socket: %w", err)
		}
		h.raw[family == unix.AF_INET] = fd // IPPROTO_RAW sends headers of ours in both families
	}
	return h, nil
}

// holds reports whether SYNs of a family can be held. The first call opens the socket
// that receives their copies: closing one takes the kernel some 10 ms (an RCU grace
// period), which most sandboxes, whose rules ask about nothing, need not wait for.
func (h *holder) holds(four bool) bool {
	if _, ok := h.raw[four]; !ok {
		return false
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	fd, opened := h.packets[four]
	if !opened {
		protocol := uint16(unix.ETH_P_IPV6) // a socket for all protocols would see each packet twice
		if four {
			protocol = unix.ETH_P_IP
		}
		var err error
		if fd, err = openPackets(protocol); err != nil {
			fd = -1
		}
		h.packets[four] = fd
	}
	return fd >= 0
}

// openPackets receives the marked SYNs that were sent on loopback.
func openPackets(protocol uint16) (int, error) {
	lo, err := net.InterfaceByName("lo")
	if err != nil {
		return -1, err
	}
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return -1, err
	}
	program := synFilter(protocol)
	err = unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]})
	if err == nil {
		err = unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: protocol<<8 | protocol>>8, Ifindex: lo.Index})
	}
	if err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// synFilter lets the SYNs of marked sockets pass. Of what follows on such a connection
// nothing is wanted.
func synFilter(protocol uint16) []unix.SockFilter {
	const ofMark = 0xfffff000 + 20 // SKF_AD_OFF + SKF_AD_MARK
	flags := []unix.SockFilter{    // of IPv4, whose header may be longer
		{Code: unix.BPF_LDX | unix.BPF_B | unix.BPF_MSH},
		{Code: unix.BPF_LD | unix.BPF_B | unix.BPF_IND, K: 13},
	}
	if protocol == unix.ETH_P_IPV6 {
		flags = []unix.SockFilter{
			{Code: unix.BPF_LD | unix.BPF_B | unix.BPF_ABS, K: 6},
			{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: unix.IPPROTO_TCP, Jt: 1},
			{Code: unix.BPF_RET | unix.BPF_K, K: maxSYN}, // with extensions: it is looked at later
			{Code: unix.BPF_LD | unix.BPF_B | unix.BPF_ABS, K: header6 + 13},
		}
	}
	marked := []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: ofMark},
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: HeldMark, Jt: 1},
		{Code: unix.BPF_RET | unix.BPF_K},
	}
	return append(append(marked, flags...),
		unix.SockFilter{Code: unix.BPF_ALU | unix.BPF_AND | unix.BPF_K, K: flagSYN | flagACK},
		unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: flagSYN, Jt: 1},
		unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K},
		unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: maxSYN})
}

func (h *holder) close() {
	for _, fd := range h.raw {
		unix.Close(fd)
	}
}

// hold notes a connection that has begun from a marked socket.
func (h *holder) hold(r route) *heldSYN {
	h.mu.Lock()
	defer h.mu.Unlock()
	one := &heldSYN{route: r}
	h.held[r] = one
	h.collect()
	return one
}

// collect takes the copies that have come. The kernel makes one within connect(2), or
// soon after it.
func (h *holder) collect() {
	buffer := make([]byte, maxSYN)
	for _, fd := range h.packets {
		for fd >= 0 {
			n, _, err := unix.Recvfrom(fd, buffer, unix.MSG_DONTWAIT)
			if err == unix.EINTR {
				continue
			}
			if err != nil {
				break
			}
			seen, ok := parseSYN(buffer[:n])
			if !ok {
				continue
			}
			if one := h.held[seen.route]; one != nil {
				one.copy = seen
				buffer = make([]byte, maxSYN)
			}
		}
	}
}

// let answers a connection that is held, once: with 0 it goes on to whoever listens, with
// ECONNREFUSED, EHOSTUNREACH or ENETUNREACH it ends with that. It reports false where no
// copy of its SYN is there yet.
func (h *holder) let(one *heldSYN, outcome syscall.Errno) bool {
	h.mu.Lock()
	if one.copy.packet == nil {
		h.collect()
	}
	seen, mine := one.copy, h.held[one.route] == one
	if mine && seen.packet != nil {
		delete(h.held, one.route)
	}
	h.mu.Unlock()
	if mine && seen.packet != nil {
		h.answer(&seen, outcome)
	}
	return !mine || seen.packet != nil // where the same ends connect anew, nobody waits for this
}

// letLater is let for a connection whose SYN was not seen. Where none comes for as long
// as a socket sends them, there is nobody to answer.
func (h *holder) letLater(one *heldSYN, outcome syscall.Errno) {
	defer h.forget(one)
	begun := time.Now()
	for pause := firstLook; time.Since(begun) < AnswerTimeout; pause = min(2*pause, longestLook) {
		time.Sleep(pause)
		if h.let(one, outcome) {
			return
		}
	}
}

// forget leaves a connection to itself: its SYNs come to nobody.
func (h *holder) forget(one *heldSYN) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.held[one.route] == one {
		delete(h.held, one.route)
	}
}

func (h *holder) answer(s *syn, outcome syscall.Errno) {
	switch outcome {
	case 0:
		h.send(s.whole(), s.to.Addr())
	case unix.EHOSTUNREACH, unix.ENETUNREACH:
		// An odd source address is not reached by ICMP: the packet rules refuse it.
		if err := h.send(s.unreachable(outcome == unix.ENETUNREACH), s.from.Addr()); err != nil {
			h.send(s.reset(), s.from.Addr())
		}
	default:
		h.send(s.reset(), s.from.Addr())
	}
}

func (h *holder) send(packet []byte, to netip.Addr) error {
	fd, ok := h.raw[to.Is4()]
	if !ok {
		return unix.EAFNOSUPPORT
	}
	_, address := sockaddrOf(netip.AddrPortFrom(to, 0))
	err := unix.Sendto(fd, packet, 0, address)
	if err == unix.ENOBUFS || err == unix.EAGAIN { // once more: else the connection waits for its own timeout
		time.Sleep(firstLook)
		err = unix.Sendto(fd, packet, 0, address)
	}
	return err
}
