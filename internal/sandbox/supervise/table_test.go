package supervise

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// bind binds a socket to a file and opens the file.
func bind(t *testing.T, path string) (socket, file int) {
	t.Helper()
	socket, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err == nil {
		err = unix.Bind(socket, &unix.SockaddrUnix{Name: path})
	}
	if err == nil {
		file, err = unix.Open(path, unix.O_PATH|unix.O_CLOEXEC, 0)
	}
	if err != nil {
		t.Fatal(err)
	}
	return socket, file
}

func keyOf(t *testing.T, path string) inode {
	t.Helper()
	file, err := unix.Open(path, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(file)
	key, isSocket, err := inodeOf(file)
	if err != nil || !isSocket {
		t.Fatal(isSocket, err)
	}
	return key
}

func TestAFullTableDropsTheFilesThatNobodyIsBoundTo(t *testing.T) {
	t.Chdir(t.TempDir())
	table := newTable(3)
	bound := func(file int) bool { // as hands look, which stand in that folder
		address := append([]byte{unix.AF_UNIX, 0}, "/proc/self/fd/"...)
		probe, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(probe)
		return rawConnect(probe, append(address, fileAddress(file)[2:]...)) != unix.ECONNREFUSED
	}
	live, file := bind(t, "live")
	defer unix.Close(live)
	if err := table.add(file, false); err != nil {
		t.Fatal(err)
	}
	dead, file := bind(t, "dead")
	if err := table.add(file, false); err != nil {
		t.Fatal(err)
	}
	unix.Close(dead)
	owners, file := bind(t, "the-owners")
	if err := table.add(file, true); err != nil {
		t.Fatal(err)
	}
	unix.Close(owners)
	late, file := bind(t, "late")
	defer unix.Close(late)
	if err := table.add(file, false); !errors.Is(err, errFull) {
		t.Errorf("%v, want %v", err, errFull)
	}
	table.prune(bound)
	for name, want := range map[string]bool{"live": true, "dead": false, "the-owners": true, "late": false} {
		if table.has(keyOf(t, name)) != want {
			t.Errorf("%s: want %v", name, want)
		}
	}
	if err := table.add(open(t, "late"), false); err != nil || !table.has(keyOf(t, "late")) {
		t.Errorf("after pruning: %v", err)
	}
}

func open(t *testing.T, path string) int {
	t.Helper()
	file, err := unix.Open(path, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	return file
}

func TestAFileIsTheSameUnderEachOfItsNames(t *testing.T) {
	t.Chdir(t.TempDir())
	socket, file := bind(t, "one")
	defer unix.Close(socket)
	table := newTable(1)
	if err := errors.Join(os.Link("one", "two"), os.Mkdir("folder", 0o755), os.Rename("one", filepath.Join("folder", "one"))); err != nil {
		t.Fatal(err)
	}
	if err := table.add(file, false); err != nil {
		t.Fatal(err)
	}
	if err := table.add(open(t, "two"), false); err != nil { // it takes no second place
		t.Error(err)
	}
	for _, name := range []string{"two", "folder/one"} {
		if !table.has(keyOf(t, name)) {
			t.Error(name)
		}
	}
	other, _ := bind(t, "other")
	defer unix.Close(other)
	if table.has(keyOf(t, "other")) {
		t.Error("another file is there too")
	}
}

func TestTheBoundsFitTheDescriptorsOfThisProcess(t *testing.T) {
	var before unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &before); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Setrlimit(unix.RLIMIT_NOFILE, &before) })
	for limit, want := range map[uint64][2]int{200: {100, 16}, 1000: {500, 83}, min(before.Max, 20000): {min(maxListeners, int(min(before.Max, 20000))/2), min(maxWaiting, int(min(before.Max, 20000))/12)}} {
		if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: limit, Max: before.Max}); err != nil {
			t.Fatal(err)
		}
		if files, waits := bounds(); files != want[0] || waits != want[1] || uint64(files+3*waits) > limit*3/4 {
			t.Errorf("of %d descriptors: %d, %d; want %v", limit, files, waits, want)
		}
	}
}
