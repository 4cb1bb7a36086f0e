package run

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// groupsBelow returns the cgroups of a `sluice run`, as those of its processes name them.
func groupsBelow(run int) (names []string) {
	children, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", run))
	for _, file := range children {
		text, _ := os.ReadFile(file) // a process may end meanwhile
		for _, pid := range strings.Fields(string(text)) {
			for _, process := range append(childrenOf(pid), pid) {
				list, _ := os.ReadFile("/proc/" + process + "/cgroup")
				for line := range strings.Lines(string(list)) {
					if _, path, found := strings.Cut(line, fmt.Sprintf("/sluice-run-%d-", run)); found {
						random, _, _ := strings.Cut(strings.TrimSpace(path), "/")
						names = append(names, fmt.Sprintf("sluice-run-%d-%s", run, random))
					}
				}
			}
		}
	}
	return names
}

func childrenOf(pid string) (all []string) {
	files, _ := filepath.Glob("/proc/" + pid + "/task/*/children")
	for _, file := range files {
		text, _ := os.ReadFile(file)
		all = append(all, strings.Fields(string(text))...)
	}
	return all
}

// A signal that comes before the command has begun ends `sluice run` as it would without us,
// and leaves no cgroup of the sandbox that was begun.
func TestASignalBeforeTheCommandLeavesNoCgroup(t *testing.T) {
	// One that runs shows whether cgroups can be made here.
	c := ours(t, "run", "sh", "-c", "echo up; read x")
	input, err := c.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	output, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	up, _ := bufio.NewReader(output).ReadString('\n')
	possible := len(groupsBelow(c.Process.Pid)) > 0
	input.Close()
	c.Wait()
	if up != "up\n" {
		t.Fatalf("it says %q", up)
	}
	if !possible {
		t.Skip("no cgroup can be made here")
	}
	for _, s := range []syscall.Signal{unix.SIGTERM, unix.SIGHUP} {
		rules := filepath.Join(t.TempDir(), "rules")
		if err := unix.Mkfifo(rules, 0o600); err != nil {
			t.Fatal(err)
		}
		c := ours(t, "run", "true")
		c.Env = append(c.Env, "RULES="+rules)
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		writer, err := os.OpenFile(rules, os.O_WRONLY, 0) // returns when it reads, until which its command does not begin
		if err != nil {
			t.Fatal(err)
		}
		defer writer.Close()
		var names []string
		for deadline := time.Now().Add(patience); len(names) == 0; time.Sleep(time.Millisecond) {
			if names = groupsBelow(c.Process.Pid); time.Now().After(deadline) {
				t.Fatal("it makes no cgroup")
			}
		}
		for range 2 { // of these nothing ends
			c.Process.Signal(unix.SIGWINCH)
			c.Process.Signal(unix.SIGCONT)
			c.Process.Signal(unix.SIGUSR1)
		}
		if err := c.Process.Signal(s); err != nil {
			t.Fatal(err)
		}
		err = c.Wait()
		if status := c.ProcessState.Sys().(syscall.WaitStatus); !status.Signaled() || status.Signal() != s {
			t.Errorf("at %v it ends by %v", s, err)
		}
		filepath.WalkDir("/sys/fs/cgroup", func(path string, entry os.DirEntry, err error) error {
			if err == nil && strings.HasPrefix(entry.Name(), fmt.Sprintf("sluice-run-%d-", c.Process.Pid)) {
				t.Errorf("at %v %s is left", s, path)
				return filepath.SkipDir
			}
			return nil
		})
	}
}
