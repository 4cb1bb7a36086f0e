package flowstore

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"
	"golang.org/x/sys/unix"

	"sluice.dev/sluice/internal/record"
)

// filled is a store with sums of many hosts, and a flow, in a file.
func filled(t *testing.T, path string, c *clock, log *slog.Logger) *Store {
	t.Helper()
	s := Open(path, c.now, log)
	t.Cleanup(func() { s.Close() })
	var sums []record.Sum
	for i := range 5000 {
		sums = append(sums, sum(c, "details-v2", fmt.Sprintf("h%d.example.com", i), 1))
	}
	add(t, s, 1, []record.Record{flow(c, 1, 0)}, sums...)
	return s
}

// cutShort leaves of a file what holds its heads alone.
func cutShort(path string) error { return os.Truncate(path, int64(3*os.Getpagesize())) }

// overwrite leaves the heads of a file, and nothing that makes sense behind.
func overwrite(path string) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	at := 2 * os.Getpagesize()
	_, err = f.WriteAt(bytes.Repeat([]byte{0xA5}, int(info.Size())-at), int64(at))
	return err
}

// A file that is damaged, before the server starts or while it runs, is kept beside, said
// once, and another begins: neither reading nor adding ends the server.
func TestAFileThatIsDamagedIsKeptBesideAndAnotherBegins(t *testing.T) {
	for what, damage := range map[string]func(string) error{"cut short": cutShort, "overwritten": overwrite} {
		for when, use := range map[string]func(s *Store, c *clock) error{
			"and summed up": func(s *Store, c *clock) error {
				_, err := s.Summary(c.at, 10, record.SumFilter{})
				return err
			},
			"and added to": func(s *Store, c *clock) error {
				return s.Add(&record.Batch{Number: 2, Sums: []record.Sum{sum(c, "a-v1", "a", 1)}})
			},
			"and opened": nil,
		} {
			t.Run(what+" "+when, func(t *testing.T) {
				var said bytes.Buffer
				log := slog.New(slog.NewTextHandler(&said, nil))
				path, c := filepath.Join(t.TempDir(), "flows.db"), &clock{time.Unix(1_800_000_000, 0)}
				s := filled(t, path, c, log)
				if use == nil {
					if err := s.Close(); err != nil {
						t.Fatal(err)
					}
				}
				if err := damage(path); err != nil {
					t.Fatal(err)
				}
				if use == nil {
					s = Open(path, c.now, log)
					t.Cleanup(func() { s.Close() })
				} else if err := use(s, c); !errors.Is(err, errDamaged) {
					t.Errorf("used: %v", err)
				}
				add(t, s, 3, nil, sum(c, "a-v1", "a", 1))
				if got := summary(t, s, c.at); got.Total.Count != 1 {
					t.Errorf("afterwards there are %d", got.Total.Count)
				}
				if _, err := os.Stat(path + ".unread"); err != nil || strings.Count(said.String(), "the file of flows is damaged: it is kept beside, and another begins") != 1 {
					t.Errorf("%v, said: %s", err, &said)
				}
			})
		}
	}
}

// On a disk that is full nothing is stored, which Add says, and nothing is lost: what was
// stored is there, and the next batch is stored once there is space again.
func TestOnAFullDiskABatchIsRefusedAndWhatWasStoredStays(t *testing.T) {
	disk := smallDisk(t)
	path, c := filepath.Join(disk, "flows.db"), &clock{time.Unix(1_800_000_000, 0)}
	s := open(t, path, c)
	add(t, s, 1, nil, sum(c, "a-v1", "a", 1))
	rest := filepath.Join(disk, "rest")
	if err := fillUp(rest); err != nil {
		t.Fatal(err)
	}
	var many []record.Sum
	for i := range 20_000 {
		many = append(many, sum(c, "details-v2", fmt.Sprintf("h%d.example.com", i), 1))
	}
	for range 2 {
		if err := s.Add(&record.Batch{Number: 2, Sums: many}); !errors.Is(err, unix.ENOSPC) && !strings.Contains(fmt.Sprint(err), "no space left on device") {
			t.Fatalf("stored on a full disk: %v", err)
		}
		if got := summary(t, s, c.at); got.Total.Count != 1 {
			t.Errorf("%d are there", got.Total.Count)
		}
	}
	if err := os.Remove(rest); err != nil {
		t.Fatal(err)
	}
	add(t, s, 2, nil, many...)
	if got := summary(t, s, c.at); got.Total.Count != 20_001 {
		t.Errorf("with space again there are %d", got.Total.Count)
	}
}

