package sandbox

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

// launcher is the thread that starts the command. It is confined while the sandbox
// is set up, for what the kernel gives decides over the rest, and ends with the start.
type launcher struct {
	listener int   // of the supervised filter; -1 where there is none
	refused  error // of the supervised filter
	shared   error // of the cgroup namespace
	begin    chan launch
	begun    chan launched
}

type launch struct {
	path    string
	command []string
	session bool // it gets a process group of its own, in the foreground of the terminal
	pipes   []Pipe
}

type launched struct {
	pid int
	err error
}

// newLauncher drops everything but the capabilities of kept on a thread of its own, which
// the command inherits from. Cgroups is how the command has to do with them: see group.
func newLauncher(runAs *Identity, kept uint64, supervised, pivotRoot bool, cgroups string) (*launcher, error) {
	l := &launcher{listener: -1, begin: make(chan launch), begun: make(chan launched)}
	confined := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		if cgroups == cgroupsOwn {
			if l.shared = ownCgroupNamespace(); l.shared != nil {
				cgroups = cgroupsRefused
			}
		}
		err := l.confine(runAs, kept, supervised, pivotRoot, cgroups)
		confined <- err
		if err != nil {
			return
		}
		wanted := <-l.begin
		pid, err := execute(wanted)
		l.begun <- launched{pid, err}
	}()
	return l, <-confined
}

// start starts the command, once.
func (l *launcher) start(command []string, session bool, pipes []Pipe) (pid int, err error) {
	path, err := exec.LookPath(command[0])
	if err != nil && !errors.Is(err, exec.ErrDot) { // a PATH with "." in it is the user's wish
		return 0, &CommandError{Command: command[0], Err: errnoOf(err)}
	}
	l.begin <- launch{path, command, session, pipes}
	begun := <-l.begun
	return begun.pid, begun.err
}

func execute(wanted launch) (pid int, err error) {
	path, command := wanted.path, wanted.command
	attributes := &syscall.ProcAttr{Env: os.Environ(), Files: commandFiles(wanted.pipes)}
	if wanted.session {
		attributes.Sys = &syscall.SysProcAttr{Foreground: true, Ctty: terminalOf([]*os.File{os.Stdin, os.Stdout, os.Stderr})}
	}
	pid, err = syscall.ForkExec(path, command, attributes)
	if err == syscall.ENOEXEC { // a script without its first line, as execvp(3) takes it
		pid, err = syscall.ForkExec("/bin/sh", append([]string{"/bin/sh", path}, command[1:]...), attributes)
	}
	if err != nil {
		return 0, &CommandError{Command: command[0], Err: errnoOf(err)}
	}
	return pid, nil
}

// errnoOf keeps of a look-up's error what crosses a process.
func errnoOf(err error) syscall.Errno {
	var errno syscall.Errno
	switch {
	case errors.As(err, &errno):
		return errno
	case errors.Is(err, exec.ErrNotFound), errors.Is(err, os.ErrNotExist):
		return syscall.ENOENT
	case errors.Is(err, os.ErrPermission):
		return syscall.EACCES
	}
	return syscall.EINVAL
}

// confine takes from the calling thread, for ever, what the command must not have.
func (l *launcher) confine(runAs *Identity, kept uint64, supervised, pivotRoot bool, cgroups string) error {
	if err := dropCapabilities(kept, runAs); err != nil {
		return err
	}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("set no_new_privs: %w", err)
	}
	if err := enterScopes(); err != nil {
		return err
	}
	if cgroups == cgroupsRefused {
		if _, err := seccomp(cgroupFilter(), 0); err != nil {
			return fmt.Errorf("install the seccomp filter of cgroups: %w", err)
		}
	}
	if supervised {
		if l.listener, l.refused = installSupervised(pivotRoot); l.refused == nil {
			return nil
		}
	}
	return installFilter(pivotRoot)
}
