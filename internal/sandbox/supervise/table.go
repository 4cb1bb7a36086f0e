package supervise

import (
	"errors"
	"sync"

	"golang.org/x/sys/unix"
)

// maxListeners bounds the socket files on which somebody inside listens, those of
// the owner among them; of the descriptors that this process may have, they take
// half at most. At the bound, those that nobody is bound to any more are dropped;
// where that leaves no place, listen ends with ENOBUFS.
const maxListeners = 4096

var errFull = errors.New("too many socket files are listened on")

// table holds the inodes of socket files that may be connected to, each held open,
// so that its number is not used again. A socket is bound to the inode that its
// bind made, once and for ever: names, links and renames do not count.
type table struct {
	mu      sync.Mutex
	limit   int
	entries map[inode]entry
}

type inode struct{ device, number uint64 }

type entry struct {
	file  int  // O_PATH
	named bool // by the owner: it stays
}

func newTable(limit int) *table { return &table{limit: limit, entries: make(map[inode]entry)} }

func inodeOf(file int) (key inode, isSocket bool, err error) {
	var stat unix.Stat_t
	if err := unix.Fstat(file, &stat); err != nil {
		return inode{}, false, err
	}
	return inode{uint64(stat.Dev), stat.Ino}, stat.Mode&unix.S_IFMT == unix.S_IFSOCK, nil
}

// add takes the descriptor over, on error too.
func (t *table) add(file int, named bool) error {
	key, _, err := inodeOf(file)
	if err != nil {
		unix.Close(file)
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if _, there := t.entries[key]; there {
		unix.Close(file)
		return nil
	}
	if len(t.entries) >= t.limit {
		unix.Close(file)
		return errFull
	}
	t.entries[key] = entry{file, named}
	return nil
}

func (t *table) has(key inode) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	_, there := t.entries[key]
	return there
}

// prune drops the files that nobody is bound to any more.
func (t *table) prune(bound func(file int) bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for key, e := range t.entries {
		if !e.named && !bound(e.file) {
			unix.Close(e.file)
			delete(t.entries, key)
		}
	}
}

// bounds returns how many files a table holds and how many connects may wait, by
// how many descriptors this process may have.
func bounds() (files, waits int) {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		limit.Cur = 1024
	}
	return int(min(maxListeners, limit.Cur/2)), int(min(maxWaiting, limit.Cur/12)) // each holds three
}
