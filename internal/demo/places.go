package demo

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"sluice.dev/sluice/internal/paths"
)

// refuseBeside refuses to start where a server runs.
func refuseBeside(runtime string) error {
	conn, err := net.DialTimeout("unix", filepath.Join(runtime, "api.sock"), time.Second)
	if err != nil {
		return nil
	}
	conn.Close()
	return fmt.Errorf("a sluice-server runs in %s already, perhaps that of another demo: end it first, or set SLUICE_RUNTIME to another folder", runtime)
}

// make makes the folders, empty, and locks them against another demo that starts
// at the same time.
func (p places) make() (unlock func(), err error) {
	if err := os.MkdirAll(p.private, 0o700); err != nil {
		return nil, fmt.Errorf("make %s: %w", p.private, err)
	}
	folder, err := os.Open(p.private)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(folder.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		folder.Close()
		return nil, fmt.Errorf("another demo starts in %s (%w): end it first, or set SLUICE_RUNTIME to another folder", filepath.Dir(p.private), err)
	}
	if err := p.clear(); err != nil {
		folder.Close()
		return nil, err
	}
	return func() { folder.Close() }, nil
}

// clear removes what a demo left that was killed.
func (p places) clear() error {
	left, err := os.ReadDir(p.private)
	if err != nil {
		return err
	}
	for _, entry := range left {
		if err := os.RemoveAll(filepath.Join(p.private, entry.Name())); err != nil {
			return fmt.Errorf("clear %s: %w", p.private, err)
		}
	}
	if err := os.RemoveAll(p.public); err != nil {
		return fmt.Errorf("clear %s: %w", p.public, err)
	}
	if err := os.Mkdir(p.public, 0o755); err != nil { // Mkdir: a folder that a stranger made first is refused
		return fmt.Errorf("make %s: %w", p.public, err)
	}
	return nil
}

func (p places) remove() {
	os.RemoveAll(p.private)
	os.RemoveAll(p.public)
}

// haveBinaries says which of the programs is missing, before anything is started.
func (p places) haveBinaries() error {
	for _, name := range []string{"sluice", "sluice-server", "sluice-proxy", "bookinfo", "simnet"} {
		if _, err := os.Stat(p.binary(name)); err != nil {
			return fmt.Errorf("the demo needs %s (%w): run make build, or say with --bin where the binaries are", p.binary(name), err)
		}
	}
	return nil
}

// placesOf is where the demo of a runtime folder has its files. Two runtime
// folders are two demos, which share nothing.
func placesOf(c Config) places {
	runtime := sha256.Sum256([]byte(c.Runtime))
	return places{
		binaries: c.Binaries, private: filepath.Join(c.Runtime, "demo"),
		public: filepath.Join(os.TempDir(), fmt.Sprintf("sluice-demo-%d-%x", os.Getuid(), runtime[:3])),
	}
}

// removeDeadSockets removes the sockets of processes that were killed before they
// could: of the demo before this one, for a socket's file says to startAll that
// its process is ready, and of our own.
func removeDeadSockets(runtime string) {
	alive := false
	for _, name := range []string{paths.APISocket, paths.PushSocket, paths.AttachSocket} {
		path := filepath.Join(runtime, name)
		if _, err := os.Stat(path); err != nil {
			continue
		}
		if served(path) {
			alive = true
			continue
		}
		paths.RemoveStale(path)
	}
	if !alive {
		paths.ForgetAnnounced(runtime)
	}
}

// served reports whether a process listens on a socket, of whatever type.
func served(path string) bool {
	conn, err := net.DialTimeout("unix", path, time.Second)
	if err == nil {
		conn.Close()
	}
	return !errors.Is(err, syscall.ECONNREFUSED)
}
