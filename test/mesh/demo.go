package mesh

import (
	"bufio"
	"context"
	"io"
	"net/http"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Demo is a running `sluice demo`.
type Demo struct {
	*Place
	URL string // of the page
	cmd *exec.Cmd
	out io.Closer // our end of the pipe that it writes to

	mu   sync.Mutex
	said strings.Builder
	done chan struct{}
}

// StartDemo runs the demo until the test's end and waits until its page is there.
func StartDemo(t testing.TB, user User, args ...string) *Demo {
	t.Helper()
	return StartDemoIn(t, NewPlace(t, user), args...)
}

// StartDemoIn is StartDemo in a place that is there.
func StartDemoIn(t testing.TB, place *Place, args ...string) *Demo {
	t.Helper()
	return StartDemoAs(t, place, place.Command(context.Background(), "sluice", append([]string{"demo", "--ingress", "127.0.0.1:0", "--samples", place.Samples}, args...)...))
}

// StartDemoAs is StartDemo by a command that is, or becomes, a demo of the place.
func StartDemoAs(t testing.TB, place *Place, cmd *exec.Cmd) *Demo {
	t.Helper()
	d := &Demo{Place: place, cmd: cmd, done: make(chan struct{})}
	d.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := d.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	d.out = out
	d.cmd.Stderr = d.cmd.Stdout
	if err := d.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ready := make(chan string, 1)
	go func() {
		defer close(d.done)
		lines := bufio.NewScanner(out)
		for lines.Scan() {
			d.mu.Lock()
			d.said.WriteString(lines.Text() + "\n")
			d.mu.Unlock()
			if words := strings.Fields(lines.Text()); len(words) == 2 && words[0] == "page" {
				d.URL = words[1]
			}
			if strings.HasPrefix(lines.Text(), "Ctrl-C ends") {
				ready <- d.URL
			}
		}
		d.cmd.Wait()
	}()
	t.Cleanup(func() { d.Stop(t) })
	select {
	case <-ready:
	case <-d.done:
		t.Fatalf("the demo ended:\n%s", d.Said())
	case <-time.After(Patience):
		t.Fatalf("the demo did not become ready:\n%s", d.Said())
	}
	return d
}

// Said is what the demo printed so far.
func (d *Demo) Said() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.said.String()
}

// StopReading closes the pipe that the demo writes to, as where tee is ended.
func (d *Demo) StopReading() { d.out.Close() }

// PID is the demo's.
func (d *Demo) PID() int { return d.cmd.Process.Pid }

// Stop ends the demo as Ctrl-C does and returns how long it took.
func (d *Demo) Stop(t testing.TB) time.Duration {
	t.Helper()
	began := time.Now()
	select {
	case <-d.done:
		return 0
	default:
	}
	d.cmd.Process.Signal(syscall.SIGINT)
	select {
	case <-d.done:
	case <-time.After(Patience):
		d.cmd.Process.Kill()
		t.Errorf("the demo did not end within %v of SIGINT", Patience)
	}
	return time.Since(began)
}

// Kill ends the demo as SIGKILL does; what it started is the kernel's to end.
func (d *Demo) Kill() { d.cmd.Process.Kill() }

// Ended is closed when the demo has ended.
func (d *Demo) Ended() <-chan struct{} { return d.done }

// Page gets the page.
func (d *Demo) Page(t testing.TB) string {
	t.Helper()
	client := &http.Client{Timeout: Patience}
	resp, err := client.Get(d.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("the page: status %d, %v", resp.StatusCode, err)
	}
	return string(body)
}

// Patience is how long a test waits for what must happen. It measures nothing, and
// is long so that a busy machine decides nothing; `make bench` measures.
const Patience = 90 * time.Second

// Eventually tries until f returns "" or Patience is over; then it fails with what
// f said last.
func Eventually(t testing.TB, f func() string) {
	t.Helper()
	deadline := time.Now().Add(Patience)
	for {
		said := f()
		if said == "" {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("not within %v: %s", Patience, said)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// Background starts a command that the test's end ends.
func (p *Place) Background(t testing.TB, env []string, program string, args ...string) *exec.Cmd {
	t.Helper()
	cmd := p.Command(context.Background(), program, args...)
	cmd.Env = append(cmd.Env, env...)
	StartInBackground(t, cmd)
	return cmd
}

// StartInBackground starts a command that the test's end ends.
func StartInBackground(t testing.TB, cmd *exec.Cmd) {
	t.Helper()
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	output := &logged{t: t}
	cmd.Stdout, cmd.Stderr = output, output
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Signal(syscall.SIGTERM)
		killed := time.AfterFunc(Patience, func() { cmd.Process.Kill() })
		defer killed.Stop()
		cmd.Wait()
		output.stop()
	})
}

// logged writes a command's words into the test's log, and keeps the first of them.
type logged struct {
	mu   sync.Mutex
	t    testing.TB
	over bool
	kept []byte
}

// maxSaid bounds what is kept of what a process says, in bytes.
const maxSaid = 256 << 10

func (l *logged) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.kept = append(l.kept, b[:min(len(b), maxSaid-len(l.kept))]...)
	if !l.over {
		l.t.Logf("%s", strings.TrimRight(string(b), "\n"))
	}
	return len(b), nil
}

func (l *logged) stop() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.over = true
}
