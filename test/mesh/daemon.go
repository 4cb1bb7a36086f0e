package mesh

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Daemon is a process of a place that runs until the test's end, or until it is
// killed.
type Daemon struct {
	cmd  *exec.Cmd
	done chan struct{}
	said *logged
}

// start starts a command of the place's user. Its words go to the test's log.
func (p *Place) start(t testing.TB, cmd *exec.Cmd) *Daemon {
	t.Helper()
	d := &Daemon{cmd: cmd, done: make(chan struct{}), said: &logged{t: t}}
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	cmd.Stderr = d.said
	if cmd.Stdout == nil {
		cmd.Stdout = d.said
	}
	begun := make(chan error)
	go func() {
		defer close(d.done)
		err := cmd.Start()
		begun <- err
		if err == nil {
			cmd.Wait()
		}
	}()
	if err := <-begun; err != nil {
		t.Fatal(err)
	}
	var once sync.Once
	t.Cleanup(func() {
		once.Do(func() { d.Stop(t) })
		d.said.stop()
	})
	return d
}

// PID is the daemon's.
func (d *Daemon) PID() int { return d.cmd.Process.Pid }

// Said is what the process has said so far, the first maxSaid bytes of it.
func (d *Daemon) Said() string {
	d.said.mu.Lock()
	defer d.said.mu.Unlock()
	return string(d.said.kept)
}

// Ended is closed when the process has ended.
func (d *Daemon) Ended() <-chan struct{} { return d.done }

// Kill ends the process by SIGKILL and waits for it.
func (d *Daemon) Kill() {
	d.cmd.Process.Kill()
	<-d.done
}

// Stop ends the process as its user would.
func (d *Daemon) Stop(t testing.TB) {
	d.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-d.done:
	case <-time.After(Patience):
		t.Errorf("%v did not end within %v of SIGTERM", d.cmd.Args, Patience)
		d.Kill()
	}
}

// StartServer starts sluice-server and waits until its sockets are there.
func (p *Place) StartServer(t testing.TB, args ...string) *Daemon {
	t.Helper()
	d := p.start(t, p.Command(context.Background(), "sluice-server", args...))
	d.awaitSockets(t, p.Socket("api.sock"), p.Socket("push.sock"))
	return d
}

// StartProxy starts sluice-proxy with its way out into internet, or by args alone
// where internet is nil, and waits until it takes sandboxes.
func (p *Place) StartProxy(t testing.TB, internet *Internet, args ...string) *Daemon {
	t.Helper()
	if internet != nil {
		args = append(args, "--egress-sockets", internet.Sockets, "--upstream-ca", internet.CA, "--resolver", "8.8.8.8")
	}
	d := p.start(t, p.Command(context.Background(), "sluice-proxy", args...))
	d.awaitSockets(t, p.Socket("attach.sock"))
	return d
}

// StartProxyWithin is StartProxy for a process that may open only so many descriptors.
func (p *Place) StartProxyWithin(t testing.TB, descriptors int, internet *Internet, args ...string) *Daemon {
	t.Helper()
	args = append(args, "--egress-sockets", internet.Sockets, "--upstream-ca", internet.CA, "--resolver", "8.8.8.8")
	limit := fmt.Sprintf(`ulimit -n %d && exec "$0" "$@"`, descriptors)
	d := p.start(t, p.Command(context.Background(), "/bin/sh", append([]string{"-c", limit, filepath.Join(p.Bin, "sluice-proxy")}, args...)...))
	d.awaitSockets(t, p.Socket("attach.sock"))
	return d
}

// Socket is a path in the runtime folder.
func (p *Place) Socket(name string) string { return filepath.Join(p.Runtime, name) }

// awaitSockets waits until somebody listens on each: a file alone may be that of
// a process that was killed.
func (d *Daemon) awaitSockets(t testing.TB, paths ...string) {
	t.Helper()
	Eventually(t, func() string {
		for _, path := range paths {
			conn, err := net.Dial("unix", path)
			if err == nil {
				conn.Close()
			}
			if err == nil || errors.Is(err, syscall.EPROTOTYPE) { // a socket of another type, that lives
				continue
			}
			select {
			case <-d.done:
				t.Fatalf("%v ended at its start", d.cmd.Args)
			default:
			}
			return err.Error()
		}
		return ""
	})
}
