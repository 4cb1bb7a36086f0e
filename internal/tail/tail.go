// Package tail keeps the last words of a process, for the error that tells of
// its end. The demo and the benchmarks give one to each process that they start.
// It never keeps more than Max bytes.
package tail

import (
	"bytes"
	"strings"
	"sync"
)

// Max bounds what is kept, in bytes.
const Max = 16 << 10

// Tail is a writer that keeps the last Max bytes of what was written. The zero
// value is ready, and safe for concurrent use.
type Tail struct {
	mu   sync.Mutex
	text []byte
}

// Write keeps b. It never fails.
func (t *Tail) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.text = append(t.text, b[max(0, len(b)-Max):]...)
	if over := len(t.text) - Max; over > 0 {
		t.text = bytes.Clone(t.text[over:])
	}
	return len(b), nil
}

// String returns what is kept, without space around it.
func (t *Tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return strings.TrimSpace(string(t.text))
}
