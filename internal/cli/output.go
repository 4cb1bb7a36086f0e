package cli

import (
	"errors"
	"fmt"
	"io"
)

// output is the standard output of every command. It remembers the first write that
// failed, so that a command that does not look at each error still ends with one.
type output struct {
	to     io.Writer
	failed error
}

// Write implements io.Writer. Behind a write that failed nothing more is written: what
// came later would look whole.
func (o *output) Write(b []byte) (int, error) {
	if o.failed != nil {
		return 0, o.failed
	}
	n, err := o.to.Write(b)
	if err == nil && n < len(b) {
		err = io.ErrShortWrite
	}
	o.failed = err
	return n, err
}

// outcome is how a command ended that returned err: with err, and with the failed write
// of its output where there was one. A status that only sums up what was printed does
// not stand where it could not be printed.
func (o *output) outcome(err error) error {
	if o.failed == nil {
		return err
	}
	failed := fmt.Errorf("cannot write the output: %w", o.failed)
	var exit *ExitError
	if err == nil || errors.Is(err, o.failed) || errors.As(err, &exit) && exit.Err == nil {
		return failed
	}
	return fmt.Errorf("%w; and %w", err, failed)
}
