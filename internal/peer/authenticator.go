package peer

import (
	"fmt"
	"net"

	"golang.org/x/sys/unix"
)

// Peer is who is at the other end of a connection.
type Peer struct {
	PID int // of its process, as we see it; 0 where it is not on this machine
}

// Authenticator says who is at the other end of a connection, before anything of
// it is read. An error is a refusal: the caller closes the connection.
type Authenticator interface {
	Authenticate(conn net.Conn) (Peer, error)
}

// Credentials authenticates the processes of this machine by what the kernel says
// of them, as Check does. The peer of any other connection than one of a unix
// socket is refused.
type Credentials struct{}

// Authenticate implements Authenticator.
func (Credentials) Authenticate(conn net.Conn) (Peer, error) {
	local, ok := conn.(*net.UnixConn)
	if !ok {
		return Peer{}, fmt.Errorf("%w: the connection is not one of a unix socket", ErrUnknowable)
	}
	if err := Check(local); err != nil {
		return Peer{}, err
	}
	raw, err := local.SyscallConn()
	if err != nil {
		return Peer{}, fmt.Errorf("%w: %w", ErrUnknowable, err)
	}
	var credentials *unix.Ucred
	var failed error
	err = raw.Control(func(fd uintptr) {
		credentials, failed = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	})
	if err == nil {
		err = failed
	}
	if err != nil {
		return Peer{}, fmt.Errorf("%w: %w", ErrUnknowable, err)
	}
	return Peer{PID: int(credentials.Pid)}, nil
}
