package sandbox

import (
	"errors"
	"os"
	"runtime"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// startInit starts init from a thread that lives until init has ended: the
// kernel kills init when the thread that started it dies (Pdeathsig), which a
// thread of Go's pool may do at any time.
func (s *Sandbox) startInit(config *Config, control *os.File) error {
	env := config.Env
	if env == nil {
		env = os.Environ()
	}
	attributes := &os.ProcAttr{
		Dir:   config.Dir,
		Env:   lastOfEach(env),
		Files: []*os.File{or(config.Stdin, os.Stdin), or(config.Stdout, os.Stdout), or(config.Stderr, os.Stderr), control},
		Sys:   namespaces(config.userNamespace()),
	}
	if config.Terminal {
		attributes.Sys.Setsid, attributes.Sys.Setctty = true, true
		if attributes.Sys.Ctty = terminalOf(attributes.Files[:3]); attributes.Sys.Ctty < 0 {
			return errors.New("no standard stream is a terminal")
		}
	}
	arguments := append([]string{initName}, config.Command...)
	begun := make(chan error)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		process, err := os.StartProcess("/proc/self/exe", arguments, attributes)
		s.process = process
		begun <- err
		if err != nil {
			return
		}
		if state, err := process.Wait(); err == nil {
			s.status = state.Sys().(syscall.WaitStatus)
		} else {
			s.status = syscall.WaitStatus(unix.SIGKILL) // nobody can say
		}
		s.group.close()
		s.answerMu.Lock()
		s.listening.Wait() // what init told last is read: its end is the end of that
		s.control.Close()
		s.answerMu.Unlock()
		close(s.ended)
	}()
	return <-begun
}

// terminalOf returns the first of the standard streams that is a terminal, -1 where none is.
func terminalOf(streams []*os.File) int {
	for i, stream := range streams {
		raw, err := stream.SyscallConn()
		if err != nil {
			continue
		}
		terminal := false
		raw.Control(func(fd uintptr) {
			_, err := unix.IoctlGetTermios(int(fd), unix.TCGETS)
			terminal = err == nil
		})
		if terminal {
			return i
		}
	}
	return -1
}

// lastOfEach keeps the last of each variable, in order.
func lastOfEach(env []string) []string {
	last := make(map[string]int, len(env))
	for i, variable := range env {
		name, _, _ := strings.Cut(variable, "=")
		last[name] = i
	}
	kept := make([]string, 0, len(last))
	for i, variable := range env {
		if name, _, _ := strings.Cut(variable, "="); last[name] == i {
			kept = append(kept, variable)
		}
	}
	return kept
}

func or(file, otherwise *os.File) *os.File {
	if file != nil {
		return file
	}
	return otherwise
}

// initCapabilities is what init needs: to set the network up, to make
// transparent sockets for as long as it lives, to mount, and to take
// capabilities from the command.
var initCapabilities = []uintptr{
	unix.CAP_NET_ADMIN, unix.CAP_NET_BIND_SERVICE, unix.CAP_NET_RAW, unix.CAP_SETPCAP, unix.CAP_SYS_ADMIN,
}

// supervisorCapabilities are what init has besides, where it may: without them
// unix sockets are hidden by name, and the level says so. It has no right over
// files: their permissions stay those of the user.
var supervisorCapabilities = []uintptr{unix.CAP_SYS_PTRACE, unix.CAP_SYS_CHROOT}

func namespaces(user bool) *syscall.SysProcAttr {
	attributes := &syscall.SysProcAttr{
		Pdeathsig:  syscall.SIGKILL,
		Cloneflags: unix.CLONE_NEWNET | unix.CLONE_NEWPID | unix.CLONE_NEWNS | unix.CLONE_NEWIPC,
	}
	if user {
		// The same number inside, so that the command looks like the same user;
		// ambient, for without uid 0 all capabilities would be lost at exec.
		uid, gid := os.Geteuid(), os.Getegid()
		attributes.Cloneflags |= unix.CLONE_NEWUSER
		attributes.UidMappings = []syscall.SysProcIDMap{{ContainerID: uid, HostID: uid, Size: 1}}
		attributes.GidMappings = []syscall.SysProcIDMap{{ContainerID: gid, HostID: gid, Size: 1}}
		attributes.AmbientCaps = append(slices.Clone(initCapabilities), supervisorCapabilities...)
	}
	return attributes
}
