package advice

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"sluice.dev/sluice/internal/names"
	"sluice.dev/sluice/internal/policy"
	"sluice.dev/sluice/internal/record"
	"sluice.dev/sluice/internal/route"
	"sluice.dev/sluice/internal/wire"
)

// routing is a mesh with two versions of reviews and route rules for it.
func routing(rules ...route.Rule) *wire.Snapshot {
	reviews := names.MustParse("reviews.default.svc.cluster.local")
	endpoint := func(version string) wire.Endpoint {
		return wire.Endpoint{Instance: "reviews-" + version + "/1", Labels: map[string]string{"version": version}, Ports: []uint16{9080}}
	}
	return &wire.Snapshot{
		Routes: &wire.Routes{Services: []route.Rules{{Service: reviews, Rules: rules}}},
		Directory: &wire.Directory{Domain: "cluster.local", Services: []wire.Service{{
			Name: reviews, Short: "reviews", Namespace: "default", Ports: []wire.ServicePort{{Port: 9080}},
		}}},
		Endpoints: []*wire.Endpoints{{Service: reviews, Endpoints: []wire.Endpoint{endpoint("v1"), endpoint("v3")}}},
	}
}

// routedLines is what is said of the route of a request.
func routedLines(t *testing.T, s *wire.Snapshot, url, method string, headers ...string) string {
	t.Helper()
	q, err := Parse(url, method)
	if err == nil {
		q, err = q.WithHeaders(headers)
	}
	if err != nil {
		t.Fatal(err)
	}
	e, err := Answer(q, s, wire.Workload{Namespace: "default"})
	if err != nil || e.Route == nil {
		t.Fatalf("%+v, %v", e, err)
	}
	return linesOf(e.Route)
}

func linesOf(r *Routed) string {
	var lines []string
	r.Lines(func(what, text string) { lines = append(lines, what+" "+text) })
	return strings.Join(lines, "\n")
}

// The route of a request is explained by what the request shows: its method, path, query
// and headers.
func TestTheRouteOfARequestIsExplained(t *testing.T) {
	v := func(version string, weight int) route.Weighted {
		return route.Weighted{Labels: map[string]string{"version": version}, Weight: weight}
	}
	s := routing(
		route.Rule{ID: "route-rule/default/jason", Match: route.Match{Headers: map[string]route.StringMatch{"cookie": {Regex: "(.*;)?user=jason(;.*)?"}}},
			Targets: []route.Weighted{v("v2", 100)}, Actions: route.Actions{
				Delay: &route.Delay{Share: route.Whole, For: 7 * time.Second}, Abort: &route.Abort{Share: 500, Status: 500}, Timeout: time.Second,
				Retries: &route.Retries{Attempts: 3, Each: 2 * time.Second}, Mirror: &route.Mirror{Service: names.MustParse("m.default.svc.cluster.local"), Labels: map[string]string{"a": "b"}},
			}},
		route.Rule{ID: "route-rule/default/post", Match: route.Match{Headers: map[string]route.StringMatch{":method": {Exact: "POST"}}}, Actions: route.Actions{Redirect: &route.Redirect{URI: "/elsewhere"}}},
		route.Rule{ID: "route-rule/default/moved", Match: route.Match{URI: &route.StringMatch{Prefix: "/old/"}}, Actions: route.Actions{Rewrite: &route.Rewrite{URI: "/new/"}}},
		route.Rule{ID: "route-rule/default/split", Match: route.Match{URI: &route.StringMatch{Prefix: "/reviews/"}}, Targets: []route.Weighted{v("v1", 75), v("v3", 25), v("v2", 0)}},
	)
	for _, x := range []struct {
		url, method string
		headers     []string
		want        []string
	}{
		{"http://reviews:9080/reviews/0", "", nil, []string{"route route-rule/default/split",
			"to 75 % reviews.default.svc.cluster.local version=v1 (1 workload)", "to 25 % reviews.default.svc.cluster.local version=v3 (1 workload)", "time-out 15s"}},
		{"http://reviews:9080/", "", []string{"Cookie: a=b;user=jason"}, []string{"route route-rule/default/jason",
			"to 100 % reviews.default.svc.cluster.local version=v2 (no workload: 503)", "does always delayed by 7s", "does 0.05 % are answered with 500",
			"does copied to m.default.svc.cluster.local a=b", "time-out 1s", "retries up to 3, 2s each"}},
		{"http://reviews:9080/", "post", nil, []string{"route route-rule/default/post", "does redirected to /elsewhere"}},
		{"http://reviews:9080/old/a?b=c", "", nil, []string{"route route-rule/default/moved", "to 100 % reviews.default.svc.cluster.local (2 workloads)", "does sent on as /new/a?b=c", "time-out 15s"}},
		{"http://reviews:9080/", "", nil, []string{"route none matches: the service's workloads take turns", "to 100 % reviews.default.svc.cluster.local (2 workloads)", "time-out 15s"}},
		{"reviews:9080", "", nil, []string{"route none matches: the service's workloads take turns", "to 100 % reviews.default.svc.cluster.local (2 workloads)"}},
		{"http://reviews:9080/reviews/", "", []string{"Upgrade: websocket"}, []string{"route route-rule/default/split",
			"to 75 % reviews.default.svc.cluster.local version=v1 (1 workload)", "to 25 % reviews.default.svc.cluster.local version=v3 (1 workload)",
			"does no change of protocol: the rule does not say websocketUpgrade: true", "time-out 15s"}},
	} {
		if got := routedLines(t, s, x.url, x.method, x.headers...); got != strings.Join(x.want, "\n") {
			t.Errorf("%s %s %q:\n%s\nwant\n%s", x.method, x.url, x.headers, got, strings.Join(x.want, "\n"))
		}
	}
}

