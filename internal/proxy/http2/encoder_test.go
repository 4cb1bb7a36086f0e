package http2

import (
	"strings"
	"testing"
)

// A long value is neither kept nor put into the table: what a connection holds for its table
// does not grow with what is said on it.
func TestALongValueIsNotKeptForTheTable(t *testing.T) {
	e := newEncoder()
	for _, size := range []int{mostIndexed, mostIndexed + 1} {
		value := strings.Repeat("x", size)
		e.field(":path", value)
		e.block = e.block[:0]
		e.field(":path", value)
		kept := false
		for i := range e.known {
			for _, v := range e.known[i] {
				kept = kept || v == value
			}
		}
		if want := size <= mostIndexed; kept != want || len(e.block) < 10 != want {
			t.Errorf("%d bytes: kept %v, and said again in %d bytes", size, kept, len(e.block))
		}
	}
}
