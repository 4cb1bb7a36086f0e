// Package run is `sluice run`: one command in a sandbox whose only way out is a
// proxy, either inside this process with the rules given to it, or the resident
// proxy of the machine. It starts nothing before somebody listens, and what it
// returns is the command's own exit status.
package run

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"sluice.dev/sluice/internal/hidden"
	"sluice.dev/sluice/internal/pipes"
	"sluice.dev/sluice/internal/rulefile"
	"sluice.dev/sluice/internal/sandbox"
	"sluice.dev/sluice/internal/trim"
	"sluice.dev/sluice/internal/wire"
)

// Exit statuses of our own; everything else is the command's.
const (
	ExitDenied = 3   // --fail-on-denied: the command ended with 0, and something was denied
	ExitFailed = 125 // no sandbox or no proxy, or the report could not be written
)

// Config is one call of `sluice run`.
type Config struct {
	Command []string
	Env     []string
	Dir     string
	RunAs   *sandbox.Identity
	// NoFileCapabilities takes from root its rights over files of other users.
	NoFileCapabilities bool
	PivotRoot          bool // leave pivot_root to the command

	// Workload is what the command says of itself. Service set, or Attach, means
	// the resident proxy.
	Workload wire.Workload
	Attach   string // path of attach.sock; "" for a proxy in this process

	// For a proxy in this process.
	Rules         rulefile.Rules
	Watch         bool             // the files of Rules are followed while the command runs
	Publish       []Publish        // ports inside that are open outside
	EgressSockets string           // path of a socket of a SocketFactory; "" for the host's own
	Resolvers     []netip.AddrPort // nil: the machine's
	UpstreamCA    string           // file of PEM beside the system's roots
	Certificates  string           // folder of client certificates, hidden from the command; "" for none
	Via           *Via             // the proxy outside that all leaves through; nil: none
	Limits        wire.Limits      // of the command; 0 takes the defaults

	// Ready says of ports of Workload when they are ready, beyond that somebody listens.
	Ready []sandbox.Check

	Unix         []string          // absolute paths of socket files outside that the command may connect to
	Pipes        []int             // descriptors of ours, pipes, that the command finds open under the same numbers
	Unsupervised bool              // leave the kernel's one seccomp notification filter to the command
	Resources    sandbox.Resources // of what the command uses
	RequireLevel string            // level that must hold in every part, or the command does not start; "" takes what there is

	Mask         []string      // folders that the command must not see
	Files        hidden.Wishes // what of the machine's files it sees
	Homes        []string      // of the command's user; what is hidden unasked lies below them
	Quiet        bool          // say nothing after the command
	Verbose      bool          // say the level of enforcement, and each connection as it ends
	Report       string        // file of the report; "" for none
	Suggest      string        // file for the least rules that the command needs; "" for none
	FailOnDenied bool          // end with ExitDenied where the command ended with 0 and something was denied
	Stderr       io.Writer
	Log          *slog.Logger

	// Ask asks at the terminal about what no rule allows. The command gets a terminal of its
	// own.
	Ask bool

	begun    *sandbox.Beginning // nil: init does not start yet
	signals  *signals           // until the command has begun, they are for us
	asks     *asks              // nil: nobody is asked
	streams  [3]*os.File        // of the command; nil: ours
	followed *followed          // nil: the rules are not followed
	proxies  []string           // variables of Env that named a proxy, and were taken out
}

// Publish is a port inside the sandbox that is open outside.
type Publish struct {
	Listen netip.AddrPort // outside
	Port   uint16         // inside
}

