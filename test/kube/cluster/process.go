package cluster

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"time"
)

// Process is a component that runs; it dies with the test, however that ends.
type Process struct {
	cmd  *exec.Cmd
	log  string
	done chan struct{} // closed when it ended
	err  error         // read after done
}

// Launch starts a program whose output goes to the end of a file.
func Launch(log, program string, args ...string) (*Process, error) {
	p := &Process{log: log, done: make(chan struct{})}
	started := make(chan error)
	go func() {
		// The kernel sends Pdeathsig when the thread ends that started the child.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		out, err := os.OpenFile(log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
		if err != nil {
			started <- err
			return
		}
		defer func() { _ = out.Close() }() // the child has its own
		p.cmd = exec.Command(program, args...)
		p.cmd.Stdout, p.cmd.Stderr = out, out
		p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
		if err := p.cmd.Start(); err != nil {
			started <- fmt.Errorf("start %s %s: %w", program, args[0], err)
			return
		}
		started <- nil
		p.err = p.cmd.Wait()
		close(p.done)
	}()
	if err := <-started; err != nil {
		return nil, err
	}
	return p, nil
}

// Done is closed when the process ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// PID returns its process id.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Kill ends the process at once and waits for it.
func (p *Process) Kill() {
	_ = p.cmd.Process.Kill() // it may have ended
	<-p.done
}

// Terminate asks the process to end, kills it where it takes too long, and returns how it ended.
func (p *Process) Terminate() error {
	_ = p.cmd.Process.Signal(syscall.SIGTERM) // it may have ended
	select {
	case <-p.done:
	case <-time.After(stopTimeout):
		p.Kill()
	}
	return p.err
}

// tailBytes is how much of a log an error shows.
const tailBytes = 8 << 10

// Tail returns the end of what the process wrote.
func (p *Process) Tail() string {
	data, err := os.ReadFile(p.log)
	if err != nil {
		return err.Error()
	}
	return string(data[max(0, len(data)-tailBytes):])
}