// What is left of a file that was cut within its heads is no file that any more will open.
func TestAFileThatIsCutWithinItsHeadsIsKeptBesideAndAnotherBegins(t *testing.T) {
	page := int64(os.Getpagesize())
	for _, size := range []int64{1, 100, page - 1, page, page + 100, 2*page - 1, 2 * page, 2*page + 1, 3 * page} {
		var said bytes.Buffer
		log := slog.New(slog.NewTextHandler(&said, nil))
		path, c := filepath.Join(t.TempDir(), "flows.db"), &clock{time.Unix(1_800_000_000, 0)}
		s := open(t, path, c)
		add(t, s, 1, nil, sum(c, "a-v1", "a", 1))
		if err := errors.Join(s.Close(), os.Truncate(path, size)); err != nil {
			t.Fatal(err)
		}
		s = Open(path, c.now, log)
		t.Cleanup(func() { s.Close() })
		if err := s.Add(&record.Batch{Number: 2, Sums: []record.Sum{sum(c, "a-v1", "a", 1)}}); err != nil {
			t.Errorf("%d bytes: %v", size, err)
		}
		info, err := os.Stat(path + ".unread")
		if err != nil || info.Size() != size || strings.Count(said.String(), "another begins") != 1 {
			t.Errorf("%d bytes: %v, said %s", size, err, &said)
		}
	}
}

// A file that cannot be made while the disk is full is made later, without a new start. Until
// then no batch is taken, so that proxies keep it.
func TestAFileThatCannotBeMadeAtFirstIsMadeLater(t *testing.T) {
	disk := smallDisk(t)
	rest := filepath.Join(disk, "rest")
	if err := fillUp(rest); err != nil {
		t.Fatal(err)
	}
	var said bytes.Buffer
	c := &clock{time.Unix(1_800_000_000, 0)}
	s := Open(filepath.Join(disk, "flows.db"), c.now, slog.New(slog.NewTextHandler(&said, nil)))
	t.Cleanup(func() { s.Close() })
	batch := &record.Batch{Number: 1, Sums: []record.Sum{sum(c, "a-v1", "a", 1)}}
	for range 2 {
		if err := s.Add(batch); err == nil || !strings.Contains(err.Error(), "no space left on device") {
			t.Errorf("taken on a full disk: %v", err)
		}
	}
	if n := strings.Count(said.String(), "no flows are kept until the file of flows can be opened"); n != 1 || !strings.Contains(said.String(), "no space left on device") {
		t.Errorf("said %d times: %s", n, &said)
	}
	if err := os.Remove(rest); err != nil {
		t.Fatal(err)
	}
	if err := s.Add(batch); err != nil {
		t.Fatal(err)
	}
	if got := summary(t, s, c.at); got.Total.Count != 1 {
		t.Errorf("%d are there", got.Total.Count)
	}
}

