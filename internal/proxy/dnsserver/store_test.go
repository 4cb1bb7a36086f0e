package dnsserver

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sluice.dev/sluice/internal/format"
	"sluice.dev/sluice/internal/names"
)

func TestATableSurvivesARestart(t *testing.T) {
	c := newClock()
	path := filepath.Join(t.TempDir(), "details-v2.names")
	before := unlimited(c)
	must(t, before.Load(path)) // no file yet
	if before.Changed() {
		t.Error("an empty table is changed")
	}
	told := map[int]Addresses{}
	for i := range 50 {
		told[i] = tell(t, before, numbered("n", i), Naming(i%2*2))
	}
	if !before.Changed() {
		t.Error("a table with new names is not changed")
	}
	must(t, before.Save(path))
	if before.Changed() {
		t.Error("a saved table is changed")
	}
	info, err := os.Stat(path)
	must(t, err)
	if info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v", info.Mode())
	}
	if files, _ := os.ReadDir(filepath.Dir(path)); len(files) != 1 {
		t.Errorf("Save left %v", files)
	}

	after := unlimited(c)
	must(t, after.Load(path))
	if after.Changed() {
		t.Error("a loaded table is changed")
	}
	for i, a := range told {
		if n, ok := after.Lookup(a.V6); !ok || n != numbered("n", i) {
			t.Errorf("%v is %q", a.V6, n)
		}
		if got := tell(t, after, numbered("n", i), Naming(i%2*2)); got != a {
			t.Errorf("n%d has %v, had %v", i, got, a)
		}
	}
	if got := after.Stats(); got.Names != 50 || got.Unruled != 25 {
		t.Errorf("%+v", got)
	}
	// Addresses that were told after the Save are not given to others at once.
	if a := tell(t, after, numbered("new", 1), Exactly); a != addressesOf(50+skipAfterLoad+1) {
		t.Errorf("the first new name has %v", a)
	}
	if err := after.Load(path); err == nil {
		t.Error("a table in use was loaded over")
	}
}

func TestTheDayOfAnAddressGoesOnAcrossARestart(t *testing.T) {
	c := newClock()
	path := filepath.Join(t.TempDir(), "names")
	before := unlimited(c)
	for i := range MaxUnruled {
		tell(t, before, numbered("n", i), Unnamed)
	}
	c.pass(KeepAnswered - time.Hour)
	must(t, before.Save(path))
	c.pass(time.Hour + time.Second)
	after := unlimited(c)
	must(t, after.Load(path))
	if _, err := after.Tell(numbered("new", 0), Unnamed); !errors.Is(err, ErrTableFull) {
		t.Errorf("an address was reused right after a restart: %v", err)
	}
	c.pass(KeepAnswered + time.Second)
	tell(t, after, numbered("new", 0), Unnamed)
}

