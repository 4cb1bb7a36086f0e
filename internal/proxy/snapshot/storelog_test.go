package snapshot

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"
)

// keptIDs is the rules of what is kept, in order.
func keptIDs(t testing.TB, store *Store) string {
	t.Helper()
	kept, _, err := store.Load("class")
	if err != nil {
		t.Fatal(err)
	}
	var ids []string
	for _, rule := range kept.Rules() {
		ids = append(ids, rule.ID)
	}
	slices.Sort(ids)
	return strings.Join(ids, " ")
}

func save(t testing.TB, store *Store, hosts ...string) {
	t.Helper()
	if err := store.Save("class", sent(t, hosts...)); err != nil {
		t.Fatal(err)
	}
}

func read(t testing.TB, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestOneRuleThatChangesIsWrittenAsOneRule(t *testing.T) {
	store := newStore(t)
	var hosts []string
	for i := range 1000 {
		hosts = append(hosts, fmt.Sprintf("h%03d.example.com", i))
	}
	save(t, store, hosts...)
	path := store.path("class")
	whole := read(t, path)
	save(t, store, append(slices.Clone(hosts[1:]), "z.example.com")...)
	if !bytes.Equal(read(t, path), whole) {
		t.Error("the snapshot is written whole")
	}
	log := string(read(t, logOf(path)))
	if len(log) > 3000 || !strings.Contains(log, `"gone":["h000.example.com"]`) || !strings.Contains(log, `"id":"z.example.com"`) || strings.Contains(log, "h001") {
		t.Errorf("the log of %d bytes says %.3000s", len(log), log)
	}
	if got := keptIDs(t, store); strings.Contains(got, "h000") || !strings.HasSuffix(got, " z.example.com") {
		t.Errorf("kept: %s", got)
	}
	again, err := NewStore(store.folder) // another process
	if err != nil {
		t.Fatal(err)
	}
	save(t, again, "last.example.com")
	if _, err := os.Stat(logOf(path)); !errors.Is(err, fs.ErrNotExist) || keptIDs(t, store) != "last.example.com" {
		t.Errorf("the log of the snapshot before is there: %v; kept %s", err, keptIDs(t, store))
	}
}

func TestALineThatAKilledProcessDidNotFinishDidNotHappen(t *testing.T) {
	store := newStore(t)
	save(t, store, "a.example.com", "b.example.com")
	save(t, store, "a.example.com")
	path := logOf(store.path("class"))
	first := read(t, path)
	save(t, store, "c.example.com")
	log := read(t, path)
	for cut := len(log) - 1; cut >= len(first); cut -= 7 {
		if err := os.WriteFile(path, log[:cut], 0o600); err != nil {
			t.Fatal(err)
		}
		if got := keptIDs(t, store); got != "a.example.com" {
			t.Fatalf("cut to %d of %d bytes: %s", cut, len(log), got)
		}
	}
	// The next one is not written behind half a line.
	save(t, store, "d.example.com")
	if got := keptIDs(t, store); got != "d.example.com" {
		t.Errorf("after it: %s", got)
	}
}

func TestALogThatIsNotExactlyWhatWasWrittenIsNotUsed(t *testing.T) {
	store := newStore(t)
	save(t, store, "a.example.com")
	save(t, store, "a.example.com", "b.example.com")
	save(t, store, "b.example.com")
	path := logOf(store.path("class"))
	log := read(t, path)
	lines := bytes.SplitAfter(log, []byte("\n"))
	for what, content := range map[string][]byte{
		"with a letter changed": bytes.Replace(log, []byte(`"id":"b.`), []byte(`"id":"c.`), 1),
		"without a line":        slices.Concat(lines[0], lines[2]),
		"with a line twice":     slices.Concat(log, lines[2]),
		"with an empty line":    slices.Concat(log, []byte("\n")),
		"of a rule that is not there": slices.Concat(log, sealed(t, keptChange{
			Before: sent(t, "b.example.com").Version, Version: "x", Gone: []string{"nobody"},
		})),
	} {
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		if kept, _, err := store.Load("class"); err == nil {
			t.Errorf("%s: kept %v", what, kept.Rules())
		}
	}
	if err := errors.Join(os.WriteFile(path, log, 0o600), os.Chmod(path, 0o660)); err != nil {
		t.Fatal(err)
	}
	if _, _, err := store.Load("class"); err == nil || !strings.Contains(err.Error(), "open to other users") {
		t.Errorf("open to a group: %v", err)
	}
	// Of another snapshot: of a process that was killed after it had written this one.
	if err := errors.Join(os.Chmod(path, 0o600), os.WriteFile(path, bytes.Replace(log, []byte("sha256:"), []byte("sha256:0"), 1), 0o600)); err != nil {
		t.Fatal(err)
	}
	if got := keptIDs(t, store); got != "a.example.com" {
		t.Errorf("with the log of another snapshot: %s", got)
	}
}

// sealed is a line of a log.
func sealed(t testing.TB, change keptChange) []byte {
	line, err := json.Marshal(change)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(line)
	return slices.Concat([]byte(hex.EncodeToString(sum[:])+" "), line, []byte("\n"))
}

func TestALogThatCannotBeWrittenTakesTheSnapshotWithIt(t *testing.T) {
	store := newStore(t)
	save(t, store, "a.example.com")
	save(t, store, "b.example.com")
	path := store.path("class")
	if err := errors.Join(os.Remove(logOf(path)), os.Symlink("/dev/full", logOf(path))); err != nil {
		t.Fatal(err)
	}
	if err := store.Save("class", sent(t, "c.example.com")); err == nil {
		t.Error("it was kept")
	}
	for _, gone := range []string{path, logOf(path)} {
		if _, err := os.Lstat(gone); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s is there: %v", gone, err)
		}
	}
}

