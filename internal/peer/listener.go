package peer

import (
	"log/slog"
	"net"
)

// Listener returns a listener on which only peers that pass Check are accepted;
// the others are closed and logged, and nothing was read of them.
func Listener(l net.Listener, log *slog.Logger) net.Listener {
	return &listener{Listener: l, log: log, check: Check}
}

type listener struct {
	net.Listener
	log   *slog.Logger
	check func(*net.UnixConn) error
}

func (l *listener) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		unixConn, ok := conn.(*net.UnixConn)
		if !ok {
			l.refuse(conn, ErrUnknowable)
			continue
		}
		if err := l.check(unixConn); err != nil {
			l.refuse(conn, err)
			continue
		}
		return conn, nil
	}
}

func (l *listener) refuse(conn net.Conn, why error) {
	conn.Close()
	l.log.Warn("connection refused", "socket", l.Addr().String(), "error", why)
}
