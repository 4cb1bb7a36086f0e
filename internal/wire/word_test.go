package wire

import (
	"math/rand/v2"
	"regexp"
	"strings"
	"testing"
)

// The forms of Kubernetes, as it writes them down.
func TestLabelsAndNamesHaveTheFormsOfKubernetes(t *testing.T) {
	forms := []struct {
		name string
		want *regexp.Regexp
		got  func(string) bool
	}{
		{"DNS label", regexp.MustCompile(`^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$`), isDNSLabel},
		{"label key", regexp.MustCompile(`^([a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$`), isLabelKey},
		{"label value", regexp.MustCompile(`^([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?$`), isLabelValue},
	}
	texts := []string{"", "a", "-", "/", "a/", "/a", "a/b", "a/b/c", "a.b/c", "A/b", "a/B_c.d-e", "a_/b", "a\n", "é", "a\x00b",
		strings.Repeat("a", 63), strings.Repeat("a", 64), strings.Repeat("a", 253) + "/" + strings.Repeat("B", 63),
		strings.Repeat("a", 254) + "/b", "a/" + strings.Repeat("b", 64)}
	random := rand.New(rand.NewPCG(1, 2))
	for range 20_000 {
		text := make([]byte, random.IntN(9))
		for i := range text {
			text[i] = "abZ09-_./\n "[random.IntN(11)]
		}
		texts = append(texts, string(text))
	}
	for _, text := range texts {
		for _, form := range forms {
			if got, want := form.got(text), form.want.MatchString(text); got != want {
				t.Errorf("%q as %s: %v", text, form.name, got)
			}
		}
	}
}