func TestALogIsBounded(t *testing.T) {
	store := newStore(t)
	save(t, store, "a.example.com")
	path := store.path("class")
	long := strings.Repeat("x", leastLog/4)
	for i := range 12 {
		next := sent(t, fmt.Sprintf("h%d.example.com", i))
		for _, part := range next.Policies {
			for k := range part.Rules {
				part.Rules[k].TLS.CABundle = long
			}
		}
		if err := store.Save("class", next); err != nil {
			t.Fatal(err)
		}
		if info, err := os.Stat(logOf(path)); err == nil && info.Size() > leastLog {
			t.Fatalf("the log has %d bytes", info.Size())
		}
		if got := keptIDs(t, store); got != fmt.Sprintf("h%d.example.com", i) {
			t.Fatalf("kept %s", got)
		}
	}
}

func TestWhatALogComesToIsTheSnapshotThatWasSavedLast(t *testing.T) {
	store := newStore(t)
	rapid.Check(t, func(r *rapid.T) {
		for range rapid.IntRange(1, 6).Draw(r, "saves") {
			hosts := rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"a.example.com", "b.example.com", "*.example.org", "c.example.com"}), 0, 4, rapid.ID).Draw(r, "hosts")
			last := sent(t, hosts...)
			if rapid.Bool().Draw(r, "endpoints") {
				last.Endpoints = nil
				last.Version += "-"
			}
			if err := store.Save("class", last); err != nil {
				r.Fatal(err)
			}
			kept, _, err := store.Load("class")
			if err != nil {
				r.Fatal(err)
			}
			slices.Sort(hosts)
			if got := keptIDs(t, store); got != strings.Join(hosts, " ") || kept.Version != last.Version || len(kept.Endpoints) != len(last.Endpoints) ||
				len(kept.Endpoints) > 0 && !reflect.DeepEqual(kept.Endpoints[0], last.Endpoints[0]) || !reflect.DeepEqual(kept.Mesh, last.Mesh) {
				r.Fatalf("kept %s of %s, want %v of %s", got, kept.Version, hosts, last.Version)
			}
		}
	})
}

