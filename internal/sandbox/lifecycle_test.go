package sandbox

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sluice.dev/sluice/internal/capture"
	"sluice.dev/sluice/internal/capture/seqpacket"
)

// The answer of init outlives init: it is read even when the command has ended.
func TestACommandThatEndsAtOnceHasStarted(t *testing.T) {
	p := newPlace(t, Config{Command: []string{"sh", "-c", "kill -TERM $$"}})
	p.answerMu.Lock()
	if err := seqpacket.Send(p.control, start{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "init ends", func() bool { return errors.Is(p.process.Signal(syscall.Signal(0)), os.ErrProcessDone) })
	var outcome started
	_, err := seqpacket.Receive(p.control, &outcome, 0)
	p.answerMu.Unlock()
	if err != nil || outcome.Failure != nil {
		t.Errorf("the answer is %v, %+v", err, outcome.Failure)
	}
	if exit, err := p.Wait(); exit != 143 || err != nil {
		t.Errorf("exit %d, %v, want 143", exit, err)
	}
}

func TestTheExitStatusIsTheCommandsOwn(t *testing.T) {
	folder := t.TempDir()
	plain := filepath.Join(folder, "plain")
	script := filepath.Join(folder, "script")
	orphan := filepath.Join(folder, "orphan")
	for path, content := range map[string]string{plain: "x", script: "exit 9\n", orphan: "#!/does/not/exist\n"} {
		if err := os.WriteFile(path, []byte(content), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(plain, 0o644); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		command []string
		want    int
		starts  bool
	}{
		{[]string{"true"}, 0, true},
		{[]string{"false"}, 1, true},
		{[]string{"sh", "-c", "exit 7"}, 7, true},
		{[]string{"sh", "-c", "kill -TERM $$"}, 143, true},
		{[]string{"sh", "-c", "kill -KILL $$"}, 137, true},
		{[]string{script}, 9, true}, // without its first line: as a shell would
		{[]string{"no-such-command-here"}, 127, false},
		{[]string{"/no/such/command"}, 127, false},
		{[]string{orphan}, 127, false},
		{[]string{folder}, 126, false},
		{[]string{plain}, 126, false},
	} {
		t.Run(strings.Join(test.command, " "), func(t *testing.T) {
			p := newPlace(t, Config{Command: test.command})
			err := p.Start(nil)
			if !test.starts {
				var commandError *CommandError
				if !errors.As(err, &commandError) || commandError.ExitCode() != test.want || commandError.Command != test.command[0] {
					t.Fatalf("%v, want exit %d", err, test.want)
				}
				p.Wait()
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if exit, err := p.Wait(); exit != test.want || err != nil {
				t.Errorf("exit %d, %v; want %d", exit, err, test.want)
			}
		})
	}
}

func TestStandardStreamsFolderAndEnvironmentAreHandedThrough(t *testing.T) {
	folder := t.TempDir()
	input, err := os.CreateTemp(folder, "input")
	if err != nil {
		t.Fatal(err)
	}
	defer input.Close()
	input.WriteString("from standard input\n")
	input.Seek(0, 0)
	large := strings.Repeat("x", 100<<10)
	p := newPlace(t, Config{
		Command: []string{"sh", "-c", `cat; pwd; echo ${#LARGE}; echo to standard error >&2`},
		Env:     append(os.Environ(), "LARGE="+large),
		Dir:     folder,
		Stdin:   input,
	})
	output, exit := p.run(t)
	want := fmt.Sprintf("from standard input\n%s\n%d\nto standard error\n", folder, len(large))
	if exit != 0 || output != want {
		t.Errorf("exit %d, %q, want %q", exit, output, want)
	}
}

func TestASignalReachesTheCommandAndItsTrapDecides(t *testing.T) {
	trapped := filepath.Join(t.TempDir(), "trapped")
	p := newPlace(t, Config{
		Command: []string{"sh", "-c", `trap 'exit 7' TERM; : > "$TRAPPED"; while :; do sleep 0.01; done`},
		Env:     append(os.Environ(), "TRAPPED="+trapped),
	})
	if err := p.Start(nil); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the trap is set", func() bool { _, err := os.Stat(trapped); return err == nil })
	if err := p.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if exit, err := p.Wait(); exit != 7 || err != nil {
		t.Errorf("exit %d, %v", exit, err)
	}
	if err := p.Signal(syscall.SIGTERM); err != nil {
		t.Errorf("a signal after the end: %v", err)
	}
}

// parentRole is `sluice run` in small: it forwards signals, and says the numbers
// of its processes.
func parentRole(args []string) int {
	s, err := New(context.Background(), Config{Command: args, Env: append(os.Environ(), roleVariable+"="+os.Getenv("INNER"))})
	if err != nil {
		fmt.Println(err)
		return exitInit
	}
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT)
	go func() {
		for received := range signals {
			s.Signal(received.(syscall.Signal))
		}
	}()
	c, err := capture.FromFiles(s.Files())
	if err != nil {
		fmt.Println(err)
		return exitInit
	}
	defer c.Close()
	if c.Questions != nil {
		c.Questions.Close() // nobody answers them here
	}
	fmt.Println("parent", os.Getpid(), "init", s.PID())
	if err := s.Start(nil); err != nil {
		fmt.Println(err)
		return exitInit
	}
	exit, _ := s.Wait()
	return exit
}

// countRole counts the signals that it gets, until one that says stop.
func countRole([]string) int {
	signals := make(chan os.Signal, 64)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGQUIT, syscall.SIGHUP)
	fmt.Println("counting")
	interrupts := 0
	for received := range signals {
		switch received {
		case syscall.SIGINT:
			interrupts++
			fmt.Println("interrupt", interrupts)
		case syscall.SIGHUP:
			return interrupts
		}
	}
	return 0
}

// family is a parent with its sandbox, all other processes than ours.
type family struct {
	*exec.Cmd
	lines        chan string
	parent, init int
}

// newFamily runs a command, or the role inner, in the sandbox of a parent; with
// a terminal there is a shell around.
func newFamily(t *testing.T, attributes *syscall.SysProcAttr, inner string, terminal *os.File, command ...string) *family {
	t.Helper()
	needSandbox(t)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if inner != "" {
		command = append([]string{self}, command...)
	}
	f := &family{Cmd: exec.Command(self, command...), lines: make(chan string, 100)}
	role := "parent"
	if terminal != nil {
		role = "shell"
		f.Stdin = terminal
		f.Args = append([]string{self}, f.Args...)
	}
	f.Env = append(os.Environ(), roleVariable+"="+role, "INNER="+inner)
	f.SysProcAttr = attributes
	output, err := f.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	f.Stderr = os.Stderr
	if err := f.Cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Process.Kill(); f.Cmd.Wait() })
	go func() {
		defer close(f.lines)
		for scanner := bufio.NewScanner(output); scanner.Scan(); {
			f.lines <- scanner.Text()
		}
	}()
	if _, err := fmt.Sscanf(f.line(t), "parent %d init %d", &f.parent, &f.init); err != nil {
		t.Fatal("the parent has no sandbox: ", err)
	}
	return f
}

