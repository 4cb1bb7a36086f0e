package httppath

import (
	"strings"
	"testing"
)

func TestAURIOfARuleCanStandInARequestLine(t *testing.T) {
	for text, ok := range map[string]bool{
		"/": true, "/a?b=c%20d": true, "/a;b": true,
		"": false, "a": false, "*": false, "http://a/": false, "/a b": false, "/a#b": false, "/%": false, "/%2": false, "/%zz": false, "/ü": false,
		"/a\r\nhost: b": false, "/" + strings.Repeat("a", MaxURI): false,
	} {
		if err := CheckURI(text); (err == nil) != ok {
			t.Errorf("%.20q: %v", text, err)
		}
	}
}
