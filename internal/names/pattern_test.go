package names

import (
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestBothGrammarsTakeWhatIstioTook(t *testing.T) {
	for _, s := range []string{"cnn.com", "10.0.0.100", "*cnn.com", "*.cnn.com", "*-cnn.com", "*.0.0.100", "*0.0.100", "*com", "*0", "*",
		"xn--bcher-kva.de", strings.Repeat("a.", 127) + "a"} {
		p, err := ParsePattern(s)
		if err != nil || p.String() != s {
			t.Errorf("ParsePattern(%q) = %q, %v", s, p, err)
		}
		if istio, err := ParseIstioPattern(s); err != nil || istio != p {
			t.Errorf("ParseIstioPattern(%q) = %q, %v", s, istio, err)
		}
	}
}

// DNS allows underscores, and names in use have them. Istio 0.5's EgressRule does
// not take them, nor a hyphen at the end of a label.
func TestAPatternTakesEveryLabelThatANameHas(t *testing.T) {
	for pattern, name := range map[string]string{
		"my_svc.example.com":   "my_svc.example.com",
		"*.my_svc.example.com": "a.my_svc.example.com",
		"*_svc.example.com":    "my_svc.example.com",
		"_dmarc.example.com":   "_dmarc.example.com",
		"a-.example.com":       "a-.example.com",
	} {
		p, err := ParsePattern(pattern)
		if err != nil || !p.Match(MustParse(name)) {
			t.Errorf("ParsePattern(%q) = %q, %v, which matches %s: %t", pattern, p, err, name, p.Match(MustParse(name)))
		}
		if _, err := ParseIstioPattern(pattern); !errors.As(err, new(LabelError)) {
			t.Errorf("ParseIstioPattern(%q): %v", pattern, err)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		n, err := Parse(rapid.StringMatching(`[a-z0-9_][a-z0-9_-]{0,5}(\.[a-z0-9_][a-z0-9_-]{0,5}){0,3}`).Draw(t, "name"))
		if err != nil {
			return // an address, or an A-label that is none
		}
		p, err := ExactPattern(n)
		if exact, ok := p.Exact(); err != nil || !ok || exact != n || !p.Match(n) {
			t.Fatalf("ExactPattern(%s) = %q, %v", n, p, err)
		}
		var sent Pattern
		if err := sent.UnmarshalText([]byte(p.String())); err != nil || sent != p {
			t.Fatalf("%q reaches a proxy as %q, %v", p, sent, err)
		}
	})
}

func TestAPatternIsRefusedInTheWordsOfIstio(t *testing.T) {
	long := strings.Repeat("a.", 128)
	for s, want := range map[string]string{
		"":                      `domain must not be empty string`,
		"*.":                    `domain name "" invalid (label "" invalid)`,
		"*-":                    `domain name "" invalid (label "" invalid)`,
		"cnn..com":              `domain name "cnn..com" invalid (label "" invalid)`,
		"cnn.com.":              `domain name "cnn.com." invalid (label "" invalid)`,
		"cnn.com:80":            `domain name "cnn.com:80" invalid (label "com:80" invalid)`,
		"*cnn*.com":             `domain name "cnn*.com" invalid (label "cnn*" invalid)`,
		"cnn.*.com":             `domain name "cnn.*.com" invalid (label "*" invalid)`,
		"**com":                 `domain name "*com" invalid (label "*com" invalid)`,
		"**0":                   `domain name "*0" invalid (label "*0" invalid)`,
		"CNN.com":               `domain name "CNN.com" invalid (label "CNN" invalid)`,
		"a_b.com":               `domain name "a_b.com" invalid (label "a_b" invalid)`,
		"a-.com":                `domain name "a-.com" invalid (label "a-" invalid)`,
		"-a.com":                `domain name "-a.com" invalid (label "-a" invalid)`,
		"*..com":                `domain name ".com" invalid (label "" invalid)`,
		"*--a.com":              `domain name "-a.com" invalid (label "-a" invalid)`,
		"bücher.de":             `domain name "bücher.de" invalid (label "bücher" invalid)`,
		"2001:db8::1":           `domain name "2001:db8::1" invalid (label "2001:db8::1" invalid)`,
		"10.15.0/16":            `domain name "10.15.0/16" invalid (label "0/16" invalid)`,
		strings.Repeat("a", 64): fmt.Sprintf(`domain name %q invalid (label %[1]q invalid)`, strings.Repeat("a", 64)),
		long:                    fmt.Sprintf("domain name %q too long (max 255)", long),
		"*." + long:             fmt.Sprintf("domain name %q too long (max 255)", long),
	} {
		p, err := ParseIstioPattern(s)
		if err == nil || err.Error() != want || !p.IsZero() {
			t.Errorf("ParseIstioPattern(%q) = %q, %v\nwant %s", s, p, err, want)
		}
		if s == "a_b.com" || s == "a-.com" {
			continue
		}
		if p, err := ParsePattern(s); err == nil || err.Error() != want || !p.IsZero() {
			t.Errorf("ParsePattern(%q) = %q, %v\nwant %s", s, p, err, want)
		}
	}
	var label LabelError
	if _, err := ParsePattern("a..b"); !errors.As(err, &label) || label.Domain != "a..b" {
		t.Errorf("the error is not a LabelError: %v", err)
	}
}

func TestPatternMatchesByCharacters(t *testing.T) {
	for _, c := range []struct {
		pattern, name string
		want          bool
	}{
		{"*.foo.com", "a.foo.com", true},
		{"*.foo.com", "a.b.foo.com", true},
		{"*.foo.com", "foo.com", false},
		{"*-bar.foo.com", "baz-bar.foo.com", true},
		{"*bar.foo.com", "bar.foo.com", false},
		{"*com", "telecom", true},
		{"*com", "a.com", true},
		{"*com", "com", false},
		{"*", "com", true},
		{"foo.com", "foo.com", true},
		{"foo.com", "a.foo.com", false},
		{"*.googleapis.com", "googleapis.com", false},
		{"*.googleapis.com", "evilgoogleapis.com", false},
		{"*googleapis.com", "evilgoogleapis.com", true},
		{"*.cnn.com", "www.cnn.com.evil.example", false},
		{"*0.0.100", "a.example", false},
	} {
		if got := MustParsePattern(c.pattern).Match(MustParse(c.name)); got != c.want {
			t.Errorf("%s matches %s: %t, want %t", c.pattern, c.name, got, c.want)
		}
	}
	for _, p := range []Pattern{{}, MustParsePattern("*"), MustParsePattern("a")} {
		if p.Match(Name{}) {
			t.Errorf("%q matches no name at all", p)
		}
	}
}

func TestPatternSaysWhatItIs(t *testing.T) {
	for s, want := range map[string]struct {
		exact       string
		addr        netip.Addr
		any         bool
		specificity int
	}{
		"*":             {any: true},
		"*.foo.com":     {specificity: 8},
		"foo.com":       {exact: "foo.com", specificity: 517},
		"10.0.0.100":    {addr: netip.MustParseAddr("10.0.0.100"), specificity: 520},
		"127.1":         {addr: netip.MustParseAddr("127.0.0.1"), specificity: 515},
		"foo.123":       {specificity: 517},
		"*.0.0.100":     {specificity: 8},
		"xn--a.example": {specificity: 523},
	} {
		p := MustParsePattern(s)
		exact, _ := p.Exact()
		addr, _ := p.Addr()
		if exact.String() != want.exact || addr != want.addr || p.IsAny() != want.any || p.Specificity() != want.specificity {
			t.Errorf("%s: exact %q, address %v, any %t, specificity %d", s, exact, addr, p.IsAny(), p.Specificity())
		}
		var again Pattern
		text, _ := p.MarshalText()
		if err := again.UnmarshalText(text); err != nil || again != p {
			t.Errorf("%s does not survive its text: %v, %v", s, again, err)
		}
	}
}

// drawPattern draws patterns over few letters, so that they meet.
func drawPattern(t *rapid.T, label string) Pattern {
	return MustParsePattern(rapid.OneOf(
		rapid.Just("*"),
		rapid.StringMatching(`(\*[.-]?)?[ab]([ab-]?[ab])?(\.[ab]){0,3}`),
	).Draw(t, label))
}

func drawName(t *rapid.T, label string) Name {
	return MustParse(rapid.StringMatching(`[ab]([ab-]?[ab])?(\.[ab]([ab-]?[ab])?){0,4}`).Draw(t, label))
}

// naiveMatch is facts 1.3 as a regular expression.
func naiveMatch(p Pattern, n Name) bool {
	re := "^" + strings.ReplaceAll(regexp.QuoteMeta(p.String()), `\*`, `.+`) + "$"
	return regexp.MustCompile(re).MatchString(n.String())
}

func TestPatternMatchesAsTheNaiveModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p, n := drawPattern(t, "pattern"), drawName(t, "name")
		if got, want := p.Match(n), naiveMatch(p, n); got != want {
			t.Fatalf("%s matches %s: %t, want %t", p, n, got, want)
		}
	})
}

