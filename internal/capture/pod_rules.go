package capture

import (
	"encoding/binary"
	"fmt"
	"net/netip"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// PodOptions says what of a Pod's traffic goes through its sidecar.
type PodOptions struct {
	ProxyUID uint32 // of the sidecar, whose own traffic is not redirected
	// ProxyGID is its group: a user of the same number in another one is not the sidecar. Any
	// group is where it is 0.
	ProxyGID uint32
	// Include is the destinations that go through it, all where empty; Exclude those that do
	// not. With either, names are resolved without it: addresses that stand for names would
	// bring everything to it.
	Include, Exclude []netip.Prefix
	// IncludeInbound is the ports on which what is sent to the Pod goes through it, all where
	// empty; ExcludeInbound those on which it does not. NoInbound: none does.
	IncludeInbound, ExcludeInbound []uint16
	NoInbound                      bool
}

// bypasses reports whether destinations bypass the sidecar.
func (o *PodOptions) bypasses() bool { return len(o.Include)+len(o.Exclude) > 0 }

const podTable = "sluice"

// RedirectPod makes the calling thread's namespace, which is that of a Pod, send its TCP and
// its DNS to the sidecar there; what else a user of the Pod sends is refused, but for answers
// to those who began. It takes CAP_NET_ADMIN. What an earlier call wrote is replaced, and an
// error leaves that as it was.
func RedirectPod(o PodOptions) error {
	conn, err := nftables.New()
	if err != nil {
		return err
	}
	table := &nftables.Table{Family: nftables.TableFamilyINet, Name: podTable}
	conn.AddTable(table) // or there would be none to delete
	conn.DelTable(table)
	conn.AddTable(table)
	for _, c := range podRules(&o) {
		chain := conn.AddChain(&nftables.Chain{Name: c.name, Table: table, Type: c.kind, Hooknum: c.hook, Priority: c.priority})
		for _, expressions := range c.rules {
			conn.AddRule(&nftables.Rule{Table: table, Chain: chain, Exprs: expressions})
		}
	}
	if err := conn.Flush(); err != nil {
		return fmt.Errorf("write the packet rules of the Pod (nftables with nat, fib and socket is required, as of Linux 5.11): %w", err)
	}
	return nil
}

// podChain is a chain of the Pod's rules.
type podChain struct {
	name     string
	kind     nftables.ChainType
	hook     *nftables.ChainHook
	priority *nftables.ChainPriority
	rules    [][]expr.Any
}

// podRules is the rules of a Pod. A socket of which the kernel knows no user, such as one of
// MPTCP, matches no rule about users: it is redirected, or refused.
func podRules(o *PodOptions) []podChain {
	chains := []podChain{
		{"sent", nftables.ChainTypeNAT, nftables.ChainHookOutput, nftables.ChainPriorityNATDest, sentRules(o)},
		{"left", nftables.ChainTypeFilter, nftables.ChainHookOutput, nftables.ChainPriorityFilter, leftRules(o)},
	}
	if !o.NoInbound {
		chains = append(chains, podChain{"received", nftables.ChainTypeNAT, nftables.ChainHookPrerouting, nftables.ChainPriorityNATDest, receivedRules(o)})
	}
	return chains
}

// sentRules redirects what the Pod sends to loopback, where the sidecar listens.
func sentRules(o *PodOptions) [][]expr.Any {
	tcp, udp := protocol(unix.IPPROTO_TCP), protocol(unix.IPPROTO_UDP)
	rules := [][]expr.Any{join(sidecars(o), verdictAccept())}
	if !o.bypasses() {
		// These stand for names, whatever the Pod's own routes say of them.
		for _, synthetic := range []netip.Prefix{SyntheticPrefix4, SyntheticPrefix6} {
			rules = append(rules, join(matchDestination(synthetic), tcp, redirectTo(PodOutboundPort)))
		}
	}
	rules = append(rules, join(toLocal(), verdictAccept()))
	if !o.bypasses() {
		rules = append(rules,
			join(udp, toPort(dnsPort), redirectTo(PodDNSPort)),
			join(tcp, toPort(dnsPort), redirectTo(PodOutboundPort)))
	}
	for _, prefix := range o.Exclude {
		rules = append(rules, join(matchDestination(prefix), verdictAccept()))
	}
	if o.bypasses() {
		rules = append(rules, join(tcp, toPort(dnsPort), verdictAccept()))
	}
	for _, prefix := range o.Include {
		rules = append(rules, join(matchDestination(prefix), tcp, redirectTo(PodOutboundPort)))
	}
	if len(o.Include) == 0 {
		rules = append(rules, join(tcp, redirectTo(PodOutboundPort)))
	}
	return rules
}

// leftRules refuses what would leave the Pod but for the sidecar's own, answers, and what the
// kernel itself sends.
func leftRules(o *PodOptions) [][]expr.Any {
	rules := [][]expr.Any{
		join(toLocal(), verdictAccept()), // what was redirected (its interface is still the one from before), and what stays in the Pod
		join(sidecars(o), verdictAccept()),
		join(answers(), verdictAccept()),
	}
	if o.bypasses() {
		rules = append(rules,
			join(protocol(unix.IPPROTO_UDP), toPort(dnsPort), verdictAccept()),
			join(protocol(unix.IPPROTO_TCP), toPort(dnsPort), verdictAccept()))
	}
	for _, prefix := range o.Exclude {
		rules = append(rules, join(matchDestination(prefix), verdictAccept()))
	}
	if len(o.Include) > 0 { // and no other destination is held
		for _, prefix := range o.Include {
			rules = append(rules, join(anyUser(), matchDestination(prefix), refused()))
		}
		rules = append(rules, closed())
		for _, prefix := range o.Include {
			rules = append(rules, join(matchDestination(prefix), refused()))
		}
		return append(rules, join(verdictAccept()))
	}
	rules = append(rules, join(anyUser(), refused()), closed())
	// No user's: the kernel finds its neighbours, says that it listens to groups, and reports
	// errors of what others sent.
	for _, kind := range []byte{130, 131, 132, 133, 134, 135, 136, 143} { // multicast listeners, routers, neighbours
		rules = append(rules, join(protocol(unix.IPPROTO_ICMPV6), icmpType(kind), verdictAccept()))
	}
	return append(rules,
		join(protocol(unix.IPPROTO_IGMP), verdictAccept()),
		join(state(expr.CtStateBitRELATED), verdictAccept()),
		refused())
}

// closed accepts what the kernel sends for a connection that its process closed, such as
// the last ACK: it has no user any more. Only behind a rule that refuses any user. The
// connections are the sidecar's: nobody else's ever left the Pod.
func closed() []expr.Any {
	return join(protocol(unix.IPPROTO_TCP), state(expr.CtStateBitESTABLISHED), verdictAccept())
}

// receivedRules redirects what is sent to a port of the Pod on which somebody listens: the
// others refuse as they do without a sidecar, which is what probes look at. What is for
// another machine is not redirected: the sidecar would relay it for whoever is on the link.
func receivedRules(o *PodOptions) [][]expr.Any {
	tcp := protocol(unix.IPPROTO_TCP)
	rules := [][]expr.Any{
		join(arrivesBy("lo"), verdictAccept()),
		join(destinationType(expr.CmpOpNeq, unix.RTN_LOCAL), verdictAccept()),
	}
	for _, port := range append([]uint16{PodOutboundPort, PodInboundPort, PodHealthPort}, o.ExcludeInbound...) {
		rules = append(rules, join(tcp, toPort(port), verdictAccept()))
	}
	listened := []expr.Any{&expr.Socket{Key: expr.SocketKeyWildcard, Register: 1}}
	for _, port := range o.IncludeInbound {
		rules = append(rules, join(tcp, toPort(port), listened, redirectTo(PodInboundPort)))
	}
	if len(o.IncludeInbound) == 0 {
		rules = append(rules, join(tcp, listened, redirectTo(PodInboundPort)))
	}
	return rules
}

func join(parts ...[]expr.Any) (rule []expr.Any) {
	for _, part := range parts {
		rule = append(rule, part...)
	}
	return rule
}

func verdictAccept() []expr.Any { return []expr.Any{&expr.Verdict{Kind: expr.VerdictAccept}} }

func refused() []expr.Any {
	return []expr.Any{&expr.Reject{Type: unix.NFT_REJECT_ICMPX_UNREACH, Code: unix.NFT_REJECT_ICMPX_ADMIN_PROHIBITED}}
}

// compare loads something into a register and compares it.
func compare(load expr.Any, op expr.CmpOp, data []byte) []expr.Any {
	return []expr.Any{load, &expr.Cmp{Op: op, Register: 1, Data: data}}
}

func native(n uint32) []byte { return binary.NativeEndian.AppendUint32(nil, n) }

func user(uid uint32) []expr.Any {
	return compare(&expr.Meta{Key: expr.MetaKeySKUID, Register: 1}, expr.CmpOpEq, native(uid))
}

// sidecars matches what the sidecar sends.
func sidecars(o *PodOptions) []expr.Any {
	if o.ProxyGID == 0 {
		return user(o.ProxyUID)
	}
	return join(user(o.ProxyUID), compare(&expr.Meta{Key: expr.MetaKeySKGID, Register: 1}, expr.CmpOpEq, native(o.ProxyGID)))
}

// anyUser matches what a socket of a process sends: without one there is nothing to compare.
func anyUser() []expr.Any {
	return compare(&expr.Meta{Key: expr.MetaKeySKUID, Register: 1}, expr.CmpOpGte, native(0))
}

func protocol(number byte) []expr.Any {
	return compare(&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1}, expr.CmpOpEq, []byte{number})
}

