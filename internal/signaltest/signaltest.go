// Package signaltest has what a test starts get the signals that a program gets at a shell.
// The main functions of tests call it whose children are to end by a signal, or count it;
// no program does.
package signaltest

import (
	"os"
	"os/signal"
	"syscall"
)

// Default takes back that this process was started with signals ignored: nohup does so with
// SIGHUP, a shell with SIGINT and SIGQUIT where a script begins something in the background.
// What is ignored stays so in whatever is started, and there it would mean something.
func Default() {
	for _, s := range []os.Signal{syscall.SIGHUP, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGTERM} {
		if signal.Ignored(s) {
			signal.Notify(make(chan os.Signal, 1), s) // caught, it is not passed on; here it is ignored still
		}
	}
}
