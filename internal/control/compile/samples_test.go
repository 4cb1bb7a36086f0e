package compile

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"sluice.dev/sluice/api"
	"sluice.dev/sluice/internal/names"
	"sluice.dev/sluice/internal/route"
	"sluice.dev/sluice/internal/wire"
)

// asked is a request whose plan a test looks at.
type asked struct {
	from    string // the service that calls
	service string
	path    string
	cookie  string
}

func (a *asked) Values(lower string, yield func(string) bool) {
	if lower == "cookie" && a.cookie != "" {
		yield(a.cookie)
	}
}

// planOf says in words what becomes of a request under the rules of files and texts, each
// validated as sluice create does.
func planOf(t *testing.T, a asked, rules ...string) string {
	t.Helper()
	var objects []api.Object
	for _, text := range rules {
		if !strings.Contains(text, "\n") {
			b, err := os.ReadFile(filepath.Join("../../../samples/bookinfo/kube", text))
			if err != nil {
				t.Fatal(err)
			}
			text = string(b)
		}
		read, err := api.Decode("rule.yaml", strings.NewReader(text))
		if err != nil {
			t.Fatal(err)
		}
		for i := range read {
			read[i].Metadata.Namespace = "default"
		}
		if err := api.ValidateAll(read); err != nil {
			t.Fatal(err)
		}
		objects = append(objects, read...)
	}
	w, err := wire.Workload{Namespace: "default", Service: a.from, Version: "v1", Ports: []uint16{9080}}.Normalize()
	if err != nil {
		t.Fatal(err)
	}
	out := Compile(Input{Objects: objects, Workloads: []wire.Workload{w}, Created: time.Now()})
	for _, problem := range out.Problems {
		t.Errorf("%s: %s", problem.Object, problem.Text)
	}
	s, err := out.ForWorkload(w)
	if err != nil {
		t.Fatal(err)
	}
	table, err := route.NewTable(s.Routes.Services)
	if err != nil {
		t.Fatal(err)
	}
	p := table.Plan(names.MustParse(a.service+".default.svc.cluster.local"), route.Request{Method: "GET", Path: a.path, Fields: &a})
	return inWords(&p)
}

func inWords(p *route.Plan) string {
	shares := map[string]int{}
	for r := range uint64(100) {
		to := p.Draw(r)
		shares[strings.TrimSuffix(to.Service.String(), ".default.svc.cluster.local")+" "+to.Labels["version"]]++
	}
	var said []string
	for _, to := range slices.Sorted(maps.Keys(shares)) {
		said = append(said, fmt.Sprintf("%d %% to %s", shares[to], strings.TrimSpace(to)))
	}
	if wait := p.Delayed(0); wait > 0 {
		said = append(said, "after "+wait.String())
	}
	if status := p.Aborted(0); status > 0 {
		said = append(said, fmt.Sprintf("aborted with %d", status))
	}
	if does := p.Does(); does != nil {
		if does.Timeout > 0 {
			said = append(said, "within "+does.Timeout.String())
		}
		if does.Retries != nil {
			said = append(said, fmt.Sprintf("%d times again of %v", does.Retries.Attempts, does.Retries.Each))
		}
	}
	if to, ok := p.Mirrored(); ok {
		said = append(said, "mirrored to "+to.Labels["version"])
	}
	return strings.Join(said, ", ")
}

