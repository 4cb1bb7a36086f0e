package server

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"sluice.dev/sluice/internal/paths"
)

// errLocked says that another process holds a folder.
var errLocked = errors.New("another process holds the lock")

// RunningError says that another server uses a folder.
type RunningError struct {
	Purpose string // "runtime" or "data"
	Folder  string
	PID     int // of that server; 0 where it is not known
}

func (e *RunningError) Error() string {
	who := "another sluice-server"
	if e.PID != 0 {
		who = fmt.Sprintf("a sluice-server (pid %d)", e.PID)
	}
	return fmt.Sprintf("%s uses the %s folder %s: stop it first, or choose another folder with --%s-dir", who, e.Purpose, e.Folder, e.Purpose)
}

// lock is the lock of a folder. The kernel lets it go when the process ends, in
// whatever way, and nothing is left behind in the folder.
type lock struct{ folder *os.File }

func takeLock(path string) (*lock, error) {
	folder, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(folder.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		_ = folder.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, errLocked
		}
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	return &lock{folder}, nil
}

func (l *lock) release() { _ = l.folder.Close() }

// otherServer returns the pid of the process that listens on api.sock, 0 where
// it is not known.
func (s *Server) otherServer() int {
	conn, err := net.DialTimeout("unix", filepath.Join(s.config.RuntimeDir, paths.APISocket), time.Second)
	if err != nil {
		return 0
	}
	defer conn.Close()
	raw, err := conn.(*net.UnixConn).SyscallConn()
	if err != nil {
		return 0
	}
	pid := 0
	_ = raw.Control(func(fd uintptr) {
		if peer, err := unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED); err == nil {
			pid = int(peer.Pid)
		}
	})
	return pid
}
