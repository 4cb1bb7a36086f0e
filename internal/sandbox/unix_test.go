package sandbox

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// ownSocketsRole connects to listeners of its own by every name that they come to have.
func ownSocketsRole([]string) int {
	folder, err := os.MkdirTemp("", "own-")
	if err != nil {
		fmt.Println(err)
		return 1
	}
	defer os.RemoveAll(folder)
	os.Chdir(folder)
	serve := func(kind int, name string) {
		fd, _ := unix.Socket(unix.AF_UNIX, kind|unix.SOCK_CLOEXEC, 0)
		if err := errors.Join(unix.Bind(fd, &unix.SockaddrUnix{Name: name}), unix.Listen(fd, 16)); err != nil {
			fmt.Println("listen on", name, err)
			return
		}
		go func() {
			for {
				conn, _, err := unix.Accept(fd)
				if err != nil {
					return
				}
				unix.Write(conn, []byte("mine"))
				unix.Close(conn)
			}
		}()
	}
	check := func(kind int, name string) {
		if said, err := dial(kind, name); said != "mine" {
			fmt.Printf("%q of type %d: %q %v\n", name, kind, said, err)
		}
	}
	for _, kind := range []int{unix.SOCK_STREAM, unix.SOCK_SEQPACKET} {
		sub := fmt.Sprint("kind", kind)
		os.Mkdir(sub, 0o755)
		os.Chdir(sub)
		for _, name := range []string{filepath.Join(folder, sub, "absolute"), "relative", "old", strings.Repeat("é", 40), fmt.Sprint("@abstract", kind, os.Getpid())} {
			serve(kind, name)
			check(kind, name)
		}
		os.Link("absolute", "hard")
		os.Symlink("hard", "soft")
		os.Rename("old", "new")
		os.Mkdir("folder", 0o755)
		os.Rename("relative", "folder/relative")
		os.Rename("folder", "other")
		directory, _ := unix.Open("other", unix.O_PATH, 0)
		file, _ := unix.Open("new", unix.O_PATH, 0)
		for _, name := range []string{"hard", "soft", "new", "other/../other/relative",
			fmt.Sprintf("/proc/self/fd/%d/relative", directory), fmt.Sprintf("/proc/self/fd/%d", file), fmt.Sprintf("/dev/fd/%d/relative", directory)} {
			check(kind, name)
		}
		os.Chdir(folder)
	}
	os.WriteFile("plain", nil, 0o600)
	for name, want := range map[string]error{"missing": unix.ENOENT, "plain/below": unix.ENOTDIR, "plain": unix.ECONNREFUSED, "missing/below": unix.ENOENT} {
		if _, err := dial(unix.SOCK_STREAM, name); err != want {
			fmt.Println(name, err)
		}
	}
	if _, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM, 0); err != unix.EAFNOSUPPORT {
		fmt.Println("a socket for unix datagrams:", err)
	}
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		fmt.Println("a pair of datagrams:", err)
		return 1
	}
	unix.Write(pair[0], []byte("one"))
	unix.Write(pair[0], []byte("two"))
	got := make([]byte, 16)
	n, err := unix.Read(pair[1], got)
	if flags, _ := unix.FcntlInt(uintptr(pair[1]), unix.F_GETFD, 0); string(got[:max(n, 0)]) != "one" || flags&unix.FD_CLOEXEC == 0 {
		fmt.Printf("a pair of datagrams: %q %v\n", got[:max(n, 0)], err)
	}
	if _, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_DGRAM, 17); err != unix.EPROTONOSUPPORT {
		fmt.Println("a pair of a protocol:", err)
	}
	return 0
}

func TestTheCommandReachesItsOwnSocketsByEveryName(t *testing.T) {
	for _, config := range []Config{{Command: []string{"own-sockets"}}, {Command: []string{"own-sockets"}, UserNamespace: true}} {
		if output, exit := newPlace(t, config).run(t); exit != 0 || output != "" {
			t.Errorf("exit %d\n%s", exit, output)
		}
	}
}