func (f *family) line(t *testing.T) string {
	t.Helper()
	select {
	case line, ok := <-f.lines:
		if !ok {
			t.Fatal("the parent has ended")
		}
		return line
	case <-time.After(eventuallyWithin):
		t.Fatal("the parent says nothing")
	}
	return ""
}

func TestASignalToTheWholeGroupArrivesOnce(t *testing.T) {
	f := newFamily(t, &syscall.SysProcAttr{Setpgid: true}, "count", nil)
	if line := f.line(t); line != "counting" {
		t.Fatal(line)
	}
	for n := 1; n <= 6; n++ {
		target := f.Process.Pid // to the parent alone: it is forwarded
		if n%2 == 0 {
			target = -target // to all, as a terminal or a shell does
		}
		if err := unix.Kill(target, unix.SIGINT); err != nil {
			t.Fatal(err)
		}
		if line := f.line(t); line != fmt.Sprint("interrupt ", n) {
			t.Fatalf("%s, want interrupt %d", line, n)
		}
		time.Sleep(3 * groupSignalWait) // a second one would be there by now
	}
	unix.Kill(f.Process.Pid, unix.SIGHUP)
	f.Cmd.Wait()
	if exit := f.ProcessState.ExitCode(); exit != 6 {
		t.Errorf("%d interrupts arrived, want 6", exit)
	}
}

// nestedRole makes a sandbox inside the sandbox that it is in.
func nestedRole(args []string) int {
	s, err := New(context.Background(), Config{Command: args, Env: append(os.Environ(), roleVariable+"=")})
	if err != nil {
		fmt.Println(err)
		return exitInit
	}
	if err := s.Start(nil); err != nil {
		fmt.Println(err)
		return exitInit
	}
	exit, _ := s.Wait()
	return exit
}

