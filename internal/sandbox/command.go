package sandbox

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// startCommand drops everything on one thread, which the command inherits from
// and which ends then.
func startCommand(command []string, runAs *Identity) (pid int, err error) {
	path, err := exec.LookPath(command[0])
	if err != nil && !errors.Is(err, exec.ErrDot) { // a PATH with "." in it is the user's wish
		return 0, &CommandError{Command: command[0], Err: errnoOf(err)}
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		if err = confineThread(runAs); err != nil {
			return
		}
		pid, err = execute(path, command)
	}()
	<-done
	return pid, err
}

func execute(path string, command []string) (pid int, err error) {
	attributes := &syscall.ProcAttr{Env: os.Environ(), Files: []uintptr{0, 1, 2}}
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

// confineThread takes capabilities, reach and system calls from the calling thread.
func confineThread(runAs *Identity) error {
	if err := dropAllCapabilities(runAs); err != nil {
		return err
	}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("set no_new_privs: %w", err)
	}
	if err := enterScopes(); err != nil {
		return err
	}
	return installFilter(filter())
}

// becomeOnThisThread changes the user of the calling thread alone; the standard
// library would change that of all, and init needs its capabilities.
func becomeOnThisThread(who *Identity) error {
	groups := make([]uint32, len(who.Groups)+1) // never empty, for its address
	for i, group := range who.Groups {
		groups[i] = uint32(group)
	}
	_, _, errno := unix.RawSyscall(unix.SYS_SETGROUPS, uintptr(len(who.Groups)), uintptr(unsafe.Pointer(&groups[0])), 0)
	if errno != 0 {
		return fmt.Errorf("set groups: %w", errno)
	}
	gid, uid := uintptr(who.GID), uintptr(who.UID)
	if _, _, errno = unix.RawSyscall(unix.SYS_SETRESGID, gid, gid, gid); errno != 0 {
		return fmt.Errorf("become group %d: %w", who.GID, errno)
	}
	if _, _, errno = unix.RawSyscall(unix.SYS_SETRESUID, uid, uid, uid); errno != 0 {
		return fmt.Errorf("become user %d: %w", who.UID, errno)
	}
	return nil
}
