// Package stdout is the standard output of a command: it remembers the first write that
// failed, so that a command that does not look at each error still ends with one. The
// commands of people call it. It never retries, and writes nothing behind a failure.
package stdout

import (
	"errors"
	"fmt"
	"io"
)

// Writer writes to To.
type Writer struct {
	To     io.Writer
	failed error
}

// Write implements io.Writer. Behind a write that failed nothing more is written: what
// came later would look whole.
func (w *Writer) Write(b []byte) (int, error) {
	if w.failed != nil {
		return 0, w.failed
	}
	n, err := w.To.Write(b)
	if err == nil && n < len(b) {
		err = io.ErrShortWrite
	}
	w.failed = err
	return n, err
}

// Outcome is how a command ended that returned err: with err, and with the failed write
// of its output where there was one. A status that only sums up what was printed does
// not stand where it could not be printed: summary says of err that it is one.
func (w *Writer) Outcome(err error, summary bool) error {
	if w.failed == nil {
		return err
	}
	failed := fmt.Errorf("cannot write the output: %w", w.failed)
	if err == nil || summary || errors.Is(err, w.failed) {
		return failed
	}
	return fmt.Errorf("%w; and %w", err, failed)
}
