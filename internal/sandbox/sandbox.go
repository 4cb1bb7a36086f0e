// Package sandbox starts a command in namespaces of its own, from which the only
// way out is the sockets that a proxy holds. `sluice run` calls it; the command's
// init is the same binary, re-executed. It never lets the command start before
// its caller says that somebody listens, and leaves nothing behind.
package sandbox

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"

	"sluice.dev/sluice/internal/capture"
	"sluice.dev/sluice/internal/capture/seqpacket"
)

// MaxMasks bounds Config.Mask: folders and files.
const MaxMasks = 64

// Config says what to run and where. All of it is read once.
type Config struct {
	// Command is the program, looked up in the PATH of Env, and its arguments.
	Command []string
	// Env is the command's environment; nil means ours. Of a variable that is
	// there twice the last counts.
	Env []string
	// Dir is where it starts; "" means our working directory. Where the folder is
	// masked, or gone, there is no sandbox.
	Dir string
	// Stdin, Stdout and Stderr are handed through as they are; nil means ours.
	Stdin, Stdout, Stderr *os.File
	// Pipes are what else of ours is open for the command: nothing else is.
	Pipes []Pipe
	// Terminal says that those of them that are terminals are one which nobody else has:
	// it becomes the command's own, in a session of its own, so that ^C and ^Z typed there
	// come from its kernel side.
	Terminal bool
	// Mask lists folders, besides /run, that are empty for the command, and files in
	// whose place it finds /dev/null: what holds the sockets, the data and the reports
	// of Sluice. One that does not exist is skipped, so make it first.
	Mask []string
	// Files says what of the machine's files is hidden, and what is read-only.
	Files Files
	// Unix lists socket files outside that the command may connect to, at most MaxUnix.
	// Each is the file that it is now: one that a daemon makes in its place later is not
	// reached. All others are reached only where somebody inside listens on them.
	Unix []string
	// Unsupervised leaves the kernel's one seccomp notification filter to the command.
	// Socket files of the outside are then hidden once, at the start, by name.
	Unsupervised bool
	// RunAs is who the command runs as; nil means who we are. It requires root.
	RunAs *Identity
	// NoFileCapabilities takes from a command that runs as root its rights over files of
	// other users, and leaves it the machine's devices.
	NoFileCapabilities bool
	// PivotRoot leaves pivot_root to the command, for sandboxes of its own. What is hidden
	// is then held in its place no longer.
	PivotRoot bool
	// UserNamespace asks for one even where it is not needed.
	UserNamespace bool
	// Listen are the ports on which the command serves; Unready says which of them take
	// no connections yet. Checks say more of some of them, at most one of each.
	Listen []uint16
	Checks []Check
	// Resources bound what everything inside uses together. Where the machine cannot hold
	// them there is no sandbox, and the error is a *LimitError.
	Resources Resources
}

var errNoCommand = errors.New("sandbox: no command")

// check says what is wrong with it before anything is made.
func (c *Config) check() error {
	if err := c.validate(); err != nil {
		return err
	}
	if err := c.checkStreams(); err != nil {
		return err
	}
	return c.checkPipes()
}

func (c *Config) validate() error {
	switch {
	case len(c.Command) == 0 || c.Command[0] == "":
		return errNoCommand
	case len(c.Mask) > MaxMasks:
		return fmt.Errorf("sandbox: %d paths to mask, at most %d are taken", len(c.Mask), MaxMasks)
	}
	if err := c.checkIdentity(); err != nil {
		return err
	}
	if err := c.checkListen(); err != nil {
		return err
	}
	if err := c.Resources.check(); err != nil {
		return err
	}
	for _, folder := range c.Mask {
		if !filepath.IsAbs(folder) || filepath.Clean(folder) == "/" {
			return fmt.Errorf("sandbox: cannot mask %q: not an absolute path below /", folder)
		}
	}
	if err := c.Files.validate(); err != nil {
		return err
	}
	return c.checkUnix()
}

