// Package process starts the processes that bench measures, pins them on a
// processor, talks to them by lines, and reads what they cost from /proc. It
// never leaves one behind: they die with the thread that waits for them.
package process

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"time"

	"sluice.dev/sluice/internal/tail"
)

// AnyCPU leaves a process where the kernel puts it.
const AnyCPU = -1

const (
	maxLine = 1 << 20         // bytes of one line of its standard output
	endTime = 5 * time.Second // for it to end after SIGTERM; then it is killed
)

// Config is one process.
type Config struct {
	Name string
	Argv []string
	Env  []string // beside our own
	Dir  string
	CPU  int // on which it is pinned from its first instruction on; AnyCPU
	// Attributes is taken over; Pdeathsig and Setpgid are set.
	Attributes *syscall.SysProcAttr
}

// Process is a running one.
type Process struct {
	PID int

	ctx   context.Context
	name  string
	cmd   *exec.Cmd
	in    io.WriteCloser
	lines chan []byte
	said  *tail.Tail
	done  chan struct{}
	err   error // of its end; to be read after done
}

// Start starts a process. When ctx ends, whoever waits for its words gets the
// cause; the process goes on until Stop.
func Start(ctx context.Context, c Config) (*Process, error) {
	cmd := exec.Command(c.Argv[0], c.Argv[1:]...)
	cmd.Env = append(os.Environ(), c.Env...)
	cmd.Dir = c.Dir
	cmd.WaitDelay = endTime
	p := &Process{ctx: ctx, name: c.Name, cmd: cmd, lines: make(chan []byte, 64), said: new(tail.Tail), done: make(chan struct{})}
	cmd.Stderr = p.said
	var err error
	if p.in, err = cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	cmd.SysProcAttr = c.Attributes
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = new(syscall.SysProcAttr)
	}
	cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
	// A terminal's ^C reaches bench alone, which ends the others in order.
	cmd.SysProcAttr.Setpgid = true
	began := make(chan error)
	go p.run(c.CPU, out, began)
	if err := <-began; err != nil {
		return nil, fmt.Errorf("start %s: %w", c.Name, err)
	}
	p.PID = cmd.Process.Pid
	return p, nil
}

// run owns the process. Pdeathsig follows the thread that started it and the
// child inherits that thread's processors, so the thread is the process's own and
// ends with it.
func (p *Process) run(cpu int, out io.Reader, began chan<- error) {
	runtime.LockOSThread()
	err := pinThread(cpu)
	if err == nil {
		err = p.cmd.Start()
	}
	began <- err
	if err != nil {
		return
	}
	scanner := bufio.NewScanner(out)
	scanner.Buffer(nil, maxLine)
	for scanner.Scan() {
		p.lines <- bytes.Clone(scanner.Bytes())
	}
	io.Copy(io.Discard, out)
	p.err = p.cmd.Wait()
	close(p.lines)
	close(p.done)
}

// Done is closed when the process has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Line waits for its next line of standard output.
func (p *Process) Line(within time.Duration) ([]byte, error) {
	timer := time.NewTimer(within)
	defer timer.Stop()
	select {
	case line, ok := <-p.lines:
		if !ok {
			return nil, fmt.Errorf("%s ended: %w", p.name, p.end())
		}
		return line, nil
	case <-p.ctx.Done():
		return nil, context.Cause(p.ctx)
	case <-timer.C:
		return nil, fmt.Errorf("%s said nothing for %v%s", p.name, within, p.words())
	}
}

// Receive reads its next line as JSON.
func (p *Process) Receive(within time.Duration, v any) error {
	line, err := p.Line(within)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(line, v); err != nil {
		return fmt.Errorf("%s said %q: %w", p.name, line, err)
	}
	return nil
}

// Send writes v to its standard input as a line of JSON.
func (p *Process) Send(v any) error {
	line, err := json.Marshal(v)
	if err == nil {
		_, err = p.in.Write(append(line, '\n'))
	}
	if err != nil {
		return fmt.Errorf("speak to %s: %w", p.name, err)
	}
	return nil
}

// Stop ends the process, by force where it does not end by itself, and waits.
func (p *Process) Stop() {
	p.in.Close()
	p.cmd.Process.Signal(syscall.SIGTERM)
	kill := time.AfterFunc(endTime, func() { p.cmd.Process.Kill() })
	defer kill.Stop()
	for range p.lines { // it may wait for somebody to read
	}
	<-p.done
}

// Kill ends the process by force, and does not wait.
func (p *Process) Kill() { p.cmd.Process.Kill() }

// end is why the process ended.
func (p *Process) end() error {
	<-p.done
	if p.err == nil {
		return errors.New("without an error" + p.words())
	}
	return fmt.Errorf("%w%s", p.err, p.words())
}

// words is what it said last, for an error.
func (p *Process) words() string {
	if said := p.said.String(); said != "" {
		return "; it said: " + said
	}
	return ""
}