// A request that was recorded is told by the rule that it followed, for its headers are
// not kept.
func TestTheRouteOfARecordIsThatOfTheRuleThatItFollowed(t *testing.T) {
	s := routing(
		route.Rule{ID: "route-rule/default/jason", Match: route.Match{Headers: map[string]route.StringMatch{"cookie": {Exact: "user=jason"}}}, Actions: route.Actions{Timeout: time.Second}},
		route.Rule{ID: "route-rule/default/all"},
	)
	for rule, want := range map[string]string{
		"route-rule/default/jason": "time-out 1s", "route-rule/default/all": "time-out 15s", "": "" /* nobody knows which rule, or that there was none */, "route-rule/default/gone": "",
	} {
		opened, err := Reopen(&record.Record{
			Direction: record.Mesh, Dialled: "reviews.default.svc.cluster.local", Port: 9080, Sniffed: policy.HTTP, Host: "reviews:9080", Method: "GET", Path: "/",
			Verdict: record.Allowed, Rule: rule,
		}, nil, s, wire.Workload{Namespace: "default"})
		if err != nil {
			t.Fatal(err)
		}
		got := ""
		if opened.Then.Route != nil {
			got = linesOf(opened.Then.Route)
		}
		if (want == "") != (got == "") || !strings.Contains(got, want) {
			t.Errorf("%s: %q, want %q", rule, got, want)
		}
	}
}