func TestADamagedFileIsSaidAndTheTableStartsEmpty(t *testing.T) {
	dir := t.TempDir()
	good := filepath.Join(dir, "good")
	table := unlimited(newClock())
	for i := range 20 {
		tell(t, table, numbered("n", i), Exactly)
	}
	must(t, table.Save(good))
	content, err := os.ReadFile(good)
	must(t, err)
	flipped := bytes.Clone(content)
	flipped[len(flipped)/2] ^= 1
	withSum := func(body string) []byte {
		b := []byte(fileMagic + body)
		sum := checksum(b)
		return append(b, byte(sum>>24), byte(sum>>16), byte(sum>>8), byte(sum))
	}
	record := func(index, class, name string) string {
		return index + strings.Repeat("\x00", 8) + class + string(rune(len(name))) + name
	}
	for name, content := range map[string][]byte{
		"empty":              {},
		"cut short":          content[:len(content)-5],
		"one bit":            flipped,
		"no format":          []byte("sluice-names-\n" + strings.Repeat("x", 100)),
		"format 0":           []byte("sluice-names-0\n" + strings.Repeat("x", 100)),
		"another file":       []byte("{\"names\": []}\n not a table at all"),
		"record cut":         withSum("\x00\x01"),
		"name cut":           withSum(record("\x00\x01", "\x01", "a.example")[:15]),
		"no name":            withSum(record("\x00\x01", "\x01", "")),
		"an address":         withSum(record("\x00\x01", "\x01", "127.0.0.1")),
		"index 0":            withSum(record("\x00\x00", "\x01", "a.example")),
		"index 65535":        withSum(record("\xff\xff", "\x01", "a.example")),
		"an unknown class":   withSum(record("\x00\x01", "\x03", "a.example")),
		"one index twice":    withSum(record("\x00\x01", "\x01", "a.example") + record("\x00\x01", "\x01", "b.example")),
		"one name twice":     withSum(record("\x00\x01", "\x01", "a.example") + record("\x00\x02", "\x01", "a.example")),
		"longer than it may": bytes.Repeat([]byte("x"), int(maxFileSize)+1),
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(dir, "damaged")
			must(t, os.WriteFile(path, content, 0o600))
			table := unlimited(newClock())
			if err := table.Load(path); !errors.Is(err, ErrCorrupt) {
				t.Fatalf("Load: %v", err)
			}
			if got := table.Stats().Names; got != 0 {
				t.Errorf("%d names, want none", got)
			}
			tell(t, table, numbered("n", 1), Exactly)
			must(t, table.Save(path))
			must(t, unlimited(newClock()).Load(path))
		})
	}
	if err := unlimited(newClock()).Load(dir); err == nil {
		t.Error("a folder was loaded")
	}
	link := filepath.Join(dir, "link")
	must(t, os.Symlink(good, link))
	if err := unlimited(newClock()).Load(link); err == nil {
		t.Error("a link was followed")
	}
	if err := table.Save(filepath.Join(dir, "nowhere", "names")); err == nil {
		t.Error("saved into a folder that is not there")
	}
}

func TestATableOfAnotherFormatIsRefusedWithTheReason(t *testing.T) {
	path := filepath.Join(t.TempDir(), "names")
	must(t, os.WriteFile(path, []byte("sluice-names-7\nin another way"), 0o600))
	table := unlimited(newClock())
	err := table.Load(path)
	var unknown *format.UnknownError
	if !errors.As(err, &unknown) || !unknown.Newer() || errors.Is(err, ErrCorrupt) ||
		!strings.Contains(err.Error(), "the table of synthetic addresses has format 7; this Sluice reads formats 1 to 2: upgrade this Sluice") {
		t.Errorf("Load: %v", err)
	}
	tell(t, table, numbered("n", 1), Exactly) // it works, for as long as the process lives
}

func FuzzDecode(f *testing.F) {
	table := unlimited(newClock())
	f.Add([]byte{})
	for i := range 3 {
		content, _ := table.encode()
		f.Add(content)
		tell(f, table, numbered("n", i), Naming(i%2*2))
	}
	f.Fuzz(func(t *testing.T, content []byte) {
		// The checksum is put right, so that the records are reached.
		if n := len(content) - 4; n >= 0 {
			sum := checksum(content[:n])
			content = append(bytes.Clone(content[:n]), byte(sum>>24), byte(sum>>16), byte(sum>>8), byte(sum))
		}
		path := filepath.Join(t.TempDir(), "names")
		must(t, os.WriteFile(path, content, 0o600))
		table := unlimited(newClock())
		if table.Load(path) != nil {
			return
		}
		again := filepath.Join(t.TempDir(), "names")
		must(t, table.Save(again))
		must(t, unlimited(newClock()).Load(again))
	})
}

// What the build before wrote is read; each name is in its class again once it is asked for.
func TestATableOfFormat1IsRead(t *testing.T) {
	path := filepath.Join(t.TempDir(), "names")
	content := []byte("sluice-names-1\n")
	for i, class := range []byte{0, 1} {
		content = append(content, 0, byte(i+1))
		content = append(content, make([]byte, 8)...)
		content = append(content, class, 9)
		content = append(content, "a.example"...)
		content[len(content)-9] += byte(i)
	}
	sum := checksum(content)
	must(t, os.WriteFile(path, append(content, byte(sum>>24), byte(sum>>16), byte(sum>>8), byte(sum)), 0o600))
	table := unlimited(newClock())
	must(t, table.Load(path))
	for i, name := range []string{"a.example", "b.example"} {
		if got := tell(t, table, names.MustParse(name), UnderWildcard); got != addressesOf(i+1) {
			t.Errorf("%s has %v", name, got)
		}
	}
	if got := table.Stats(); got.Names != 2 || got.Wild != 2 {
		t.Errorf("%+v", got)
	}
}