// Each RouteRule of the samples and tasks of Istio 0.5 is taken as it was written there,
// and does what its page says.
func TestEachRouteRuleOfTheSamplesAndTasksOfIstioDoesWhatItsPageSays(t *testing.T) {
	const (
		head    = "apiVersion: config.istio.io/v1alpha2\nkind: RouteRule\nmetadata:\n  name: "
		timeout = head + "reviews-default\nspec:\n  destination:\n    name: reviews\n  route:\n  - labels:\n      version: v2\n  httpReqTimeout:\n    simpleTimeout:\n      timeout: 1s\n"
		slow    = head + "ratings-delay\nspec:\n  destination:\n    name: ratings\n  route:\n  - labels:\n      version: v1\n  httpFault:\n    delay:\n      percent: 100\n      fixedDelay: 2s\n"
		mirror  = head + "mirror-traffic-to-httbin-v2\nspec:\n  destination:\n    name: httpbin\n  precedence: 11\n  route:\n  - labels:\n      version: v1\n    weight: 100\n  - labels:\n      version: v2\n    weight: 0\n  mirror:\n    name: httpbin\n    labels:\n      version: v2\n"
		v1      = head + "httpbin-default-v1\nspec:\n  destination:\n    name: httpbin\n  precedence: 5\n  route:\n  - labels:\n      version: v1\n"
		abort   = head + "ratings-test-abort\nspec:\n  destination:\n    name: ratings\n  precedence: 2\n  match:\n    request:\n      headers:\n        cookie:\n          regex: \"^(.*?;)?(user=jason)(;.*)?$\"\n  route:\n  - labels:\n      version: v1\n  httpFault:\n    abort:\n      percent: 100\n      httpStatus: 400\n"
		source  = head + "ratings-from-reviews\nspec:\n  destination:\n    name: ratings\n  precedence: 3\n  match:\n    source:\n      name: reviews\n      labels:\n        version: v1\n    request:\n      headers:\n        uri:\n          prefix: /ratings/v2/\n  route:\n  - labels:\n      version: v2\n"
		retries = head + "ratings-retries\nspec:\n  destination:\n    name: ratings\n  precedence: 2\n  route:\n  - labels:\n      version: v1\n  httpReqRetries:\n    simpleRetry:\n      attempts: 3\n      perTryTimeout: 2s\n"
		snake   = head + "ratings-snake\nspec:\n  destination:\n    name: ratings\n  http_req_timeout:\n    simple_timeout:\n      timeout: 3s\n"
		cors    = head + "cors\nspec:\n  destination:\n    name: ratings\n  route:\n  - labels:\n      version: v1\n  corsPolicy:\n    allowOrigin:\n    - example.com\n    allowMethods:\n    - POST\n    - GET\n    allowCredentials: false\n    allowHeaders:\n    - X-Foo-Bar\n    maxAge: 24h\n"
	)
	jason := "session=1;user=jason"
	for _, x := range []struct {
		rules []string
		asked asked
		want  string
	}{
		// Request routing.
		{[]string{"route-rule-all-v1.yaml"}, asked{"productpage", "reviews", "/reviews/0", ""}, "100 % to reviews v1"},
		{[]string{"route-rule-all-v1.yaml"}, asked{"productpage", "details", "/details/0", ""}, "100 % to details v1"},
		{[]string{"route-rule-all-v1.yaml"}, asked{"productpage", "ratings", "/ratings/0", ""}, "100 % to ratings v1"},
		{[]string{"route-rule-all-v1.yaml"}, asked{"x", "productpage", "/productpage", ""}, "100 % to productpage v1"},
		{[]string{"route-rule-all-v1.yaml", "route-rule-reviews-test-v2.yaml"}, asked{"productpage", "reviews", "/", jason}, "100 % to reviews v2"},
		{[]string{"route-rule-all-v1.yaml", "route-rule-reviews-test-v2.yaml"}, asked{"productpage", "reviews", "/", "user=jasons"}, "100 % to reviews v1"},
		// The blog: a rule for details of a lower precedence is never reached.
		{[]string{"route-rule-all-v1.yaml", "route-rule-details-v2.yaml"}, asked{"productpage", "details", "/", ""}, "100 % to details v1"},
		{[]string{"route-rule-details-v2.yaml"}, asked{"productpage", "details", "/", ""}, "100 % to details v2"},
		// Fault injection.
		{[]string{"route-rule-all-v1.yaml", "route-rule-ratings-test-delay.yaml"}, asked{"reviews", "ratings", "/", jason}, "100 % to ratings, after 7s"},
		{[]string{"route-rule-all-v1.yaml", "route-rule-ratings-test-delay.yaml"}, asked{"reviews", "ratings", "/", ""}, "100 % to ratings v1"},
		{[]string{"route-rule-ratings-test-abort.yaml"}, asked{"reviews", "ratings", "/", jason}, "100 % to ratings, aborted with 500"},
		{[]string{abort}, asked{"reviews", "ratings", "/", jason}, "100 % to ratings v1, aborted with 400"},
		// Traffic shifting.
		{[]string{"route-rule-reviews-50-v3.yaml"}, asked{"productpage", "reviews", "/", ""}, "50 % to reviews v1, 50 % to reviews v3"},
		{[]string{"route-rule-reviews-v2-v3.yaml"}, asked{"productpage", "reviews", "/", ""}, "50 % to reviews v2, 50 % to reviews v3"},
		{[]string{"route-rule-reviews-v3.yaml"}, asked{"productpage", "reviews", "/", ""}, "100 % to reviews v3"},
		{[]string{"route-rule-all-v1.yaml", "route-rule-reviews-80-20.yaml"}, asked{"productpage", "reviews", "/", ""}, "80 % to reviews v1, 20 % to reviews v2"},
		// Request time-outs.
		{[]string{timeout, slow}, asked{"productpage", "reviews", "/", ""}, "100 % to reviews v2, within 1s"},
		{[]string{timeout, slow}, asked{"reviews", "ratings", "/", ""}, "100 % to ratings v1, after 2s"},
		// Mirroring.
		{[]string{v1}, asked{"sleep", "httpbin", "/headers", ""}, "100 % to httpbin v1"},
		{[]string{v1, mirror}, asked{"sleep", "httpbin", "/headers", ""}, "100 % to httpbin v1, mirrored to v2"},
		// Databases.
		{[]string{"route-rule-all-v1.yaml", "route-rule-ratings-mysql.yaml"}, asked{"reviews", "ratings", "/", ""}, "100 % to ratings v2-mysql"},
		{[]string{"route-rule-all-v1.yaml", "route-rule-ratings-mysql.yaml"}, asked{"productpage", "reviews", "/", ""}, "100 % to reviews v3"},
		{[]string{"route-rule-all-v1.yaml", "route-rule-ratings-db.yaml"}, asked{"reviews", "ratings", "/", ""}, "100 % to ratings v2"},
		// What the reference shows.
		{[]string{source}, asked{"reviews", "ratings", "/ratings/v2/1", ""}, "100 % to ratings v2"},
		{[]string{source}, asked{"reviews", "ratings", "/ratings/1", ""}, "100 % to ratings"},
		{[]string{source}, asked{"productpage", "ratings", "/ratings/v2/1", ""}, "100 % to ratings"},
		{[]string{retries}, asked{"reviews", "ratings", "/", ""}, "100 % to ratings v1, 3 times again of 2s"},
		{[]string{snake}, asked{"reviews", "ratings", "/", ""}, "100 % to ratings, within 3s"},
		{[]string{cors}, asked{"reviews", "ratings", "/", ""}, "100 % to ratings v1"},
	} {
		if got := planOf(t, x.asked, x.rules...); got != x.want {
			t.Errorf("%+v under %.60q: %s; want %s", x.asked, x.rules, got, x.want)
		}
	}
}