// Run runs the command to its end and returns its exit status. An error means
// that it did not start, or that its report is not whole.
func Run(ctx context.Context, c Config) (int, error) {
	if c.Stderr == nil {
		c.Stderr = os.Stderr
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Env == nil {
		c.Env = os.Environ()
	}
	c.Env, c.proxies = withoutProxies(c.Env)
	pipes.Survive() // the exit status stays the command's
	w, err := newWatch(c)
	if err != nil {
		return ExitFailed, err
	}
	defer w.close()
	c.signals = catchSignals()
	defer c.signals.stop()
	if !c.Ask { // or the command gets a terminal, which is made later
		c.begun = c.begin()
		defer c.begun.Drop()
	}
	if c.Attach != "" {
		return runAttached(ctx, c, w)
	}
	return runAlone(ctx, c, w)
}

// open makes the sandbox of a call. w has files, beside the folders of c.Mask, that the
// command must not reach, and is to tell which of those that are hidden it opened.
func open(ctx context.Context, c Config, w *watch) (*sandbox.Sandbox, error) {
	// What does not exist cannot be hidden: a command would make the folder itself
	// and put rules there for the server that is started later.
	for _, folder := range c.Mask {
		if err := makeMasked(folder); err != nil {
			return nil, err
		}
	}
	plan, err := c.planFiles()
	if err != nil {
		return nil, err
	}
	if !c.Quiet {
		for _, note := range plan.Notes {
			fmt.Fprintf(c.Stderr, "sluice: %s\n", note)
		}
	}
	w.hides = plan
	pipes, err := c.findPipes()
	if err != nil {
		return nil, err
	}
	if text := c.sayClosed(pipes); text != "" && !c.Quiet {
		fmt.Fprintf(c.Stderr, "sluice: %s\n", text)
	}
	if c.begun == nil {
		c.begun = c.begin()
	}
	box, err := c.begun.SetUp(ctx, sandbox.Late{Mask: append(slices.Clone(c.Mask), w.hidden()...), Files: plan.Files, Pipes: pipes})
	var identity *sandbox.IdentityError
	if errors.As(err, &identity) {
		return nil, fmt.Errorf("--run-as: %w", err)
	}
	var pipe *sandbox.PipeError
	if errors.As(err, &pipe) {
		return nil, fmt.Errorf("--fd: %w", err)
	}
	if err != nil {
		return nil, err
	}
	sandbox.ClosePipes(pipes)
	if err := c.checkLevel(c.enforcement(box)); err != nil {
		box.Kill()
		box.Wait()
		return nil, err
	}
	return box, nil
}

// begin starts the sandbox's init, which takes as long as much of what is still to be done.
func (c *Config) begin() *sandbox.Beginning {
	return c.signals.begin(sandbox.Config{
		Command: c.Command, Env: c.Env, Dir: c.Dir, RunAs: c.RunAs,
		Stdin: c.streams[0], Stdout: c.streams[1], Stderr: c.streams[2], Terminal: c.asks != nil,
		Unix: c.Unix, Unsupervised: c.Unsupervised, NoFileCapabilities: c.NoFileCapabilities, PivotRoot: c.PivotRoot,
		Resources: c.Resources,
		Listen:    slices.Compact(slices.Sorted(slices.Values(c.Workload.Ports))), Checks: c.Ready,
	})
}

// checkLevel says what of the level that is required does not hold.
func (c *Config) checkLevel(e sandbox.Enforcement) error {
	switch {
	case c.RequireLevel == "" || c.RequireLevel == e.Level && len(e.Lowered) == 0:
		return nil
	case c.RequireLevel != e.Level:
		return fmt.Errorf("--require-level %s: the level here is %s", c.RequireLevel, e.Level)
	}
	return fmt.Errorf("--require-level %s: not all of it holds here: %s", c.RequireLevel, strings.Join(e.Lowered, "; "))
}

// sayLevel says what holds, where it was asked for; what holds less here than on
// other machines is said in any case.
func sayLevel(c Config, box *sandbox.Sandbox) {
	if text := sayProxies(&c); text != "" {
		fmt.Fprintf(c.Stderr, "sluice: %s\n", text)
	}
	enforcement := c.enforcement(box)
	if !c.Verbose {
		for _, note := range enforcement.Lowered {
			fmt.Fprintf(c.Stderr, "sluice: %s\n", note)
		}
		return
	}
	fmt.Fprintf(c.Stderr, "sluice: level %s: %s\n", enforcement.Level, enforcement.Text)
	for _, note := range enforcement.Notes {
		fmt.Fprintf(c.Stderr, "sluice: %s\n", note)
	}
}

// startAndWait starts the command and forwards signals until it ends. gone, when
// closed, ends the sandbox: the proxy went away.
func startAndWait(ctx context.Context, signals *signals, box *sandbox.Sandbox, search []string, gone <-chan struct{}, asks *asks, w *watch) (int, error) {
	received := signals.handOver()
	if err := box.Start(search); err != nil {
		return exitOf(err), err
	}
	defer takeTerminalBack()
	defer func() { w.tellOpened(box.TakeOpened()) }()
	defer trim.Later().Stop()
	sayRefused := func() {
		fmt.Fprintln(w.stderr, "sluice: a program asked for a seccomp filter that notifies and was refused: Linux gives one, and it decides over unix sockets; --unsupervised leaves it to the program and lowers the level")
	}
	ended := make(chan struct{})
	var code int
	var err error
	go func() {
		defer close(ended)
		code, err = box.Wait()
	}()
	stopped := box.Stopped()
	if asks != nil {
		go asks.suspend(box, stopped, ended) // a question may stand, and signals do not wait for its end
		stopped = nil
	}
	for {
		select {
		case <-ended:
			select {
			case <-box.FilterRefused():
				sayRefused()
			default:
			}
			return code, err
		case s := <-received:
			if asks != nil && s == os.Signal(unix.SIGWINCH) {
				asks.Resize() // of which the kernel tells the command
				continue
			}
			passOn(box, s)
		case <-stopped:
			stopToo()
		case <-box.FilterRefused():
			sayRefused()
		case <-box.HiddenOpened():
			w.tellOpened(box.TakeOpened())
		case <-gone:
			gone = nil
			select {
			case <-ended: // the proxy saw the end first
				return code, err
			default:
			}
			fmt.Fprintln(w.stderr, "sluice: the proxy went away, so the command was ended: without it nothing may run")
			box.Kill()
		case <-ctx.Done():
			box.Kill()
			<-ended
			return code, errors.Join(context.Cause(ctx), err)
		}
	}
}
