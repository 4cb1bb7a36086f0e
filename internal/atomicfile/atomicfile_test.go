//go:build unix

package atomicfile

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func names(t *testing.T, folder string) string {
	t.Helper()
	entries, err := os.ReadDir(folder)
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, entry := range entries {
		all = append(all, entry.Name())
	}
	return strings.Join(all, " ")
}

func TestAFileHasItsModeWhateverTheUmaskAndItsPredecessor(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state")
	old := unix.Umask(0o027)
	defer unix.Umask(old)
	for _, mode := range []os.FileMode{0o644, 0o600, 0o640} {
		if err := WriteBytes(path, mode, []byte("a"), []byte("b")); err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(path)
		if err != nil || info.Mode() != mode {
			t.Errorf("mode %v, %v: want %v", info.Mode(), err, mode)
		}
		if text, err := os.ReadFile(path); string(text) != "ab" {
			t.Errorf("%q, %v", text, err)
		}
	}
	if left := names(t, filepath.Dir(path)); left != "state" {
		t.Errorf("the folder holds %s", left)
	}
}

func TestNobodyElseReadsAFileThatIsNotWhole(t *testing.T) {
	folder := t.TempDir()
	err := Write(filepath.Join(folder, "public"), 0o644, func(io.Writer) error {
		info, err := os.Stat(filepath.Join(folder, names(t, folder)))
		if err != nil || info.Mode() != 0o600 {
			t.Errorf("mode %v, %v", info.Mode(), err)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestAWriteThatFailsLeavesTheOldContentAndNothingElse(t *testing.T) {
	folder := t.TempDir()
	path := filepath.Join(folder, "state")
	if err := WriteBytes(path, 0o600, []byte("old")); err != nil {
		t.Fatal(err)
	}
	broken := errors.New("the disk is full")
	for name, write := range map[string]func(io.Writer) error{
		"at once": func(io.Writer) error { return broken },
		"half way": func(w io.Writer) error {
			_, err := w.Write([]byte("new, and not"))
			return errors.Join(err, broken)
		},
	} {
		if err := Write(path, 0o600, write); !errors.Is(err, broken) {
			t.Errorf("%s: %v", name, err)
		}
		if text, err := os.ReadFile(path); string(text) != "old" {
			t.Errorf("%s: %q, %v", name, text, err)
		}
		if left := names(t, folder); left != "state" {
			t.Errorf("%s: the folder holds %s", name, left)
		}
	}
	// A folder cannot be replaced by a file: the rename is what fails.
	if err := os.Mkdir(filepath.Join(folder, "folder"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := WriteBytes(filepath.Join(folder, "folder"), 0o600, []byte("x")); err == nil {
		t.Error("a folder was replaced")
	}
	if left := names(t, folder); left != "folder state" {
		t.Errorf("the folder holds %s", left)
	}
}

func TestALinkIsReplacedAndNotFollowed(t *testing.T) {
	folder := t.TempDir()
	target, link := filepath.Join(folder, "target"), filepath.Join(folder, "link")
	if err := WriteBytes(target, 0o600, []byte("kept")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(target, link); err != nil {
		t.Fatal(err)
	}
	if err := WriteBytes(link, 0o600, []byte("new")); err != nil {
		t.Fatal(err)
	}
	if text, _ := os.ReadFile(target); string(text) != "kept" {
		t.Errorf("the target holds %q", text)
	}
	if text, _ := os.ReadFile(link); string(text) != "new" {
		t.Errorf("the link's place holds %q", text)
	}
}

func TestSweepRemovesWhatWasLeftOfOneFileAlone(t *testing.T) {
	folder := t.TempDir()
	path := filepath.Join(folder, "ca")
	for _, name := range []string{".new-ca-123", ".new-ca-", ".new-ca-old-456", ".new-other-123", "ca", "new-ca-1"} {
		if err := os.WriteFile(filepath.Join(folder, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	// What Write itself leaves when it is killed is of that kind.
	err := Write(path, 0o600, func(io.Writer) error {
		now := names(t, folder)
		if err := Sweep(path); err != nil {
			t.Error(err)
		}
		if left := names(t, folder); left == now {
			t.Errorf("nothing was removed of %s", now)
		}
		return nil
	})
	if err == nil {
		t.Error("the unfinished file was removed, and nobody said so")
	}
	if left := names(t, folder); left != ".new-ca-old-456 .new-other-123 ca new-ca-1" {
		t.Errorf("the folder holds %s", left)
	}
	if err := Sweep(filepath.Join(folder, "missing", "x")); err != nil {
		t.Errorf("a folder that is not there: %v", err)
	}
}

func TestALongNameIsWrittenToo(t *testing.T) {
	folder := t.TempDir()
	name := strings.Repeat("n", 255)
	if err := WriteBytes(filepath.Join(folder, name), 0o600, []byte("x")); err != nil {
		t.Fatal(err)
	}
	if left := names(t, folder); left != name {
		t.Errorf("the folder holds %s", left)
	}
}
