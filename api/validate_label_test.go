package api

import (
	"regexp"
	"strings"
	"testing"
)

func FuzzLabelsAreThoseOfRFC1123(f *testing.F) {
	label := regexp.MustCompile(`^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$`)
	for _, s := range []string{"", "a", "-", "a-", "-a", "a-b", "a--b", "0", "A", "a.b", "a\n", "ä", "a\x00", strings.Repeat("a", 63), strings.Repeat("a", 64), strings.Repeat("a", 62) + "-"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if got, want := isLabel(s), label.MatchString(s); got != want {
			t.Errorf("%q: %v, want %v", s, got, want)
		}
	})
}
