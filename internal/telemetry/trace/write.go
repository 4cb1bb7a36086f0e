package trace

import (
	"encoding/hex"
	"unsafe"
)

// Writer writes the fields of one request after the other, in one buffer: a request has
// ended before the next one of its connection begins. It must not be copied once it is
// used.
type Writer struct {
	parent [55]byte
	trace  [32]byte
	span   [16]byte
	above  [16]byte
	single [68]byte
}

// Write calls set with each field that a request gets: views, until the next call.
func (w *Writer) Write(c *Context, hasB3 bool, set func(name, value string)) {
	hex.Encode(w.trace[:], c.Trace[:])
	hex.Encode(w.span[:], c.Span[:])
	flag := byte('0')
	if c.Sampled {
		flag = '1'
	}
	b := append(w.parent[:0], "00-"...)
	b = append(append(b, w.trace[:]...), '-')
	b = append(append(b, w.span[:]...), '-', '0', flag)
	set(Parent, view(b))
	set(b3Trace, view(w.trace[:]))
	set(b3Span, view(w.span[:]))
	if c.Parent != (SpanID{}) {
		hex.Encode(w.above[:], c.Parent[:])
		set(b3Parent, view(w.above[:]))
	}
	set(b3Sampled, flags[flag-'0'])
	if !hasB3 {
		return
	}
	b = append(append(w.single[:0], w.trace[:]...), '-')
	b = append(append(b, w.span[:]...), '-', flag)
	if c.Parent != (SpanID{}) {
		b = append(append(b, '-'), w.above[:]...)
	}
	set(B3, view(b))
}

var flags = [...]string{"0", "1"}

func view(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }
