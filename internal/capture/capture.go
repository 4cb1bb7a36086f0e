package capture

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"

	"golang.org/x/sys/unix"
)

// Capture is the sockets of a captured namespace, held by the proxy, which is in
// another. Holding any of them keeps the namespace alive.
type Capture struct {
	// TCP accepts every connection that is made in the namespace; see Destination and
	// Local.
	TCP []*net.TCPListener
	// DNS receives every packet to a port 53; see ReadQuestion.
	DNS []*net.UDPConn
	// Inward makes connections that begin in the namespace; see DialInward.
	Inward *Factory
	// Questions asks what will become of connections that begin; nil where nobody in the
	// namespace does.
	Questions *Questions

	redirected bool // see Pod
}

// FromFiles makes a Capture of what SetUpNamespace returned, and takes the files
// over: they are closed, on error too. Without IPv6 there are three, else five, and
// where connects are asked about one more: the second SEQPACKET socket.
func FromFiles(files []*os.File) (_ *Capture, err error) {
	defer CloseFiles(files)
	if len(files) > MaxFiles {
		return nil, fmt.Errorf("capture: %d descriptors, at most %d are taken", len(files), MaxFiles)
	}
	c := new(Capture)
	defer func() {
		if err != nil {
			c.Close()
		}
	}()
	for i, file := range files {
		if err := c.take(file); err != nil {
			return nil, fmt.Errorf("capture: descriptor %d: %w", i, err)
		}
	}
	if len(c.TCP) == 0 || len(c.DNS) != len(c.TCP) || c.Inward == nil {
		return nil, fmt.Errorf("capture: %d TCP and %d DNS sockets, factory: %t; one of each is the least",
			len(c.TCP), len(c.DNS), c.Inward != nil)
	}
	return c, nil
}

// take sorts a descriptor in by what the kernel says it is.
func (c *Capture) take(file *os.File) error {
	domain, kind, listening, err := socketKind(file)
	if err != nil {
		return err
	}
	internet := domain == unix.AF_INET || domain == unix.AF_INET6
	switch {
	case internet && kind == unix.SOCK_STREAM && listening:
		listener, err := net.FileListener(file)
		if err != nil {
			return err
		}
		c.TCP = append(c.TCP, listener.(*net.TCPListener))
	case internet && kind == unix.SOCK_DGRAM:
		conn, err := net.FilePacketConn(file)
		if err != nil {
			return err
		}
		c.DNS = append(c.DNS, conn.(*net.UDPConn))
	case domain == unix.AF_UNIX && kind == unix.SOCK_SEQPACKET && c.Questions == nil:
		conn, err := net.FileConn(file)
		if err != nil {
			return err
		}
		if c.Inward == nil {
			c.Inward = NewFactory(conn.(*net.UnixConn))
		} else {
			c.Questions = newQuestions(conn.(*net.UnixConn))
		}
	default:
		return fmt.Errorf("a socket of family %d, type %d is not expected", domain, kind)
	}
	return nil
}

func socketKind(file *os.File) (domain, kind int, listening bool, err error) {
	raw, err := file.SyscallConn()
	if err != nil {
		return 0, 0, false, err
	}
	option := func(fd uintptr, name int) (value int) {
		if err == nil {
			value, err = unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, name)
		}
		return value
	}
	controlErr := raw.Control(func(fd uintptr) {
		domain, kind = option(fd, unix.SO_DOMAIN), option(fd, unix.SO_TYPE)
		listening = option(fd, unix.SO_ACCEPTCONN) != 0
	})
	return domain, kind, listening, errors.Join(controlErr, err)
}

// Close closes all sockets, the unused ones of the factory too. Connections that
// were accepted or dialled stay their owner's.
func (c *Capture) Close() error {
	var errs []error
	for _, listener := range c.TCP {
		errs = append(errs, listener.Close())
	}
	for _, conn := range c.DNS {
		errs = append(errs, conn.Close())
	}
	if c.Inward != nil {
		errs = append(errs, c.Inward.Close())
	}
	if c.Questions != nil {
		errs = append(errs, c.Questions.Close())
	}
	return errors.Join(errs...)
}

// OriginalDestination returns where the client meant to go: with TPROXY that is
// the accepted connection's own address. It is untrusted, and without zone.
func OriginalDestination(conn *net.TCPConn) netip.AddrPort {
	address, ok := conn.LocalAddr().(*net.TCPAddr)
	if !ok {
		return netip.AddrPort{}
	}
	destination := address.AddrPort()
	return netip.AddrPortFrom(destination.Addr().Unmap().WithZone(""), destination.Port())
}
