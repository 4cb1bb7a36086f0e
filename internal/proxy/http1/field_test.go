package http1

import (
	"bytes"
	"testing"
)

func TestAValueIsTheSameForEightBytesAtOnceAsForEach(t *testing.T) {
	for _, around := range []byte{'a', ' ', 0x1f + 1, 0x7e, 0x80, 0xff, '\t'} {
		for length := range 20 {
			for at := range length {
				for c := range 256 {
					b := bytes.Repeat([]byte{around}, length)
					b[at] = byte(c)
					if isValue(b) != all(b, valueByte) {
						t.Fatalf("%q: %v", b, isValue(b))
					}
				}
			}
		}
	}
}
