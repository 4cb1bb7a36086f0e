package edge

import (
	"strings"
	"testing"

	"sluice.dev/sluice/internal/names"
)

func ruleTo(id, host string, kind Kind, path string) Rule {
	r := Rule{ID: id, Host: host, Service: names.MustParse("web.default.svc.cluster.local"), To: 80}
	r.SetPath(kind, path)
	return r
}

func tableOf(t *testing.T, rules *Rules) *Table {
	t.Helper()
	table, err := NewTable(rules)
	if err != nil {
		t.Fatal(err)
	}
	return table
}

// asked is what a request came to: the rule's ID, "ambiguous", or "" for none.
func asked(t *Table, at Listener, host, path string) string {
	var name names.Name
	if host != "" {
		name = names.MustParse(host)
	}
	switch found := t.Find(at, name, path); {
	case found.Ambiguous:
		return "ambiguous"
	case found.Rule != nil:
		return found.Rule.ID
	}
	return ""
}

// The most specific host decides which paths there are, and of these the longest that matches,
// as Kubernetes says of an Ingress.
func TestTheMostSpecificHostAndItsLongestPathLeadARequest(t *testing.T) {
	fallback := ruleTo("default", "", Elements, "/")
	table := tableOf(t, &Rules{Default: &fallback, Hosts: []Rule{
		ruleTo("any", "", Elements, "/any"),
		ruleTo("wild", "*.foo.com", Elements, "/"),
		ruleTo("foo", "foo.com", Elements, "/"),
		ruleTo("foo-a", "foo.com", Elements, "/a"),
		ruleTo("foo-a-exact", "foo.com", Exact, "/a"),
		ruleTo("foo-ab", "foo.com", Elements, "/a/b"),
		ruleTo("one", "one.foo.com", Exact, "/x"),
	}})
	for _, x := range []struct{ host, path, want string }{
		{"foo.com", "/", "foo"}, {"foo.com", "/a", "foo-a-exact"}, {"foo.com", "/a/", "foo-a"}, {"foo.com", "/a/c", "foo-a"},
		{"foo.com", "/ab", "foo"}, {"foo.com", "/a/b", "foo-ab"}, {"foo.com", "/a/b/c", "foo-ab"}, {"foo.com", "/a/bc", "foo-a"},
		{"x.foo.com", "/", "wild"}, {"y.x.foo.com", "/", "default"}, // a star is one label
		{"one.foo.com", "/x", "one"}, {"one.foo.com", "/any", "default"}, // no other host's paths
		{"bar.com", "/any/1", "any"}, {"bar.com", "/other", "default"}, {"", "/any", "any"},
		{"fo.com", "/any", "any"}, {"afoo.com", "/", "default"},
	} {
		if got := asked(table, Listener{}, x.host, x.path); got != x.want {
			t.Errorf("%s%s: %q, want %q", x.host, x.path, got, x.want)
		}
	}
}

// What a server may read as a path behind another rule is led by none that is for other paths.
func TestAPathOfTwoReadingsIsLedByNoRuleThatLooksAtPaths(t *testing.T) {
	fallback := ruleTo("default", "", Elements, "/")
	table := tableOf(t, &Rules{Default: &fallback, Hosts: []Rule{
		ruleTo("all", "free.com", Elements, "/"),
		ruleTo("open", "foo.com", Elements, "/"),
		ruleTo("admin", "foo.com", Elements, "/admin"),
	}})
	for _, path := range []string{"/x/../admin", "//admin", "/%61dmin", "/x%2f..%2fadmin", "/admin;x", "/x/..%5cadmin", "/./admin", "/%2e%2e/admin", "/x\\..\\admin", "/x/%2E%2e/admin"} {
		if got := asked(table, Listener{}, "foo.com", path); got != "ambiguous" {
			t.Errorf("foo.com%s: %q", path, got)
		}
		if got := asked(table, Listener{}, "free.com", path); got != "all" {
			t.Errorf("free.com%s, where nothing looks at paths: %q", path, got)
		}
	}
	ordered := tableOf(t, &Rules{Ordered: []Rule{ruleTo("first", "", Exact, "/admin"), ruleTo("rest", "", Characters, "/")}})
	if got := asked(ordered, Listener{}, "", "//admin"); got != "ambiguous" {
		t.Errorf("behind an IngressRule: %q", got)
	}
}

