package httppath

import (
	"net/url"
	"path"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// FuzzIsNormal: a path that is let through reads the same to a server that
// decodes it once or twice, cleans it, cuts off path parameters, or takes
// backslashes for slashes, in any order.
func FuzzIsNormal(f *testing.F) {
	for _, p := range []string{"/", "/books/v1/volumes", "/a/../b", "/%2e%2e/b", "/a;b", "//", "/%252e", "/a%20b", "/%C3%A9/", "*", "http://a/b", "/%", "/%2", "/%2F", `/\`, "/.../x", "/.x/..y"} {
		f.Add(p)
	}
	f.Fuzz(func(t *testing.T, p string) {
		if !IsNormal(p) {
			return
		}
		clean := func(s string) string {
			c := path.Clean(s)
			if strings.HasSuffix(s, "/") && c != "/" {
				c += "/"
			}
			return c
		}
		if clean(p) != p {
			t.Fatalf("%q cleans to %q", p, clean(p))
		}
		once, err := url.PathUnescape(p)
		if err != nil {
			t.Fatalf("%q: %v", p, err)
		}
		if strings.Count(once, "/") != strings.Count(p, "/") || strings.ContainsAny(once, "\\;?#\x00\r\n") || clean(once) != once {
			t.Fatalf("%q decodes to %q", p, once)
		}
		if twice, err := url.PathUnescape(once); err == nil && twice != once {
			t.Fatalf("%q decodes twice, to %q", p, twice)
		}
	})
}

func TestWhatARuleMayListOfPaths(t *testing.T) {
	for pattern, want := range map[string]string{
		"/": "", "/a": "", "/a/": "", "/*": "", "/a/*": "", "/a*": "", "/a/.*": "", "/a/..*": "", "/%C3%A9": "", "/%C3*": "", "/%C3%A9*": "", "/a%*": "", "/a%2*": "", "/a%20b": "",
		"/a/%*": "", "/...": "", "/a,b=c:d@e!$&'()+": "", "/a/%2e*": "",
		"": "does not begin with /", "a": "does not begin with /", "*": "does not begin with /", "http://a/": "does not begin with /",
		"/a?b": "holds a query or fragment", "/a#b": "holds a query or fragment", "/*a": "holds * before its end", "/a**": "holds * before its end",
		"/ü": "holds a byte that no path has", "/a b": "holds a byte that no path has", "/a\n": "holds a byte that no path has",
		"/a/../b": `holds the segment ".."`, "/.": `holds the segment "."`, "/a/./*": `holds the segment "."`,
		"//": "matches no request", "/a//b": "matches no request", "//*": "matches no request", "/a;b": "matches no request", `/a\b`: "matches no request", "/%61": "matches no request", "/%2e%2e/a": "matches no request",
		"/a%2Fb": "matches no request", "/a%": "matches no request", "/a%2": "matches no request", "/a%zz*": "matches no request", "/%c0%ae": "matches no request", "/%c0%ae/*": "matches no request", "/%252e": "matches no request",
		"/" + strings.Repeat("a", MaxPattern): "longer than 4096 bytes",
	} {
		err := CheckPattern(pattern)
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%q: %v, want %s", pattern, err, want)
		}
	}
}

// What is listed can match: a pattern that is taken matches a normal path, and one
// that is not allowed is never the only way to list a normal path.
func TestAPatternIsTakenWhereANormalPathMatchesIt(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		path := rapid.StringMatching(`/([a.%2eCc3A9;/*-]|%C3%A9){0,8}`).Draw(t, "path")
		if strings.Contains(path, "*") {
			path = path[:strings.IndexByte(path, '*')+1]
		}
		prefix, isPrefix := strings.CutSuffix(path, "*")
		taken := CheckPattern(path) == nil
		if !isPrefix {
			if taken != (IsNormal(path) && !strings.Contains(path, "*")) {
				t.Fatalf("%q is taken: %t; normal: %t", path, taken, IsNormal(path))
			}
			return
		}
		for _, rest := range []string{"", "x", "e", "25", "0", "A9", "20", "C3%A9", "%A9", ".x", "/x"} {
			if matched := prefix + rest; IsNormal(matched) && !taken {
				t.Fatalf("%q is refused, and matches %q", path, matched)
			}
		}
	})
}

func TestMatchingIsByBytes(t *testing.T) {
	for _, c := range []struct {
		pattern, path string
		want          bool
	}{{"/a", "/a", true}, {"/a", "/A", false}, {"/a", "/a/", false}, {"/a*", "/a", true}, {"/a*", "/ab/c", true}, {"/a/*", "/a", false}, {"/*", "/", true}} {
		if got := Matches([]string{"/other", c.pattern}, c.path); got != c.want {
			t.Errorf("%s matches %s: %t", c.pattern, c.path, got)
		}
	}
}
