package capture

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"unsafe"

	"golang.org/x/sys/unix"
)

// MaxQuestion is the largest DNS question over UDP that is read, in bytes; what
// is longer is dropped. Questions hold one name of at most 255 bytes.
const MaxQuestion = 4096

// Question is one packet to a port 53. The zero value is ready for ReadQuestion.
type Question struct {
	// Data is valid until the next ReadQuestion into the same Question.
	Data []byte
	// From is who asked, Asked the server address that was asked.
	From, Asked netip.AddrPort

	buffer  [MaxQuestion]byte
	control [128]byte
}

// ErrNoOriginalDestination says that a DNS socket does not tell where a packet
// was sent, so that it cannot be answered.
var ErrNoOriginalDestination = errors.New("packet without its original destination")

// ReadQuestion reads the next packet of a DNS socket of a Capture. Packets that
// are too long are dropped.
func ReadQuestion(conn *net.UDPConn, q *Question) error {
	for {
		n, controlLength, flags, from, err := conn.ReadMsgUDPAddrPort(q.buffer[:], q.control[:])
		if err != nil {
			return err
		}
		if flags&unix.MSG_TRUNC != 0 {
			continue
		}
		asked, ok := originalDestination(q.control[:controlLength])
		if !ok {
			return ErrNoOriginalDestination
		}
		q.Data = q.buffer[:n]
		q.From = netip.AddrPortFrom(from.Addr().Unmap(), from.Port())
		q.Asked = asked
		return nil
	}
}

// WriteAnswer sends an answer from the address that was asked to who asked.
func WriteAnswer(conn *net.UDPConn, answer []byte, asked, from netip.AddrPort) error {
	// The socket's own port is right already; PKTINFO puts the address.
	var control [64]byte
	n := packetInfo(control[:], asked.Addr())
	if n == 0 {
		return fmt.Errorf("answer from %s: no address", asked)
	}
	_, _, err := conn.WriteMsgUDPAddrPort(answer, control[:n], from)
	return err
}

// originalDestination reads IP_ORIGDSTADDR or IPV6_ORIGDSTADDR: a sockaddr.
func originalDestination(control []byte) (netip.AddrPort, bool) {
	for len(control) >= unix.SizeofCmsghdr {
		header, data, rest, err := unix.ParseOneSocketControlMessage(control)
		if err != nil {
			return netip.AddrPort{}, false
		}
		switch {
		case header.Level == unix.SOL_IP && header.Type == unix.IP_ORIGDSTADDR && len(data) >= unix.SizeofSockaddrInet4:
			return netip.AddrPortFrom(netip.AddrFrom4([4]byte(data[4:8])), binary.BigEndian.Uint16(data[2:4])), true
		case header.Level == unix.SOL_IPV6 && header.Type == unix.IPV6_ORIGDSTADDR && len(data) >= unix.SizeofSockaddrInet6:
			return netip.AddrPortFrom(netip.AddrFrom16([16]byte(data[8:24])).Unmap(), binary.BigEndian.Uint16(data[2:4])), true
		}
		control = rest
	}
	return netip.AddrPort{}, false
}

// packetInfo writes an IP_PKTINFO or IPV6_PKTINFO whose source is the address,
// and returns its length.
func packetInfo(control []byte, source netip.Addr) int {
	source = source.Unmap()
	level, kind, size := int32(unix.SOL_IP), int32(unix.IP_PKTINFO), unix.SizeofInet4Pktinfo
	switch {
	case source.Is6():
		level, kind, size = unix.SOL_IPV6, unix.IPV6_PKTINFO, unix.SizeofInet6Pktinfo
	case !source.Is4():
		return 0
	}
	header := (*unix.Cmsghdr)(unsafe.Pointer(&control[0]))
	header.Level, header.Type = level, kind
	header.SetLen(unix.CmsgLen(size))
	data := control[unix.CmsgLen(0):]
	if source.Is4() {
		address := source.As4()
		copy(data[4:8], address[:]) // ipi_spec_dst, after ipi_ifindex
	} else {
		address := source.As16()
		copy(data[:16], address[:]) // ipi6_addr
	}
	return unix.CmsgSpace(size)
}
