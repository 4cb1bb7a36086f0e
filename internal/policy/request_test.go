package policy

import (
	"net/url"
	"path"
	"strings"
	"testing"
)

// FuzzIsNormalPath: a path that is let through reads the same to a server that
// decodes it once or twice, cleans it, cuts off path parameters, or takes
// backslashes for slashes, in any order.
func FuzzIsNormalPath(f *testing.F) {
	for _, p := range []string{"/", "/books/v1/volumes", "/a/../b", "/%2e%2e/b", "/a;b", "//", "/%252e", "/a%20b", "/%C3%A9/", "*", "http://a/b", "/%", "/%2", "/%2F", `/\`, "/.../x", "/.x/..y"} {
		f.Add(p)
	}
	f.Fuzz(func(t *testing.T, p string) {
		if !IsNormalPath(p) {
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
