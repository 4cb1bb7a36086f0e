package sandbox

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// pipe is one whose ends are closed with the test.
func pipe(t *testing.T) (read, write *os.File) {
	t.Helper()
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { read.Close(); write.Close() })
	return read, write
}

func descriptor(t *testing.T, fd int, err error) int {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	return fd
}

func TestOnlyAPipeIsPassedToACommand(t *testing.T) {
	read, _ := pipe(t)
	end := int(read.Fd())
	fifo := filepath.Join(t.TempDir(), "fifo")
	if err := unix.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	open := func(path string, flags int) int {
		fd, err := unix.Open(path, flags|unix.O_CLOEXEC, 0)
		return descriptor(t, fd, err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	socket, err := listener.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(pair[1])
	memory, err := unix.MemfdCreate("file", unix.MFD_CLOEXEC)
	events, eventsErr := unix.Eventfd(0, unix.EFD_CLOEXEC)
	polled, polledErr := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	many := make([]Pipe, MaxPipes+1)
	for i := range many {
		many[i] = Pipe{10 + i, end}
	}
	for name, test := range map[string]struct {
		pipes []Pipe
		want  string // "" is taken
	}{
		"a pipe":                  {[]Pipe{{3, end}}, ""},
		"a FIFO":                  {[]Pipe{{MaxPipeNumber, open(fifo, unix.O_RDWR)}}, ""},
		"as many as are taken":    {many[1:], ""},
		"more":                    {many, "17 pipes, at most 16 are taken"},
		"a standard stream":       {[]Pipe{{2, end}}, "descriptor 2 is no pipe to pass: 0 to 2 are the standard streams"},
		"a number that is high":   {[]Pipe{{MaxPipeNumber + 1, end}}, "descriptor 1024 has too high a number: at most 1023 is taken"},
		"a number of two":         {[]Pipe{{7, end}, {7, end}}, "descriptor 7 is there twice"},
		"a number that is closed": {[]Pipe{{3, 1 << 20}}, "descriptor 3 is not open"},
		"a TCP socket":            {[]Pipe{{3, int(socket.Fd())}}, "descriptor 3 is a socket"},
		"a connected unix socket": {[]Pipe{{3, descriptor(t, pair[0], nil)}}, "descriptor 3 is a socket"},
		"a folder":                {[]Pipe{{3, open("/", unix.O_RDONLY)}}, "descriptor 3 is a folder"},
		"the path of a FIFO":      {[]Pipe{{3, open(fifo, unix.O_PATH)}}, "descriptor 3 stands for a path"},
		"a device":                {[]Pipe{{3, open(os.DevNull, unix.O_RDWR)}}, "descriptor 3 is a device"},
		"a file":                  {[]Pipe{{3, open("/etc/passwd", unix.O_RDONLY)}}, "descriptor 3 is a file"},
		"a file without a name":   {[]Pipe{{3, descriptor(t, memory, err)}}, "descriptor 3 is a file"},
		"an event":                {[]Pipe{{3, descriptor(t, events, eventsErr)}}, "descriptor 3 is not a pipe"},
		"an epoll":                {[]Pipe{{3, descriptor(t, polled, polledErr)}}, "descriptor 3 is not a pipe"},
		"one that is good, first": {[]Pipe{{4, end}, {3, open("/", unix.O_RDONLY)}}, "descriptor 3 is a folder"},
	} {
		t.Run(name, func(t *testing.T) {
			config := Config{Command: []string{"true"}, Pipes: test.pipes}
			err := config.checkPipes()
			if (err == nil) != (test.want == "") || err != nil && !strings.Contains(err.Error(), test.want) {
				t.Errorf("%v, want %q", err, test.want)
			}
			if test.want == "" {
				return
			}
			if _, err := New(t.Context(), config); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("a sandbox: %v", err)
			}
		})
	}
}

// The numbers are those that init uses too, and one of ours leaks beside them.
func TestACommandHasThePipesThatItWasGivenAndNothingElseOpen(t *testing.T) {
	needSandbox(t)
	_, leaked := pipe(t)
	if _, err := unix.FcntlInt(leaked.Fd(), unix.F_SETFD, 0); err != nil {
		t.Fatal(err)
	}
	var pipes []Pipe
	want := []string{"0", "1", "2"}
	// A program that the shell starts has what the shell has, and ls the folder besides.
	script := `ls -l /proc/self/fd | sed -n 's/.* \([0-9]*\) -> .*/\1 &/p' | grep -v '/fd$' | cut -d ' ' -f 1 | sort -n; for n in "$@"; do head -n 1 </dev/fd/$n; done`
	command := []string{"bash", "-c", script, "bash"}
	for _, number := range []int{3, 4, 5, 6, 63, MaxPipeNumber} {
		read, write := pipe(t)
		fmt.Fprintln(write, "pipe", number)
		pipes = append(pipes, Pipe{number, int(read.Fd())})
		want, command = append(want, strconv.Itoa(number)), append(command, strconv.Itoa(number))
	}
	for _, number := range want[3:] {
		want = append(want, "pipe "+number)
	}
	slices.Reverse(pipes)
	needProgram(t, "bash")
	p := newPlace(t, Config{Command: command, Pipes: pipes})
	output, exit := p.run(t)
	got := lines(output)
	if exit != 0 || !slices.Equal(got, want) {
		t.Errorf("exit %d: %q, want %q", exit, got, want)
	}
}

// Nobody of ours holds a pipe that the command has closed, and what others set of it stays.
func TestThePipeOfACommandEndsWithTheCommandsOwnEnd(t *testing.T) {
	needSandbox(t)
	read, write := pipe(t)
	end := int(read.Fd()) // which lets it wait
	if err := unix.SetNonblock(end, true); err != nil {
		t.Fatal(err)
	}
	ours, err := unix.FcntlInt(uintptr(end), unix.F_DUPFD_CLOEXEC, 0)
	again := descriptor(t, ours, err)
	stays, forever := pipe(t)
	p := newPlace(t, Config{Command: []string{"sh", "-c", "echo said >&5; exec 5>&-; read forever"}, Stdin: stays, Pipes: []Pipe{{5, int(write.Fd())}, {6, again}}})
	write.Close()
	if err := p.Start(nil); err != nil {
		t.Fatal(err)
	}
	flags, err := unix.FcntlInt(uintptr(again), unix.F_GETFL, 0)
	if err != nil || flags&unix.O_NONBLOCK == 0 {
		t.Errorf("the other end is %#x, %v: it was not to wait", flags, err)
	}
	if err := unix.SetNonblock(again, false); err != nil {
		t.Fatal(err)
	}
	last, err := unix.FcntlInt(uintptr(again), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	file := os.NewFile(uintptr(last), "pipe")
	defer file.Close()
	if said, err := io.ReadAll(file); string(said) != "said\n" || err != nil {
		t.Errorf("%q, %v", said, err)
	}
	forever.Close()
	stays.Close()
	if exit, err := p.Wait(); exit != 1 || err != nil {
		t.Errorf("exit %d, %v", exit, err)
	}
}

// pipeWaysRole tries to come from a FIFO, as descriptor 5, to the folder that it lies in.
func pipeWaysRole(args []string) int {
	const fifo = 5
	here := args[0]
	open := func(at int, path string) func() error {
		return func() error {
			fd, err := unix.Openat(at, path, unix.O_RDONLY, 0)
			if err == nil {
				unix.Close(fd)
			}
			return err
		}
	}
	for name, do := range map[string]func() error{
		"the file beside it, by the descriptor":   open(fifo, "../secret"),
		"the folder around it, by the descriptor": open(fifo, ".."),
		"the file beside it, by /proc":            open(unix.AT_FDCWD, "/proc/self/fd/5/../secret"),
		"itself as a folder":                      open(unix.AT_FDCWD, "/proc/self/fd/5/."),
		"its own name":                            open(unix.AT_FDCWD, filepath.Join(here, "hidden/fifo")),
		"the file beside it, by its name":         open(unix.AT_FDCWD, filepath.Join(here, "hidden/secret")),
		"to make it the working folder":           func() error { return unix.Fchdir(fifo) },
		"another name, by the descriptor":         func() error { return unix.Linkat(fifo, "", unix.AT_FDCWD, here+"/name", unix.AT_EMPTY_PATH) },
		"another name, by /proc": func() error {
			return unix.Linkat(unix.AT_FDCWD, "/proc/self/fd/5", unix.AT_FDCWD, here+"/name", unix.AT_SYMLINK_FOLLOW)
		},
		"a file handle": func() error { _, _, err := unix.NameToHandleAt(fifo, "..", 0); return err },
		"to mount it, or what is around, by /proc": func() error { return unix.Mount("/proc/self/fd/5", here, "", unix.MS_BIND, "") },
	} {
		if err := do(); err == nil {
			fmt.Println(name)
		}
	}
	if err := open(unix.AT_FDCWD, "/proc/self/fd/5")(); err != nil { // the pipe itself it has
		fmt.Println("the pipe itself:", err)
	}
	return 0
}

func TestAFIFOLeadsToNothingButItself(t *testing.T) {
	needSandbox(t)
	folder := newOutside(t).folder
	hidden := filepath.Join(folder, "hidden")
	fifo := filepath.Join(hidden, "fifo")
	if err := errors.Join(os.Mkdir(hidden, 0o755), unix.Mkfifo(fifo, 0o600), os.WriteFile(filepath.Join(hidden, "secret"), nil, 0o644)); err != nil {
		t.Fatal(err)
	}
	fd, err := unix.Open(fifo, unix.O_RDWR|unix.O_CLOEXEC, 0)
	p := newPlace(t, Config{Command: []string{"pipe-ways", folder}, Mask: []string{hidden}, Pipes: []Pipe{{5, descriptor(t, fd, err)}}})
	if output, exit := p.run(t); exit != 0 || output != "" {
		t.Errorf("exit %d: from the FIFO the command came to\n%s", exit, output)
	}
}
