package run

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sluice.dev/sluice/internal/rulefile"
	"sluice.dev/sluice/internal/sandbox"
	"sluice.dev/sluice/internal/signaltest"
)

// patience bounds every wait of a test; none of them is to last.
const patience = time.Minute

// roleVariable makes the test binary be `sluice run`, or what is around one.
const roleVariable = "RUN_TEST_ROLE"

func TestMain(m *testing.M) {
	sandbox.Init()
	switch os.Getenv(roleVariable) {
	case "run":
		os.Setenv(roleVariable, os.Getenv("INNER"))
		os.Exit(runRole(os.Args[1:]))
	case "ignoring":
		signal.Ignore(syscall.SIGHUP) // as nohup does, and keeps so over exec
		os.Setenv(roleVariable, "run")
		fmt.Println(syscall.Exec("/proc/self/exe", os.Args, os.Environ()))
		os.Exit(99)
	case "filter":
		os.Exit(filterRole())
	case "dial":
		os.Exit(dialRole(os.Args[1]))
	case "shell":
		os.Exit(shellRole(os.Args[1:]))
	}
	os.Setenv("GORACE", "atexit_sleep_ms=0 "+os.Getenv("GORACE"))
	signaltest.Default()
	os.Exit(m.Run())
}

func runRole(command []string) int {
	code, err := Run(context.Background(), Config{
		Command: command, Mask: filepath.SplitList(os.Getenv("MASK")), Unsupervised: os.Getenv("UNSUPERVISED") != "",
		Ask: os.Getenv("ASK") != "", Rules: rulefile.Rules{Files: filepath.SplitList(os.Getenv("RULES"))},
	})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	return code
}

// dialRole asks a server that no rule allows, and exits with 7 when told so.
func dialRole(address string) int {
	conn, err := net.Dial("tcp", address)
	if err != nil {
		return 1
	}
	defer conn.Close()
	fmt.Fprintf(conn, "GET / HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n", address)
	if answer, err := io.ReadAll(conn); err != nil || !strings.Contains(string(answer), "403") {
		return 2
	}
	return 7
}

func needSandbox(t *testing.T) {
	t.Helper()
	if err := sandbox.Probe(t.Context()); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
}

// ours is a process of the test binary in a role.
func ours(t *testing.T, role string, command ...string) *exec.Cmd {
	t.Helper()
	needSandbox(t)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	c := exec.CommandContext(ctx, self, command...)
	c.Env = append(os.Environ(), roleVariable+"="+role)
	return c
}

func TestAStatusOutlivesThoseWhoReadTheWords(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for _, listened := range []bool{true, false} {
		c := ours(t, "run", self, "192.0.2.1:80")
		c.Env = append(c.Env, "INNER=dial")
		read, write, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		c.Stderr = write
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		write.Close()
		words := make(chan string, 1)
		if listened {
			go func() { said, _ := io.ReadAll(read); words <- string(said) }()
		} else {
			read.Close()
			words <- "denied 192.0.2.1:80"
		}
		err = c.Wait()
		if said := <-words; c.ProcessState.ExitCode() != 7 || !strings.Contains(said, "denied 192.0.2.1:80") {
			t.Errorf("listened %v: %v, want the command's own 7; words %q", listened, err, said)
		}
		read.Close()
	}
}

func TestWhatWasIgnoredStaysIgnored(t *testing.T) {
	c := ours(t, "ignoring", "sh", "-c", `grep SigIgn: /proc/self/status; echo ready; read line; exit 5`)
	output, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	input, err := c.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(output)
	if !lines.Scan() || !strings.HasSuffix(lines.Text(), "1") {
		t.Errorf("the command ignores %q, SIGHUP is not of them", lines.Text())
	}
	lines.Scan()
	c.Process.Signal(syscall.SIGHUP) // a terminal that goes away
	io.WriteString(input, "\n")
	if err := c.Wait(); c.ProcessState.ExitCode() != 5 {
		t.Errorf("%v, want the command's own 5", err)
	}
}

func TestAMaskedFolderIsThereBeforeTheCommandIs(t *testing.T) {
	folder := filepath.Join(t.TempDir(), "not", "yet")
	c := ours(t, "run", "sh", "-c", `mkdir -p "$MASK" && echo planted > "$MASK/rules"`)
	c.Env = append(c.Env, "MASK="+folder)
	if output, err := c.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, output)
	}
	if entries, err := os.ReadDir(folder); err != nil || len(entries) != 0 {
		t.Errorf("outside, the folder holds %v, %v", entries, err)
	}
}

// shellRole is a shell of a terminal in small: it runs a job in the foreground,
// takes the terminal back when the job stops, says so, and goes on with it.
func shellRole(command []string) int {
	signal.Ignore(syscall.SIGTTOU)
	job := exec.Command("/proc/self/exe", command...)
	job.Env = append(os.Environ(), roleVariable+"=run")
	job.Stdin, job.Stdout, job.Stderr = os.Stdin, os.Stdout, os.Stderr
	job.SysProcAttr = &syscall.SysProcAttr{Foreground: true, Ctty: 0}
	if err := job.Start(); err != nil {
		fmt.Println(err)
		return 99
	}
	for {
		var status unix.WaitStatus
		_, err := unix.Wait4(job.Process.Pid, &status, unix.WUNTRACED, nil)
		switch {
		case err == unix.EINTR:
		case err != nil:
			fmt.Println(err)
			return 99
		case status.Stopped():
			fmt.Println("job stopped")
			if os.Getenv("ASK") != "" {
				settings, err := unix.IoctlGetTermios(0, unix.TCGETS)
				fmt.Println("as a shell has it:", err == nil && settings.Lflag&unix.ICANON != 0)
			}
			unix.Kill(-job.Process.Pid, unix.SIGCONT)
		default:
			foreground, _ := unix.IoctlGetInt(0, unix.TIOCGPGRP)
			fmt.Println("job ended", status.ExitStatus(), foreground == job.Process.Pid)
			return 0
		}
	}
}

func TestATerminalIsHandedOnAndComesBack(t *testing.T) {
	terminal, device := openTerminal(t)
	// The command stops alone, as an editor does; then it makes a job of itself
	// that holds the terminal, and ends without giving it back.
	c := ours(t, "shell", "bash", "-c", `kill -STOP $$; set -m; /bin/true; bash --norc -i -c "exit 3"`)
	c.Stdin, c.Stderr = device, device
	c.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	output, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := exec.LookPath("bash"); err != nil {
		t.Skip(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	go io.Copy(io.Discard, terminal) // or a full terminal would stop it
	var said []string
	for lines := bufio.NewScanner(output); lines.Scan(); {
		said = append(said, lines.Text())
	}
	c.Wait()
	if want := "job stopped\njob ended 3 true"; strings.Join(said, "\n") != want {
		t.Errorf("%q, want %q", said, want)
	}
}

func openTerminal(t *testing.T) (terminal, device *os.File) {
	t.Helper()
	terminal, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skip(err)
	}
	t.Cleanup(func() { terminal.Close() })
	raw, err := terminal.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var number int
	raw.Control(func(fd uintptr) {
		err = unix.IoctlSetPointerInt(int(fd), unix.TIOCSPTLCK, 0)
		if err == nil {
			number, err = unix.IoctlGetInt(int(fd), unix.TIOCGPTN)
		}
	})
	if err == nil {
		device, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0)
	}
	if err != nil {
		t.Fatal(errors.Join(err))
	}
	t.Cleanup(func() { device.Close() })
	return terminal, device
}
