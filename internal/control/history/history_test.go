package history

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"sluice.dev/sluice/internal/format/shape"
)

func open(t *testing.T, path string) *Book {
	t.Helper()
	b := Open(path, slog.New(slog.DiscardHandler))
	t.Cleanup(func() { _ = b.Close() })
	return b
}

func fresh(t *testing.T) string { return filepath.Join(t.TempDir(), "history.jsonl") }

func key(name string) Key { return Key{"egressrules.config.istio.io", "default", name} }

// change is a change of an object to a generation.
func change(name string, generation int64, spec string) Entry {
	return Entry{Key: key(name), Who: "jason", Role: "editor", Verb: "update", UID: "1", Revision: 10 * generation, Generation: generation,
		State: &State{Spec: json.RawMessage(fmt.Sprintf("%q", spec))}}
}

func revisions(entries []Entry) (all []int64) {
	for _, e := range entries {
		all = append(all, e.Revision)
	}
	return all
}

func TestAHistoryOutlivesItsProcessEvenOneThatWasKilled(t *testing.T) {
	path := fresh(t)
	b := open(t, path)
	b.Add(change("a", 1, "x"), nil)
	b.Add(change("a", 2, "y"), nil)
	b.Add(change("b", 1, "z"), nil)
	again := open(t, path) // without a Close
	if got := again.Of(key("a")); !slices.Equal(revisions(got), []int64{10, 20}) || string(got[1].State.Spec) != `"y"` || got[1].Who != "jason" {
		t.Errorf("%+v", got)
	}
	if info, err := os.Stat(path); err != nil || info.Mode() != 0o600 {
		t.Errorf("%v %v", info.Mode(), err)
	}
}

func TestALineThatWasCutCostsThatLineAlone(t *testing.T) {
	path := fresh(t)
	b := open(t, path)
	b.Add(change("a", 1, "x"), nil)
	b.Add(change("a", 2, "y"), nil)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, whole[:len(whole)-5], 0o600); err != nil {
		t.Fatal(err)
	}
	again := open(t, path)
	again.Add(change("a", 3, "z"), nil)
	if got := open(t, path).Of(key("a")); !slices.Equal(revisions(got), []int64{10, 30}) {
		t.Errorf("%+v", got)
	}
}

func TestTheHistoryOfALaterReleaseIsLeftAsItIsAndOneThatIsDamagedIsKeptBeside(t *testing.T) {
	path := fresh(t)
	const later = `{"format":7}` + "\nin another way\n"
	if err := os.WriteFile(path, []byte(later), 0o600); err != nil {
		t.Fatal(err)
	}
	b := open(t, path)
	b.Add(change("a", 1, "x"), nil)
	if content, err := os.ReadFile(path); err != nil || string(content) != later {
		t.Errorf("it is %q now, %v", content, err)
	}
	if err := os.WriteFile(path, []byte("rubbish\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	b = open(t, path)
	b.Add(change("a", 1, "x"), nil)
	if content, err := os.ReadFile(path + ".unread"); err != nil || string(content) != "rubbish\n" {
		t.Errorf("beside is %q, %v", content, err)
	}
	if got := open(t, path).Of(key("a")); len(got) != 1 {
		t.Errorf("%+v", got)
	}
}

func TestOfOneObjectOnlySoManyChangesAndBytesAreKept(t *testing.T) {
	path := fresh(t)
	b := open(t, path)
	b.Add(change("other", 1, "x"), nil)
	for i := range int64(MaxEntries + 5) {
		b.Add(change("a", i+1, "x"), nil)
	}
	if got := b.Of(key("a")); len(got) != MaxEntries || got[0].Generation != 6 || got[len(got)-1].Generation != MaxEntries+5 {
		t.Errorf("%v", revisions(got))
	}
	for i := range int64(MaxEntries) {
		b.Add(change("large", i+1, strings.Repeat("x", MaxEntryBytes*3/4)), nil)
	}
	if got := b.Of(key("large")); len(got) != MaxObjectBytes/(MaxEntryBytes*3/4) {
		t.Errorf("of a large object %d changes are kept", len(got))
	}
	b.Add(change("huge", 1, strings.Repeat("x", MaxEntryBytes)), nil)
	if got := b.Of(key("huge")); len(got) != 1 || !got[0].TooLarge || got[0].State != nil {
		t.Errorf("of a huge object %+v", got)
	}
	if len(b.Of(key("other"))) != 1 {
		t.Error("one object's changes took another's place")
	}
}

func TestInAllOnlySoManyBytesAreKeptOnDiskTooAndTheOldestGoFirst(t *testing.T) {
	path := fresh(t)
	b := open(t, path)
	const objects = 4 * MaxBytes / (MaxEntryBytes / 2)
	for i := range objects {
		b.Add(change(fmt.Sprint("a", i), 1, strings.Repeat("x", MaxEntryBytes/2)), nil)
	}
	if b.bytes > MaxBytes {
		t.Errorf("%d bytes are kept", b.bytes)
	}
	if info, err := os.Stat(path); err != nil || info.Size() > maxFile {
		t.Errorf("the file has %d bytes, %v", info.Size(), err)
	}
	if len(b.Of(key("a0"))) != 0 || len(b.Of(key(fmt.Sprint("a", objects-1)))) != 1 {
		t.Error("the newest gave way")
	}
}

func TestAStateThatNobodyWasSeenToMakeIsAddedBeforeTheChangeOfIt(t *testing.T) {
	b := open(t, fresh(t))
	before := change("a", 4, "old")
	b.Add(change("a", 5, "new"), &before)
	got := b.Of(key("a"))
	if len(got) != 2 || got[0].Verb != Found || got[0].Who != "" || string(got[0].State.Spec) != `"old"` {
		t.Fatalf("%+v", got)
	}
	before = change("a", 5, "new")
	before.Revision += 3 // a status was written since
	b.Add(change("a", 6, "newer"), &before)
	if got := b.Of(key("a")); len(got) != 3 {
		t.Errorf("what is known was found again: %+v", got)
	}
}

func TestTheShapeOfAnEntryIsThatOfItsFormat(t *testing.T) {
	shape.Check(t, "entries", Format, Entry{})
}

func FuzzALineIsAChangeOrAnError(f *testing.F) {
	raw, err := json.Marshal(change("a", 1, "x"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(raw)
	f.Add([]byte(`{"resource":"r","name":"n","verb":"create","revision":-1,"state":{"spec":null}}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		if entry, err := parse(text); err == nil && (entry.Resource == "" || entry.Name == "" || entry.Verb == "") {
			t.Errorf("%+v", entry)
		}
	})
}
