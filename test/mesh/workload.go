package mesh

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"sluice.dev/sluice/test/mesh/agent"
)

// Workload is an agent that runs in a sandbox.
type Workload struct {
	*Daemon
	in  io.WriteCloser
	out *bufio.Scanner
}

// StartWorkload runs an agent by `sluice run` with these flags.
func (p *Place) StartWorkload(t testing.TB, flags ...string) *Workload {
	t.Helper()
	args := append(append([]string{"run"}, flags...), "--", filepath.Join(p.Bin, "agent"))
	return p.StartAgent(t, p.Command(context.Background(), "sluice", args...))
}

// StartAgent runs a command that is, or becomes, an agent, and returns when it
// answers.
func (p *Place) StartAgent(t testing.TB, cmd *exec.Cmd) *Workload {
	t.Helper()
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	// A pipe of our own: Wait closes StdoutPipe's under a reader.
	out, theirs, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdout = theirs
	w := &Workload{Daemon: p.start(t, cmd), in: in, out: bufio.NewScanner(out)}
	theirs.Close()
	t.Cleanup(func() { out.Close() })
	w.out.Buffer(nil, 4<<20)
	w.Do(t, agent.Ask{Do: agent.Ready})
	return w
}

// Do asks the agent. Its end, where an answer should be, fails the test.
func (w *Workload) Do(t testing.TB, ask agent.Ask) agent.Answer {
	t.Helper()
	line, err := json.Marshal(ask)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := fmt.Fprintf(w.in, "%s\n", line); err != nil {
		t.Fatalf("ask the workload: %v", err)
	}
	if !w.out.Scan() {
		t.Fatalf("the workload ended when it was to %s: %v", ask.Do, w.out.Err())
	}
	var answer agent.Answer
	if err := json.Unmarshal(w.out.Bytes(), &answer); err != nil {
		t.Fatalf("the workload said %q: %v", w.out.Text(), err)
	}
	return answer
}

// KillCommand ends the command inside the sandbox by SIGKILL; it requires root, or
// the sandbox's own user.
func (w *Workload) KillCommand(t testing.TB) {
	t.Helper()
	if err := syscall.Kill(w.command(t), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	<-w.Ended()
}

// command is the PID of the agent: the youngest below our `sluice run`.
func (w *Workload) command(t testing.TB) int {
	t.Helper()
	pid := w.PID()
	for {
		child, err := childOf(pid)
		if err != nil {
			t.Fatal(err)
		}
		if child == 0 {
			break
		}
		pid = child
	}
	if pid == w.PID() {
		t.Fatal("sluice run has no child")
	}
	return pid
}

// childOf is the first child of a process, 0 where it has none. The kernel lists
// children by the thread that made them.
func childOf(pid int) (int, error) {
	lists, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	if err != nil || len(lists) == 0 {
		return 0, fmt.Errorf("process %d is gone: %w", pid, err)
	}
	for _, list := range lists {
		content, err := os.ReadFile(list)
		if err != nil {
			continue // the thread ended
		}
		if children := strings.Fields(string(content)); len(children) > 0 {
			return strconv.Atoi(children[0])
		}
	}
	return 0, nil
}
