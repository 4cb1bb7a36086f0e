package sandbox

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// queue opens a POSIX message queue.
func queue(name string, flags uintptr) error {
	path, err := unix.BytePtrFromString(name)
	if err != nil {
		return err
	}
	fd, _, errno := unix.Syscall6(unix.SYS_MQ_OPEN, uintptr(unsafe.Pointer(path)), flags, 0o666, 0, 0, 0)
	if errno != 0 {
		return errno
	}
	return unix.Close(int(fd))
}

// systemV looks for a shared memory, a queue and semaphores by their key.
func systemV(key uintptr, flags uintptr) (found []string) {
	for name, open := range map[string]func() error{
		"memory":     func() error { return call(unix.SYS_SHMGET, key, 4096, flags) },
		"queue":      func() error { return call(unix.SYS_MSGGET, key, flags) },
		"semaphores": func() error { return call(unix.SYS_SEMGET, key, 1, flags) },
	} {
		if open() == nil {
			found = append(found, name)
		}
	}
	slices.Sort(found)
	return found
}

const keyOfTest = 0x51ce

// meetRole looks for what processes outside have left where processes meet, leaves
// something itself, and uses its own.
func meetRole(args []string) int {
	fmt.Println("queue:", queue(args[0], unix.O_RDWR))
	fmt.Println("System V:", systemV(keyOfTest, 0))
	_, err := os.Stat(args[1])
	fmt.Println("memory:", errors.Is(err, os.ErrNotExist))
	for _, path := range args[3:] {
		_, err := os.ReadFile(path)
		fmt.Println("queue of a mount:", errors.Is(err, os.ErrNotExist))
	}
	own := errors.Join(os.WriteFile(args[2], nil, 0o600), queue(args[0]+"-own", unix.O_CREAT|unix.O_RDWR), queue(args[0]+"-own", unix.O_RDWR))
	fmt.Println("own:", own, systemV(keyOfTest, unix.IPC_CREAT|0o666))
	return 0
}

func TestMemoryAndQueuesOutsideAreOutOfReach(t *testing.T) {
	needSandbox(t)
	name := fmt.Sprint("sluice-test-", os.Getpid())
	if err := queue(name, unix.O_CREAT|unix.O_RDWR); err != nil {
		t.Skip("this kernel has no message queues: ", err)
	}
	t.Cleanup(func() {
		path, _ := unix.BytePtrFromString(name)
		unix.Syscall(unix.SYS_MQ_UNLINK, uintptr(unsafe.Pointer(path)), 0, 0)
	})
	if found := systemV(keyOfTest, unix.IPC_CREAT|0o666); len(found) != 3 {
		t.Fatalf("System V gives %v", found)
	}
	t.Cleanup(removeSystemV)
	args := []string{"/dev/shm/" + name, "/dev/shm/" + name + "-own"}
	if err := os.WriteFile(args[0], nil, 0o666); err != nil {
		t.Skip(err)
	}
	t.Cleanup(func() { os.Remove(args[0]) })
	mounts := 0
	if os.Geteuid() == 0 { // a mount of queues gives those of its own namespace
		folder := t.TempDir()
		if err := unix.Mount("mqueue", folder, "mqueue", 0, ""); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { unix.Unmount(folder, 0) })
		if _, err := os.ReadFile(filepath.Join(folder, name)); err != nil {
			t.Fatal(err)
		}
		args = append(args, filepath.Join(folder, name))
		mounts = 1
	}
	output, exit, _ := inside(t, append([]string{"meet", name}, args...)...)
	want := "queue: no such file or directory\nSystem V: []\nmemory: true\n" + strings.Repeat("queue of a mount: true\n", mounts) +
		"own: <nil> [memory queue semaphores]\n"
	if exit != 0 || output != want {
		t.Errorf("exit %d\n%s", exit, output)
	}
	if _, err := os.Stat(args[1]); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("what the command left in /dev/shm is outside: %v", err)
	}
	if err := queue(name+"-own", unix.O_RDWR); err != unix.ENOENT {
		t.Errorf("the command's queue is outside: %v", err)
	}
}

