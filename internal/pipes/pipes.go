// Package pipes lets a process outlive those who read what it says. Main functions of
// programs that must end in order call it. It never writes.
package pipes

import (
	"os"
	"os/signal"
	"syscall"
)

// Survive makes writing to a pipe that nobody reads any more an error in place of our
// end. The signal is taken, not ignored, for what is ignored stays so in the programs that
// we start.
func Survive() { signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE) }
