package route

import (
	"fmt"
	"maps"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"sluice.dev/sluice/internal/names"
)

var (
	details = names.MustParse("details.default.svc.cluster.local")
	reviews = names.MustParse("reviews.default.svc.cluster.local")
	ratings = names.MustParse("ratings.default.svc.cluster.local")
)

func newTable(t *testing.T, services ...Rules) *Table {
	t.Helper()
	table, err := NewTable(services)
	if err != nil {
		t.Fatal(err)
	}
	return table
}

// fields are pairs of name and value.
type fields []string

func headers(pairs ...string) Fields { return fields(pairs) }

func (f fields) Values(lower string, yield func(string) bool) {
	for i := 0; i < len(f); i += 2 {
		if f[i] == lower && !yield(f[i+1]) {
			return
		}
	}
}

// pick plans and draws.
func (t *Table) pick(service names.Name, request Request, r uint64) (Destination, string) {
	plan := t.Plan(service, request)
	return plan.Draw(r), plan.Rule
}

func version(v string, weight int) Weighted {
	return Weighted{Labels: map[string]string{"version": v}, Weight: weight}
}

func TestWithoutARuleTheDestinationItselfIsPicked(t *testing.T) {
	for _, table := range []*Table{newTable(t), newTable(t, Rules{Service: reviews, Rules: []Rule{{ID: "r", Targets: []Weighted{version("v1", 100)}}}})} {
		got, id := table.pick(details, Request{Path: "/"}, 7)
		if id != "" || got.Service != details || len(got.Labels) != 0 || got.Set != "" {
			t.Errorf("got %v by %q", got, id)
		}
	}
}

func TestTheFirstRuleThatMatchesWins(t *testing.T) {
	table := newTable(t, Rules{Service: reviews, Rules: []Rule{
		{ID: "jason", Match: Match{Headers: map[string]StringMatch{"cookie": {Regex: `^(.*?;)?(user=jason)(;.*)?$`}}}, Targets: []Weighted{version("v2", 100)}},
		{ID: "all", Targets: []Weighted{version("v1", 100)}},
		{ID: "never", Targets: []Weighted{version("v3", 100)}},
	}})
	for cookie, want := range map[string]string{
		"user=jason":         "jason",
		"a=b;user=jason;c=d": "jason",
		"user=jasonx":        "all",
		"":                   "all",
		"x\nuser=jason":      "all",
	} {
		_, id := table.pick(reviews, Request{Fields: headers("cookie", cookie)}, 0)
		if id != want {
			t.Errorf("cookie %q: rule %q, want %q", cookie, id, want)
		}
	}
	if _, id := table.pick(reviews, Request{}, 0); id != "all" {
		t.Errorf("a request without headers took %q", id)
	}
}

func TestEachValueOfARepeatedFieldIsLookedAt(t *testing.T) {
	table := newTable(t, Rules{Service: reviews, Rules: []Rule{
		{ID: "exact", Match: Match{Headers: map[string]StringMatch{"foo": {Exact: "two"}}}},
		{ID: "list", Match: Match{Headers: map[string]StringMatch{"foo": {Exact: "one, 2"}}}},
		{ID: "prefix", Match: Match{Headers: map[string]StringMatch{"bar": {Prefix: "b"}}}},
		{ID: "cookie", Match: Match{Headers: map[string]StringMatch{"cookie": {Exact: "a=1; b=2"}}}},
	}})
	for _, c := range []struct {
		fields Fields
		want   string
	}{
		{headers("foo", "one", "foo", "two"), "exact"},
		{headers("foo", "two", "foo", "one"), "exact"},
		{headers("foo", "one", "foo", "2"), "list"},
		{headers("foo", "one"), ""},
		{headers("bar", "a", "bar", "b"), "prefix"},
		{headers("bar", "a", "bar", ""), ""},
		{headers("cookie", "a=1", "cookie", "b=2"), "cookie"},
	} {
		if _, id := table.pick(reviews, Request{Fields: c.fields}, 0); id != c.want {
			t.Errorf("%v: rule %q, want %q", c.fields, id, c.want)
		}
	}
}

