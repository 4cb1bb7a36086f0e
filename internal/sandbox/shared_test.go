package sandbox

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestTheCommandHasItsOwnTerminalAndNoOther(t *testing.T) {
	for _, program := range []string{"script", "tty", "stty", "tmux"} {
		needProgram(t, program)
	}
	_, given := openTerminal(t)
	otherMaster, other := openTerminal(t)
	master := int(otherMaster.Fd())
	if err := unix.SetNonblock(master, true); err != nil {
		t.Fatal(err)
	}
	folder := newOutside(t).folder
	script := `
		tty; test -t 0 && echo a terminal
		stty -echo && echo stty works
		echo INJECTED 2>/dev/null > ` + other.Name() + ` && echo wrote to another
		echo INJECTED 2>/dev/null > ` + given.Name() + ` && echo wrote by its old name
		ls /dev/pts
		script -qec 'tty' /dev/null </dev/null | tr -d '\r'
		tmux -f /dev/null -S "$PWD/t" new-session -d 'sleep 60' && echo tmux works; tmux -S "$PWD/t" kill-server`
	output, exit := newPlace(t, Config{Command: []string{"sh", "-c", script}, Stdin: given, Dir: folder, Env: append(os.Environ(), "HOME="+folder)}).run(t)
	want := "/dev/console\na terminal\nstty works\nptmx\n/dev/pts/0\ntmux works\n"
	said := slices.DeleteFunc(strings.SplitAfter(output, "\n"), func(line string) bool { return strings.Contains(line, "annot create") })
	if got := strings.Join(said, ""); got != want {
		t.Errorf("exit %d: %q, want %q", exit, got, want)
	}
	written := make([]byte, 64)
	if n, err := unix.Read(master, written); err != unix.EAGAIN {
		t.Errorf("another terminal got %q, %v", written[:max(n, 0)], err)
	}
}

// listInputRole lists the folder that its standard input is, and what lies beside it.
func listInputRole([]string) int {
	for _, folder := range []string{"/proc/self/fd/0", "/proc/self/fd/0/..", "/proc/self/fd/0/hidden"} {
		entries, err := os.ReadDir(folder)
		if err != nil {
			fmt.Println(err)
		}
		for _, entry := range entries {
			fmt.Println(filepath.Base(folder), entry.Name())
		}
	}
	return 0
}

func TestAFolderAsAStandardStreamOpensNothingThatIsHidden(t *testing.T) {
	folder := newOutside(t).folder
	hidden := filepath.Join(folder, "hidden")
	if err := errors.Join(os.Mkdir(hidden, 0o755), os.WriteFile(filepath.Join(hidden, "secret"), nil, 0o644)); err != nil {
		t.Fatal(err)
	}
	open := func(path string) *os.File {
		t.Helper()
		file, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { file.Close() })
		return file
	}
	output, exit := newPlace(t, Config{Command: []string{"list-input"}, Stdin: open(folder), Mask: []string{hidden}}).run(t)
	if exit != 0 || strings.Contains(output, "secret") || !strings.Contains(output, "0 hidden\n") {
		t.Errorf("exit %d: %s", exit, output)
	}
	_, err := New(t.Context(), withRole(t, Config{Command: []string{"list-input"}, Stdin: open(hidden), Mask: []string{hidden}}))
	if err == nil || !strings.Contains(err.Error(), "standard input is a folder that is hidden") {
		t.Errorf("the hidden folder itself: %v", err)
	}
}

func TestMountsOfQueuesAndTerminalsAreFoundAndBounded(t *testing.T) {
	list := `22 1 8:1 / / rw,relatime - ext4 /dev/sda1 rw
23 22 0:21 / /dev/mqueue rw - mqueue mqueue rw
24 22 0:22 / /srv/a\040root/dev/pts rw shared:3 - devpts devpts rw,gid=5
25 22 0:22 /3 /srv/console rw - devpts devpts rw
`
	find := func(list string) (queues, terminals []string, err error) {
		all, err := parseMounted(list)
		if err != nil {
			t.Fatal(err)
		}
		return meetingMounts(all)
	}
	queues, terminals, err := find(list)
	if want := []string{"/srv/a root/dev/pts", "/srv/console"}; err != nil || !slices.Equal(queues, []string{"/dev/mqueue"}) || !slices.Equal(terminals, want) {
		t.Errorf("%q, %q, %v", queues, terminals, err)
	}
	many := strings.Repeat("23 22 0:21 / /dev/mqueue rw - mqueue mqueue rw\n", maxCovered+1)
	if _, _, err := find(many); err == nil {
		t.Error("more than are covered pass")
	}
}
