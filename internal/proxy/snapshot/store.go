package snapshot

import (
	"bytes"
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
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"sluice.dev/sluice/internal/atomicfile"
	"sluice.dev/sluice/internal/format"
	"sluice.dev/sluice/internal/paths"
	"sluice.dev/sluice/internal/wire"
)

// Bounds of a Store.
const (
	MaxKeptBytes = wire.MaxSnapshotBytes + 1<<20 // of one snapshot: whatever a server may send
	MaxKept      = 1024                          // snapshots, each with one log; the one that was confirmed longest ago goes first
)

// keptSuffix ends the name of a kept snapshot.
const keptSuffix = ".snapshot.json"

// The first line of a kept snapshot is keptWord, the format, keptSum and the
// SHA-256 of the rest. A file of a format that is not known is not read: it is of a
// later release, in which the fields may mean more.
const (
	keptWord = "sluice-snapshot/"
	keptSum  = " sha256:"
	// maxFirst bounds the first line, in bytes.
	maxFirst = len(keptWord) + 10 + len(keptSum) + 2*sha256.Size
)

// Store keeps the last snapshot of each class of workloads in files of mode 0600,
// so that a proxy that starts while its server is away goes on. A file's time is
// when its snapshot was last known to be current. A file that is not exactly what
// was written, or that others could have written, is not used, and one that
// could not be replaced by a newer snapshot is removed: what was withdrawn must
// not come back. What changes is written into a log beside the file, and while there is one its
// time counts. A file of a later release is neither used nor touched, and while
// it is there nothing is kept in its place.
type Store struct {
	folder string

	mu   sync.Mutex            // writes
	kept map[string]*keptState // what this process keeps, by key
	uses map[string]int        // how many follow a key
}

// NewStore returns the store in folder, which is made with mode 0700. A folder
// that others may use is an error.
func NewStore(folder string) (*Store, error) {
	if err := paths.Make(folder); err != nil {
		return nil, fmt.Errorf("keep snapshots: %w", err)
	}
	return &Store{folder: folder, kept: make(map[string]*keptState), uses: make(map[string]int)}, nil
}

func (s *Store) path(key string) string {
	sum := sha256.Sum256([]byte(key))
	return filepath.Join(s.folder, hex.EncodeToString(sum[:16])+keptSuffix)
}

// Save keeps the snapshot under key; a reader sees the old one or the new one,
// never a part. Where it fails none is kept, but for a file of a later release.
func (s *Store) Save(key string, snapshot *wire.Snapshot) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	state := s.kept[key]
	if snapshot.Version != "" && state.version() == snapshot.Version && s.touch(key) == nil {
		return nil // another workload of the class was quicker
	}
	delete(s.kept, key)
	if err := leaveLater(s.path(key)); err != nil {
		return fmt.Errorf("keep snapshot: %w", err)
	}
	if state != nil {
		switch extended, err := s.extend(key, state, snapshot); {
		case err != nil:
			return s.dropped(key, err)
		case extended:
			s.kept[key] = state
			return s.removeOldest()
		}
	}
	state, err := s.replace(s.path(key), snapshot)
	if err != nil {
		return s.dropped(key, err)
	}
	s.kept[key] = state
	return s.removeOldest()
}

// use says that somebody follows key until done is called. With the last of them goes what is
// remembered of it but the version, for that is a whole snapshot; the files stay.
func (s *Store) use(key string) (done func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.uses[key]++
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.uses[key]--; s.uses[key] > 0 {
			return
		}
		delete(s.uses, key)
		if state := s.kept[key]; state != nil {
			s.kept[key] = &keptState{snapshot: &wire.Snapshot{Version: state.version()}, log: state.log}
		}
	}
}

// dropped removes what could not be replaced by what is newer.
func (s *Store) dropped(key string, err error) error {
	delete(s.kept, key)
	// The whole first: a log alone says nothing.
	for _, path := range []string{s.path(key), logOf(s.path(key))} {
		if gone := os.Remove(path); gone != nil && !errors.Is(gone, os.ErrNotExist) {
			err = errors.Join(err, gone)
		}
	}
	return fmt.Errorf("keep snapshot: %w", err)
}

// version returns the version that is kept, "" where none is.
func (s *keptState) version() string {
	if s == nil {
		return ""
	}
	return s.snapshot.Version
}

