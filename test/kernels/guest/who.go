package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"syscall"
	"time"
)

// who is as whom a row is tried.
type who struct {
	name   string
	uid    uint32
	home   string
	cgroup string
}

var everybody = []who{
	{"root", 0, "/root", systemCgroup},
	{"user", userID, userHome, userCgroup},
}

// result is what a command did.
type result struct {
	stdout, stderr string
	code           int
}

func (r result) String() string {
	return fmt.Sprintf("exit %d\nstandard output: %s\nstandard error: %s", r.code, r.stdout, r.stderr)
}

// do runs a command to its end, in the cgroup of who runs it.
func (w who) do(ctx context.Context, program string, arguments ...string) (result, error) {
	return w.doIn(ctx, place{folder: w.home}, program, arguments...)
}

// place is where and how a command runs.
type place struct {
	folder string
	env    []string
	copyTo io.Writer // gets the standard output as it comes, too; nil for nobody
}

func (w who) doIn(ctx context.Context, at place, program string, arguments ...string) (result, error) {
	cgroup, err := os.Open(w.cgroup)
	if err != nil {
		return result{}, err
	}
	defer cgroup.Close()
	var stdout, stderr bytes.Buffer
	command := exec.CommandContext(ctx, program, arguments...)
	command.Dir, command.Stdout, command.Stderr = at.folder, &stdout, &stderr
	if at.copyTo != nil {
		command.Stdout = io.MultiWriter(&stdout, at.copyTo)
	}
	command.Env = append([]string{
		"PATH=/bin:/sbin:/usr/bin", "HOME=" + w.home, "USER=" + w.name, "TMPDIR=/tmp", "TERM=dumb",
		fmt.Sprintf("XDG_RUNTIME_DIR=/run/user/%d", w.uid),
	}, at.env...)
	command.SysProcAttr = &syscall.SysProcAttr{
		Setsid: true, UseCgroupFD: true, CgroupFD: int(cgroup.Fd()),
		Credential: &syscall.Credential{Uid: w.uid, Gid: w.uid},
	}
	command.WaitDelay = 5 * time.Second
	err = command.Run()
	r := result{stdout: stdout.String(), stderr: stderr.String()}
	var exit *exec.ExitError
	if errors.As(err, &exit) && ctx.Err() == nil {
		r.code = exit.ExitCode()
		return r, nil
	}
	return r, err
}

// sluice runs the command line.
func (w who) sluice(ctx context.Context, arguments ...string) (result, error) {
	return w.do(ctx, "/bin/sluice", arguments...)
}