// userNamespace says whether a user namespace is needed or asked for: without
// the capabilities to make the other namespaces, it gives them.
func (c *Config) userNamespace() bool {
	return c.UserNamespace || !hasCapabilities(initCapabilities)
}

// Sandbox is namespaces with an init that is ours, and later the command.
type Sandbox struct {
	process    *os.Process
	control    *net.UnixConn
	notes      []string
	lowered    []string
	uid        int
	ownDevices bool // of the machine's devices the command has none

	filesMu sync.Mutex
	files   []*os.File

	sendMu sync.Mutex // Start and Signal share control's sending side

	ports  portStates // see Unready
	opened openings   // see TakeOpened
	group  *group

	stopped   chan struct{}  // see Stopped
	refused   chan struct{}  // see FilterRefused
	listening sync.WaitGroup // for what init tells after the start

	// answerMu is held while an answer of init is awaited. A command may end before
	// init's word of its start was read: control is closed behind that.
	answerMu sync.Mutex

	ended  chan struct{} // closed when init has been waited for
	status syscall.WaitStatus
}

// setUp lets init set the namespaces up and takes what it hands back.
func (s *Sandbox) setUp(ctx context.Context, config *Config) error {
	stop := context.AfterFunc(ctx, s.Kill)
	defer stop()
	s.answerMu.Lock() // an init that fails ends behind its answer
	defer s.answerMu.Unlock()
	var outcome ready
	var fds []int
	ssh := new(sshConfig)
	if config.userNamespace() && os.Geteuid() != 0 {
		ssh = findSSHConfig()
		defer ssh.close()
	}
	err := sendSetup(s.control, setup{
		Format: channelFormat, Mask: config.Mask, RunAs: config.RunAs, Listen: config.Listen, Checks: config.Checks,
		Unix: config.Unix, Unsupervised: config.Unsupervised, NoFileCapabilities: config.NoFileCapabilities, PivotRoot: config.PivotRoot, OneUser: config.userNamespace(), SSH: ssh.paths,
		Files:   !config.Files.empty(),
		Cgroups: s.group.namespace(),
		Session: config.Terminal,
		PidSeed: pidSeed(s.process.Pid), Performance: performanceFolders(s.uid),
		Pipes: pipeNumbers(config.Pipes),
	}, config.Pipes, ssh.files)
	if err == nil && !config.Files.empty() {
		err = sendFiles(s.control, &config.Files)
	}
	if err == nil {
		fds, err = seqpacket.Receive(s.control, &outcome, capture.MaxFiles)
	}
	if err == nil {
		if err = channels.Check(outcome.Format); err != nil {
			seqpacket.Close(fds)
			return fmt.Errorf("sandbox: %w", err)
		}
	}
	switch { // an init that was killed or ended fails either
	case err != nil && ctx.Err() != nil:
		return fmt.Errorf("sandbox: set up: %w", ctx.Err())
	case err != nil:
		return explain(fmt.Errorf("init ended before it was ready: %w", err), "", config.userNamespace())
	case outcome.Failure != nil && slices.Contains([]string{stepStreams, stepFolder, stepUnix, stepFiles}, outcome.Failure.Step):
		return outcome.Failure.error() // not the machine's fault
	case outcome.Failure != nil:
		return explain(outcome.Failure.error(), outcome.Failure.Step, config.userNamespace())
	}
	for _, fd := range fds {
		s.files = append(s.files, os.NewFile(uintptr(fd), "capture"))
	}
	if note := ssh.note(); note != "" {
		outcome.Notes = append(outcome.Notes, note)
	}
	s.notes, s.lowered, s.ownDevices = outcome.Notes, outcome.Lowered, outcome.OwnDevices
	if outcome.Shared != "" {
		s.group.share(outcome.Shared)
	}
	s.ports.init(config.Listen, outcome.Unready)
	return nil
}

