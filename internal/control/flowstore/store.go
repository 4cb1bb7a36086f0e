// Package flowstore keeps what proxies report of closed flows in one file of the data
// folder: flows of the last hour one by one, and hourly sums of 30 days. The server adds
// batches and answers `sluice flows --since` and `why ID` from it. It must never grow
// without a bound, nor hold up what proxies carry.
package flowstore

import (
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	bolt "go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"

	"sluice.dev/sluice/internal/format"
	"sluice.dev/sluice/internal/record"
)

// Format is the format of the file, and the only one that this build reads.
const Format = 1

var files = format.Kind{Name: "the file of flows", Oldest: Format, Newest: Format}

// Bounds of what is kept. What is beyond is counted, and said with each answer.
const (
	KeepSums  = 30 * 24 * time.Hour
	KeepFlows = time.Hour
	// MaxRows bounds the sums of all hours; beyond it the oldest hour is forgotten.
	MaxRows = 1_000_000
	// MaxHourRows bounds those of one hour, of which one workload has a quarter at most:
	// what comes on top is summed up under the host record.Other.
	MaxHourRows = 100_000
	// MaxFlows and MaxFlowBytes bound the flows one by one; beyond it the oldest is
	// forgotten.
	MaxFlows     = 50_000
	MaxFlowBytes = 32 << 20
	// MaxFile bounds the file. Beyond MaxUsed bytes in it the oldest hour is forgotten: the
	// rest is for the pages that a change writes before those that it replaces are free.
	MaxFile = 200_000_000
	MaxUsed = 160_000_000
	// growth is in what steps the file grows: those of the library have 16 MB.
	growth = 1 << 20
	// maxNames bounds the workloads, and the rules with verdicts, of one hour.
	maxNames = 10_000
	// maxBatches is how many batches are known to be stored, for one that comes twice.
	maxBatches = 4096
)

// limits is the bounds, for tests.
type limits struct{ rows, hourRows, flows, flowBytes, file, used int }

// Buckets of the file.
var (
	metaBucket    = []byte("meta")
	hoursBucket   = []byte("hours")   // by hour: a bucket of sums, see hour.go
	flowsBucket   = []byte("flows")   // by when it ended, and id
	idsBucket     = []byte("ids")     // of flows by id: the key in flows
	batchesBucket = []byte("batches") // in the order of their coming: the number
	seenBucket    = []byte("seen")    // by number
)

// Keys of meta.
var (
	formatKey = []byte("format")
	stateKey  = []byte("state")
)

// Store is the file. It is safe for concurrent use.
type Store struct {
	path   string
	log    *slog.Logger
	now    func() time.Time
	limits limits

	mu     sync.Mutex // of changes
	db     *bolt.DB   // nil: nothing is kept
	state  state      // of what is in the file
	file   *os.File   // of db
	failed error      // why it could not be opened: the next change tries again
	closed bool

	saidSenseless atomic.Bool // that something was left out
}

// Open opens the file, and begins one where there is none. One that a later release wrote
// is left as it is, and then nothing is kept; one that is damaged is kept beside.
func Open(path string, now func() time.Time, log *slog.Logger) *Store {
	s := &Store{path: path, log: log, now: now, limits: limits{MaxRows, MaxHourRows, MaxFlows, MaxFlowBytes, MaxFile, MaxUsed}}
	s.begin(s.open())
	return s
}

// begin goes on after the file was opened, or was not. The lock is held, or nobody else has
// the store.
func (s *Store) begin(err error) {
	var unknown *format.UnknownError
	if errors.As(err, &unknown) && unknown.Newer() {
		s.log.Warn("the file of flows is left as it is, and none are kept", "file", s.path, "error", err)
		s.failed = nil
		return
	}
	if isDamage(err) {
		beside := s.path + ".unread"
		if renamed := os.Rename(s.path, beside); renamed != nil {
			err = fmt.Errorf("it is damaged (%w), and cannot be kept beside: %w", err, renamed)
		} else {
			s.log.Warn("the file of flows is damaged: it is kept beside, and another begins", "file", beside, "error", err)
			err = s.open()
		}
	}
	if err != nil && s.failed == nil {
		s.log.Warn("no flows are kept until the file of flows can be opened", "file", s.path, "error", err)
	}
	s.failed = err
}

func (s *Store) open() error {
	var db *bolt.DB
	var file *os.File
	options := &bolt.Options{
		Timeout: time.Second, FreelistType: bolt.FreelistMapType, MaxSize: s.limits.file,
		OpenFile: func(path string, flags int, mode os.FileMode) (_ *os.File, err error) {
			file, err = os.OpenFile(path, flags, mode)
			return file, err
		},
	}
	err := guarded(func() (err error) {
		if db, err = bolt.Open(s.path, 0o600, options); err != nil {
			return err
		}
		db.AllocSize = growth
		return db.Update(s.prepare)
	})
	if err == nil {
		s.db = db
		s.file = file
	} else {
		abandon(db, file)
	}
	return err
}

