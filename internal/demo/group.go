package demo

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

// group is the processes of one demo. They die with it, however it dies.
type group struct {
	logs  string      // folder of what they say
	ended chan string // names of processes that ended by themselves

	mu      sync.Mutex
	running []*running
	ending  bool
	starts  chan func()
	work    sync.WaitGroup
}

type running struct {
	process
	cmd  *exec.Cmd
	said *output
	done chan struct{}
}

func newGroup(logs string) *group {
	g := &group{logs: logs, ended: make(chan string, 64), starts: make(chan func())}
	go func() {
		// Pdeathsig follows the thread that started a process: this one is kept for
		// the life of the demo.
		runtime.LockOSThread()
		for f := range g.starts {
			f()
		}
	}()
	return g
}

// start starts a process; its end is reported to the group.
func (g *group) start(p process) error {
	cmd := exec.Command(p.argv[0], p.argv[1:]...)
	cmd.Env = append(withoutInternet(os.Environ()), p.env...)
	// Its own process group: a terminal's ^C reaches the demo alone, which ends
	// the others in order.
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	r := &running{process: p, cmd: cmd, said: newOutput(filepath.Join(g.logs, p.name+".log")), done: make(chan struct{})}
	cmd.Stdout, cmd.Stderr = r.said, r.said
	failed := make(chan error)
	g.starts <- func() { failed <- cmd.Start() }
	if err := <-failed; err != nil {
		r.said.close()
		return fmt.Errorf("start %s: %w", p.command(), err)
	}
	g.mu.Lock()
	g.running = append(g.running, r)
	g.mu.Unlock()
	g.work.Go(func() {
		cmd.Wait()
		r.said.close()
		close(r.done)
		g.mu.Lock()
		ending := g.ending
		g.mu.Unlock()
		if !ending {
			select {
			case g.ended <- p.name:
			default:
			}
		}
	})
	return nil
}

// run runs a process to its end.
func (g *group) run(ctx context.Context, p process) error {
	cmd := exec.CommandContext(ctx, p.argv[0], p.argv[1:]...)
	cmd.Env = append(withoutInternet(os.Environ()), p.env...)
	said, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s: %w: %s", p.command(), err, strings.TrimSpace(string(said)))
	}
	return nil
}

// withoutInternet leaves out what Env exports for Sluice: it may be that of another
// demo, and this one says by flags what its proxy uses.
func withoutInternet(env []string) []string {
	return slices.DeleteFunc(env, func(entry string) bool {
		name, _, _ := strings.Cut(entry, "=")
		return slices.Contains(sluiceVariables, name)
	})
}

// waitFor waits until files are there that a process makes.
func (g *group) waitFor(ctx context.Context, name string, files ...string) error {
	for _, file := range files {
		for {
			if _, err := os.Stat(file); err == nil {
				break
			}
			select {
			case <-ctx.Done():
				return fmt.Errorf("%s did not become ready (%s is missing): %s", name, file, g.said(name))
			case ended := <-g.ended:
				return fmt.Errorf("%s ended at its start: %s", ended, g.said(ended))
			case <-time.After(2 * time.Millisecond):
			}
		}
	}
	return nil
}

// end ends every process, the last started first, and waits for all of them.
func (g *group) end() {
	g.mu.Lock()
	g.ending = true
	all := g.running
	g.mu.Unlock()
	deadline := time.After(endTime)
	for i := len(all) - 1; i >= 0; i-- {
		all[i].cmd.Process.Signal(syscall.SIGTERM)
	}
	for _, r := range all {
		select {
		case <-r.done:
			continue
		case <-deadline:
			deadline = closed
		}
		r.cmd.Process.Kill()
		<-r.done
	}
	g.work.Wait()
	close(g.starts)
}

// closed is a deadline that has passed.
var closed = func() chan time.Time { c := make(chan time.Time); close(c); return c }()

// said is the last words of a process.
func (g *group) said(name string) string {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, r := range g.running {
		if r.name == name {
			return r.said.String()
		}
	}
	return "nothing"
}