// The route of a request to a host outside is explained like one inside, and each host that it
// leads to is decided about; where all are denied so is the request.
func TestTheRouteOfARequestToAHostOutsideIsExplained(t *testing.T) {
	host := func(name string, weight int) route.Weighted {
		return route.Weighted{Host: names.MustParse(name), Weight: weight}
	}
	uri := func(prefix string) route.Match { return route.Match{URI: &route.StringMatch{Prefix: prefix}} }
	s := routing()
	s.Mesh = &wire.Mesh{OutboundDefault: "Deny"}
	s.Policies = []*wire.Policy{{Rules: []policy.Rule{
		{ID: "egress-rule/default/a", Hosts: []names.Pattern{names.MustParsePattern("*.example.com")}, Ports: []policy.Port{{Port: 80, Protocol: policy.ProtocolHTTP}}},
	}}}
	s.Routes.Hosts = []route.Rules{{Host: names.MustParsePattern("*.example.com"), Rules: []route.Rule{
		{ID: "split", Match: uri("/split"), Targets: []route.Weighted{host("b.example.com", 30), host("c.example.org", 20), {Service: s.Directory.Services[0].Name, Weight: 40}, {Weight: 10}}},
		{ID: "away", Match: uri("/away"), Targets: []route.Weighted{host("c.example.org", 100)}},
		{ID: "called", Match: uri("/called"), Actions: route.Actions{Rewrite: &route.Rewrite{URI: "/x", Authority: "c.example.org"}}},
		{ID: "moved", Match: uri("/moved"), Actions: route.Actions{Redirect: &route.Redirect{Authority: "c.example.org"}}},
		{ID: "slow", Match: uri("/slow"), Actions: route.Actions{Timeout: 3 * time.Second, Mirror: &route.Mirror{Host: names.MustParse("c.example.org")}}},
	}}}
	for path, want := range map[string]struct{ verdict, lines string }{
		"/split": {"allow", "route split\nto 30 % b.example.com (outside the mesh, allowed by egress-rule/default/a)\nto 20 % c.example.org (outside the mesh, denied: no-rule)\n" +
			"to 40 % reviews.default.svc.cluster.local (no workload: 503)\nto 10 % a.example.com (outside the mesh, allowed by egress-rule/default/a)"},
		"/away":   {"deny", "route away\nto 100 % c.example.org (outside the mesh, denied: no-rule)"},
		"/called": {"deny", "route called\nto 100 % c.example.org (outside the mesh, denied: no-rule)\ndoes sent on as /x\ndoes sent on for c.example.org"},
		"/moved":  {"allow", "route moved\ndoes redirected to c.example.org"},
		"/slow":   {"allow", "route slow\nto 100 % a.example.com (outside the mesh, allowed by egress-rule/default/a)\ndoes copied to c.example.org\ntime-out 3s"},
		"/other":  {"allow", ""},
	} {
		q, err := Parse("http://a.example.com"+path, "")
		if err != nil {
			t.Fatal(err)
		}
		e, err := Answer(q, s, wire.Workload{Namespace: "default"})
		got := ""
		if e.Route != nil {
			got = linesOf(e.Route)
		}
		if err != nil || e.Verdict != want.verdict || got != want.lines {
			t.Errorf("%s: %s, %v\n%s\nwant\n%s", path, e.Verdict, err, got, want.lines)
		}
	}
	q, _ := Parse("http://a.example.org/", "")
	if e, err := Answer(q, s, wire.Workload{Namespace: "default"}); err != nil || e.Verdict != "deny" || e.Route != nil {
		t.Errorf("a host that is denied: %+v, %v", e, err)
	}
	opened, err := Reopen(&record.Record{
		Direction: record.Egress, Dialled: "a.example.com", Port: 80, Sniffed: policy.HTTP, Host: "a.example.com", Method: "GET", Path: "/",
		Verdict: record.Allowed, Rule: "egress-rule/default/a", Route: "slow",
	}, nil, s, wire.Workload{Namespace: "default"})
	if err != nil || opened.Then.Route == nil || opened.Then.Route.Rule != "slow" {
		t.Errorf("a record is not explained by the rule that it followed: %+v, %v", opened.Then, err)
	}
}

func TestHeadersThatCannotBeAskedAboutAreRefused(t *testing.T) {
	for _, x := range []struct {
		url     string
		headers []string
		want    string
	}{
		{"https://a.example/", []string{"a: b"}, "headers are seen of plain HTTP alone"},
		{"http://a.example/", []string{"a b"}, "must look like NAME: VALUE"},
		{"http://a.example/", []string{": b"}, "must look like NAME: VALUE"},
		{"http://a.example/", []string{"a b: c"}, "must look like NAME: VALUE"},
		{"http://a.example/", []string{"Host: b"}, "the URL says the host"},
		{"http://a.example/", strings.Split(strings.Repeat("a: b\n", 33), "\n")[:33], "more than 32 headers"},
		{"http://a.example/", []string{"a: " + strings.Repeat("b", 17<<10)}, "headers of more than 16384 bytes"},
	} {
		q, err := Parse(x.url, "")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := q.WithHeaders(x.headers); err == nil || !strings.Contains(err.Error(), x.want) {
			t.Errorf("%s %.60s: %v", x.url, fmt.Sprint(x.headers), err)
		}
	}
}

func TestARuleThatLooksAtSubnetsIsSaidToBeUnseen(t *testing.T) {
	q, err := Parse("http://reviews:9080/", "")
	if err != nil {
		t.Fatal(err)
	}
	for _, near := range []bool{true, false} {
		rule := route.Rule{ID: "route-rule/default/near"}
		if near {
			rule.Match.Source = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
		}
		e, err := Answer(q, routing(rule), wire.Workload{Namespace: "default"})
		if err != nil || (len(e.Unseen) == 1) != near || (e.Route.Rule == rule.ID) == near {
			t.Errorf("near: %v: %+v, %v", near, e, err)
		}
	}
}
