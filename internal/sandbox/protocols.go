package sandbox

import "golang.org/x/sys/unix"

// protocols are those that a command may speak over IPv4 and IPv6; 0 is the usual one of
// a socket's type. To open a socket of another one makes many kernels load its module,
// of much code that few look at, and nothing answers it here.
var protocols = []uint32{
	0, unix.IPPROTO_ICMP, unix.IPPROTO_TCP, unix.IPPROTO_UDP, unix.IPPROTO_ICMPV6, unix.IPPROTO_MPTCP,
}

// internetSocket decides over socket(2) of IPv4 and IPv6 by type and protocol, as a kernel
// would that has no others. A type may stand for a protocol (SEQPACKET for SCTP), or for
// another family (SOCK_PACKET). Raw ones are left to the kernel, which refuses them.
func internetSocket(p *program) {
	p.load(lowHalf(1))
	p.and(ofType)
	p.when(unix.SOCK_RAW, unix.SECCOMP_RET_ALLOW)
	p.whenThen(unix.SOCK_STREAM, spokenProtocol)
	p.whenThen(unix.SOCK_DGRAM, spokenProtocol)
	p.end(refuseWith(unix.ESOCKTNOSUPPORT))
}

func spokenProtocol(p *program) {
	p.load(lowHalf(2))
	for _, protocol := range protocols {
		p.when(protocol, unix.SECCOMP_RET_ALLOW)
	}
	p.end(refuseWith(unix.EPROTONOSUPPORT))
}