// pairsRole asks for pairs of unix datagrams that it cannot get, and says what it has open
// after each.
func pairsRole([]string) int {
	open := func() int {
		entries, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			fmt.Println(err)
		}
		return len(entries)
	}
	before := open()
	pair := func() (errno unix.Errno, numbers [2]int32) {
		_, _, errno = unix.Syscall6(unix.SYS_SOCKETPAIR, unix.AF_UNIX, unix.SOCK_DGRAM, 0, uintptr(unsafe.Pointer(&numbers)), 0, 0)
		return errno, numbers
	}
	nowhere, _ := unix.Mmap(-1, 0, 4096, unix.PROT_NONE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	for _, address := range []uintptr{0, uintptr(unsafe.Pointer(&nowhere[0]))} {
		if _, _, errno := unix.Syscall6(unix.SYS_SOCKETPAIR, unix.AF_UNIX, unix.SOCK_DGRAM, 0, address, 0, 0); errno != unix.EFAULT {
			fmt.Println("a pair into no memory:", errno)
		}
	}
	if now := open(); now != before {
		fmt.Println("a pair into no memory leaves", now-before)
	}
	// All numbers are taken but free ones, which are somewhere in between.
	const most = 128
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: most, Max: most}); err != nil {
		fmt.Println(err)
		return 1
	}
	var mine []int
	for {
		fd, err := unix.FcntlInt(0, unix.F_DUPFD, 0)
		if err != nil {
			break
		}
		mine = append(mine, fd)
	}
	for free := range 4 {
		errno, numbers := pair()
		want := unix.Errno(0)
		if free < 2 {
			want = unix.EMFILE
		}
		if errno != want {
			fmt.Println("with", free, "free numbers:", errno)
		}
		taken := 0
		for number := range most {
			if _, err := unix.FcntlInt(uintptr(number), unix.F_GETFD, 0); err == nil {
				taken++
			}
		}
		if errno == 0 {
			taken -= 2
			unix.Close(int(numbers[0]))
			unix.Close(int(numbers[1]))
		}
		if taken != most-free {
			fmt.Println("with", free, "free numbers: of", most-free, "are open", taken)
		}
		unix.Close(mine[len(mine)/2+7*free])
	}
	return 0
}

func TestAPairOfDatagramsThatFailsLeavesNothingOpen(t *testing.T) {
	for _, config := range []Config{{Command: []string{"pairs"}}, {Command: []string{"pairs"}, UserNamespace: true}} {
		if output, exit := newPlace(t, config).run(t); exit != 0 || output != "" {
			t.Errorf("exit %d\n%s", exit, output)
		}
	}
}

// credentialsRole says what a server of its own sees of its client.
func credentialsRole(args []string) int {
	folder, err := os.MkdirTemp("", "peer-")
	if err != nil {
		fmt.Println(err)
		return 1
	}
	defer os.RemoveAll(folder)
	for _, name := range []string{filepath.Join(folder, "s"), fmt.Sprint("@peer", os.Getpid())} {
		listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: name, Net: "unix"})
		if err != nil {
			fmt.Println(err)
			return 1
		}
		client, err := net.Dial("unix", name)
		if err != nil {
			fmt.Println(err)
			return 1
		}
		server, err := listener.AcceptUnix()
		if err != nil {
			fmt.Println(err)
			return 1
		}
		raw, _ := server.SyscallConn()
		raw.Control(func(fd uintptr) {
			peer, err := unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
			groups := make([]uint32, 64)
			length := uint32(4 * len(groups))
			unix.Syscall6(unix.SYS_GETSOCKOPT, fd, unix.SOL_SOCKET, unix.SO_PEERGROUPS, uintptr(unsafe.Pointer(&groups[0])), uintptr(unsafe.Pointer(&length)), 0)
			fmt.Println("uid", peer.Uid, "gid", peer.Gid, "groups", groups[:length/4], err)
		})
		client.Close()
	}
	for _, path := range args {
		said, err := dial(unix.SOCK_STREAM, path)
		fmt.Println(filepath.Base(path), said, err)
	}
	return 0
}

