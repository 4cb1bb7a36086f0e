package run

import (
	"runtime"

	"golang.org/x/sys/unix"
)

// takeTerminalBack makes our process group the terminal's foreground again where
// a group that is gone still is. A shell in the sandbox makes a job of itself; at
// its end it cannot give the terminal back, for its PID namespace does not show
// it our group.
func takeTerminalBack() {
	for _, fd := range []int{unix.Stdin, unix.Stdout, unix.Stderr} {
		foreground, err := unix.IoctlGetInt(fd, unix.TIOCGPGRP)
		if err != nil {
			continue // not our terminal
		}
		if foreground > 0 && unix.Kill(-foreground, 0) == unix.ESRCH {
			makeForeground(fd, unix.Getpgrp())
		}
		return
	}
}

// makeForeground sets the foreground group from the background, for which the
// kernel would stop us if the calling thread did not block SIGTTOU.
func makeForeground(fd, group int) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var wanted, before unix.Sigset_t
	wanted.Val[0] = 1 << (unix.SIGTTOU - 1)
	if unix.PthreadSigmask(unix.SIG_BLOCK, &wanted, &before) != nil {
		return
	}
	defer unix.PthreadSigmask(unix.SIG_SETMASK, &before, nil)
	unix.IoctlSetPointerInt(fd, unix.TIOCSPGRP, group)
}
