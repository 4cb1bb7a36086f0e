package run

import (
	"os"
	"os/signal"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"

	"sluice.dev/sluice/internal/sandbox"
)

// forwarded are the signals that the command gets in our place. Those of a
// terminal reach it by themselves: see sandbox.Signal.
var forwarded = []os.Signal{
	syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGUSR1, syscall.SIGUSR2,
	syscall.SIGWINCH, syscall.SIGCONT,
}

// catchSignals begins before the command does, so that none is lost in between
// and none ends us instead of it. What is ignored, as under nohup, stays so.
func catchSignals() (signals chan os.Signal, stop func()) {
	signals = make(chan os.Signal, 16)
	for _, s := range forwarded {
		if !signal.Ignored(s) {
			signal.Notify(signals, s)
		}
	}
	return signals, func() { signal.Stop(signals) }
}

// stopToo stops this process as its command was, so that the shell around takes
// the terminal back; it returns when the shell goes on with the job. Where there is
// no such shell the kernel does not let SIGTSTP stop us for good.
// This thread is stopped before it goes on: the signal is its own.
func stopToo() {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	unix.Tgkill(unix.Getpid(), unix.Gettid(), unix.SIGTSTP)
}

// passOn hands a signal to the command.
func passOn(box *sandbox.Sandbox, received os.Signal) {
	if number, ok := received.(syscall.Signal); ok {
		box.Signal(number) // an error says that it ends
	}
}
