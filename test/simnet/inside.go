package simnet

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/signal"

	"golang.org/x/sys/unix"

	"sluice.dev/sluice/internal/atomicfile"
	"sluice.dev/sluice/internal/capture"
)

const (
	// insideName is argv[0] of the process in the namespace.
	insideName = "sluice-simnet"
	// channelFD is the end of the channel to the parent: we say "ready" or what
	// went wrong, and live until it ends.
	channelFD = 3
	ready     = "ready"
)

// Init is the first call of main and of TestMain where internets are started: in
// the process that New re-executed it is the internet and never returns; in any
// other it does nothing.
func Init() {
	if len(os.Args) != 4 || os.Args[0] != insideName {
		return
	}
	channel := os.NewFile(channelFD, "channel")
	// A terminal's ^C reaches us too; our end is that of the channel.
	signal.Notify(make(chan os.Signal, 1), unix.SIGINT, unix.SIGTERM, unix.SIGHUP)
	if err := inside(Config{Sockets: os.Args[1], CA: os.Args[2], Control: os.Args[3]}); err != nil {
		fmt.Fprint(channel, err)
		os.Exit(1)
	}
	fmt.Fprint(channel, ready)
	io.Copy(io.Discard, channel)
	os.Exit(0)
}

// inside sets the namespace up and starts everything. The sockets come last, so
// that whoever finds them finds all the rest.
func inside(c Config) error {
	unix.Umask(0o077)
	ipv6, err := capture.SetUpAnyIP()
	if err != nil {
		return err
	}
	if err := dropBlackHoles(ipv6); err != nil {
		return fmt.Errorf("drop what goes to the black holes: %w", err)
	}
	s, err := newServers(ipv6)
	if err != nil {
		return err
	}
	if err := s.start(); err != nil {
		return err
	}
	if err := writeCA(c.CA, s.trusted.pem()); err != nil {
		return err
	}
	control, err := listenUnix("unix", c.Control)
	if err != nil {
		return err
	}
	go http.Serve(control, s.controlHandler())
	sockets, err := listenUnix("unixpacket", c.Sockets)
	if err != nil {
		return err
	}
	go func() {
		for {
			conn, err := sockets.AcceptUnix()
			if err != nil {
				return
			}
			go capture.ServeSockets(conn)
		}
	}()
	return nil
}

// writeCA writes the CA for all to read, whole or not at all.
func writeCA(path string, content []byte) error {
	if err := atomicfile.WriteBytes(path, 0o644, content); err != nil {
		return fmt.Errorf("write the CA: %w", err)
	}
	return nil
}

// listenUnix listens at a path, 0600, in place of what a dead process left.
func listenUnix(network, path string) (*net.UnixListener, error) {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("listen on %s: %w", path, err)
	}
	l, err := net.ListenUnix(network, &net.UnixAddr{Name: path, Net: network})
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", path, err)
	}
	return l, nil
}