func TestASandboxInsideASandbox(t *testing.T) {
	output, exit, _ := inside(t, "nested", "sh", "-c", "echo in two; exit 6")
	if os.Geteuid() == 0 {
		if exit != exitInit || !strings.Contains(output, "--run-as") {
			t.Errorf("root's: exit %d, %q; want what to do", exit, output)
		}
		return
	}
	if exit != 6 || output != "in two\n" {
		t.Errorf("exit %d, %q", exit, output)
	}
}

// A process group reaches across PID namespaces: a signal of the command to its
// group must not.
func TestTheCommandsSignalsStayInTheSandbox(t *testing.T) {
	if !hasScopes() {
		t.Skip("the kernel has no Landlock scopes")
	}
	f := newFamily(t, &syscall.SysProcAttr{Setpgid: true}, "", nil, "sh", "-c", "trap '' TERM; kill -TERM 0; kill -STOP 1 2>/dev/null; echo alive; sleep 1000")
	if line := f.line(t); line != "alive" {
		t.Fatal(line)
	}
	for name, pid := range map[string]int{"parent": f.parent, "init": f.init} {
		if state := processState(pid); state == "T" || state == "Z" || state == "gone" {
			t.Errorf("%s is in state %s", name, state)
		}
	}
}

// A signal may come to a busy init late, but its parent's word of it is not
// believed before what was pending has arrived.
func TestAGroupsSignalIsSeenHoweverLateInitRuns(t *testing.T) {
	signals := make(chan os.Signal, 64)
	signal.Notify(signals, syscall.SIGUSR2, marker)
	defer signal.Stop(signals)
	seen := newSeenSignals()
	busy := make(chan os.Signal, 64)
	go seen.watch(busy)
	go func() {
		for received := range signals {
			if received == marker { // init gets to run when it has nothing to wait for but this
				busy <- syscall.SIGUSR2
			}
			busy <- received
		}
	}()
	if !seen.take(syscall.SIGUSR2) {
		t.Error("a signal that came before the marker was not seen")
	}
	if seen.take(syscall.SIGHUP) {
		t.Error("a signal that nobody sent was seen")
	}
}

func TestACommandThatStopsItselfIsTold(t *testing.T) {
	p := newPlace(t, Config{Command: []string{"sh", "-c", "kill -STOP $$; exit 4"}})
	if err := p.Start(nil); err != nil {
		t.Fatal(err)
	}
	select {
	case <-p.Stopped():
	case <-time.After(eventuallyWithin):
		t.Fatal("nothing is reported")
	}
	if err := p.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	if exit, err := p.Wait(); exit != 4 || err != nil {
		t.Errorf("exit %d, %v", exit, err)
	}
}

func TestATerminalsKeysInterruptOnceAndStopTheWholeJob(t *testing.T) {
	terminal, device := openTerminal(t)
	f := newFamily(t, &syscall.SysProcAttr{Setsid: true, Setctty: true}, "count", device)
	if line := f.line(t); line != "counting" {
		t.Fatal(line)
	}
	terminal.Write([]byte{3}) // ^C
	if line := f.line(t); line != "interrupt 1" {
		t.Fatal(line)
	}
	time.Sleep(3 * groupSignalWait)
	terminal.Write([]byte{26}) // ^Z
	command := childOf(t, f.init)
	for name, pid := range map[string]int{"parent": f.parent, "command": command} {
		eventually(t, name+" is stopped", func() bool { return processState(pid) == "T" })
	}
	unix.Kill(-f.parent, unix.SIGCONT) // fg
	for name, pid := range map[string]int{"parent": f.parent, "command": command} {
		eventually(t, name+" goes on", func() bool { return processState(pid) != "T" })
	}
	terminal.Write([]byte{3})
	if line := f.line(t); line != "interrupt 2" {
		t.Fatal(line)
	}
	unix.Kill(f.parent, unix.SIGHUP)
	f.Cmd.Wait()
	if exit := f.ProcessState.ExitCode(); exit != 2 {
		t.Errorf("exit %d, want 2 interrupts", exit)
	}
}