func TestAServerSeesTheCommandsOwnUserAndGroups(t *testing.T) {
	if os.Geteuid() != 0 {
		output, exit, _ := inside(t, "credentials")
		want := fmt.Sprintf("uid %d gid %[1]d groups [] <nil>\n", ordinaryUser)
		if exit != 0 || output != want+want {
			t.Errorf("exit %d: %q", exit, output)
		}
		return
	}
	o := newOutside(t)
	for name, mode := range map[string]os.FileMode{"of-root": 0o700, "of-a-group": 0o770} {
		o.listen(t, unix.SOCK_STREAM, o.path(name))
		if err := errors.Join(os.Chmod(o.path(name), mode), os.Chown(o.path(name), 0, 1236)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(o.folder, 0o755); err != nil {
		t.Fatal(err)
	}
	binary := o.path("binary") // that of go test is root's alone
	copyFile(t, "/proc/self/exe", binary)
	p := newPlace(t, Config{
		Command: []string{binary, o.path("of-root"), o.path("of-a-group")},
		RunAs:   &Identity{UID: 1234, GID: 1235, Groups: []int{1236, 1237}},
		Unix:    []string{o.path("of-root"), o.path("of-a-group")},
		Env:     append(os.Environ(), "TMPDIR=/tmp", roleVariable+"=credentials"),
	})
	output, exit := p.run(t)
	want := "uid 1234 gid 1235 groups [1236 1237] <nil>\n"
	want += want + "of-root  permission denied\nof-a-group outside <nil>\n"
	if exit != 0 || output != want {
		t.Errorf("exit %d\n%s", exit, output)
	}
}

// What counts is the rights over files that the command has, whatever init has.
func TestInitsRightsOverFilesAreNotTheCommands(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("init has none over those of others")
	}
	o := newOutside(t)
	o.listen(t, unix.SOCK_STREAM, o.path("theirs"))
	if err := errors.Join(os.Chown(o.path("theirs"), ordinaryUser, ordinaryUser), os.Chmod(o.path("theirs"), 0o700)); err != nil {
		t.Fatal(err)
	}
	const refused = "theirs  permission denied\n"
	for _, test := range []struct {
		config Config
		want   string
	}{
		{Config{NoFileCapabilities: true}, refused},
		{Config{UserNamespace: true}, refused},
		{Config{}, "theirs outside <nil>\n"},
	} {
		test.config.Command, test.config.Unix = []string{"credentials", o.path("theirs")}, []string{o.path("theirs")}
		if output, exit := newPlace(t, test.config).run(t); exit != 0 || !strings.HasSuffix(output, test.want) {
			t.Errorf("user namespace %v, no file capabilities %v: exit %d\n%s", test.config.UserNamespace, test.config.NoFileCapabilities, exit, output)
		}
	}
}

// manyListenersRole listens until that is refused, gives half of them up, and goes on.
func manyListenersRole([]string) int {
	folder, err := os.MkdirTemp("", "many-")
	if err != nil {
		fmt.Println(err)
		return 1
	}
	defer os.RemoveAll(folder)
	os.Chdir(folder)
	listen := func(i int) (int, error) {
		fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
		if err != nil {
			return -1, err
		}
		name := fmt.Sprint("s", i)
		return fd, errors.Join(unix.Bind(fd, &unix.SockaddrUnix{Name: name}), unix.Listen(fd, 1))
	}
	var held []int
	for i := 0; ; i++ {
		fd, err := listen(i)
		if err != nil {
			fmt.Println("after", i, err)
			unix.Close(fd)
			break
		}
		held = append(held, fd)
	}
	for _, fd := range held[:len(held)/2] {
		unix.Close(fd)
	}
	fd, err := listen(len(held) + 1)
	fmt.Println("then", err)
	unix.SetNonblock(fd, true)
	client, _ := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	fmt.Println("the last that was kept:", unix.Connect(client, &unix.SockaddrUnix{Name: fmt.Sprint("s", len(held)-1)}))
	return 0
}

func TestTheTableOfListenersIsBoundedAndForgetsTheDead(t *testing.T) {
	needProgram(t, "sh")
	needSandbox(t)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	// Init has few descriptors, the command more than the table has places.
	var before unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &before); err != nil {
		t.Fatal(err)
	}
	command := exec.CommandContext(t.Context(), "sh", "-c", `ulimit -n 200; exec "$0" "$@"`, self, self)
	command.Env = append(os.Environ(), roleVariable+"=parent", "INNER=many-listeners")
	output, err := command.CombinedOutput()
	if want := "after 100 no buffer space available\nthen <nil>\nthe last that was kept: <nil>\n"; err != nil || !strings.HasSuffix(string(output), want) {
		t.Errorf("%v: %s", err, output)
	}
}