func TestMatchers(t *testing.T) {
	request := Request{Method: "GET", Path: "/api/v1/products?id=0", Authority: "reviews:9080", Fields: headers("user-agent", "curl/8.5", "foo", "Bar")}
	for _, c := range []struct {
		say   string
		match Match
		want  bool
	}{
		{"nothing asked", Match{}, true},
		{"exact header", Match{Headers: map[string]StringMatch{"foo": {Exact: "Bar"}}}, true},
		{"values are case-sensitive", Match{Headers: map[string]StringMatch{"foo": {Exact: "bar"}}}, false},
		{"header prefix", Match{Headers: map[string]StringMatch{"user-agent": {Prefix: "curl/"}}}, true},
		{"header regex is anchored at its start", Match{Headers: map[string]StringMatch{"user-agent": {Regex: "url.*"}}}, false},
		{"header regex is anchored at its end", Match{Headers: map[string]StringMatch{"user-agent": {Regex: "curl"}}}, false},
		{"header regex with alternatives is anchored as a whole", Match{Headers: map[string]StringMatch{"foo": {Regex: "Bar|x"}}}, true},
		{"alternatives do not escape the anchors", Match{Headers: map[string]StringMatch{"user-agent": {Regex: "curl|x"}}}, false},
		{"absent header", Match{Headers: map[string]StringMatch{"x-none": {Regex: ".*"}}}, false},
		{"all headers must hold", Match{Headers: map[string]StringMatch{"foo": {Exact: "Bar"}, "user-agent": {Exact: "wget"}}}, false},
		{"method", Match{Headers: map[string]StringMatch{":method": {Exact: "GET"}}}, true},
		{"authority", Match{Headers: map[string]StringMatch{":authority": {Prefix: "reviews"}}}, true},
		{"scheme", Match{Headers: map[string]StringMatch{":scheme": {Exact: "http"}}}, true},
		{"exact uri is the path", Match{URI: &StringMatch{Exact: "/api/v1/products"}}, true},
		{"exact uri with a query", Match{URI: &StringMatch{Exact: "/api/v1/products?id=0"}}, true},
		{"exact uri is no prefix", Match{URI: &StringMatch{Exact: "/api"}}, false},
		{"uri prefix", Match{URI: &StringMatch{Prefix: "/api/"}}, true},
		{"other uri prefix", Match{URI: &StringMatch{Prefix: "/login"}}, false},
		{"uri regex", Match{URI: &StringMatch{Regex: "/api/v[0-9]+/.*"}}, true},
		{"uri and header", Match{URI: &StringMatch{Prefix: "/api/"}, Headers: map[string]StringMatch{"foo": {Exact: "no"}}}, false},
	} {
		table := newTable(t, Rules{Service: reviews, Rules: []Rule{{ID: "r", Match: c.match, Targets: []Weighted{version("v2", 100)}}}})
		if _, id := table.pick(reviews, request, 0); (id != "") != c.want {
			t.Errorf("%s: matched by %q, want %t", c.say, id, c.want)
		}
	}
}

func TestATargetMayBeAnotherService(t *testing.T) {
	table := newTable(t, Rules{Service: reviews, Rules: []Rule{{ID: "r", Targets: []Weighted{{Service: ratings}}}}})
	if got, _ := table.pick(reviews, Request{}, 1<<63); got.Service != ratings {
		t.Errorf("got %v", got)
	}
}

func TestARuleWithoutTargetsKeepsTheDestination(t *testing.T) {
	table := newTable(t, Rules{Service: reviews, Rules: []Rule{{ID: "r"}}})
	if got, id := table.pick(reviews, Request{}, 5); id != "r" || got.Service != reviews {
		t.Errorf("got %v by %q", got, id)
	}
}

func TestRulesOfAServiceThatStandsTwiceAreJoined(t *testing.T) {
	table := newTable(t,
		Rules{Service: reviews, Rules: []Rule{{ID: "a", Match: Match{URI: &StringMatch{Exact: "/a"}}}}},
		Rules{Service: reviews, Rules: []Rule{{ID: "b"}}})
	for path, want := range map[string]string{"/a": "a", "/b": "b"} {
		if _, id := table.pick(reviews, Request{Path: path}, 0); id != want {
			t.Errorf("%s: %q", path, id)
		}
	}
}

