package httpfield

import (
	"strings"
	"testing"
)

func TestAFieldThatFramesARequestCannotBeAppended(t *testing.T) {
	for name, want := range map[string]string{
		"content-length": "frames", "host": "frames", "te": "frames", "x-sluice-reason": "Sluice alone", "x-mine": "", "authorization": "",
	} {
		if err := CheckAppended(name, "a"); (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for value, ok := range map[string]bool{"a b\tc": true, "a\r\nb: c": false, "a\x00": false, "\x7f": false, "ü": true} {
		if err := CheckAppended("x-mine", value); (err == nil) != ok {
			t.Errorf("%q: %v", value, err)
		}
	}
}

func TestAnAuthorityIsAHostWithOrWithoutAPort(t *testing.T) {
	for text, ok := range map[string]bool{
		"a": true, "a.example:80": true, "[::1]:80": true, "10.0.0.1": true, "a_b.example": true,
		"a:80:80": false, "a:http": false, "a:800000": false, "a:": false, "[": false, "[]": false, "a[::1]": false, "[::1]a": false, "[1.2.3.4]": false, "[::1]:": false,
		"": false, ":80": false, "a/b": false, "a b": false, "u@a": false, "a\r\nx: y": false, strings.Repeat("a", 260): false,
	} {
		if err := CheckAuthority(text); (err == nil) != ok {
			t.Errorf("%q: %v", text, err)
		}
	}
}
