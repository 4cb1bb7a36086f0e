package run

import (
	"strings"
	"testing"
)

func TestWhatPublishTakes(t *testing.T) {
	for text, want := range map[string]string{
		"8080":                "127.0.0.1:8080:8080",
		"9000:8080":           "127.0.0.1:9000:8080",
		"0.0.0.0:9000":        "0.0.0.0:9000:9000",
		"0.0.0.0:9000:8080":   "0.0.0.0:9000:8080",
		"[::1]:9000":          "[::1]:9000:9000",
		"[::]:9000:8080":      "[::]:9000:8080",
		"192.0.2.1:1:65535":   "192.0.2.1:1:65535",
		"[fe80::1%lo]:80:443": "[fe80::1%lo]:80:443",
	} {
		p, err := ParsePublish(text)
		if err != nil || p.String() != want {
			t.Errorf("%s is read as %s, %v; want %s", text, p, err, want)
			continue
		}
		if again, err := ParsePublish(p.String()); err != nil || again != p {
			t.Errorf("%s, which it writes, is read as %s, %v", p, again, err)
		}
	}
	for _, text := range []string{"", ":", "0", "70000", "80:0", "80:80:80", "a:80", "example.com:80", "1.2.3:80", "[1.2.3.4]:80", "[::1]", "::1:80", "[::1:80", "0.0.0.0", "80/tcp", "-1", "+80"} {
		if p, err := ParsePublish(text); err == nil || !strings.Contains(err.Error(), "--publish "+text+": ") || !strings.Contains(err.Error(), "write [ADDRESS:]PORT[:PORT]") {
			t.Errorf("%q is read as %s, %v", text, p, err)
		}
	}
}
