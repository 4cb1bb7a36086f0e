// Package capture makes a network namespace whose every connection arrives at
// sockets of ours, and makes sockets in it from outside. The sandbox's init sets
// the namespace up; the proxy accepts, answers and dials through a Capture. It
// never decides what may pass and never reads what does.
package capture

import "net/netip"

// Addresses inside a captured namespace. 198.18.0.0/15 is for benchmarks of
// network devices (RFC 2544, RFC 6890), 2001:2::/48 its counterpart (RFC 5180),
// fd00::/8 is local (RFC 4193): none is an answer that a resolver gives.
var (
	// Gate4 and Gate6 are the proxy as the workload sees it: its DNS server, and
	// the source of what the workload sends.
	Gate4 = netip.AddrFrom4([4]byte{198, 18, 0, 1})
	Gate6 = netip.AddrFrom16([16]byte{0: 0xfd, 3: 0x5c, 15: 1})
	// SyntheticPrefix4 and SyntheticPrefix6 hold the addresses that stand for
	// names.
	SyntheticPrefix4 = netip.PrefixFrom(netip.AddrFrom4([4]byte{198, 19}), 16)
	SyntheticPrefix6 = netip.PrefixFrom(netip.AddrFrom16([16]byte{0x20, 0x01, 0x00, 0x02}), 48)
	// WorkloadPrefix4 and WorkloadPrefix6 hold the addresses that workloads see
	// as one another's source; 198.18.0.0/24 of it is kept for the gate.
	WorkloadPrefix4 = netip.PrefixFrom(netip.AddrFrom4([4]byte{198, 18}), 16)
	WorkloadPrefix6 = netip.PrefixFrom(netip.AddrFrom16([16]byte{0: 0xfd, 3: 0x5c, 5: 1}), 64)
)

// ListenPort is the port on the gate's addresses to which TCP is redirected.
const ListenPort = 15001

// MaxWorkload is the largest number that WorkloadAddresses takes.
const MaxWorkload = 255*256 - 1

// WorkloadAddresses returns the addresses under which workload n, 0 to
// MaxWorkload, shows as a client of others. Both are the zero Addr for another n.
func WorkloadAddresses(n int) (v4, v6 netip.Addr) {
	if n < 0 || n > MaxWorkload {
		return netip.Addr{}, netip.Addr{}
	}
	low, high := byte(n), byte(n>>8)
	v4 = netip.AddrFrom4([4]byte{198, 18, 1 + high, low})
	v6 = netip.AddrFrom16([16]byte{0: 0xfd, 3: 0x5c, 5: 1, 14: high, 15: low})
	return v4, v6
}

// Local says whether an original destination lies in the namespace itself: its
// loopback, the gate, or nowhere. Such a connection was not meant for the world
// and is to be reset. DNS over TCP (port 53) is the exception: that is asked of
// the gate, and of 127.0.0.53 and its kind.
func Local(destination netip.AddrPort) bool {
	address := destination.Addr().Unmap()
	if !address.IsValid() || address.IsUnspecified() {
		return true
	}
	if !address.IsLoopback() && address != Gate4 && address != Gate6.WithZone(address.Zone()) {
		return false
	}
	return destination.Port() != dnsPort
}

const dnsPort = 53
