package sandbox

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// dial connects and returns what the server says.
func dial(kind int, name string) (said string, err error) {
	fd, err := unix.Socket(unix.AF_UNIX, kind|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return "", err
	}
	defer unix.Close(fd)
	unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 5})
	if err := unix.Connect(fd, &unix.SockaddrUnix{Name: name}); err != nil {
		return "", err
	}
	answer := make([]byte, 64)
	n, _ := unix.Read(fd, answer)
	return string(answer[:max(n, 0)]), nil
}

// reachRole tries every socket below a folder by every naming that a command has, and
// says each that was reached.
func reachRole(args []string) int {
	own, err := os.MkdirTemp("", "own-")
	if err != nil {
		fmt.Println(err)
		return 1
	}
	defer os.RemoveAll(own)
	tried := 0
	filepath.WalkDir(args[0], func(path string, entry os.DirEntry, err error) error {
		if err != nil || entry.Type() != os.ModeSocket && entry.Type() != os.ModeSymlink {
			return err
		}
		if number, err := strconv.Atoi(filepath.Base(path)); err == nil && number > 3 {
			return nil // of the thousands a few, and the last
		}
		tried++
		for _, kind := range []int{unix.SOCK_STREAM, unix.SOCK_SEQPACKET} {
			for naming, name := range namings(path, own, tried) {
				if said, err := dial(kind, name); err == nil || !errors.Is(err, unix.ECONNREFUSED) {
					fmt.Printf("%s, %s: %q, %v\n", path, naming, said, err)
				}
			}
		}
		return nil
	})
	fmt.Println("tried", tried)
	return 0
}

// namings are ways to name a socket file.
func namings(path, own string, number int) map[string]string {
	all := map[string]string{"absolute": path, "dotted": filepath.Dir(path) + "/./../" + filepath.Base(filepath.Dir(path)) + "/" + filepath.Base(path)}
	if os.Chdir(filepath.Dir(path)) == nil {
		all["relative"] = filepath.Base(path)
	}
	if folder, err := unix.Open(filepath.Dir(path), unix.O_PATH, 0); err == nil {
		all["below a descriptor"] = fmt.Sprintf("/proc/self/fd/%d/%s", folder, filepath.Base(path))
	}
	if file, err := unix.Open(path, unix.O_PATH, 0); err == nil {
		all["a descriptor"] = fmt.Sprintf("/proc/self/fd/%d", file)
		all["a descriptor below /dev"] = fmt.Sprintf("/dev/fd/%d", file)
	}
	link := filepath.Join(own, fmt.Sprint("link", number))
	if os.Symlink(path, link) == nil {
		all["a link"] = link
	}
	hard := filepath.Join(own, fmt.Sprint("hard", number))
	if os.Link(path, hard) == nil {
		all["a hard link"] = hard
	}
	return all
}

func TestNoNamingOfASocketOutsideReachesIt(t *testing.T) {
	o := newOutside(t)
	o.name(t)
	for _, config := range []Config{
		{Command: []string{"reach", o.folder}},
		{Command: []string{"reach", o.folder}, UserNamespace: true},
	} {
		output, exit := newPlace(t, config).run(t)
		if exit != 0 || strings.Contains(output, "outside") || output != "tried 18\n" {
			t.Errorf("exit %d\n%s", exit, output)
		}
	}
	if n := o.reached.Load(); n != 0 {
		t.Errorf("sockets of the outside were reached %d times", n)
	}
}

// A bind mount in a namespace of the command's own is one more naming.
func TestNoMountOfTheCommandsReachesASocketOutside(t *testing.T) {
	needProgram(t, "unshare")
	needProgram(t, "/usr/bin/python3")
	o := newOutside(t)
	o.listen(t, unix.SOCK_STREAM, o.path("s"))
	script := `
		mkdir -p /tmp/mounted-$$ && mount --bind ` + o.folder + ` /tmp/mounted-$$ || echo no mount
		for s in /tmp/mounted-$$/s ` + o.path("s") + `; do /usr/bin/python3 -c 'import socket, sys; s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]); print("reached")' $s; done
		chroot ` + o.folder + ` true; umount /tmp/mounted-$$; rmdir /tmp/mounted-$$`
	output, _, _ := inside(t, "unshare", "-Urm", "sh", "-c", script)
	if os.Geteuid() == 0 && strings.Contains(output, "uid_map: Operation not permitted") {
		return // uid 0 without CAP_SETFCAP may not be root of a namespace
	}
	if strings.Count(output, "ConnectionRefusedError") != 2 || strings.Contains(output, "reached") || o.reached.Load() != 0 {
		t.Errorf("reached %d times\n%s", o.reached.Load(), output)
	}
}

// lateRole waits for a line with a path, and connects to it.
func lateRole([]string) int {
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		said, err := dial(unix.SOCK_STREAM, lines.Text())
		fmt.Printf("%q %v\n", said, err)
	}
	return 0
}

func TestASocketMadeOutsideAfterTheStartIsOutOfReach(t *testing.T) {
	o := newOutside(t)
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	p := newPlace(t, Config{Command: []string{"late"}, Stdin: read})
	read.Close()
	if err := p.Start(nil); err != nil {
		t.Fatal(err)
	}
	o.listen(t, unix.SOCK_STREAM, o.path("late"))
	fmt.Fprintln(write, o.path("late"))
	write.Close()
	p.Wait()
	if output := <-p.output; output != "\"\" connection refused\n" || o.reached.Load() != 0 {
		t.Errorf("%q, reached %d times", output, o.reached.Load())
	}
}

func TestASocketOfAnotherSandboxIsOutOfReach(t *testing.T) {
	folder := newOutside(t).folder
	path := filepath.Join(folder, "s")
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer read.Close()
	first := newPlace(t, Config{Command: []string{"daemon", path}, Stdout: write})
	write.Close()
	if err := first.Start(nil); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(read).ReadString('\n'); line != "listening\n" {
		t.Fatal(line, err)
	}
	output, exit, _ := inside(t, "reach", folder)
	if exit != 0 || output != "tried 1\n" {
		t.Errorf("exit %d: %s", exit, output)
	}
	if said, err := dial(unix.SOCK_STREAM, path); said != "outside" { // from here it is there
		t.Errorf("%q, %v", said, err)
	}
}

// What accept returned has its listener's file. A command that got one as its input
// must not make the listener reachable by it.
func TestAConnectionHandedInDoesNotOpenItsListener(t *testing.T) {
	o := newOutside(t)
	path := o.path("accepting")
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	client, err := net.DialUnix("unix", nil, listener.Addr().(*net.UnixAddr))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	accepted, err := listener.AcceptUnix()
	if err != nil {
		t.Fatal(err)
	}
	stdin, err := accepted.File()
	accepted.Close()
	if err != nil {
		t.Fatal(err)
	}
	defer stdin.Close()
	p := newPlace(t, Config{Command: []string{"listen-on-input", path}, Stdin: stdin})
	if output, exit := p.run(t); exit != 0 || output != "invalid argument, \"\" connection refused\n" {
		t.Errorf("exit %d: %q", exit, output)
	}
}

func listenOnInputRole(args []string) int {
	listenErr := unix.Listen(0, 16)
	said, err := dial(unix.SOCK_STREAM, args[0])
	fmt.Printf("%v, %q %v\n", listenErr, said, err)
	return 0
}
