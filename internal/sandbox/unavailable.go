package sandbox

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"sluice.dev/sluice/internal/capture"
)

// UnavailableError says why this machine does not give a sandbox.
type UnavailableError struct {
	Reason Reason
	Err    error
}

// Reason is a kind of machine that gives no sandbox.
type Reason string

// The reasons, and in remedies what to do about each.
const (
	NamespaceLimit    Reason = "namespace-limit"
	UserNamespacesOff Reason = "user-namespaces-off"
	AppArmor          Reason = "apparmor"
	NotPermitted      Reason = "not-permitted"
	NoTransparent     Reason = "no-tproxy"
	NoMounts          Reason = "no-mounts"
	NoRoot            Reason = "root-without-capabilities"
	SetUpFailed       Reason = "set-up-failed"
)

var remedies = map[Reason][2]string{
	NamespaceLimit:    {"the machine's limit of namespaces is reached or 0", "raise user.max_user_namespaces, user.max_net_namespaces and user.max_pid_namespaces (sysctl), or run as root"},
	UserNamespacesOff: {"the kernel keeps user namespaces from ordinary users", "as root: sysctl -w kernel.unprivileged_userns_clone=1, or run as root"},
	AppArmor:          {"AppArmor keeps capabilities from user namespaces of ordinary users", "as root: sysctl -w kernel.apparmor_restrict_unprivileged_userns=0, or give this program an AppArmor profile with userns, or run as root"},
	NotPermitted:      {"this process may not make namespaces, as in a container with an ordinary seccomp profile", "give the container SYS_ADMIN and NET_ADMIN, or a seccomp profile that allows user namespaces"},
	NoTransparent:     {"the kernel has no nftables with transparent proxying", "as root: modprobe -a nf_tables nft_tproxy nft_reject_inet"},
	NoMounts:          {"this process may not mount, so folders with sockets cannot be hidden", "in a container, run with SYS_ADMIN and an AppArmor profile that allows mounts"},
	NoRoot:            {"root without capabilities may not map itself into a user namespace, as inside another sandbox", "run the outer one as another user, as sluice run --run-as UID does, or give this process the capability SETFCAP"},
	SetUpFailed:       {"the sandbox could not be set up", "the error says what failed"},
}

func (e *UnavailableError) Error() string {
	return fmt.Sprintf("no sandbox: %s (%v); %s", remedies[e.Reason][0], e.Err, e.Remedy())
}

func (e *UnavailableError) Unwrap() error { return e.Err }

// Remedy says what to do.
func (e *UnavailableError) Remedy() string { return remedies[e.Reason][1] }

// Probe says whether this machine gives a sandbox, by making one; the error is
// an *UnavailableError. It takes about 10 ms.
func Probe(ctx context.Context) error {
	s, err := New(ctx, Config{Command: []string{"true"}, Dir: "/"})
	if err != nil {
		return err
	}
	s.Kill()
	s.Wait()
	return nil
}

// explain finds the reason behind an error of clone, or of a step of the set-up.
func explain(err error, step string, userNamespace bool) error {
	return &UnavailableError{Reason: reasonOf(err, step, userNamespace, os.Geteuid(), sysctl), Err: err}
}

func reasonOf(err error, step string, userNamespace bool, uid int, sysctl func(string) string) Reason {
	permission := errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES)
	switch {
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EUSERS):
		return NamespaceLimit
	case permission && userNamespace && sysctl("kernel/unprivileged_userns_clone") == "0":
		return UserNamespacesOff
	case permission && userNamespace && sysctl("kernel/apparmor_restrict_unprivileged_userns") == "1":
		return AppArmor
	case permission && step == stepMounts:
		return NoMounts
	case step == stepConfine:
		return SetUpFailed
	case permission && step == "" && userNamespace && uid == 0:
		return NoRoot
	case permission && step == "":
		return NotPermitted
	case step == string(capture.StepRules) && !permission:
		return NoTransparent
	case permission:
		return NotPermitted
	}
	return SetUpFailed
}

func sysctl(name string) string {
	value, err := os.ReadFile("/proc/sys/" + name)
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(value))
}

// CommandError says that the command could not be started.
type CommandError struct {
	Command string
	Err     error
}

func (e *CommandError) Error() string { return e.Command + ": " + e.Err.Error() }
func (e *CommandError) Unwrap() error { return e.Err }

// ExitCode is what a shell exits with: 127 where there is no such command, 126
// where it cannot be executed.
func (e *CommandError) ExitCode() int {
	if errors.Is(e.Err, syscall.ENOENT) {
		return 127
	}
	return 126
}

// Steps of init's set-up.
const (
	stepUnix    = "unix"
	stepStreams = "streams"
	stepFiles   = "files"
	stepFolder  = "folder"
	stepConfine = "confine"
)

const stepCommand = "command" // of a failure that is a *CommandError

func failureOf(step string, err error) *failure {
	f := &failure{Step: step, Text: err.Error()}
	var stepError *capture.StepError
	if errors.As(err, &stepError) {
		f.Step = string(stepError.Step)
	}
	var commandError *CommandError
	if errors.As(err, &commandError) {
		f.Step, f.Text = stepCommand, commandError.Command
	}
	var wishes *contradictionError
	if errors.As(err, &wishes) {
		f.Step = stepFiles
	}
	errors.As(err, &f.Errno)
	return f
}

// error makes the failure an error again, that of a system call where one was.
func (f *failure) error() error {
	if f.Step == stepCommand {
		return &CommandError{Command: f.Text, Err: f.Errno}
	}
	if f.Errno != 0 {
		return &remoteError{text: f.Text, errno: f.Errno}
	}
	return errors.New(f.Text)
}

// remoteError is an error of init: its text, and its errno for errors.Is.
type remoteError struct {
	text  string
	errno syscall.Errno
}

func (e *remoteError) Error() string { return e.text }
func (e *remoteError) Unwrap() error { return e.errno }
