package sandbox

import (
	"fmt"
	"net"
	"testing"

	"golang.org/x/sys/unix"
)

// dial connects and returns what the server says.
func dial(kind int, name string) (said string, err error) {
	fd, err := unix.Socket(unix.AF_UNIX, kind|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return "", err
	}
	defer unix.Close(fd)
	unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 5})
	if err := unix.Connect(fd, &unix.SockaddrUnix{Name: name}); err != nil {
		return "", err
	}
	answer := make([]byte, 64)
	n, _ := unix.Read(fd, answer)
	return string(answer[:max(n, 0)]), nil
}

// What accept returned has its listener's file. A command that got one as its input
// must not make the listener reachable by it.
func TestAConnectionHandedInDoesNotOpenItsListener(t *testing.T) {
	o := newOutside(t)
	path := o.path("accepting")
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	client, err := net.DialUnix("unix", nil, listener.Addr().(*net.UnixAddr))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	accepted, err := listener.AcceptUnix()
	if err != nil {
		t.Fatal(err)
	}
	stdin, err := accepted.File()
	accepted.Close()
	if err != nil {
		t.Fatal(err)
	}
	defer stdin.Close()
	p := newPlace(t, Config{Command: []string{"listen-on-input", path}, Stdin: stdin})
	if output, exit := p.run(t); exit != 0 || output != "invalid argument, \"\" connection refused\n" {
		t.Errorf("exit %d: %q", exit, output)
	}
}

func listenOnInputRole(args []string) int {
	listenErr := unix.Listen(0, 16)
	said, err := dial(unix.SOCK_STREAM, args[0])
	fmt.Printf("%v, %q %v\n", listenErr, said, err)
	return 0
}
