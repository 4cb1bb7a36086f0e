package flowstore

import (
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"strings"
	"syscall"

	bolt "go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
)

// errDamaged is what says that the file is not as it was written.
var errDamaged = errors.New("the file is damaged")

// guarded reads or changes the file. The library panics where pages make no sense, and to
// read a page beyond the end of a file that was cut is a fault: both are errDamaged.
func guarded(do func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if broken := recover(); broken != nil {
			err = fmt.Errorf("%w: %v", errDamaged, broken)
		}
	}()
	return do()
}

// isDamage reports whether an error says that the file is damaged, unlike that of a disk
// that is full or of a file that may not be read.
func isDamage(err error) bool {
	for _, damage := range []error{errDamaged, bolterrors.ErrInvalid, bolterrors.ErrVersionMismatch, bolterrors.ErrChecksum} {
		if errors.Is(err, damage) {
			return true
		}
	}
	// Of a file that was cut within its heads: the library has no value for it.
	return err != nil && strings.Contains(err.Error(), "file size too small")
}

// setAside keeps a damaged file beside, and begins another. The lock is held.
func (s *Store) setAside(damage error) {
	db, file := s.db, s.file
	s.db, s.file = nil, nil
	abandon(db, file)
	s.begin(damage)
}

// abandon lets go of a file about which the library may have panicked. It can hold its own
// locks still, so that nobody waits for it. Who reads what is mapped needs no descriptor.
func abandon(db *bolt.DB, file *os.File) {
	if file != nil {
		// Taken off: what is mapped holds the lock of a descriptor that is closed.
		_ = syscall.Flock(int(file.Fd()), syscall.LOCK_UN)
		_ = file.Close() // where the library closed it, both did nothing
	}
	if db != nil {
		go func() { _ = guarded(db.Close) }() // nothing is written by it
	}
}

// leftOut says, once, that rows make no sense. They are left out: the file is as large as it
// may be, and one row that a bug or a bad disk spoiled is no reason to put 30 days aside.
func (s *Store) leftOut(rows int) {
	if rows > 0 && s.saidSenseless.CompareAndSwap(false, true) {
		s.log.Warn("what makes no sense in the file of flows is left out", "file", s.path, "rows", rows)
	}
}

// view reads the file; nothing where nothing is kept.
func (s *Store) view(do func(*bolt.Tx) error) error {
	s.mu.Lock()
	db := s.db
	s.mu.Unlock()
	if db == nil {
		return nil
	}
	err := guarded(func() error { return db.View(do) })
	switch {
	case errors.Is(err, bolterrors.ErrDatabaseNotOpen): // closed meanwhile
		return nil
	case isDamage(err):
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.db == db {
			s.setAside(err)
		}
	}
	return err
}