func removeSystemV() {
	if id, _, errno := unix.Syscall(unix.SYS_SHMGET, keyOfTest, 0, 0); errno == 0 {
		unix.Syscall(unix.SYS_SHMCTL, id, unix.IPC_RMID, 0)
	}
	if id, _, errno := unix.Syscall(unix.SYS_MSGGET, keyOfTest, 0, 0); errno == 0 {
		unix.Syscall(unix.SYS_MSGCTL, id, unix.IPC_RMID, 0)
	}
	if id, _, errno := unix.Syscall(unix.SYS_SEMGET, keyOfTest, 0, 0); errno == 0 {
		unix.Syscall(unix.SYS_SEMCTL, id, 0, unix.IPC_RMID)
	}
}

// What covers them cannot be taken away in a user namespace of the command's own.
func TestANestedUserNamespaceUncoversNoMemoryAndNoTerminal(t *testing.T) {
	needProgram(t, "unshare")
	path := fmt.Sprint("/dev/shm/sluice-nested-", os.Getpid())
	if err := os.WriteFile(path, nil, 0o666); err != nil {
		t.Skip(err)
	}
	t.Cleanup(func() { os.Remove(path) })
	_, device := openTerminal(t)
	script := `{ umount -l /dev/shm; umount -l /dev/pts; mkdir -p /tmp/dev-$$; mount --rbind /dev /tmp/dev-$$; ls ` + path + `; ls /tmp/dev-$$/shm; echo INJECTED > ` + device.Name() + `; echo tried; umount -l /tmp/dev-$$; rmdir /tmp/dev-$$; exit 0; } 2>/dev/null`
	output, _, _ := inside(t, "unshare", "-Urm", "sh", "-c", script)
	if os.Geteuid() == 0 && !strings.Contains(output, "tried") {
		return // uid 0 without CAP_SETFCAP may not be root of a namespace
	}
	if output != "tried\n" {
		t.Error(output)
	}
}

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

// reniceRole changes the priority of its process group, which is also its parent's.
func reniceRole([]string) int {
	fmt.Println("group:", unix.Setpriority(unix.PRIO_PGRP, 0, 7))
	fmt.Println("group behind a high bit:", call(unix.SYS_SETPRIORITY, unix.PRIO_PGRP|high, high, 7))
	fmt.Println("I/O of the group:", call(unix.SYS_IOPRIO_SET, ioprioGroup, 0, 3<<13))
	fmt.Println("the group's cores:", call(unix.SYS_PRCTL, unix.PR_SCHED_CORE, unix.PR_SCHED_CORE_CREATE, 0, unix.PR_SCHED_CORE_SCOPE_PROCESS_GROUP))
	unix.Setpriority(unix.PRIO_USER, os.Getuid(), 8) // of those of the user that are seen, and init is refused
	fmt.Println("itself:", unix.Setpriority(unix.PRIO_PROCESS, 0, 19), call(unix.SYS_IOPRIO_SET, 1, 0, 3<<13))
	return 0
}

func TestThePriorityOfProcessesOutsideStays(t *testing.T) {
	priority := func(which int) int {
		t.Helper()
		value, err := unix.Getpriority(which, 0)
		if err != nil {
			t.Fatal(err)
		}
		return value
	}
	before := priority(unix.PRIO_PROCESS)
	output, exit, _ := inside(t, "renice")
	want := `group: operation not permitted
group behind a high bit: operation not permitted
I/O of the group: operation not permitted
the group's cores: invalid argument
itself: <nil> <nil>
`
	if exit != 0 || output != want {
		t.Errorf("exit %d\n%s", exit, output)
	}
	if after := priority(unix.PRIO_PROCESS); after != before {
		t.Errorf("this process had priority %d, and has %d", before, after)
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
		all, err := parseMounted(strings.NewReader(list))
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
