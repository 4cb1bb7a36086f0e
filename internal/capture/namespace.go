package capture

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"syscall"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"sluice.dev/sluice/internal/capture/seqpacket"
)

// Options says how a namespace is set up.
type Options struct {
	// LoopbackDNS captures port 53 of 127.0.0.1 and ::1 too, which is what libc
	// and Go ask where there is no resolv.conf. The workload then cannot serve
	// DNS on those itself.
	LoopbackDNS bool
	// Ask makes an Asker, for whoever performs the connects of the workload.
	Ask bool
}

// Namespace is what SetUpNamespace leaves to whoever stays in the namespace.
type Namespace struct {
	// Sockets is for ServeSockets.
	Sockets *net.UnixConn
	// Asker is nil where Options did not ask for one, or where WithoutAsker says why
	// there is none.
	Asker        *Asker
	WithoutAsker error
}

// StepError says which step of the set-up failed, so that a caller can tell
// what this machine lacks.
type StepError struct {
	Step Step
	Err  error
}

// Step is a part of the set-up of a namespace.
type Step string

// The steps of the set-up.
const (
	StepLink    Step = "bring loopback up"
	StepAddress Step = "give loopback the gate's address"
	StepRoute   Step = "make every address local"
	StepRules   Step = "write the packet rules"
	StepSockets Step = "open the capture sockets"
)

func (e *StepError) Error() string { return string(e.Step) + ": " + e.Err.Error() }
func (e *StepError) Unwrap() error { return e.Err }

// SetUpAnyIP makes the calling thread's namespace, which has only loopback, own
// every address: v4 and, where the kernel has it, v6. ipv6 says whether it has.
// It needs CAP_NET_ADMIN there.
func SetUpAnyIP() (ipv6 bool, err error) {
	handle, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return false, &StepError{StepLink, err}
	}
	defer handle.Close()
	lo, err := handle.LinkByName("lo")
	if err == nil {
		err = handle.LinkSetUp(lo)
	}
	if err != nil {
		return false, &StepError{StepLink, err}
	}
	for _, gate := range []netip.Addr{Gate4, Gate6} {
		if gate.Is6() && !hasIPv6() {
			return false, nil
		}
		if err := ownEveryAddress(handle, lo, gate); err != nil {
			return false, err
		}
	}
	return true, nil
}

// hasIPv6 is false where the kernel was built or started without IPv6, or where
// a sysctl takes it from this namespace.
func hasIPv6() bool {
	fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return false
	}
	unix.Close(fd)
	disabled, err := os.ReadFile("/proc/sys/net/ipv6/conf/lo/disable_ipv6")
	return err != nil || len(disabled) == 0 || disabled[0] == '0'
}

// ownEveryAddress adds the gate's address and a local default route. The route
// names its source, for else a v4 client's source would equal its destination.
func ownEveryAddress(handle *netlink.Handle, lo netlink.Link, gate netip.Addr) error {
	bits := gate.BitLen()
	address := &netlink.Addr{
		IPNet: &net.IPNet{IP: gate.AsSlice(), Mask: net.CIDRMask(bits, bits)},
		Flags: unix.IFA_F_NODAD,
	}
	if err := handle.AddrAdd(lo, address); err != nil && !errors.Is(err, syscall.EEXIST) {
		return &StepError{StepAddress, fmt.Errorf("%s: %w", gate, err)}
	}
	route := &netlink.Route{
		LinkIndex: lo.Attrs().Index,
		Dst:       &net.IPNet{IP: make(net.IP, bits/8), Mask: net.CIDRMask(0, bits)},
		Type:      unix.RTN_LOCAL,
		Table:     unix.RT_TABLE_LOCAL,
		Scope:     netlink.SCOPE_HOST,
		Src:       gate.AsSlice(),
	}
	if err := handle.RouteAdd(route); err != nil && !errors.Is(err, syscall.EEXIST) {
		return &StepError{StepRoute, fmt.Errorf("%s: %w", gate, err)}
	}
	return nil
}

// SetUpNamespace makes the calling thread's namespace, which has only loopback,
// one from which nothing leaves but to the sockets that it returns: all TCP, and
// UDP to port 53. Everything else is refused at once with admin-prohibited. The
// files are for FromFiles, in any process.
func SetUpNamespace(options Options) (files []*os.File, inside *Namespace, err error) {
	ipv6, err := SetUpAnyIP()
	if err != nil {
		return nil, nil, err
	}
	inside = new(Namespace)
	var hold *holder
	if options.Ask {
		// Whoever performs the connects asks about those of this namespace alone.
		if _, inside.WithoutAsker = OwnNetwork(); inside.WithoutAsker == nil {
			hold, inside.WithoutAsker = newHolder(ipv6)
		}
		options.Ask = inside.WithoutAsker == nil
	}
	if err := writeRules(ruleset(ipv6, options)); err != nil {
		return nil, nil, &StepError{StepRules, err}
	}
	files, inside.Sockets, err = openSockets(ipv6)
	if err != nil {
		return nil, nil, &StepError{StepSockets, err}
	}
	if options.Ask {
		// An error leaves the kernel's own: a connect that is not answered then lasts longer.
		os.WriteFile("/proc/sys/net/ipv4/tcp_syn_retries", []byte(synRetries), 0)
		theirs, err := inside.ask(hold)
		if err != nil {
			CloseFiles(files)
			inside.Sockets.Close()
			return nil, nil, &StepError{StepSockets, err}
		}
		files = append(files, theirs)
	}
	return files, inside, nil
}

// synRetries is how often a SYN is sent again to nobody: ETIMEDOUT comes after 15 s, or
// 19 s since Linux 6.5, which is longer than an answer is waited for. Where the kernel waits for a
// caller, as for one that does not block, nobody else can give it that error.
const synRetries = "3"

// ask makes the Asker and the other end of its channel.
func (n *Namespace) ask(hold *holder) (theirs *os.File, err error) {
	ours, theirs, err := seqpacket.Pair()
	if err != nil {
		return nil, err
	}
	if n.Asker, err = newAsker(ours, hold); err != nil {
		ours.Close()
		theirs.Close()
		return nil, err
	}
	return theirs, nil
}
