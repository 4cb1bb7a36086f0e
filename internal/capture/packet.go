package capture

import (
	"encoding/binary"
	"net/netip"

	"golang.org/x/sys/unix"
)

// route is the two ends of a connection, as the one that connects sees them.
type route struct{ from, to netip.AddrPort }

// Values of the headers that are read and written here.
const (
	header4, header6 = 20, 40 // the sizes without options
	headerTCP        = 20
	flagSYN          = 0x02
	flagRST          = 0x04
	flagACK          = 0x10
)

// syn is a packet that begins a TCP connection, from its IP header on.
type syn struct {
	route
	packet []byte
	tcp    int // where the TCP header begins
}

// parseSYN reads a packet that a socket of this machine sent. It is false where it is not
// a whole SYN.
func parseSYN(packet []byte) (syn, bool) {
	s := syn{packet: packet}
	var source, destination netip.Addr
	switch {
	case len(packet) >= header4 && packet[0]>>4 == 4:
		s.tcp = int(packet[0]&0xf) * 4
		if s.tcp < header4 || packet[9] != unix.IPPROTO_TCP {
			return syn{}, false
		}
		source, destination = netip.AddrFrom4([4]byte(packet[12:])), netip.AddrFrom4([4]byte(packet[16:]))
	case len(packet) >= header6 && packet[0]>>4 == 6:
		var ok bool
		if s.tcp, ok = skipExtensions(packet); !ok {
			return syn{}, false
		}
		source, destination = netip.AddrFrom16([16]byte(packet[8:])), netip.AddrFrom16([16]byte(packet[24:]))
	default:
		return syn{}, false
	}
	if len(packet) < s.tcp+headerTCP {
		return syn{}, false
	}
	tcp := packet[s.tcp:]
	if tcp[13]&(flagSYN|flagACK|flagRST) != flagSYN {
		return syn{}, false
	}
	s.from = netip.AddrPortFrom(source, binary.BigEndian.Uint16(tcp))
	s.to = netip.AddrPortFrom(destination, binary.BigEndian.Uint16(tcp[2:]))
	return s, true
}

// skipExtensions returns where the TCP header of an IPv6 packet begins.
func skipExtensions(packet []byte) (at int, ok bool) {
	next, at := packet[6], header6
	for {
		switch next {
		case unix.IPPROTO_TCP:
			return at, true
		case unix.IPPROTO_HOPOPTS, unix.IPPROTO_ROUTING, unix.IPPROTO_DSTOPTS:
		default:
			return 0, false
		}
		if len(packet) < at+8 {
			return 0, false
		}
		next, at = packet[at], at+8*(int(packet[at+1])+1)
	}
}

// whole returns the packet with its checksum: on loopback the kernel leaves that out.
func (s *syn) whole() []byte {
	tcp := s.packet[s.tcp:]
	clear(tcp[16:18])
	binary.BigEndian.PutUint16(tcp[16:], s.checksum(unix.IPPROTO_TCP, s.from.Addr(), s.to.Addr(), tcp))
	return s.packet
}

// reset returns the packet with which the other end refuses the connection.
func (s *syn) reset() []byte {
	packet, tcp := s.reply(unix.IPPROTO_TCP, headerTCP)
	said := s.packet[s.tcp:]
	copy(tcp, said[2:4])
	copy(tcp[2:], said[:2])
	binary.BigEndian.PutUint32(tcp[8:], binary.BigEndian.Uint32(said[4:])+1)
	tcp[12], tcp[13] = headerTCP/4<<4, flagRST|flagACK
	binary.BigEndian.PutUint16(tcp[16:], s.checksum(unix.IPPROTO_TCP, s.to.Addr(), s.from.Addr(), tcp))
	return packet
}

// unreachable returns the message of ICMP by which a router says that the network or the
// host of the other end is not reachable.
func (s *syn) unreachable(network bool) []byte {
	// Of an IPv6 packet it must hold the header; of the connection eight bytes are enough.
	quoted := s.packet[:s.tcp+headerTCP]
	const head = 8
	protocol := byte(unix.IPPROTO_ICMP)
	kind, code := byte(3), byte(1) // RFC 792: host unreachable
	if s.from.Addr().Is6() {
		protocol = unix.IPPROTO_ICMPV6
		kind, code = 1, 3 // RFC 4443: address unreachable
	}
	if network {
		code = 0 // both: network unreachable, no route to destination
	}
	packet, icmp := s.reply(protocol, head+len(quoted))
	icmp[0], icmp[1] = kind, code
	copy(icmp[head:], quoted)
	binary.BigEndian.PutUint16(icmp[2:], s.checksum(protocol, s.to.Addr(), s.from.Addr(), icmp))
	return packet
}

// reply returns a packet from the other end with size bytes behind its IP header.
func (s *syn) reply(protocol byte, size int) (packet, payload []byte) {
	const hops = 64
	if s.from.Addr().Is4() { // the kernel writes the checksum of the header
		packet = make([]byte, header4+size)
		packet[0], packet[8], packet[9] = 4<<4|header4/4, hops, protocol
		binary.BigEndian.PutUint16(packet[2:], uint16(len(packet)))
		copy(packet[12:], s.to.Addr().AsSlice())
		copy(packet[16:], s.from.Addr().AsSlice())
		return packet, packet[header4:]
	}
	packet = make([]byte, header6+size)
	packet[0], packet[6], packet[7] = 6<<4, protocol, hops
	binary.BigEndian.PutUint16(packet[4:], uint16(size))
	copy(packet[8:], s.to.Addr().AsSlice())
	copy(packet[24:], s.from.Addr().AsSlice())
	return packet, packet[header6:]
}

// checksum is that of a transport's header and payload (RFC 1071). ICMP for IPv4 has none
// of the addresses in it.
func (s *syn) checksum(protocol byte, source, destination netip.Addr, payload []byte) uint16 {
	var sum uint32
	add := func(b []byte) {
		for ; len(b) >= 2; b = b[2:] {
			sum += uint32(binary.BigEndian.Uint16(b))
		}
		if len(b) == 1 {
			sum += uint32(b[0]) << 8
		}
	}
	if protocol != unix.IPPROTO_ICMP {
		add(source.AsSlice())
		add(destination.AsSlice())
		sum += uint32(protocol) + uint32(len(payload))
	}
	add(payload)
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}
