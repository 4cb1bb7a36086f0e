// Package seqpacket carries one JSON value and its file descriptors in one
// message over SOCK_SEQPACKET. Capture, sandbox and attach speak it. It never
// leaves a descriptor open when it returns an error, and never takes more than
// the caller said.
package seqpacket

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"

	"golang.org/x/sys/unix"
)

const (
	// MaxMessage is the largest JSON value of a message, in bytes.
	MaxMessage = 16 << 10
	// MaxFiles is the largest number of descriptors in a message. The kernel's
	// own bound is 253 (SCM_MAX_FD).
	MaxFiles = 64
)

var (
	// ErrTooLarge says that a message is over MaxMessage.
	ErrTooLarge = errors.New("message over 16 KiB")
	// ErrTooManyFiles says that a message brings more descriptors than its
	// reader takes.
	ErrTooManyFiles = errors.New("too many file descriptors in one message")
)

// Send writes v and the descriptors as one message. The descriptors stay the
// caller's.
func Send(c *net.UnixConn, v any, files ...int) error {
	if len(files) > MaxFiles {
		return ErrTooManyFiles
	}
	message, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode message: %w", err)
	}
	if len(message) > MaxMessage {
		return ErrTooLarge
	}
	var rights []byte
	if len(files) > 0 {
		rights = unix.UnixRights(files...)
	}
	_, _, err = c.WriteMsgUnix(message, rights, nil)
	return err
}

// Receive reads one message into v and returns its descriptors, at most
// maxFiles of them, close-on-exec. On any error all descriptors that came are
// closed. It returns io.EOF when the peer has closed. Only one goroutine may receive from
// a connection at a time.
func Receive(c *net.UnixConn, v any, maxFiles int) ([]int, error) {
	size, err := next(c)
	if err != nil {
		return nil, err
	}
	message := make([]byte, min(max(size, 1), MaxMessage)) // with room for none it would not be read
	// One more than allowed, so that too many are seen rather than cut off.
	control := make([]byte, unix.CmsgSpace((min(maxFiles, MaxFiles)+1)*4))
	n, controlLength, flags, _, err := c.ReadMsgUnix(message, control) // adds MSG_CMSG_CLOEXEC
	if errors.Is(err, io.EOF) {
		return nil, io.EOF
	}
	if err != nil {
		return nil, err
	}
	files, err := rights(control[:controlLength])
	switch {
	case err != nil:
	case flags&unix.MSG_CTRUNC != 0 || len(files) > maxFiles:
		err = ErrTooManyFiles
	case flags&unix.MSG_TRUNC != 0:
		err = ErrTooLarge
	case n == 0:
		err = io.EOF
	default:
		if err = json.Unmarshal(message[:n], v); err != nil {
			err = fmt.Errorf("decode message: %w", err)
		}
	}
	if err != nil {
		Close(files)
		return nil, err
	}
	return files, nil
}

// next waits for a message and returns its size. Most wait for long, and are short: a
// reader that waits holds no memory for what may come.
func next(c *net.UnixConn) (size int, err error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return 0, err
	}
	waiting := raw.Read(func(fd uintptr) bool {
		for {
			size, _, err = unix.Recvfrom(int(fd), nil, unix.MSG_PEEK|unix.MSG_TRUNC)
			if err != unix.EINTR {
				return err != unix.EAGAIN
			}
		}
	})
	if waiting != nil {
		return 0, waiting
	}
	return size, err
}

// rights returns the descriptors of all SCM_RIGHTS records.
func rights(control []byte) ([]int, error) {
	if len(control) == 0 {
		return nil, nil
	}
	records, err := unix.ParseSocketControlMessage(control)
	if err != nil {
		return nil, fmt.Errorf("parse control message: %w", err)
	}
	var files []int
	for i := range records {
		if records[i].Header.Level != unix.SOL_SOCKET || records[i].Header.Type != unix.SCM_RIGHTS {
			continue
		}
		more, err := unix.ParseUnixRights(&records[i])
		if err != nil {
			return files, fmt.Errorf("parse rights: %w", err)
		}
		files = append(files, more...)
	}
	return files, nil
}

// Close closes descriptors.
func Close(files []int) {
	for _, file := range files {
		unix.Close(file)
	}
}

// Pair makes a connected pair: ours is a connection, theirs a file to be handed
// to somebody else and then closed here.
func Pair() (ours *net.UnixConn, theirs *os.File, err error) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("socketpair: %w", err)
	}
	ours, err = Conn(pair[0])
	if err != nil {
		unix.Close(pair[1])
		return nil, nil, err
	}
	return ours, os.NewFile(uintptr(pair[1]), "seqpacket"), nil
}

// Conn makes a connection of a descriptor, and takes the descriptor over: it is
// closed on error too.
func Conn(fd int) (*net.UnixConn, error) {
	file := os.NewFile(uintptr(fd), "seqpacket")
	if file == nil {
		return nil, fmt.Errorf("descriptor %d: %w", fd, unix.EBADF)
	}
	defer file.Close()
	kind, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TYPE)
	if err != nil {
		return nil, fmt.Errorf("descriptor %d: %w", fd, err)
	}
	if kind != unix.SOCK_SEQPACKET {
		return nil, fmt.Errorf("descriptor %d: not a SOCK_SEQPACKET socket", fd)
	}
	conn, err := net.FileConn(file)
	if err != nil {
		return nil, fmt.Errorf("descriptor %d: %w", fd, err)
	}
	unixConn, ok := conn.(*net.UnixConn)
	if !ok {
		conn.Close()
		return nil, fmt.Errorf("descriptor %d: not a unix socket", fd)
	}
	return unixConn, nil
}