// prepare reads what the file says of itself, and makes what a new one lacks.
func (s *Store) prepare(tx *bolt.Tx) error {
	meta, err := tx.CreateBucketIfNotExists(metaBucket)
	if err != nil {
		return err
	}
	if said := meta.Get(formatKey); said != nil {
		if err := files.CheckJSON(said); err != nil {
			return fmt.Errorf("%w: %w", errDamaged, err)
		}
	} else if err := meta.Put(formatKey, fmt.Appendf(nil, `{"format":%d}`, Format)); err != nil {
		return err
	}
	for _, name := range [][]byte{hoursBucket, flowsBucket, idsBucket, batchesBucket, seenBucket} {
		if _, err := tx.CreateBucketIfNotExists(name); err != nil {
			return err
		}
	}
	s.state = state{}
	return s.state.read(meta)
}

// Close ends the store.
func (s *Store) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	if s.db == nil {
		return nil
	}
	db := s.db
	s.db = nil
	return db.Close()
}

// Add stores batches in one change, all or none; one that is stored already is left out. It
// forgets what is older than is kept. While the file cannot be opened that is an error, so
// that the batch comes again. With a file of a later release it stores nothing, for good,
// which was logged: no error then, else proxies would keep what nobody will take.
func (s *Store) Add(batches ...*record.Batch) error {
	return s.change(func(tx *bolt.Tx, now time.Time, state *state) error {
		done := errNoChange
		for _, b := range batches {
			if again, err := seen(tx, b.Number); err != nil {
				return err
			} else if again {
				continue
			}
			done = nil
			state.Folded += b.Lost.Folded
			state.NotKept += b.Lost.NotKept
			if err := s.addSums(tx, now, state, b.Sums); err != nil {
				return err
			}
			if err := s.addFlows(tx, now, state, b.Flows); err != nil {
				return err
			}
		}
		return done
	})
}

// Prune forgets what is older than is kept.
func (s *Store) Prune() error {
	return s.change(func(*bolt.Tx, time.Time, *state) error { return errNoChange })
}

// errNoChange is what a change returns that wrote nothing.
var errNoChange = errors.New("nothing is changed")

// change changes the file and what is known of it, or neither. Where the file may not grow
// any more the oldest hours are forgotten for it.
func (s *Store) change(do func(*bolt.Tx, time.Time, *state) error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return bolterrors.ErrDatabaseNotOpen
	}
	if s.db == nil && s.failed != nil {
		s.begin(s.open())
	}
	if s.failed != nil {
		return fmt.Errorf("the file of flows cannot be opened: %w", s.failed)
	}
	if s.db == nil {
		return nil
	}
	err := s.update(do)
	for errors.Is(err, bolterrors.ErrMaxSizeReached) {
		if err := s.update(s.forgetOldest); err != nil {
			return fmt.Errorf("the file of flows is as large as it may be: %w", err)
		}
		err = s.update(do)
	}
	if isDamage(err) {
		s.setAside(err)
	}
	return err
}

// update is one change. The lock is held. Where there is nothing to write it writes nothing,
// and does not wait for the disk.
func (s *Store) update(do func(*bolt.Tx, time.Time, *state) error) error {
	now, next := s.now(), s.state
	err := guarded(func() error {
		return s.db.Update(func(tx *bolt.Tx) error {
			used := usedOf(tx)
			done := do(tx, now, &next)
			if done != nil && !errors.Is(done, errNoChange) {
				return done
			}
			if err := s.prune(tx, now, &next, used); err != nil {
				return err
			}
			if errors.Is(done, errNoChange) && next == s.state {
				return errNoChange // and so what was begun is taken back
			}
			return next.write(tx.Bucket(metaBucket))
		})
	})
	if errors.Is(err, errNoChange) {
		return nil
	}
	if err == nil {
		s.state = next
	}
	return err
}

// usedOf is how many bytes of the file hold something, when a change begins.
func usedOf(tx *bolt.Tx) int {
	stats := tx.DB().Stats()
	return int(tx.Size()) - (stats.FreePageN+stats.PendingPageN)*tx.DB().Info().PageSize
}

// seen notes the number of a batch, and says whether it was noted before.
func seen(tx *bolt.Tx, number uint64) (bool, error) {
	numbers, order := tx.Bucket(seenBucket), tx.Bucket(batchesBucket)
	key := binary.BigEndian.AppendUint64(nil, number)
	if numbers.Get(key) != nil {
		return true, nil
	}
	at, err := order.NextSequence()
	if err != nil {
		return false, err
	}
	if err := errors.Join(numbers.Put(key, []byte{1}), order.Put(binary.BigEndian.AppendUint64(nil, at), key)); err != nil {
		return false, err
	}
	if at <= maxBatches {
		return false, nil
	}
	old := binary.BigEndian.AppendUint64(nil, at-maxBatches)
	return false, errors.Join(numbers.Delete(slices.Clone(order.Get(old))), order.Delete(old))
}
