package demo

import (
	"fmt"
	"os"
	"sync"

	"sluice.dev/sluice/internal/tail"
)

// maxLog bounds the log of one process, in bytes: one file of that size, and the one
// before it.
const maxLog = 8 << 20

// output takes what one process says: all of it into a log, whose last words are kept
// for the error that tells of its end.
type output struct {
	tail.Tail
	path string

	mu      sync.Mutex
	file    *os.File // nil where it cannot be written, which is said once
	written int
}

func newOutput(path string) *output {
	o := &output{path: path}
	o.open()
	return o
}

// Write never fails: a process goes on when its log cannot be written.
func (o *output) Write(b []byte) (int, error) {
	o.Tail.Write(b)
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.file == nil {
		return len(b), nil
	}
	if o.written > 0 && o.written+len(b) > maxLog {
		o.file.Close()
		if err := os.Rename(o.path, o.path+".1"); err != nil {
			o.give(err)
			return len(b), nil
		}
		o.open()
	}
	if o.file != nil {
		n, err := o.file.Write(b)
		if o.written += n; err != nil {
			o.file.Close()
			o.give(err)
		}
	}
	return len(b), nil
}

// open begins a log. The lock is held, or nobody writes yet.
func (o *output) open() {
	file, err := os.OpenFile(o.path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC|os.O_APPEND, 0o600)
	if err != nil {
		o.give(err)
		return
	}
	o.file, o.written = file, 0
}

// give gives the log up and says why.
func (o *output) give(err error) {
	o.file = nil
	fmt.Fprintf(&o.Tail, "(its log cannot be written: %v)\n", err)
}

func (o *output) close() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.file != nil {
		o.file.Close()
		o.file = nil
	}
}