// shellRole runs a parent as a shell does: as a job of its own, in the
// foreground of the terminal on standard input. (A stop is not for a group whose
// members' parents are all of other sessions.)
func shellRole(args []string) int {
	command := exec.Command(args[0], args[1:]...)
	command.Env = append(os.Environ(), roleVariable+"=parent")
	command.Stdin, command.Stdout, command.Stderr = os.Stdin, os.Stdout, os.Stderr
	command.SysProcAttr = &syscall.SysProcAttr{Foreground: true, Ctty: 0}
	if err := command.Start(); err != nil {
		fmt.Println(err)
		return exitInit
	}
	command.Wait()
	return command.ProcessState.ExitCode()
}

func openTerminal(t *testing.T) (terminal, device *os.File) {
	t.Helper()
	terminal, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skip(err)
	}
	t.Cleanup(func() { terminal.Close() })
	raw, _ := terminal.SyscallConn()
	var number int
	raw.Control(func(fd uintptr) {
		if err = unix.IoctlSetPointerInt(int(fd), unix.TIOCSPTLCK, 0); err == nil {
			number, err = unix.IoctlGetInt(int(fd), unix.TIOCGPTN)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	device, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skip(err)
	}
	t.Cleanup(func() { device.Close() })
	return terminal, device
}

func processState(pid int) string {
	content, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return "gone"
	}
	_, rest, _ := strings.Cut(string(content), ") ")
	return rest[:1]
}

func childOf(t *testing.T, pid int) int {
	t.Helper()
	var child int
	eventually(t, "init has a child", func() bool {
		tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
		for _, task := range tasks {
			content, _ := os.ReadFile(task)
			for field := range strings.FieldsSeq(string(content)) {
				child, _ = strconv.Atoi(field)
			}
		}
		return child != 0
	})
	return child
}

// descendants returns a process and what it started, as far as it is seen.
func descendants(pid int) []int {
	all := []int{pid}
	tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	for _, task := range tasks {
		content, _ := os.ReadFile(task)
		for field := range strings.FieldsSeq(string(content)) {
			child, _ := strconv.Atoi(field)
			all = append(all, descendants(child)...)
		}
	}
	return all
}

func TestKillingAnyOfTheProcessesLeavesNothing(t *testing.T) {
	for _, victim := range []string{"parent", "init", "command"} {
		for _, with := range []syscall.Signal{syscall.SIGKILL, syscall.SIGTERM} {
			if victim == "init" && with == syscall.SIGTERM {
				continue // does nothing, on purpose
			}
			t.Run(fmt.Sprintf("%s %s", with, victim), func(t *testing.T) {
				f := newFamily(t, nil, "", nil, "sh", "-c", "setsid sleep 1000 & setsid sh -c 'trap \"\" TERM HUP; env sleep 1000; true' & echo started; env sleep 1000; true")
				if line := f.line(t); line != "started" {
					t.Fatal(line)
				}
				command := childOf(t, f.init)
				eventually(t, "the daemons run", func() bool { return len(descendants(f.init)) >= 6 })
				pids := descendants(f.Process.Pid)
				network, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/net", command))
				if err != nil {
					t.Log(err) // rootless: not ours to look at
				}
				target := map[string]int{"parent": f.Process.Pid, "init": f.init, "command": command}[victim]
				if err := unix.Kill(target, with); err != nil {
					t.Fatal(err)
				}
				f.Cmd.Wait()
				for _, pid := range pids {
					eventually(t, fmt.Sprintf("%d of %v is gone", pid, pids), func() bool {
						// A zombie is dead; when its new parent takes note is not ours.
						state := processState(pid)
						return state == "gone" || state == "Z" || state == "X"
					})
				}
				if network != "" {
					links, _ := filepath.Glob("/proc/*/ns/net")
					for _, link := range links {
						if target, _ := os.Readlink(link); target == network {
							t.Errorf("%s is still in the network namespace", link)
						}
					}
				}
			})
		}
	}
}

func TestASandboxThatNeverStartsLeavesNothing(t *testing.T) {
	needSandbox(t)
	settle := countDescriptors()
	s, err := New(t.Context(), Config{Command: []string{"true"}})
	if err != nil {
		t.Fatal(err)
	}
	s.Kill()
	if exit, err := s.Wait(); exit != 137 || !errors.Is(err, ErrKilled) {
		t.Errorf("exit %d, %v", exit, err)
	}
	select {
	case <-s.Done():
	default:
		t.Error("Done is open after Wait")
	}
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := New(cancelled, Config{Command: []string{"true"}}); !errors.Is(err, context.Canceled) {
		t.Errorf("with a context that has ended: %v", err)
	}
	if err := s.Start(nil); err == nil {
		t.Error("a sandbox that has ended starts a command")
	}
	eventually(t, "descriptors are as before", func() bool { return countDescriptors() <= settle })
}

