package capture

import (
	"errors"
	"fmt"
	"io"
	"net"

	"golang.org/x/sys/unix"

	"sluice.dev/sluice/internal/capture/seqpacket"
)

// ServeSockets makes sockets in the calling process's namespace for the Factory
// at the other end, until that closes; then it returns nil. Each request is for
// at most seqpacket.MaxFiles TCP or UDP sockets, which may bind any address. It
// closes conn.
func ServeSockets(conn *net.UnixConn) error {
	defer conn.Close()
	for {
		var asked request
		_, err := seqpacket.Receive(conn, &asked, 0)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("serve sockets: %w", err)
		}
		answer := reply{Format: socketsFormat, Number: asked.Number}
		files, err := openBatch(asked)
		if err != nil {
			answer.Error = err.Error()
		}
		err = seqpacket.Send(conn, answer, files...)
		seqpacket.Close(files)
		if err != nil {
			return fmt.Errorf("serve sockets: %w", err)
		}
	}
}

// prepare makes a socket what a Factory hands out.
func prepare(fd int, asked request) error {
	if asked.Kind == unix.SOCK_STREAM {
		if err := InlineUrgent(fd); err != nil {
			return err
		}
	}
	return setTransparent(fd, asked.Domain)
}

// openBatch returns the sockets that it could open; an error comes with none.
func openBatch(asked request) ([]int, error) {
	if err := requests.Check(asked.Format); err != nil {
		return nil, err
	}
	if asked.Domain != unix.AF_INET && asked.Domain != unix.AF_INET6 {
		return nil, fmt.Errorf("family %d: %w", asked.Domain, unix.EAFNOSUPPORT)
	}
	if asked.Kind != unix.SOCK_STREAM && asked.Kind != unix.SOCK_DGRAM {
		return nil, fmt.Errorf("type %d: %w", asked.Kind, unix.ESOCKTNOSUPPORT)
	}
	if asked.Count < 1 || asked.Count > seqpacket.MaxFiles {
		return nil, fmt.Errorf("%d sockets: 1 to %d may be asked for", asked.Count, seqpacket.MaxFiles)
	}
	files := make([]int, 0, asked.Count)
	for range asked.Count {
		fd, err := unix.Socket(asked.Domain, asked.Kind|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
		if err == nil {
			if err = prepare(fd, asked); err != nil {
				unix.Close(fd)
			}
		}
		if err != nil && len(files) == 0 {
			return nil, err
		}
		if err != nil {
			break
		}
		files = append(files, fd)
	}
	return files, nil
}
