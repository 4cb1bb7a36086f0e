package accesslog

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"syscall"

	"sluice.dev/sluice/internal/record"
)

// writeSize is how many bytes of lines are written at once.
const writeSize = 64 << 10

// Lines is an Output that writes a line for each record.
type Lines struct {
	format *Format
	buffer []byte
	torn   bool // the last write ended amid a line

	mu     sync.Mutex // of what a reopening changes; never held while something is written, which may take for ever
	to     io.Writer
	file   *os.File // nil: it is not ours
	opened int      // how often anew

	path string
}

// NewLines writes to somebody else's writer.
func NewLines(to io.Writer, format *Format) *Lines { return &Lines{format: format, to: to} }

// OpenFile appends to a file, which is made where it is missing, for its owner and group
// alone to read.
func OpenFile(path string, format *Format) (*Lines, error) {
	file, err := open(path)
	if err != nil {
		return nil, err
	}
	return &Lines{format: format, to: file, file: file, path: path}, nil
}

func open(path string) (*os.File, error) {
	// Without O_NONBLOCK a named pipe that nobody reads would be waited for.
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND|os.O_CREATE|syscall.O_NONBLOCK|syscall.O_CLOEXEC, 0o640)
	if errors.Is(err, syscall.ENXIO) {
		return nil, fmt.Errorf("open %s: nobody reads this named pipe", path)
	}
	return file, err
}

// Reopen opens the file anew, as after it was renamed: what comes next is in the new one. Where that
// fails, lines go on to the old one.
func (l *Lines) Reopen() error {
	if l.path == "" {
		return nil
	}
	file, err := open(l.path)
	if err != nil {
		return err
	}
	l.mu.Lock()
	old := l.file
	l.to, l.file = file, file
	l.opened++
	l.mu.Unlock()
	return old.Close()
}

// Write implements Output.
func (l *Lines) Write(batch []record.Record) (lost int, err error) {
	b := l.buffer[:0]
	for i := range batch {
		b = l.format.Append(b, &batch[i])
		if len(b) >= writeSize || i == len(batch)-1 {
			n, failed := l.write(b)
			lost += n
			if failed != nil {
				err = failed
			}
			b = b[:0]
		}
	}
	l.buffer = b
	return lost, err
}

func (l *Lines) write(b []byte) (lost int, err error) {
	if l.torn { // half a line is there: what follows begins on one of its own
		if _, err := l.writeAll([]byte("\n")); err != nil {
			return bytes.Count(b, []byte("\n")), err
		}
		l.torn = false
	}
	n, err := l.writeAll(b)
	if err == nil {
		return 0, nil
	}
	l.torn = n > 0 && b[n-1] != '\n'
	return bytes.Count(b[n:], []byte("\n")), err
}

// writeAll goes on in the new file where a reopening closes the old one.
func (l *Lines) writeAll(b []byte) (n int, err error) {
	for to, opened := l.current(); ; {
		written, err := to.Write(b[n:])
		n += written
		if !errors.Is(err, os.ErrClosed) {
			return n, err
		}
		before := opened
		if to, opened = l.current(); opened == before {
			return n, err
		}
	}
}

func (l *Lines) current() (to io.Writer, opened int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.to, l.opened
}

// Close implements Output.
func (l *Lines) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.file == nil {
		return nil
	}
	return l.file.Close()
}
