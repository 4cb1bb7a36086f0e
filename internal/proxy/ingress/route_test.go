package ingress

import (
	"strings"
	"testing"
)

func TestAnIngressRouteMatchesExactlyOrByPrefix(t *testing.T) {
	r, err := ParseRoute("/productpage,/static/.*=productpage:9080")
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]bool{
		"/productpage": true, "/productpage/": false, "/static/page.css": true, "/static": false, "/": false, "/health": false,
		"/static/../login": false, "/static/%2e%2e/login": false, "/static/..%2flogin": false, "/static//login": false, "/static/..;/login": false,
	} {
		if got := r.matches(path); got != want {
			t.Errorf("%s: %v, want %v", path, got, want)
		}
	}
	if all, err := ParseRoute("/.*=productpage:9080"); err != nil || !all.matches("/a/../b") {
		t.Errorf("a route of all paths does not match one: %v", err)
	}
	if r.Service.String() != "productpage" || r.Port != 9080 {
		t.Errorf("it leads to %s:%d", r.Service, r.Port)
	}
}

func TestAnIngressRouteThatIsWrongIsQuoted(t *testing.T) {
	for _, text := range []string{"", "/a", "/a=b", "/a=b:0", "/a=b:99999", "a=b:80", "/a=b..c:80", "/a,b=c:80"} {
		if _, err := ParseRoute(text); err == nil || !strings.Contains(err.Error(), text) {
			t.Errorf("%q: %v", text, err)
		}
	}
}