func countDescriptors() int {
	entries, _ := os.ReadDir("/proc/self/fd")
	return len(entries)
}

func TestFiftySandboxesAtOnce(t *testing.T) {
	if testing.Short() {
		t.Skip("a second of both processors")
	}
	needSandbox(t)
	// What the first use opens for good: the poller, the template thread.
	inside(t, "get", "http://192.0.2.1/")
	before := countDescriptors()
	mounts, _ := os.ReadFile("/proc/self/mounts")
	t.Run("run", func(t *testing.T) {
		var all sync.WaitGroup
		for i := range 50 {
			p := newPlace(t, Config{Command: []string{"get", fmt.Sprintf("http://192.0.2.%d/", i)}})
			all.Go(func() {
				output, exit := p.run(t)
				if want := fmt.Sprintf("you meant 192.0.2.%d:80\n", i); exit != 0 || output != want {
					t.Errorf("exit %d, %q, want %q", exit, output, want)
				}
			})
		}
		all.Wait()
	})
	eventually(t, fmt.Sprintf("%d descriptors, as before", before), func() bool { return countDescriptors() <= before })
	// Other processes of the machine mount too, for a while.
	known := lines(string(mounts))
	eventually(t, "no mount is left behind", func() bool {
		after, _ := os.ReadFile("/proc/self/mounts")
		return !slices.ContainsFunc(lines(string(after)), func(mount string) bool { return !slices.Contains(known, mount) })
	})
}

func TestRootCanRunTheCommandAsAnotherUser(t *testing.T) {
	if os.Geteuid() != 0 {
		_, err := New(t.Context(), Config{Command: []string{"true"}, RunAs: &Identity{UID: 1, GID: 1}})
		if err == nil {
			t.Error("an ordinary user became another")
		}
		return
	}
	p := newPlace(t, Config{Command: []string{"sh", "-c", "id -u; id -g; id -G; cat /proc/self/status | grep Cap | sort -u -k2 | wc -l"}, RunAs: &Identity{UID: 1234, GID: 1235, Groups: []int{1236}}})
	if e := p.Enforcement(); len(e.Notes) != len(e.Lowered) { // of what a kernel lacks there are some
		t.Errorf("notes %q, of which the machine lacks %q", e.Notes, e.Lowered)
	}
	output, exit := p.run(t)
	if exit != 0 || output != "1234\n1235\n1235 1236\n1\n" {
		t.Errorf("exit %d: %q", exit, output)
	}
}

// A umask that keeps others out is for what the command makes, not for what we
// make for it.
func TestAnotherUserReadsWhatWasMadeForIt(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root runs a command as somebody else")
	}
	before := unix.Umask(0o077)
	p := newPlace(t, Config{
		Command: []string{"sh", "-c", "umask; cat /etc/resolv.conf && ls -A /run/user/1234 && touch /run/user/1234/x"},
		RunAs:   &Identity{UID: 1234, GID: 1235},
	})
	unix.Umask(before)
	if output, exit := p.run(t); exit != 0 || output != "0077\nnameserver 198.18.0.1\n" {
		t.Errorf("exit %d: %q", exit, output)
	}
}

func TestWhatHoldsIsSaid(t *testing.T) {
	p := newPlace(t, Config{Command: []string{"true"}})
	e := p.Enforcement()
	if e.Level != LevelSandbox || e.Text == "" {
		t.Errorf("%+v", e)
	}
	if asRoot := os.Geteuid() == 0; asRoot != strings.Contains(strings.Join(e.Notes, "\n"), "uid 0") {
		t.Errorf("as root %v: %q", asRoot, e.Notes)
	}
}

func TestABadConfigIsRefused(t *testing.T) {
	for name, config := range map[string]Config{
		"no command":    {},
		"empty command": {Command: []string{""}},
		"relative mask": {Command: []string{"true"}, Mask: []string{"tmp"}},
		"mask of all":   {Command: []string{"true"}, Mask: []string{"/tmp/.."}},
		"many masks":    {Command: []string{"true"}, Mask: make([]string, MaxMasks+1)},
	} {
		if s, err := New(t.Context(), config); err == nil {
			s.Kill()
			t.Errorf("%s was taken", name)
		}
	}
}
