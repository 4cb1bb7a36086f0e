package guide

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Bounds of one page's shell.
const (
	commandTime = 3 * time.Minute // of one command
	endTime     = time.Minute     // of what runs in the background, to end by itself
)

// Shell is one bash that runs the commands of a page one after another, so that a
// variable, a job and $? live on as they do in a terminal.
type Shell struct {
	cmd   *exec.Cmd
	in    io.WriteCloser
	lines chan string
	end   string // what follows a command's output, with its status
}

// NewShell starts cmd, which must be a bash without arguments that has nothing on
// its standard input and output yet.
func NewShell(cmd *exec.Cmd) (*Shell, error) {
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	cmd.Stderr = cmd.Stdout
	// A group of its own, so that Close reaches its jobs.
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = new(syscall.SysProcAttr)
	}
	cmd.SysProcAttr.Setpgid, cmd.SysProcAttr.Pdeathsig = true, syscall.SIGKILL
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	s := &Shell{cmd: cmd, in: in, lines: make(chan string), end: fmt.Sprintf("guide-%d-status ", time.Now().UnixNano())}
	go func() {
		defer close(s.lines)
		r := bufio.NewReader(out)
		for {
			line, err := r.ReadString('\n')
			if line != "" {
				s.lines <- line
			}
			if err != nil {
				return
			}
		}
	}()
	return s, nil
}

// Run runs one command and returns what it printed, both streams as they came,
// and its exit status. What a job in the background prints goes to the file
// background.log in the shell's folder.
func (s *Shell) Run(command string) (printed string, status int, err error) {
	return s.RunFor(command, commandTime)
}

// RunFor is Run with another bound on the time.
func (s *Shell) RunFor(command string, bound time.Duration) (printed string, status int, err error) {
	if job, ok := strings.CutSuffix(strings.TrimSpace(command), "&"); ok && !strings.HasSuffix(job, "&") {
		// No braces: a job is the command itself, as kill %1 wants it.
		command = job + " >>background.log 2>&1 &"
	}
	// eval, so that the command's standard input can be nothing; the subshell puts
	// back what the next command sees in $?.
	_, err = fmt.Fprintf(s.in, "eval %s </dev/null; __status=$?; printf '\\n%s%%d\\n' $__status; (exit $__status)\n", quote(command), s.end)
	if err != nil {
		return "", 0, fmt.Errorf("the shell is gone: %w", err)
	}
	var b strings.Builder
	deadline := time.After(bound)
	for {
		select {
		case line, ok := <-s.lines:
			if !ok {
				return b.String(), 0, errors.New("the shell ended")
			}
			if code, found := strings.CutPrefix(line, s.end); found {
				status, err = strconv.Atoi(strings.TrimSpace(code))
				return strings.TrimSuffix(b.String(), "\n"), status, err
			}
			b.WriteString(line)
		case <-deadline:
			return b.String(), 0, fmt.Errorf("it did not end within %v", bound)
		}
	}
}

// Close ends the shell and its jobs.
func (s *Shell) Close() {
	s.in.Close()
	group := -s.cmd.Process.Pid
	syscall.Kill(group, syscall.SIGTERM)
	killed := time.AfterFunc(endTime, func() { syscall.Kill(group, syscall.SIGKILL) })
	defer killed.Stop()
	for range s.lines { // until the last job has closed it
	}
	s.cmd.Wait()
	deadline := time.Now().Add(endTime)
	for syscall.Kill(group, 0) == nil && time.Now().Before(deadline) {
		time.Sleep(10 * time.Millisecond)
	}
	syscall.Kill(group, syscall.SIGKILL)
}

func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }
