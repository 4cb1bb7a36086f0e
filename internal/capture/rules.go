package capture

import (
	"encoding/binary"
	"net"
	"net/netip"

	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// rule is one packet rule: what it matches and what happens then. A field that
// is the zero value matches anything.
type rule struct {
	chain    chain
	to       netip.Prefix
	protocol byte
	port     uint16
	action   action
	target   netip.AddrPort // of redirect
}

type chain int

const (
	arriving chain = iota // prerouting: what was sent locally loops through lo into it
	leaving               // output
)

type action int

const (
	accept action = iota
	redirect
	refuse
	hold // drops the SYNs of marked sockets, of which a holder has a copy
)

// Not the gate but loopback is asked by those who were configured for a stub
// resolver: systemd's, and Docker's.
var stubResolvers = []netip.Addr{
	netip.AddrFrom4([4]byte{127, 0, 0, 53}),
	netip.AddrFrom4([4]byte{127, 0, 0, 11}),
}

// ruleset returns the rules in order. Since what is sent locally loops through
// lo, prerouting sees it all: neither marks nor routing rules are needed.
func ruleset(ipv6 bool, options Options) []rule {
	gates := []netip.Addr{Gate4}
	local := []netip.Prefix{netip.PrefixFrom(netip.AddrFrom4([4]byte{127}), 8), host(Gate4)}
	asked := append([]netip.Addr{Gate4}, stubResolvers...)
	if options.LoopbackDNS {
		asked = append(asked, netip.AddrFrom4([4]byte{127, 0, 0, 1}))
	}
	if ipv6 {
		gates = append(gates, Gate6)
		local = append(local, host(netip.IPv6Loopback()), host(Gate6))
		asked = append(asked, Gate6)
		if options.LoopbackDNS {
			asked = append(asked, netip.IPv6Loopback())
		}
	}

	var rules []rule
	if options.Ask {
		rules = append(rules, rule{chain: arriving, protocol: unix.IPPROTO_TCP, action: hold})
	}
	for _, address := range asked {
		gate := gateOf(address)
		rules = append(rules,
			rule{chain: arriving, to: host(address), protocol: unix.IPPROTO_TCP, port: dnsPort,
				action: redirect, target: netip.AddrPortFrom(gate, ListenPort)},
			rule{chain: arriving, to: host(address), protocol: unix.IPPROTO_UDP, port: dnsPort,
				action: redirect, target: netip.AddrPortFrom(gate, dnsPort)})
	}
	for _, prefix := range local {
		rules = append(rules,
			rule{chain: arriving, to: prefix, action: accept},
			rule{chain: leaving, to: prefix, action: accept})
	}
	for _, gate := range gates {
		every := netip.PrefixFrom(gate, 0).Masked()
		rules = append(rules,
			rule{chain: arriving, to: every, protocol: unix.IPPROTO_TCP,
				action: redirect, target: netip.AddrPortFrom(gate, ListenPort)},
			rule{chain: arriving, to: every, protocol: unix.IPPROTO_UDP, port: dnsPort,
				action: redirect, target: netip.AddrPortFrom(gate, dnsPort)},
			rule{chain: leaving, to: every, protocol: unix.IPPROTO_TCP, action: accept},
			rule{chain: leaving, to: every, protocol: unix.IPPROTO_UDP, port: dnsPort, action: accept})
	}
	return append(rules, rule{chain: leaving, action: refuse})
}

func host(address netip.Addr) netip.Prefix { return netip.PrefixFrom(address, address.BitLen()) }

func gateOf(address netip.Addr) netip.Addr {
	if address.Is4() {
		return Gate4
	}
	return Gate6
}

const sandboxTable = "sluice"

// Priorities of chains (linux/netfilter_ipv4.h).
const (
	priorityMangle = -150
	priorityFilter = 0
)

// writeRules writes all rules in one transaction.
func writeRules(rules []rule) error {
	t := newTransaction()
	t.addTable(sandboxTable)
	names := map[chain]string{arriving: "arriving", leaving: "leaving"}
	t.addChain(sandboxTable, names[arriving], unix.NF_INET_PRE_ROUTING, priorityMangle)
	t.addChain(sandboxTable, names[leaving], unix.NF_INET_LOCAL_OUT, priorityFilter)
	for _, r := range rules {
		if err := t.addRule(sandboxTable, names[r.chain], r.expressions()); err != nil {
			return err
		}
	}
	return t.commit()
}

func (r rule) expressions() []expr.Any {
	var e []expr.Any
	if r.to.IsValid() {
		e = append(e, matchDestination(r.to)...)
	}
	if r.protocol != 0 {
		e = append(e,
			&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1},
			&expr.Cmp{Register: 1, Data: []byte{r.protocol}})
	}
	if r.port != 0 {
		const destinationPort = 2 // offset in the header of TCP and of UDP
		e = append(e,
			&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: destinationPort, Len: 2},
			&expr.Cmp{Register: 1, Data: binary.BigEndian.AppendUint16(nil, r.port)})
	}
	switch r.action {
	case redirect:
		return append(e,
			&expr.Immediate{Register: 1, Data: r.target.Addr().AsSlice()},
			&expr.Immediate{Register: 2, Data: binary.BigEndian.AppendUint16(nil, r.target.Port())},
			&expr.TProxy{Family: family(r.target.Addr()), TableFamily: unix.NFPROTO_INET, RegAddr: 1, RegPort: 2},
			&expr.Verdict{Kind: expr.VerdictAccept})
	case hold:
		const flags = 13 // offset in the header of TCP
		return append(e,
			&expr.Meta{Key: expr.MetaKeyMARK, Register: 1},
			&expr.Cmp{Register: 1, Data: binary.NativeEndian.AppendUint32(nil, HeldMark)},
			&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: flags, Len: 1},
			&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 1, Mask: []byte{flagSYN | flagACK}, Xor: []byte{0}},
			&expr.Cmp{Register: 1, Data: []byte{flagSYN}},
			&expr.Verdict{Kind: expr.VerdictDrop})
	case refuse:
		return append(e, &expr.Reject{Type: unix.NFT_REJECT_ICMPX_UNREACH, Code: unix.NFT_REJECT_ICMPX_ADMIN_PROHIBITED})
	default:
		return append(e, &expr.Verdict{Kind: expr.VerdictAccept})
	}
}

func matchDestination(prefix netip.Prefix) []expr.Any {
	address := prefix.Addr()
	e := []expr.Any{
		&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: 1},
		&expr.Cmp{Register: 1, Data: []byte{family(address)}},
	}
	if prefix.Bits() == 0 {
		return e
	}
	offset, length := uint32(16), uint32(4) // of the destination in an IPv4 header
	if address.Is6() {
		offset, length = 24, 16
	}
	return append(e,
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: length},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: length,
			Mask: net.CIDRMask(prefix.Bits(), address.BitLen()), Xor: make([]byte, length)},
		&expr.Cmp{Register: 1, Data: prefix.Masked().Addr().AsSlice()})
}

func family(address netip.Addr) byte {
	if address.Is4() {
		return unix.NFPROTO_IPV4
	}
	return unix.NFPROTO_IPV6
}
