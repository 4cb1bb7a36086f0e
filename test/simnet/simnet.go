package simnet

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sluice.dev/sluice/internal/capture"
)

// Config says where a new internet is found. All paths are required; a socket's
// path has at most 107 bytes.
type Config struct {
	Sockets string // SEQPACKET socket behind which capture.ServeSockets answers
	CA      string // file for the CA's certificate, PEM
	Control string // HTTP socket for Control
}

// Internet is a running one: a process in a namespace of its own.
type Internet struct {
	Sockets string // path of the socket that serves sockets of the internet
	CA      string // file with the CA's certificate
	Control Control

	channel *net.UnixConn // its life
	exited  chan struct{}
	err     error // of the process; to be read after exited
}

// startTimeout bounds the time until an internet is ready; it takes 20 to 60 ms.
const startTimeout = 60 * time.Second

// New starts an internet and returns when it is ready. Its process ends with
// Close, or with ours whatever happens to us. As an ordinary user it needs user
// namespaces. The program must call Init first.
func New(ctx context.Context, c Config) (*Internet, error) {
	ours, theirs, err := channel()
	if err != nil {
		return nil, fmt.Errorf("start the small internet: %w", err)
	}
	defer theirs.Close()
	cmd := &exec.Cmd{
		Path:        "/proc/self/exe",
		Args:        []string{insideName, c.Sockets, c.CA, c.Control},
		ExtraFiles:  []*os.File{theirs},
		Stderr:      os.Stderr,
		SysProcAttr: namespaces(os.Geteuid() != 0),
	}
	n := &Internet{Sockets: c.Sockets, CA: c.CA, Control: Control{c.Control}, channel: ours, exited: make(chan struct{})}
	begun := make(chan error)
	go func() {
		// Pdeathsig is sent when the thread that started the process ends.
		runtime.LockOSThread()
		err := cmd.Start()
		begun <- err
		if err == nil {
			n.err = cmd.Wait()
		}
		close(n.exited)
	}()
	if err := <-begun; err != nil {
		ours.Close()
		return nil, fmt.Errorf("start the small internet: %w", err)
	}
	theirs.Close()
	if err := n.await(ctx); err != nil {
		n.Close()
		return nil, fmt.Errorf("start the small internet: %w", err)
	}
	return n, nil
}

// channel returns a pair of stream sockets.
func channel() (*net.UnixConn, *os.File, error) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, nil, err
	}
	file, theirs := os.NewFile(uintptr(pair[0]), "channel"), os.NewFile(uintptr(pair[1]), "channel")
	defer file.Close()
	ours, err := net.FileConn(file)
	if err != nil {
		theirs.Close()
		return nil, nil, err
	}
	return ours.(*net.UnixConn), theirs, nil
}

// namespaces asks for a network of its own, as an ordinary user in a user
// namespace too, with the capabilities to set it up.
func namespaces(user bool) *syscall.SysProcAttr {
	attributes := &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Cloneflags: unix.CLONE_NEWNET}
	if user {
		uid, gid := os.Geteuid(), os.Getegid()
		attributes.Cloneflags |= unix.CLONE_NEWUSER
		attributes.UidMappings = []syscall.SysProcIDMap{{ContainerID: uid, HostID: uid, Size: 1}}
		attributes.GidMappings = []syscall.SysProcIDMap{{ContainerID: gid, HostID: gid, Size: 1}}
		attributes.AmbientCaps = []uintptr{unix.CAP_NET_ADMIN, unix.CAP_NET_BIND_SERVICE, unix.CAP_NET_RAW}
	}
	return attributes
}

// await reads what the process says of itself.
func (n *Internet) await(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { n.channel.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	said := make([]byte, 4096)
	k, err := n.channel.Read(said)
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.Is(err, io.EOF):
		return errors.New("its process ended at once: does the program call simnet.Init first?")
	case err != nil:
		return err
	case string(said[:k]) != ready:
		return errors.New(string(said[:k]))
	}
	return nil
}

// Exited is closed when the process has ended.
func (n *Internet) Exited() <-chan struct{} { return n.exited }

// Close ends the internet, waits for its process and removes its sockets and the
// CA's file. The error is the process's own, which ended before it was asked to.
func (n *Internet) Close() error {
	n.channel.Close()
	<-n.exited
	for _, path := range []string{n.Sockets, n.CA, n.Control.Path} {
		os.Remove(path)
	}
	if n.err != nil {
		return fmt.Errorf("the small internet ended: %w", n.err)
	}
	return nil
}

// Dial returns sockets of the internet. The caller closes them.
func (n *Internet) Dial(ctx context.Context) (*capture.Factory, error) {
	return capture.DialFactory(ctx, n.Sockets)
}

// Start is New for a test, in a folder of its own; it ends with the test. The
// package's TestMain must call Init first.
func Start(t testing.TB) *Internet {
	t.Helper()
	dir, err := os.MkdirTemp("", "simnet") // short: a socket's path is
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	n, err := New(t.Context(), Config{
		Sockets: filepath.Join(dir, "sockets"), CA: filepath.Join(dir, "ca.pem"), Control: filepath.Join(dir, "control"),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := n.Close(); err != nil {
			t.Error(err)
		}
	})
	return n
}