// replace writes a snapshot whole. The log of the one before is about another one from then
// on, and removed.
func (s *Store) replace(path string, snapshot *wire.Snapshot) (*keptState, error) {
	b, err := json.Marshal(keptForm{
		Version: snapshot.Version, Revision: snapshot.Revision, Created: snapshot.Created, Mesh: snapshot.Mesh,
		Policy: &wire.Policy{Rules: snapshot.Rules()}, Routes: snapshot.Routes, Directory: snapshot.Directory, Endpoints: snapshot.Endpoints,
	})
	if err != nil {
		return nil, err
	}
	if len(b) > MaxKeptBytes {
		return nil, fmt.Errorf("%d bytes are more than %d", len(b), MaxKeptBytes)
	}
	sum := sha256.Sum256(b)
	state := &keptState{snapshot: snapshot, sum: hex.EncodeToString(sum[:])}
	first := []byte(firstLine(state.sum))
	state.whole = int64(len(first) + len(b))
	if err := atomicfile.WriteBytes(path, 0o600, first, b); err != nil {
		return nil, err
	}
	if err := os.Remove(logOf(path)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	return state, nil
}

// firstLine begins a file of this build whose content has the sum.
func firstLine(sum string) string {
	return keptWord + strconv.Itoa(wire.Format) + keptSum + sum + "\n"
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
	there := make(map[string]bool, len(entries))
	logged := make(map[string]time.Time)
	for _, entry := range entries {
		there[entry.Name()] = true
		if of, ours := strings.CutSuffix(entry.Name(), logSuffix); ours {
			if info, err := entry.Info(); err == nil {
				logged[of+keptSuffix] = info.ModTime()
			}
		}
	}
	for _, entry := range entries {
		if atomicfile.IsUnfinished(entry.Name()) {
			// Of a process that was killed: this one writes under the lock.
			_ = os.Remove(filepath.Join(s.folder, entry.Name()))
			continue
		}
		if of, ours := strings.CutSuffix(entry.Name(), logSuffix); ours && !there[of+keptSuffix] {
			_ = os.Remove(filepath.Join(s.folder, entry.Name())) // of what is gone it says nothing
			continue
		}
		if info, err := entry.Info(); err == nil && strings.HasSuffix(entry.Name(), keptSuffix) {
			confirmed := info.ModTime()
			if later := logged[entry.Name()]; later.After(confirmed) {
				confirmed = later
			}
			all = append(all, kept{filepath.Join(s.folder, entry.Name()), confirmed})
		}
	}
	if len(all) <= MaxKept {
		return nil
	}
	slices.SortFunc(all, func(a, b kept) int { return cmp.Or(a.time.Compare(b.time), cmp.Compare(a.path, b.path)) })
	for _, old := range all[:len(all)-MaxKept] {
		if leaveLater(old.path) != nil {
			continue
		}
		if err := os.Remove(old.path); err != nil {
			return fmt.Errorf("keep snapshots: %w", err)
		}
		if err := os.Remove(logOf(old.path)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("keep snapshots: %w", err)
		}
	}
	return nil
}

// leaveLater returns an error where a file of a later release is at path.
func leaveLater(path string) error {
	file, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil // not there, or not one of ours
	}
	defer file.Close()
	first := make([]byte, maxFirst)
	n, _ := io.ReadFull(file, first)
	_, err = formatOf(first[:n])
	var unknown *format.UnknownError
	if errors.As(err, &unknown) && unknown.Newer() {
		return fmt.Errorf("%s: %w; the file is left as it is", path, err)
	}
	return nil
}

// formatOf checks the format in the first line of a kept snapshot and returns the
// checksum after it.
func formatOf(first []byte) (sum []byte, err error) {
	said, ours := bytes.CutPrefix(first, []byte(keptWord))
	number, sum, whole := bytes.Cut(said, []byte(keptSum))
	version, err := strconv.Atoi(string(number))
	if !ours || !whole || err != nil {
		return nil, errors.New("it does not begin as a kept snapshot does: it is damaged, and replaced by the next one that the server sends")
	}
	return sum, wire.Kept.Check(version)
}

// Confirm notes that the snapshot of this version is current now, if it is the
// one that is kept.
func (s *Store) Confirm(key, version string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.kept[key] == nil || s.kept[key].version() != version {
		return nil
	}
	return s.touch(key)
}

// touch gives the file of the newest change the time of now. The lock is held.
func (s *Store) touch(key string) error {
	now, path := time.Now(), s.path(key)
	if s.kept[key].log > 0 {
		path = logOf(path)
	}
	if err := os.Chtimes(path, now, now); err != nil {
		delete(s.kept, key)
		return fmt.Errorf("confirm kept snapshot: %w", err)
	}
	return nil
}

