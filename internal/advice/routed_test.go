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
		Routes: &wire.Routes{Services: []wire.ServiceRoutes{{Service: reviews, Rules: rules}}},
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
		}, s, wire.Workload{Namespace: "default"})
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
