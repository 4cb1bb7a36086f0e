package report

import (
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// Progress says what is being done: on a terminal in one line that is written
// over, elsewhere only which section began ("egress" of "egress: round 1"). The
// zero value is silent.
type Progress struct {
	to       io.Writer
	terminal bool
	section  *string // that was said last
}

// NewProgress returns the progress of standard error.
func NewProgress() Progress {
	_, err := unix.IoctlGetTermios(int(os.Stderr.Fd()), unix.TCGETS)
	return Progress{to: os.Stderr, terminal: err == nil, section: new(string)}
}

// Say says what is done now: "section: what".
func (p Progress) Say(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	switch {
	case p.to == nil:
	case p.terminal:
		fmt.Fprint(p.to, "\r\x1b[K"+text)
	default:
		section, _, _ := strings.Cut(text, ":")
		if section != *p.section {
			*p.section = section
			fmt.Fprintf(p.to, "measuring: %s\n", section)
		}
	}
}

// Clear removes the line.
func (p Progress) Clear() {
	if p.terminal {
		p.Say("")
	}
}