func TestNewTableRefuses(t *testing.T) {
	for want, rule := range map[string]Rule{
		"weights total 90":           {Targets: []Weighted{version("v1", 40), version("v2", 50)}},
		"weights total 0":            {Targets: []Weighted{version("v1", 0), version("v2", 0)}},
		"weight -1 is not":           {Targets: []Weighted{version("v1", -1), version("v2", 101)}},
		"weight 101 is not":          {Targets: []Weighted{version("v1", 101)}},
		"none of exact":              {Match: Match{URI: &StringMatch{}}},
		"more than one of exact":     {Match: Match{Headers: map[string]StringMatch{"a": {Exact: "x", Prefix: "y"}}}},
		"missing closing )":          {Match: Match{URI: &StringMatch{Regex: "("}}},
		"unexpected )":               {Match: Match{URI: &StringMatch{Regex: "a)(b"}}},
		"regular expression of 1025": {Match: Match{URI: &StringMatch{Regex: strings.Repeat("a", MaxRegex+1)}}},
	} {
		rule.ID = "route-rule/default/x"
		if _, err := NewTable([]Rules{{Service: reviews, Rules: []Rule{rule}}}); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), rule.ID) {
			t.Errorf("got %v, want %s", err, want)
		}
	}
	if _, err := NewTable([]Rules{{Service: reviews, Rules: make([]Rule, MaxRules)}, {Service: details, Rules: make([]Rule, 1)}}); err == nil {
		t.Error("more rules than MaxRules were taken")
	}
}

func TestWeightsAreSharesOfTheRandomNumbers(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var targets []Weighted
		left := 100
		for i := 0; left > 0; i++ {
			w := rapid.IntRange(0, left).Draw(t, "weight")
			if i == 4 {
				w = left
			}
			targets, left = append(targets, version(fmt.Sprint(i), w)), left-w
		}
		table, err := NewTable([]Rules{{Service: reviews, Rules: []Rule{{ID: "r", Targets: targets}}}})
		if err != nil {
			t.Fatal(err)
		}
		base := rapid.Uint64Range(0, 1<<62).Draw(t, "base") / 100 * 100
		got := map[string]int{}
		for r := range uint64(100) {
			target, _ := table.pick(reviews, Request{}, base+r)
			got[target.Labels["version"]]++
		}
		for _, target := range targets {
			if v := target.Labels["version"]; got[v] != target.Weight {
				t.Fatalf("version %s: %d of 100, want %d", v, got[v], target.Weight)
			}
		}
	})
}

