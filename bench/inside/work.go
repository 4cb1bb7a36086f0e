package inside

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// The roles: who does the work that it is asked for, line by line, and who answers its
// messages on descriptor 3.
const (
	RoleWork   = "inside-work"
	RoleAnswer = "inside-answer"
)

const (
	workStream = "stream"
	workPair   = "pair"
	workTCP    = "tcp"
	workUnix   = "unix"

	messages    = 10_000
	messageSize = 64
	connects    = 1000
)

// Work does each work whose name is a line of JSON, and answers with its figure.
func Work(self string, in io.Reader, out io.Writer) error {
	folder, err := os.MkdirTemp("", "inside")
	if err != nil {
		return err
	}
	defer os.RemoveAll(folder)
	said := json.NewEncoder(out)
	for lines := bufio.NewScanner(in); lines.Scan(); {
		var name string
		if err := json.Unmarshal(lines.Bytes(), &name); err != nil {
			return err
		}
		figure, err := work(self, folder, name)
		if err == nil {
			err = said.Encode(figure)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

func work(self, folder, name string) (float64, error) {
	switch name {
	case workStream:
		ours, theirs, err := connected(filepath.Join(folder, "messages"))
		if err != nil {
			return 0, err
		}
		return exchange(self, ours, theirs)
	case workPair:
		pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return 0, err
		}
		return exchange(self, os.NewFile(uintptr(pair[0]), "ours"), os.NewFile(uintptr(pair[1]), "theirs"))
	case workTCP:
		return connect("tcp", "127.0.0.1:0")
	case workUnix:
		return connect("unix", filepath.Join(folder, "connects"))
	}
	return 0, errors.New("no work has this name")
}

// connected are the two ends of a connection by a socket file.
func connected(path string) (client, server *os.File, err error) {
	listener, err := net.Listen("unix", path)
	if err != nil {
		return nil, nil, err
	}
	defer listener.Close()
	dialled, err := net.Dial("unix", path)
	if err != nil {
		return nil, nil, err
	}
	defer dialled.Close()
	accepted, err := listener.Accept()
	if err != nil {
		return nil, nil, err
	}
	defer accepted.Close()
	if client, err = dialled.(*net.UnixConn).File(); err != nil {
		return nil, nil, err
	}
	server, err = accepted.(*net.UnixConn).File()
	return client, server, err
}

// exchange sends messages to a process that answers each, and says how many ms that took.
func exchange(self string, ours, theirs *os.File) (float64, error) {
	defer ours.Close()
	answers := exec.Command(self, RoleAnswer)
	answers.ExtraFiles, answers.Stderr = []*os.File{theirs}, os.Stderr
	err := answers.Start()
	theirs.Close()
	if err != nil {
		return 0, err
	}
	fd := int(ours.Fd()) // which blocks from now on
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	err = swap(fd) // it has started
	began := time.Now()
	for i := 0; i < messages && err == nil; i++ {
		err = swap(fd)
	}
	took := time.Since(began)
	unix.Shutdown(fd, unix.SHUT_WR)
	return float64(took.Microseconds()) / 1000, errors.Join(err, answers.Wait())
}

func swap(fd int) error {
	var message [messageSize]byte
	if _, err := unix.Write(fd, message[:]); err != nil {
		return err
	}
	return receive(fd, message[:])
}

func receive(fd int, message []byte) error {
	for got := 0; got < len(message); {
		n, err := unix.Read(fd, message[got:])
		switch {
		case err == unix.EINTR:
		case err != nil:
			return err
		case n == 0:
			return io.EOF
		default:
			got += n
		}
	}
	return nil
}

// Answer is the role of who answers.
func Answer() error {
	const fd = 3
	if err := unix.SetNonblock(fd, false); err != nil {
		return err
	}
	runtime.LockOSThread()
	var message [messageSize]byte
	for {
		switch err := receive(fd, message[:]); {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		}
		if _, err := unix.Write(fd, message[:]); err != nil {
			return err
		}
	}
}

// connect says the median of many connects to a listener of its own, in µs.
func connect(network, address string) (float64, error) {
	listener, err := net.Listen(network, address)
	if err != nil {
		return 0, err
	}
	defer listener.Close()
	took := make([]time.Duration, connects)
	for i := range took {
		began := time.Now()
		client, err := net.Dial(network, listener.Addr().String())
		took[i] = time.Since(began)
		if err != nil {
			return 0, err
		}
		server, err := listener.Accept()
		if err != nil {
			client.Close()
			return 0, err
		}
		if linger, ok := client.(*net.TCPConn); ok {
			linger.SetLinger(0) // thousands in TIME_WAIT would be in the way
		}
		client.Close()
		server.Close()
	}
	slices.Sort(took)
	return float64(took[len(took)/2].Nanoseconds()) / 1000, nil
}