// Load returns the kept snapshot and when it was last known to be current. The
// error is fs.ErrNotExist where none is kept. Content addresses are not kept:
// nothing that a file says is shared with what a server sent.
func (s *Store) Load(key string) (*wire.Snapshot, time.Time, error) {
	snapshot, confirmed, err := readKept(s.path(key))
	for range readAgain {
		if !errors.Is(err, errReplaced) {
			break
		}
		snapshot, confirmed, err = readKept(s.path(key))
	}
	if err != nil {
		return nil, time.Time{}, fmt.Errorf("read kept snapshot: %w", err)
	}
	return snapshot, confirmed, nil
}

// readAgain is how often a kept snapshot is read again that was replaced meanwhile.
const readAgain = 10

// errReplaced says that the log that was read may be that of another snapshot, or may be gone
// with this one: without it the snapshot is older than what was kept.
var errReplaced = errors.New("it was replaced while it was read")

func readKept(path string) (*wire.Snapshot, time.Time, error) {
	file, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, time.Time{}, err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return nil, time.Time{}, err
	}
	if err := oursAlone(info); err != nil {
		return nil, time.Time{}, fmt.Errorf("%s: %w", path, err)
	}
	const most = maxFirst + 1 + MaxKeptBytes
	b, err := io.ReadAll(io.LimitReader(file, int64(most)+1))
	if err != nil {
		return nil, time.Time{}, err
	}
	if len(b) > most {
		return nil, time.Time{}, fmt.Errorf("%s: more than %d bytes", path, most)
	}
	first, content, _ := bytes.Cut(b, []byte("\n"))
	said, err := formatOf(first)
	if err != nil {
		return nil, time.Time{}, fmt.Errorf("%s: %w", path, err)
	}
	if sum := sha256.Sum256(content); hex.EncodeToString(sum[:]) != string(said) {
		return nil, time.Time{}, fmt.Errorf("%s: %w", path, wire.ErrHash)
	}
	var kept keptForm
	if err := wire.DecodeStrict(content, &kept); err != nil {
		return nil, time.Time{}, fmt.Errorf("%s: %w", path, err)
	}
	if kept.Policy == nil {
		return nil, time.Time{}, fmt.Errorf("%s: it holds no rules", path)
	}
	snapshot := &wire.Snapshot{
		Version: kept.Version, Revision: kept.Revision, Created: kept.Created, Mesh: kept.Mesh,
		Policies: []*wire.Policy{kept.Policy}, Routes: kept.Routes, Directory: kept.Directory, Endpoints: kept.Endpoints,
	}
	for _, of := range snapshot.Endpoints {
		if of == nil {
			return nil, time.Time{}, fmt.Errorf("%s: it holds empty endpoints", path)
		}
	}
	changes, changed, err := readLog(logOf(path), string(said))
	if err != nil {
		return nil, time.Time{}, err
	}
	// What replaces a snapshot comes to its path before the log goes.
	if there, err := os.Lstat(path); err != nil || !os.SameFile(info, there) {
		return nil, time.Time{}, fmt.Errorf("%s: %w", path, errReplaced)
	}
	if err := replay(snapshot, changes); err != nil {
		return nil, time.Time{}, fmt.Errorf("%s: %w", logOf(path), err)
	}
	if len(changes) > 0 {
		return snapshot, changed, nil
	}
	return snapshot, info.ModTime(), nil
}

// keptForm is a snapshot as it is kept: the rules of all parts in one.
type keptForm struct {
	Version   string               `json:"version"`
	Revision  int64                `json:"revision"`
	Created   time.Time            `json:"created"`
	Mesh      *wire.Mesh           `json:"mesh"`
	Policy    *wire.Policy         `json:"policy"`
	Routes    *wire.Routes         `json:"routes"`
	Directory *wire.Directory      `json:"directory"`
	Endpoints []*wire.Endpoints    `json:"endpoints"`
	Parts     map[string]wire.Hash `json:"parts,omitempty"` // read of earlier builds, and not believed
}

// oursAlone refuses what another user wrote or could have written.
func oursAlone(info os.FileInfo) error {
	stat, ok := info.Sys().(*syscall.Stat_t)
	switch {
	case !info.Mode().IsRegular():
		return errors.New("it is not a regular file")
	case !ok || int(stat.Uid) != os.Geteuid():
		return errors.New("it belongs to another user")
	case info.Mode().Perm()&0o077 != 0:
		return fmt.Errorf("it is open to other users (mode %04o)", info.Mode().Perm())
	}
	return nil
}
