package cli

import (
	"fmt"
	"io"
)

// output is where all commands print. It remembers the first write that failed, so
// that none of them has to look: what was not printed was not said.
type output struct {
	to     io.Writer
	failed error
}

// Write implements io.Writer. After a failure nothing is written any more.
func (o *output) Write(b []byte) (int, error) {
	if o.failed != nil {
		return 0, o.failed
	}
	n, err := o.to.Write(b)
	if err != nil {
		o.failed = fmt.Errorf("write standard output: %w", err)
	}
	return n, o.failed
}