func TestAPlanByLiteralsDoesNotAllocate(t *testing.T) {
	table, request := literalTable(t)
	if n := testing.AllocsPerRun(100, func() { table.pick(reviews, request, 42) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func literalTable(t testing.TB) (*Table, Request) {
	table, err := NewTable([]Rules{{Service: reviews, Rules: []Rule{
		{ID: "a", Match: Match{Headers: map[string]StringMatch{"foo": {Exact: "x"}, ":method": {Exact: "POST"}}}, Targets: []Weighted{version("v1", 100)}},
		{ID: "jason", Match: Match{Headers: map[string]StringMatch{"foo": {Exact: "x"}, "cookie": {Exact: "user=jason"}}}, Targets: []Weighted{version("v1", 100)}},
		{ID: "b", Match: Match{URI: &StringMatch{Prefix: "/reviews/"}}, Targets: []Weighted{version("v1", 50), version("v3", 50)}},
	}}})
	if err != nil {
		t.Fatal(err)
	}
	return table, Request{Method: "GET", Path: "/reviews/0?x=y", Authority: "reviews", Fields: headers("foo", "x", "cookie", "a=b"), Look: new(Look)}
}

func BenchmarkPlan(b *testing.B) {
	table, request := literalTable(b)
	b.ReportAllocs()
	for b.Loop() {
		table.pick(reviews, request, 42)
	}
}

func TestEqualLabelsAreOneSetAndOthersAreNot(t *testing.T) {
	set := func(labels map[string]string) string {
		table := newTable(t, Rules{Service: reviews, Rules: []Rule{{ID: "r", Targets: []Weighted{{Labels: labels, Weight: 100}}}}})
		got, _ := table.pick(reviews, Request{}, 0)
		return got.Set
	}
	all := []map[string]string{
		nil, {"version": "v1"}, {"version": "v2"}, {"version": "v1", "app": "a"}, {"version": `v1" app="a`}, {"version": ""}, {"": "version"},
	}
	for i := range all {
		for j := range all {
			if equal := set(all[i]) == set(maps.Clone(all[j])); equal != (i == j) {
				t.Errorf("%v and %v are one set: %v", all[i], all[j], equal)
			}
		}
	}
}

// The rules of a host are those of the most specific pattern, wherever that is in the list; a
// pattern that is there twice has the rules of both.
func TestTheMostSpecificPatternHasTheRulesOfAHost(t *testing.T) {
	of := func(pattern, id string) Rules {
		return Rules{Host: names.MustParsePattern(pattern), Rules: []Rule{{ID: id, Match: Match{URI: &StringMatch{Prefix: "/" + id}}}}}
	}
	table := newTable(t, of("*", "any"), of("*.example.com", "wild"), of("a.example.com", "exact"), of("*.example.com", "too"), of("10.0.0.1", "address"))
	for _, x := range []struct{ host, path, want string }{
		{"a.example.com", "/exact", "exact"}, {"a.example.com", "/wild", ""}, {"b.example.com", "/wild", "wild"}, {"b.example.com", "/too", "too"},
		{"b.example.com", "/any", ""}, {"example.com", "/any", "any"}, {"details.default.svc.cluster.local", "/any", "any"},
	} {
		plan := table.PlanHost(names.MustParse(x.host), Request{Path: x.path})
		if to := plan.Draw(0); plan.Rule != x.want || to.Host.String() != x.host || !to.Service.IsZero() || plan.Elsewhere(&to) {
			t.Errorf("%s%s: %q to %+v, want %q", x.host, x.path, plan.Rule, to, x.want)
		}
	}
	if plan := table.Plan(details, Request{Path: "/any"}); plan.Rule != "" {
		t.Errorf("a service is routed by %q, a rule of hosts", plan.Rule)
	}
	if newTable(t, of("10.0.0.1", "address")).RoutesHosts() || newTable(t).RoutesHosts() {
		t.Error("a table without hosts says that it has some")
	}
}

func TestWhatNoProxyCanRouteToIsRefused(t *testing.T) {
	host := names.MustParse("a.example.com")
	for what, rules := range map[string]Rules{
		"neither a service nor a host":  {},
		"both":                          {Service: details, Host: names.MustParsePattern("a.example.com")},
		"labels of a host":              {Service: details, Rules: []Rule{{Targets: []Weighted{{Host: host, Labels: map[string]string{"a": "b"}}}}}},
		"a target that is both":         {Service: details, Rules: []Rule{{Targets: []Weighted{{Host: host, Service: details}}}}},
		"a mirror that is neither":      {Service: details, Rules: []Rule{{Actions: Actions{Mirror: &Mirror{}}}}},
		"a mirror that is both":         {Service: details, Rules: []Rule{{Actions: Actions{Mirror: &Mirror{Service: details, Host: host}}}}},
		"a mirror outside, with labels": {Service: details, Rules: []Rule{{Actions: Actions{Mirror: &Mirror{Host: host, Labels: map[string]string{"a": "b"}}}}}},
	} {
		if _, err := NewTable([]Rules{rules}); err == nil {
			t.Errorf("%s is not refused", what)
		}
	}
}

func BenchmarkPlanHost(b *testing.B) {
	table, err := NewTable([]Rules{{Host: names.MustParsePattern("*.example.com"), Rules: []Rule{{ID: "r", Match: Match{URI: &StringMatch{Prefix: "/a/"}}}}}})
	if err != nil {
		b.Fatal(err)
	}
	host := names.MustParse("www.example.com")
	b.ReportAllocs()
	for b.Loop() {
		plan := table.PlanHost(host, Request{Path: "/a/b"})
		plan.Draw(42)
	}
}