func TestIngressRulesAreTriedInOrderOnTheirListener(t *testing.T) {
	plain, tls, own := ruleTo("plain", "", Characters, "/"), ruleTo("tls", "", Characters, "/"), ruleTo("own", "", Characters, "/")
	plain.Port, tls.Port, own.Port = PlainPort, TLSPort, 9000
	host := ruleTo("host", "foo.com", Characters, "/sta")
	table := tableOf(t, &Rules{Ordered: []Rule{host, own, plain, tls}, Hosts: []Rule{ruleTo("never", "", Elements, "/")}})
	for _, x := range []struct {
		at               Listener
		host, path, want string
	}{
		{Listener{Port: 8080}, "foo.com", "/static", "host"},
		{Listener{Port: 8080}, "bar.com", "/static", "plain"},
		{Listener{Port: 8443, TLS: true}, "bar.com", "/", "tls"},
		{Listener{Port: 9000}, "bar.com", "/", "own"},
		{Listener{Port: 9000, TLS: true}, "bar.com", "/", "own"},
	} {
		if got := asked(table, x.at, x.host, x.path); got != x.want {
			t.Errorf("%+v %s%s: %q, want %q", x.at, x.host, x.path, got, x.want)
		}
	}
}

func TestATableThatCannotBeKeptToIsRefused(t *testing.T) {
	for name, rules := range map[string]*Rules{
		"a comparison that is not known": {Hosts: []Rule{{ID: "x", Kind: Elements + 1, Path: "/", Service: names.MustParse("a.b"), To: 1}}},
		"no service":                     {Ordered: []Rule{{ID: "x", To: 1}}},
		"no port":                        {Default: &Rule{ID: "x", Service: names.MustParse("a.b")}},
		"a path that is not compared":    {Hosts: []Rule{{ID: "x", Path: "/a", Service: names.MustParse("a.b"), To: 1}}},
		"too many":                       {Ordered: make([]Rule, MaxOrdered+1)},
	} {
		if _, err := NewTable(rules); err == nil {
			t.Errorf("%s is taken", name)
		}
	}
}

func TestHostsAndPathsOfRulesAreCanonical(t *testing.T) {
	for host, ok := range map[string]bool{
		"foo.com": true, "*.foo.com": true, "Foo.com": false, "foo.com.": false, "foo.com:80": false, "*": false, "*.*.com": false, "a*.com": false, "1.2.3.4": false, "": false,
	} {
		if err := CheckHostPattern(host); (err == nil) != ok {
			t.Errorf("host %q: %v", host, err)
		}
	}
	for path, ok := range map[string]bool{"/": true, "/a/b": true, "/a/": true, "": false, "a": false, "/a//b": false, "/..": false, "/a%2fb": false, "/" + strings.Repeat("a", maxPath): false} {
		if err := CheckPath(path); (err == nil) != ok {
			t.Errorf("path %.20q: %v", path, err)
		}
	}
	for path, ok := range map[string]bool{"": true, "/.*": true, "/a.*": true, "/a": true, "/a(/|$)(.*)": false, "/a/*": false, "/[ab].*": false} {
		if err := CheckIstioPath(path); (err == nil) != ok {
			t.Errorf("path of Istio %q: %v", path, err)
		}
	}
	var r Rule
	if r.SetIstioPath("/api/.*"); r.Kind != Characters || r.Path != "/api/" {
		t.Errorf("%+v", r)
	}
	if r.SetPath(Elements, "/a/"); r.Path != "/a" {
		t.Errorf("%+v", r)
	}
}

func TestFindingARuleAllocatesNothing(t *testing.T) {
	table := tableOf(t, &Rules{Hosts: []Rule{ruleTo("foo-a", "foo.com", Elements, "/a"), ruleTo("wild", "*.foo.com", Elements, "/")}})
	exact, wild := names.MustParse("foo.com"), names.MustParse("x.foo.com")
	if n := testing.AllocsPerRun(100, func() {
		table.Find(Listener{}, exact, "/a/b")
		table.Find(Listener{}, wild, "/a//b")
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestATableKnowsWhichRulesItHasStill(t *testing.T) {
	rules := &Rules{Hosts: []Rule{ruleTo("a", "foo.com", Elements, "/a"), ruleTo("w", "*.foo.com", Elements, "/"), ruleTo("any", "", Exact, "/")}, Ordered: []Rule{ruleTo("o", "x.com", Characters, "/")}}
	last := ruleTo("d", "", Elements, "/")
	rules.Default = &last
	table := tableOf(t, rules)
	for _, r := range append(append([]Rule{last}, rules.Hosts...), rules.Ordered...) {
		if !table.Has(&r) {
			t.Errorf("%s is gone", r.ID)
		}
		if r.To++; table.Has(&r) {
			t.Errorf("%s to another port is there", r.ID)
		}
	}
}
