package snapshot

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"sluice.dev/sluice/internal/wire"
)

// Bounds of a Store.
const (
	MaxKeptBytes = 64 << 20 // of one snapshot; a larger one is not kept
	MaxKept      = 1024     // snapshots; the one that was confirmed longest ago goes first
)

// keptSuffix ends the name of a kept snapshot.
const keptSuffix = ".snapshot.json"

// Store keeps the last snapshot of each class of workloads in files of mode 0600,
// so that a proxy that starts while its server is away goes on. A file's time is
// when its snapshot was last known to be current.
type Store struct {
	folder string
	mu     sync.Mutex // writes
}

// NewStore returns the store in folder, which is made with mode 0700.
func NewStore(folder string) (*Store, error) {
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return nil, fmt.Errorf("keep snapshots: %w", err)
	}
	return &Store{folder: folder}, nil
}

func (s *Store) path(key string) string {
	sum := sha256.Sum256([]byte(key))
	return filepath.Join(s.folder, hex.EncodeToString(sum[:16])+keptSuffix)
}

// Save keeps the snapshot under key; a reader sees the old one or the new one,
// never a part.
func (s *Store) Save(key string, snapshot *wire.Snapshot) error {
	b, err := json.Marshal(snapshot)
	if err != nil {
		return fmt.Errorf("keep snapshot: %w", err)
	}
	if len(b) > MaxKeptBytes {
		return fmt.Errorf("keep snapshot: %d bytes are more than %d", len(b), MaxKeptBytes)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := replaceFile(s.path(key), b); err != nil {
		return fmt.Errorf("keep snapshot: %w", err)
	}
	return s.removeOldest()
}

// replaceFile writes a file of mode 0600 by renaming a finished one over it.
func replaceFile(path string, b []byte) error {
	file, err := os.CreateTemp(filepath.Dir(path), ".new-*") // 0600
	if err != nil {
		return err
	}
	defer os.Remove(file.Name()) // fails after the rename, as it should
	_, err = file.Write(b)
	if err == nil {
		err = file.Sync()
	}
	if err := errors.Join(err, file.Close()); err != nil {
		return err
	}
	return os.Rename(file.Name(), path)
}

// removeOldest keeps the bound on files. The lock is held.
func (s *Store) removeOldest() error {
	entries, err := os.ReadDir(s.folder)
	if err != nil {
		return fmt.Errorf("keep snapshots: %w", err)
	}
	type kept struct {
		path string
		time time.Time
	}
	var all []kept
	for _, entry := range entries {
		if info, err := entry.Info(); err == nil && strings.HasSuffix(entry.Name(), keptSuffix) {
			all = append(all, kept{filepath.Join(s.folder, entry.Name()), info.ModTime()})
		}
	}
	if len(all) <= MaxKept {
		return nil
	}
	slices.SortFunc(all, func(a, b kept) int { return cmp.Or(a.time.Compare(b.time), cmp.Compare(a.path, b.path)) })
	for _, old := range all[:len(all)-MaxKept] {
		if err := os.Remove(old.path); err != nil {
			return fmt.Errorf("keep snapshots: %w", err)
		}
	}
	return nil
}

// Confirm notes that the kept snapshot is current now.
func (s *Store) Confirm(key string) error {
	now := time.Now()
	if err := os.Chtimes(s.path(key), now, now); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("confirm kept snapshot: %w", err)
	}
	return nil
}

// Load returns the kept snapshot and when it was last known to be current. The
// error is fs.ErrNotExist where none is kept. Content addresses are not kept:
// nothing that a file says is shared with what a server sent.
func (s *Store) Load(key string) (*wire.Snapshot, time.Time, error) {
	file, err := os.Open(s.path(key))
	if err != nil {
		return nil, time.Time{}, fmt.Errorf("read kept snapshot: %w", err)
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return nil, time.Time{}, fmt.Errorf("read kept snapshot: %w", err)
	}
	b, err := io.ReadAll(io.LimitReader(file, MaxKeptBytes+1))
	if err != nil {
		return nil, time.Time{}, fmt.Errorf("read kept snapshot: %w", err)
	}
	if len(b) > MaxKeptBytes {
		return nil, time.Time{}, fmt.Errorf("read kept snapshot: more than %d bytes", MaxKeptBytes)
	}
	snapshot := new(wire.Snapshot)
	if err := wire.DecodeStrict(b, snapshot); err != nil {
		return nil, time.Time{}, fmt.Errorf("read kept snapshot: %w", err)
	}
	snapshot.Parts = nil
	return snapshot, info.ModTime(), nil
}