// Files returns the capture sockets, which are for capture.FromFiles in this
// process or another, and gives them over: the caller closes them, and a second
// call returns nil.
func (s *Sandbox) Files() []*os.File {
	s.filesMu.Lock()
	defer s.filesMu.Unlock()
	files := s.files
	s.files = nil
	return files
}

// PID returns the number of init, which is that of the sandbox, as we see it.
func (s *Sandbox) PID() int { return s.process.Pid }

// Start starts the command, once; call it when somebody serves the sockets.
// Search is the search list of the sandbox's resolv.conf. A *CommandError says
// that the command cannot be started; the sandbox has ended then.
func (s *Sandbox) Start(search []string) error {
	if err := validateSearch(search); err != nil {
		return err
	}
	capture.CloseFiles(s.Files()) // nobody took them: they would outlive the sandbox
	s.answerMu.Lock()
	defer s.answerMu.Unlock()
	err := s.group.admit()
	if err == nil {
		s.sendMu.Lock()
		err = seqpacket.Send(s.control, start{Search: search})
		s.sendMu.Unlock()
	}
	var outcome started
	if err == nil {
		_, err = seqpacket.Receive(s.control, &outcome, 0)
	}
	if err != nil {
		return fmt.Errorf("sandbox: start the command: %w", err)
	}
	if outcome.Failure != nil {
		s.Kill()
		return outcome.Failure.error()
	}
	s.listening.Go(s.listen)
	if s.group.limits == (Resources{}) {
		go s.group.settleLater(s.process.Pid)
		return nil
	}
	if err := s.group.settle(s.process.Pid); err != nil {
		s.Kill()
		return fmt.Errorf("sandbox: set the limits: %w", err)
	}
	return nil
}

// FilterRefused receives when a program inside asked for a seccomp filter that
// notifies, and did not get it: the sandbox has the one that Linux gives. A sandbox
// that is not supervised leaves it to the command.
func (s *Sandbox) FilterRefused() <-chan struct{} { return s.refused }

// Stopped receives when the command was stopped alone, as an editor does at ^Z.
// Where the signal came to our whole process group, and so to us, it does not.
func (s *Sandbox) Stopped() <-chan struct{} { return s.stopped }

// Signal sends a signal to the command, once: where the terminal or a shell sent
// it to our whole process group, and so to the command already, it is not sent
// again. It does nothing once the sandbox has ended.
func (s *Sandbox) Signal(signal syscall.Signal) error {
	s.sendMu.Lock()
	defer s.sendMu.Unlock()
	err := seqpacket.Send(s.control, order{Signal: int(signal)})
	if err != nil && s.hasEnded() {
		return nil
	}
	return err
}

func (s *Sandbox) hasEnded() bool {
	select {
	case <-s.ended:
		return true
	default:
		return errors.Is(s.process.Signal(syscall.Signal(0)), os.ErrProcessDone)
	}
}

// Kill ends the sandbox and every process in it at once. Wait says when it has.
func (s *Sandbox) Kill() {
	s.process.Kill() // an error says that it has ended
}

// ErrKilled says that the sandbox was ended before its command had.
var ErrKilled = errors.New("sandbox: ended before its command")

// Wait waits for the end and returns the command's exit status, 128 and the
// signal's number where a signal ended it. With ErrKilled it was not the command
// that ended. Descriptors that nobody took are closed.
func (s *Sandbox) Wait() (exit int, err error) {
	<-s.ended
	s.listening.Wait()
	capture.CloseFiles(s.Files())
	if s.status.Signaled() {
		return 128 + int(s.status.Signal()), ErrKilled
	}
	return s.status.ExitStatus(), nil
}

// Reached says to what limits the command was held, once the sandbox has ended.
func (s *Sandbox) Reached() Reached {
	<-s.ended
	return s.group.reached
}

// Done is closed when the sandbox has ended.
func (s *Sandbox) Done() <-chan struct{} { return s.ended }