// A damaged file that cannot be kept beside is left, said once, and nothing is taken for it.
func TestADamagedFileThatCannotBeKeptBesideTakesNothing(t *testing.T) {
	var said bytes.Buffer
	path, c := filepath.Join(t.TempDir(), "flows.db"), &clock{time.Unix(1_800_000_000, 0)}
	if err := errors.Join(os.MkdirAll(path+".unread/full", 0o700), os.WriteFile(path, bytes.Repeat([]byte("nothing of ours"), 10_000), 0o600)); err != nil {
		t.Fatal(err)
	}
	s := Open(path, c.now, slog.New(slog.NewTextHandler(&said, nil)))
	t.Cleanup(func() { s.Close() })
	batch := &record.Batch{Number: 2, Sums: []record.Sum{sum(c, "a-v1", "a", 1)}}
	for range 2 {
		if err := s.Add(batch); err == nil || !strings.Contains(err.Error(), "cannot be kept beside") {
			t.Errorf("taken: %v", err)
		}
	}
	if strings.Count(said.String(), "no flows are kept until the file of flows can be opened") != 1 || strings.Contains(said.String(), "another begins") {
		t.Errorf("said: %s", &said)
	}
	if err := os.RemoveAll(path + ".unread"); err != nil {
		t.Fatal(err)
	}
	if err := s.Add(batch); err != nil {
		t.Fatal(err)
	}
	if got := summary(t, s, c.at); got.Total.Count != 1 {
		t.Errorf("%d are there", got.Total.Count)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := s.Add(batch); err == nil {
		t.Error("taken by a store that is closed")
	}
}

// smallDisk is a file system of 4 MB that this goroutine alone sees.
func smallDisk(t *testing.T) string {
	t.Helper()
	at := t.TempDir()
	runtime.LockOSThread() // for good: the thread ends with the goroutine of the test
	if err := errors.Join(unix.Unshare(unix.CLONE_NEWNS|unix.CLONE_FS), unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""), unix.Mount("tmpfs", at, "tmpfs", 0, "size=4m")); err != nil {
		t.Skipf("a file system of its own is not possible here: %v", err)
	}
	t.Cleanup(func() { // before the folder is removed
		if err := unix.Unmount(at, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return at
}

// fillUp takes what is left of a disk.
func fillUp(path string) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer f.Close()
	for block := make([]byte, os.Getpagesize()); ; {
		if _, err := f.Write(block); errors.Is(err, unix.ENOSPC) {
			return nil
		} else if err != nil {
			return err
		}
	}
}

// One row that makes no sense costs what it counted, and not 30 days of the others.
func TestWhatMakesNoSenseIsLeftOutAndTheRestStays(t *testing.T) {
	var said bytes.Buffer
	path, c := filepath.Join(t.TempDir(), "flows.db"), &clock{time.Unix(1_800_000_000, 0)}
	s := Open(path, c.now, slog.New(slog.NewTextHandler(&said, nil)))
	t.Cleanup(func() { s.Close() })
	add(t, s, 1, []record.Record{flow(c, 1, time.Minute), flow(c, 2, 0)}, sum(c, "a-v1", "a", 1), sum(c, "b-v1", "b", 2))
	c.at = c.at.Add(time.Hour / 2)
	if err := s.db.Update(func(tx *bolt.Tx) error {
		hour := tx.Bucket(hoursBucket).Bucket(hourKey(hourOf(c.at.Add(-time.Hour / 2))))
		return errors.Join(
			hour.Bucket(rowsKey).Put([]byte("short"), []byte{1, 1, 1}),
			hour.Bucket(rowsKey).Put(rowKey(1, 2, 443, "h"), []byte("not counts")),
			hour.Bucket(rowsKey).Put(rowKey(999, 999, 443, "nobody"), appendCounts(nil, record.Counts{Count: 7})),
			tx.Bucket(hoursBucket).Put([]byte("no hour"), []byte("and no bucket")),
			tx.Bucket(flowsBucket).Put(tx.Bucket(idsBucket).Get(idKey(1)), []byte("no flow")),
			tx.Bucket(flowsBucket).Put([]byte{0}, []byte("of no time")),
		)
	}); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if got := summary(t, s, c.at.Add(-time.Hour)); got.Total.Count != 3 {
			t.Errorf("of what makes sense there is %+v", got)
		}
		if flows, err := s.Flows(10, record.Filter{}); err != nil || len(flows) != 1 || flows[0].ID != 2 {
			t.Errorf("%+v, %v", flows, err)
		}
		if f, ok, err := s.Flow(1); ok || err != nil || f.ID != 0 {
			t.Errorf("a flow that makes no sense: %+v, %v, %v", f, ok, err)
		}
		add(t, s, uint64(len(said.String())+2), nil, sum(c, "c-v1", "c", 0)) // and it goes on
	}
	if _, err := os.Stat(path + ".unread"); err == nil || strings.Count(said.String(), "what makes no sense in the file of flows is left out") != 1 {
		t.Errorf("%v, said: %s", err, &said)
	}
}

// The library panics on some garbage while it opens a file, and holds the lock of it then.
func TestAFileOnWhichTheLibraryPanicsIsOpenedOnceItIsWell(t *testing.T) {
	path, c := filepath.Join(t.TempDir(), "flows.db"), &clock{time.Unix(1_800_000_000, 0)}
	s := filled(t, path, c, slog.New(slog.DiscardHandler))
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(overwrite(path), os.MkdirAll(path+".unread/full", 0o700)); err != nil { // it cannot be kept beside
		t.Fatal(err)
	}
	s = Open(path, c.now, slog.New(slog.NewTextHandler(t.Output(), nil)))
	t.Cleanup(func() { s.Close() })
	batch := &record.Batch{Number: 7, Sums: []record.Sum{sum(c, "a-v1", "a", 1)}}
	if err := s.Add(batch); err == nil || !strings.Contains(err.Error(), "it is damaged") {
		t.Fatalf("taken: %v", err)
	}
	file, err := os.OpenFile(path, os.O_WRONLY, 0) // the same file: whoever holds its lock holds it still
	if err != nil {
		t.Fatal(err)
	}
	_, err = file.WriteAt(whole, 0)
	if err := errors.Join(err, file.Close()); err != nil {
		t.Fatal(err)
	}
	if err := s.Add(batch); err != nil {
		t.Fatal(err)
	}
	if got := summary(t, s, c.at); got.Total.Count != 5001 {
		t.Errorf("%d are there", got.Total.Count)
	}
}
