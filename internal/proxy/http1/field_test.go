package http1

import (
	"bytes"
	"testing"

	"sluice.dev/sluice/internal/proxy/exchange"
)

// A Director must not reach a field on which the engine acts, under any name.
func TestOnlyFieldsThatSayNothingToTheEngineAreEditable(t *testing.T) {
	for _, name := range []string{
		"te", "host", "expect", "upgrade", "trailer", "connection", "keep-alive", "content-length", "content_length", "http2-settings",
		"proxy-connection", "transfer-encoding", "transfer_encoding", "proxy-authenticate", "proxy-authorization",
	} {
		if kindOf([]byte(name)) == otherField || exchange.Editable(name) {
			t.Errorf("%q is of kind %d, editable: %v", name, kindOf([]byte(name)), exchange.Editable(name))
		}
	}
	for _, name := range []string{"x-a", "content-type", "content-encoding", "content-range", "cookie", "authorization", "www-authenticate", "forwarded", "via"} {
		if kind := kindOf([]byte(name)); kind != otherField && kind != bodyField && kind != signInField || !exchange.Editable(name) {
			t.Errorf("%q is of kind %d, editable: %v", name, kind, exchange.Editable(name))
		}
	}
}

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