// FuzzReplay puts the sums right, so that what is below them is reached.
func FuzzReplay(f *testing.F) {
	before := sent(f, "a.example.com")
	change, ok := changeOf(before, sent(f, "b.example.com"))
	if !ok {
		f.Fatal("no change")
	}
	line, err := json.Marshal(change)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(line)
	f.Add([]byte(`{"before":"x","rules":[null],"endpoints":[null]}`))
	f.Fuzz(func(t *testing.T, line []byte) {
		sum := sha256.Sum256(line)
		b := slices.Concat([]byte(logWord+"s\n"+hex.EncodeToString(sum[:])+" "), line, []byte("\n"))
		changes, err := parseLog(b, "s")
		if err != nil {
			return
		}
		kept := *before
		if replay(&kept, changes) == nil {
			Build(&kept, View{Namespace: "default"}) // an error or a snapshot, and never a panic
		}
	})
}

func TestASnapshotThatIsReplacedWhileItIsReadIsNotReadWithoutItsLog(t *testing.T) {
	var hosts []string
	for i := range 3000 {
		hosts = append(hosts, fmt.Sprintf("h%04d.example.com", i))
	}
	next := newStore(t)
	save(t, next, hosts[1:10]...)
	fresh := read(t, next.path("class"))
	for i := range 12 {
		store := newStore(t)
		save(t, store, hosts...)
		save(t, store, hosts[1:]...) // the first is withdrawn
		path := store.path("class")
		newer := path + ".newer"
		if err := os.WriteFile(newer, fresh, 0o600); err != nil {
			t.Fatal(err)
		}
		var loading sync.WaitGroup
		loading.Go(func() {
			kept, _, err := store.Load("class")
			if err != nil {
				t.Error(err)
			} else if kept.Rules()[0].ID == hosts[0] {
				t.Error("a rule that was withdrawn is back")
			}
		})
		time.Sleep(time.Duration(i) * 4 * time.Millisecond)
		// As another workload of the class keeps what the server sent anew.
		if err := errors.Join(os.Rename(newer, path), os.Remove(logOf(path))); err != nil {
			t.Fatal(err)
		}
		loading.Wait()
	}
}

func TestOfAClassThatNobodyFollowsNoSnapshotIsRemembered(t *testing.T) {
	store := newStore(t)
	follow(t, store, func(t *testing.T, s *source, _ *Holder) {
		s.snapshots <- sent(t, "a.example.com")
		synctest.Wait()
	})
	if state := store.kept["class"]; state == nil || state.version() == "" || len(state.snapshot.Policies) != 0 {
		t.Errorf("remembered: %+v", state)
	}
	save(t, store, "b.example.com") // whole: how it differs is not known
	if got := keptIDs(t, store); got != "b.example.com" {
		t.Errorf("kept: %s", got)
	}
}

func TestASnapshotWhoseLogIsLostIsAsOldAsItIs(t *testing.T) {
	store := newStore(t)
	save(t, store, "a.example.com", "b.example.com")
	path, before := store.path("class"), time.Now().Add(-time.Hour).Truncate(time.Second)
	if err := os.Chtimes(path, before, before); err != nil {
		t.Fatal(err)
	}
	save(t, store, "b.example.com") // the first is withdrawn, in the log
	version := store.kept["class"].version()
	if err := store.Confirm("class", version); err != nil {
		t.Fatal(err)
	}
	if _, confirmed, err := store.Load("class"); err != nil || time.Since(confirmed) > time.Minute {
		t.Errorf("with its log it was confirmed at %v, %v", confirmed, err)
	}
	if err := os.Remove(logOf(path)); err != nil {
		t.Fatal(err)
	}
	if _, confirmed, err := store.Load("class"); err != nil || !confirmed.Equal(before) {
		t.Errorf("without its log it was confirmed at %v, want %v: %v", confirmed, before, err)
	}
	if err := store.Confirm("class", version); err == nil {
		t.Error("what is not there any more was confirmed")
	}
}
