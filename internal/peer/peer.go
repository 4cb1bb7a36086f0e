// Package peer says whether the process at the other end of a unix socket may
// command us: one of our own user, outside of every sandbox. The servers of
// api.sock, attach.sock and push.sock call it for each connection, and proxies
// for the server that they dial. It never trusts a uid alone, which a sandbox
// shows unchanged.
package peer

import (
	"errors"
	"fmt"
	"net"
	"os"

	"golang.org/x/sys/unix"
)

// The refusals, wrapped with what was found.
var (
	ErrUser       = errors.New("peer is another user")
	ErrNamespace  = errors.New("peer is in another namespace, as a sandboxed command is")
	ErrSeccomp    = errors.New("peer runs under other seccomp filters, as a confined command does")
	ErrUnknowable = errors.New("peer cannot be identified")
)

// Check accepts a peer that has our uid, is in our user and PID namespace, and
// runs under as many seccomp filters as we do: a filter cannot be taken off.
// Whatever cannot be found out is a refusal.
//
// Root is another user too. Its uid proves no rights here: a command that root
// confined shows uid 0 as well, and a user's process may not read root's
// namespaces to tell the two apart (ptrace(2), "Ptrace access mode checking").
// Root that means to command a user's Sluice can become that user.
//
// What is checked is the process that called connect; what it does with the
// connection is its own affair.
func Check(conn *net.UnixConn) error {
	raw, err := conn.SyscallConn()
	if err != nil {
		return fmt.Errorf("%w: %w", ErrUnknowable, err)
	}
	var verdict error
	err = raw.Control(func(fd uintptr) { verdict = check(int(fd), system{}) })
	if err != nil {
		return fmt.Errorf("%w: %w", ErrUnknowable, err)
	}
	return verdict
}

// kernel is what check asks; older ones answer less.
type kernel interface {
	// pidfd of the peer, whose number is pid (SO_PEERPIDFD since 6.5; before, a
	// peer that died may have left its number to another process).
	pidfd(socket, pid int) (int, error)
	// namespace is the identity of the process's PID or user namespace (pidfd
	// ioctls since 6.11).
	namespace(pidfd int, kind namespaceKind) (string, error)
}

func check(socket int, k kernel) error {
	credentials, err := unix.GetsockoptUcred(socket, unix.SOL_SOCKET, unix.SO_PEERCRED)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrUnknowable, err)
	}
	if ours := os.Geteuid(); int(credentials.Uid) != ours {
		return fmt.Errorf("%w: it has uid %d, we have %d", ErrUser, credentials.Uid, ours)
	}
	if credentials.Pid == 0 { // not visible from our PID namespace
		return fmt.Errorf("%w: outside of our PID namespace", ErrNamespace)
	}
	pid := int(credentials.Pid)
	// The pidfd stays with this very process, though its number may be given to
	// another; what is read by number is read before alive() is asked.
	pidfd, err := k.pidfd(socket, pid)
	if err != nil {
		return fmt.Errorf("%w: pid %d: %w", ErrUnknowable, pid, err)
	}
	defer unix.Close(pidfd)

	for _, kind := range []namespaceKind{pidNamespace, userNamespace} {
		if err := sameNamespace(k, pidfd, pid, kind); err != nil {
			return err
		}
	}
	if err := sameFilters(pid); err != nil {
		return err
	}
	if err := unix.PidfdSendSignal(pidfd, 0, nil, 0); err != nil && err != unix.EPERM {
		return fmt.Errorf("%w: pid %d: %w", ErrUnknowable, pid, err)
	}
	return nil
}

func sameFilters(pid int) error {
	ours, err := status("self", "Seccomp_filters")
	if err == nil {
		var theirs string
		if theirs, err = status(fmt.Sprint(pid), "Seccomp_filters"); err == nil && theirs != ours {
			return fmt.Errorf("%w: pid %d has %s, we have %s", ErrSeccomp, pid, theirs, ours)
		}
	}
	if err != nil {
		return fmt.Errorf("%w: pid %d: %w", ErrUnknowable, pid, err)
	}
	return nil
}

func sameNamespace(k kernel, pidfd, pid int, kind namespaceKind) error {
	ours, err := os.Readlink("/proc/self/ns/" + kind.name)
	if err != nil {
		return fmt.Errorf("%w: our own namespace: %w", ErrUnknowable, err)
	}
	theirs, err := k.namespace(pidfd, kind)
	if errors.Is(err, unix.ENOTTY) || errors.Is(err, unix.EINVAL) { // before 6.11
		theirs, err = namespaceByNumber(pid, kind)
	}
	if err != nil {
		return fmt.Errorf("%w: %s namespace of pid %d: %w", ErrUnknowable, kind.name, pid, err)
	}
	if theirs != ours {
		return fmt.Errorf("%w: pid %d in %s, we in %s", ErrNamespace, pid, theirs, ours)
	}
	return nil
}
