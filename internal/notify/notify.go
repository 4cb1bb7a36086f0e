// Package notify tells systemd how far a service is (sd_notify(3)). sluice-server and
// sluice-proxy call it when they are ready and when they stop. It never fails: where
// nobody listens, systemd says so itself.
package notify

import (
	"net"
	"os"
	"time"
)

// States.
const (
	Ready    = "READY=1"
	Stopping = "STOPPING=1"
)

// variable names the socket that systemd reads from.
const variable = "NOTIFY_SOCKET"

// patience bounds how long a full socket is waited for.
const patience = time.Second

// Socket is where systemd listens; "" is nowhere.
type Socket string

// Take returns the socket of the environment and takes its variable away: a library
// that knows it would report on its own, before all of us is ready, and so would a
// command that we start.
func Take() Socket {
	address := os.Getenv(variable)
	_ = os.Unsetenv(variable)
	return Socket(address)
}

// Tell says a state.
func (s Socket) Tell(state string) {
	if s == "" {
		return
	}
	conn, err := net.DialTimeout("unixgram", string(s), patience) // "@" is the abstract one
	if err != nil {
		return
	}
	defer conn.Close()
	_ = conn.SetWriteDeadline(time.Now().Add(patience))
	_, _ = conn.Write([]byte(state))
}