func toPort(port uint16) []expr.Any {
	return compare(&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2},
		expr.CmpOpEq, binary.BigEndian.AppendUint16(nil, port))
}

func icmpType(kind byte) []expr.Any {
	return compare(&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Len: 1}, expr.CmpOpEq, []byte{kind})
}

func arrivesBy(name string) []expr.Any {
	return compare(&expr.Meta{Key: expr.MetaKeyIIFNAME, Register: 1}, expr.CmpOpEq, interfaceName(name))
}

func interfaceName(name string) []byte {
	padded := make([]byte, unix.IFNAMSIZ)
	copy(padded, name)
	return padded
}

// toLocal matches what is sent to an address of the Pod's own.
func toLocal() []expr.Any { return destinationType(expr.CmpOpEq, unix.RTN_LOCAL) }

// destinationType compares what the Pod's routes say of the destination.
func destinationType(op expr.CmpOp, kind uint32) []expr.Any {
	return compare(&expr.Fib{Register: 1, FlagDADDR: true, ResultADDRTYPE: true}, op, native(kind))
}

// answers matches packets of connections that somebody else began.
func answers() []expr.Any {
	return compare(&expr.Ct{Register: 1, Key: expr.CtKeyDIRECTION}, expr.CmpOpEq, []byte{1})
}

// state matches a state of the connection: established, of which both sides sent, or
// related, an error that is about another.
func state(bit uint32) []expr.Any {
	return []expr.Any{
		&expr.Ct{Register: 1, Key: expr.CtKeySTATE},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 4, Mask: native(bit), Xor: native(0)},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: native(0)},
	}
}

func redirectTo(port uint16) []expr.Any {
	return []expr.Any{
		&expr.Immediate{Register: 1, Data: binary.BigEndian.AppendUint16(nil, port)},
		&expr.Redir{RegisterProtoMin: 1},
	}
}

// swapToHost is a number of the wire that was read in the order of the machine.
func swapToHost(port uint16) uint16 {
	return binary.BigEndian.Uint16(binary.NativeEndian.AppendUint16(nil, port))
}
