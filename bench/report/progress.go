package report

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Progress says on a terminal what is being done, in one line that is written
// over. Where standard error is no terminal it is silent.
type Progress struct{ on bool }

// NewProgress returns the progress of standard error.
func NewProgress() Progress {
	_, err := unix.IoctlGetTermios(int(os.Stderr.Fd()), unix.TCGETS)
	return Progress{on: err == nil}
}

// Say replaces the line.
func (p Progress) Say(format string, args ...any) {
	if p.on {
		fmt.Fprintf(os.Stderr, "\r\x1b[K"+format, args...)
	}
}

// Clear removes the line.
func (p Progress) Clear() { p.Say("") }