func BenchmarkParse(b *testing.B) {
	for _, s := range []string{"www.googleapis.com", "WWW.Googleapis.com.", "bücher.example"} {
		b.Run(s, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				_, _ = Parse(s)
			}
		})
	}
}

func FuzzParsePattern(f *testing.F) {
	for _, s := range []string{"cnn.com", "10.0.0.100", "*cnn.com", "*.cnn.com", "*-cnn.com", "*.0.0.100", "*0.0.100", "*com", "*0", "*",
		"192.168.3.0/24", "50.1.2.3/32", "cnn..com", "cnn.com:80", "*cnn*.com", "cnn.*.com", "**com", "**0", "", "*.", "10.15.0/16", "10.15.0.0/33"} {
		f.Add(s, "www.cnn.com")
	}
	f.Fuzz(func(t *testing.T, s, of string) {
		p, err := ParsePattern(s)
		if err != nil {
			return
		}
		if p.String() != s || strings.Contains(s[1:], "*") {
			t.Fatalf("ParsePattern(%q) = %q", s, p)
		}
		n, err := Parse(of)
		if err != nil {
			return
		}
		if got, want := p.Match(n), naiveMatch(p, n); got != want {
			t.Fatalf("%q matches %q: %t, want %t", p, n, got, want)
		}
		var index *Index
		edit := index.Change()
		edit.Put(p, 7)
		index = edit.Done()
		if got := len(matches(index, n)) == 1; got != p.Match(n) {
			t.Fatalf("an index of %q finds %q: %t", p, n, got)
		}
	})
}
