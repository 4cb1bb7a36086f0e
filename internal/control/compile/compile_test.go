package compile

import (
	"encoding/json"
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"sluice.dev/sluice/api"
	"sluice.dev/sluice/api/istio"
	"sluice.dev/sluice/api/v1alpha1"
	"sluice.dev/sluice/internal/names"
	"sluice.dev/sluice/internal/policy"
	"sluice.dev/sluice/internal/route"
	"sluice.dev/sluice/internal/wire"
)

func object(apiVersion, kind, namespace, name string, spec any) api.Object {
	return api.Object{APIVersion: apiVersion, Kind: kind, Metadata: api.Meta{Namespace: namespace, Name: name}, Spec: spec}
}

// egressRule is an EgressRule of Istio 0.5; ports are written "443/https".
func egressRule(namespace, name, service string, ports ...string) api.Object {
	spec := &istio.EgressRuleSpec{Destination: &istio.Service{Service: service}}
	for _, port := range ports {
		number, protocol, _ := strings.Cut(port, "/")
		spec.Ports = append(spec.Ports, istio.Port{Port: parseInt(number), Protocol: protocol})
	}
	return object("config.istio.io/v1alpha2", "EgressRule", namespace, name, spec)
}

func parseInt(s string) (n int32) {
	fmt.Sscan(s, &n)
	return n
}

// egressPolicy opens hosts on 443 https for the workloads that carry labels.
func egressPolicy(namespace, name string, labels map[string]string, hosts ...string) api.Object {
	spec := &v1alpha1.EgressPolicySpec{To: v1alpha1.EgressDestinations{
		Hosts: hosts, Ports: []v1alpha1.EgressPort{{Port: 443, Protocol: "https"}},
	}}
	if labels != nil {
		spec.From = &v1alpha1.WorkloadSelector{Labels: labels}
	}
	return object("sluice.dev/v1alpha1", "EgressPolicy", namespace, name, spec)
}

func routeRule(name string, spec *istio.RouteRuleSpec) api.Object {
	return object("config.istio.io/v1alpha2", "RouteRule", "default", name, spec)
}

func workload(t testing.TB, instance, namespace string) wire.Workload {
	t.Helper()
	base, _, _ := strings.Cut(instance, "/")
	service, version, _ := strings.Cut(base, "-")
	w, err := wire.Workload{Instance: instance, Service: service, Version: version, Namespace: namespace, Ports: []uint16{9080}}.Normalize()
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func snapshotOf(t testing.TB, out *Output, w wire.Workload) *wire.Snapshot {
	t.Helper()
	snapshot, err := out.ForWorkload(w)
	if err != nil {
		t.Fatal(err)
	}
	return snapshot
}

func ids(snapshot *wire.Snapshot) []string {
	out := []string{}
	for _, rule := range snapshot.Rules() {
		out = append(out, rule.ID)
	}
	slices.Sort(out)
	return out
}

func equal(t *testing.T, what string, got, want any) {
	t.Helper()
	g, _ := json.Marshal(got)
	w, _ := json.Marshal(want)
	if string(g) != string(w) {
		t.Errorf("%s:\n got %s\nwant %s", what, g, w)
	}
}

func TestRulesOfEachFormBecomeRulesOfPolicy(t *testing.T) {
	for _, c := range []struct {
		name   string
		object api.Object
		want   string // the rule's JSON without its id
	}{
		{"the rule of the article", egressRule("default", "r", "*.googleapis.com", "443/https"),
			`{"hosts":["*.googleapis.com"],"ports":[{"port":443,"protocol":"https"}]}`},
		{"several ports, protocols in any case", egressRule("default", "r", "cnn.com", "80/HTTP", "443/Https", "27017/Mongo"),
			`{"hosts":["cnn.com"],"ports":[{"port":80,"protocol":"http"},{"port":443,"protocol":"https"},{"port":27017,"protocol":"mongo"}]}`},
		{"a CIDR of Istio 0.5", egressRule("default", "r", "192.168.3.77/24", "443/tcp"),
			`{"cidrs":["192.168.3.0/24"],"ports":[{"port":443,"protocol":"tcp"}]}`},
		{"an address of Istio 0.5 with tcp", egressRule("default", "r", "10.0.0.100", "3306/tcp"),
			`{"cidrs":["10.0.0.100/32"],"ports":[{"port":3306,"protocol":"tcp"}]}`},
		{"an address of Istio 0.5 with http", egressRule("default", "r", "10.0.0.100", "80/http"),
			`{"cidrs":["10.0.0.100/32"],"ports":[{"port":80,"protocol":"http"}]}`},
		{"tcp to a name", egressRule("default", "r", "db.example.com", "5432/tcp"),
			`{"hosts":["db.example.com"],"ports":[{"port":5432,"protocol":"tcp"}]}`},
		{"a policy with all that it can say", object("sluice.dev/v1alpha1", "EgressPolicy", "default", "r", &v1alpha1.EgressPolicySpec{
			To: v1alpha1.EgressDestinations{
				Hosts: []string{"api.example.com"}, CIDRs: []string{"2001:db8::/32", "203.0.113.7"},
				Ports: []v1alpha1.EgressPort{{Port: 443, Protocol: "HTTPS"}, {Port: 5432, Protocol: "tcp", IdleTimeout: "90m"}, {Port: 80, Protocol: "http", Upstream: &v1alpha1.UpstreamPort{Port: 443, Protocol: "https"}}},
			},
			PrivateAnswers: []string{"10.0.0.0/8"},
			TLS: &v1alpha1.EgressTLS{Mode: "Originate", ServerName: "Other.Example.com", CABundle: "PEM", MinVersion: "1.3",
				ClientCertificate: &v1alpha1.ClientCertificate{CertFile: "partner/a.pem", KeyFile: "a.key"}},
			HTTP: []v1alpha1.HTTPMatch{{Methods: []string{"get"}, Paths: []string{"/a", "/b/*"}, Upgrades: []string{"WebSocket", "SPDY/3.1"}}},
		}), `{"hosts":["api.example.com"],"cidrs":["2001:db8::/32","203.0.113.7/32"],"ports":[{"port":443,"protocol":"https"},{"port":5432,"protocol":"tcp","idleTimeout":5400000000000},{"port":80,"protocol":"http","upstream":{"port":443,"protocol":"https"}}],` +
			`"privateAnswers":["10.0.0.0/8"],"tls":{"mode":"Originate","serverName":"other.example.com","caBundle":"PEM","minVersion":"1.3",` +
			`"clientCertificate":{"namespace":"default","certFile":"partner/a.pem","keyFile":"a.key"}},` +
			`"http":[{"methods":["GET"],"paths":["/a","/b/*"],"upgrades":["websocket","spdy/3.1"]}]}`},
	} {
		t.Run(c.name, func(t *testing.T) {
			out := Compile(Input{Objects: []api.Object{c.object}})
			if len(out.Problems) > 0 {
				t.Fatal(out.Problems)
			}
			rules := snapshotOf(t, out, workload(t, "details-v2/1", "default")).Rules()
			if len(rules) != 1 || rules[0].ID != c.object.ID() {
				t.Fatalf("got %+v", rules)
			}
			rules[0].ID = ""
			b, err := json.Marshal(rules[0])
			if err != nil {
				t.Fatal(err)
			}
			if got := strings.Replace(string(b), `"id":"",`, "", 1); got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
		})
	}
}

func TestARuleSelectsWhomItsNamespaceAndFromSelect(t *testing.T) {
	details := workload(t, "details-v2/1", "default")
	details.Account = "books"
	account := egressPolicy("default", "account", nil, "d.example.com")
	account.Spec.(*v1alpha1.EgressPolicySpec).From = &v1alpha1.WorkloadSelector{ServiceAccounts: []string{"books", "films"}}
	both := egressPolicy("default", "both", map[string]string{"app": "details"}, "e.example.com")
	both.Spec.(*v1alpha1.EgressPolicySpec).From.ServiceAccounts = []string{"books"}
	out := Compile(Input{Objects: []api.Object{
		egressPolicy("default", "all", nil, "a.example.com"),
		egressPolicy("default", "empty", map[string]string{}, "a2.example.com"),
		egressPolicy("default", "v1", map[string]string{"version": "v1"}, "b.example.com"),
		egressPolicy("default", "v2", map[string]string{"version": "v2", "app": "details"}, "c.example.com"),
		account, both,
		egressPolicy("shop", "shop", nil, "f.example.com"),
		egressPolicy(RootNamespace, "root", nil, "g.example.com"),
		egressPolicy(RootNamespace, "root-details", map[string]string{"app": "details"}, "h.example.com"),
		egressRule("shop", "old-shop", "i.example.com", "443/https"),
		egressRule(RootNamespace, "old-root", "j.example.com", "443/https"),
		egressRule("", "old-default", "k.example.com", "443/https"),
	}})
	if len(out.Problems) > 0 {
		t.Fatal(out.Problems)
	}
	for _, c := range []struct {
		workload wire.Workload
		want     string
	}{
		{details, "account all both empty old-default old-root root root-details v2"},
		{workload(t, "details-v2/2", "default"), "all empty old-default old-root root root-details v2"},
		{workload(t, "details-v1/1", "default"), "all empty old-default old-root root root-details v1"},
		{workload(t, "reviews-v1/1", "default"), "all empty old-default old-root root v1"},
		{workload(t, "details-v2/1", "shop"), "old-root old-shop root root-details shop"},
		{workload(t, "other-v9/1", "elsewhere"), "old-root root"},
	} {
		var got []string
		for _, id := range ids(snapshotOf(t, out, c.workload)) {
			got = append(got, id[strings.LastIndexByte(id, '/')+1:])
		}
		slices.Sort(got)
		if strings.Join(got, " ") != c.want {
			t.Errorf("%s in %s gets %v, want %s", c.workload.Instance, c.workload.Namespace, got, c.want)
		}
	}
}

func TestConflictsOfEgressRulesAreThoseOfIstioWithinANamespace(t *testing.T) {
	for _, c := range []struct {
		name    string
		objects []api.Object
		kept    string
		problem string
	}{
		{"the same destination, whatever the ports", []api.Object{
			egressRule("default", "b", "cnn.com", "80/http"), egressRule("default", "a", "cnn.com", "443/https"),
		}, "a", "rule egress-rule/default/b conflicts with rule egress-rule/default/a on domain cnn.com, is rejected"},
		{"two families on a port", []api.Object{
			egressRule("default", "b", "10.0.0.0/8", "443/tcp"), egressRule("default", "a", "cnn.com", "443/https"),
		}, "a", "rule egress-rule/default/b is rejected since it conflicts rules [egress-rule/default/a] on port 443, protocol TCP vs. protocol HTTP"},
		{"mongo and tcp are two families", []api.Object{
			egressRule("default", "a", "10.0.0.1", "27017/mongo"), egressRule("default", "b", "10.0.0.2", "27017/tcp"),
		}, "a", "rule egress-rule/default/b is rejected since it conflicts rules [egress-rule/default/a] on port 27017, protocol TCP vs. protocol MONGO"},
		{"one loses to several", []api.Object{
			egressRule("default", "a", "a.com", "443/https"), egressRule("default", "b", "b.com", "443/http2"), egressRule("default", "c", "10.0.0.1", "80/tcp", "443/tcp"),
		}, "a b", "rule egress-rule/default/c is rejected since it conflicts rules [egress-rule/default/a egress-rule/default/b] on port 443, protocol TCP vs. protocol HTTP"},
		{"one loses to more than are named", []api.Object{
			egressRule("default", "a", "a.com", "443/https", "443/http"), egressRule("default", "b", "b.com", "443/https"), egressRule("default", "c", "c.com", "443/https"),
			egressRule("default", "d", "d.com", "443/https"), egressRule("default", "e", "e.com", "443/https"), egressRule("default", "z", "10.0.0.1", "443/tcp"),
		}, "a b c d e", "rule egress-rule/default/z is rejected since it conflicts rules [egress-rule/default/a egress-rule/default/b egress-rule/default/c and 2 more] on port 443, protocol TCP vs. protocol HTTP"},
		{"http and https are one family; wildcard and exact are two destinations", []api.Object{
			egressRule("default", "a", "*.cnn.com", "443/https"), egressRule("default", "b", "www.cnn.com", "443/http"),
		}, "a b", ""},
		{"what is dropped conflicts with nothing", []api.Object{
			egressRule("default", "a", "cnn.com", "80/http"), egressRule("default", "b", "cnn.com", "443/https"), egressRule("default", "c", "10.0.0.1", "443/tcp"),
		}, "a c", "rule egress-rule/default/b conflicts with rule egress-rule/default/a on domain cnn.com, is rejected"},
		{"another namespace cannot drop a rule", []api.Object{
			egressRule("default", "a", "cnn.com", "443/https"), egressRule("another", "a", "cnn.com", "443/tcp"),
		}, "a", ""},
		{"a policy of ours conflicts with nothing", []api.Object{
			egressRule("default", "a", "10.0.0.1", "443/tcp"), egressPolicy("default", "b", nil, "cnn.com"),
		}, "a b", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			out := Compile(Input{Objects: c.objects})
			var texts []string
			for _, problem := range out.Problems {
				texts = append(texts, problem.Text)
			}
			if got := strings.Join(texts, "\n"); got != c.problem {
				t.Errorf("got  %s\nwant %s", got, c.problem)
			}
			var kept []string
			for _, id := range ids(snapshotOf(t, out, workload(t, "details-v2/1", "default"))) {
				kept = append(kept, id[strings.LastIndexByte(id, '/')+1:])
			}
			slices.Sort(kept)
			if got := strings.Join(kept, " "); got != c.kept {
				t.Errorf("kept %s, want %s", got, c.kept)
			}
		})
	}
}

// What validation takes the gate can carry, and what it refuses the gate would too:
// the words of protocols have one reading.
func TestAProtocolIsTakenWhereTheGateCarriesIt(t *testing.T) {
	for _, word := range []string{"http", "https", "http2", "grpc", "tls", "tcp", "mongo", "udp", "quic", "gopher", ""} {
		spec := &v1alpha1.EgressPolicySpec{To: v1alpha1.EgressDestinations{Hosts: []string{"cnn.com"}, Ports: []v1alpha1.EgressPort{{Port: 443, Protocol: word}}}}
		object := object("sluice.dev/v1alpha1", "EgressPolicy", "default", "r", spec)
		taken := len(api.Validate(&object)) == 0
		carried := false
		if out := Compile(Input{Objects: []api.Object{object}}); len(out.Problems) == 0 {
			_, err := policy.NewSet(snapshotOf(t, out, workload(t, "details-v1/1", "default")).Rules(), policy.Options{})
			carried = err == nil
		}
		if taken != carried {
			t.Errorf("%q is taken: %t; the gate carries it: %t", word, taken, carried)
		}
	}
}

// The status of each of many rules that lose to many must stay small.
func TestThatARuleConflictsWithThousandsIsShort(t *testing.T) {
	var objects []api.Object
	for i := range 2000 {
		objects = append(objects, egressRule("default", fmt.Sprintf("a-rule-with-a-name-of-some-length-%04d", i), fmt.Sprintf("h%d.example.com", i), "443/https"))
	}
	for i := range 2000 {
		objects = append(objects, egressRule("default", fmt.Sprintf("z%d", i), fmt.Sprintf("10.0.%d.%d", i/256, i%256), "443/tcp"))
	}
	out := Compile(Input{Objects: objects})
	if len(out.Problems) != 2000 {
		t.Fatalf("%d problems", len(out.Problems))
	}
	for _, problem := range out.Problems {
		if len(problem.Text) > 400 || !strings.Contains(problem.Text, "and 1997 more]") {
			t.Fatalf("%d bytes: %s", len(problem.Text), problem.Text[:min(len(problem.Text), 500)])
		}
	}
}

func TestAnObjectThatCannotBeCompiledIsAProblemAndGrantsNothing(t *testing.T) {
	bad := []api.Object{
		egressRule("default", "no-destination", "", "443/https"),
		egressRule("default", "no-ports", "cnn.com"),
		egressRule("default", "bad-port", "cnn.com", "70000/https"),
		egressRule("default", "bad-protocol", "cnn.com", "443/gopher"),
		egressRule("default", "bad-cidr", "10.0.0.0/33", "443/tcp"),
		egressRule("default", "bad-name", "cnn..com", "443/https"),
		object("config.istio.io/v1alpha2", "EgressRule", "default", "proxy", &istio.EgressRuleSpec{
			Destination: &istio.Service{Service: "cnn.com"}, Ports: []istio.Port{{Port: 443, Protocol: "https"}}, UseEgressProxy: true}),
		egressPolicy("default", "no-hosts", nil),
		egressPolicy("default", "bad-host", nil, "good.example.com", "bad..example.com"),
		object("sluice.dev/v1alpha1", "EgressPolicy", "default", "intercept", &v1alpha1.EgressPolicySpec{
			To:  v1alpha1.EgressDestinations{Hosts: []string{"cnn.com"}, Ports: []v1alpha1.EgressPort{{Port: 443, Protocol: "https"}}},
			TLS: &v1alpha1.EgressTLS{Mode: "Intercept"}}),
		routeRule("no-destination", &istio.RouteRuleSpec{}),
		routeRule("address", &istio.RouteRuleSpec{Destination: &istio.Service{Service: "10.0.0.1"}}),
		routeRule("elsewhere", &istio.RouteRuleSpec{Destination: &istio.Service{Name: "details", Domain: "example.org"}}),
		routeRule("mirror", &istio.RouteRuleSpec{Destination: &istio.Service{Name: "details"}, Mirror: &istio.Service{Service: "*.example.com"}}),
		routeRule("weights", &istio.RouteRuleSpec{Destination: &istio.Service{Name: "details"}, Route: []istio.DestinationWeight{{Weight: 50}, {Weight: 40}}}),
		object("sluice.dev/v1alpha1", "MeshService", "default", "no-ports", &v1alpha1.MeshServiceSpec{}),
		object("sluice.dev/v1alpha1", "MeshConfig", "", "other", &v1alpha1.MeshConfigSpec{}),
		object("sluice.dev/v1alpha1", "MeshConfig", "", "default", &v1alpha1.MeshConfigSpec{OutboundDefault: "Allow"}),
		object("sluice.dev/v1alpha1", "Unheard", "default", "x", nil),
	}
	out := Compile(Input{Objects: bad})
	if len(out.Problems) != len(bad) {
		t.Errorf("%d problems of %d objects: %v", len(out.Problems), len(bad), out.Problems)
	}
	snapshot := snapshotOf(t, out, workload(t, "details-v2/1", "default"))
	if len(snapshot.Rules())+len(snapshot.Routes.Services)+len(snapshot.Routes.Hosts)+len(snapshot.Directory.Services) != 0 {
		t.Errorf("something was granted: %+v", snapshot)
	}
	if snapshot.Mesh.OutboundDefault != v1alpha1.DefaultDeny {
		t.Errorf("the outbound default is %s", snapshot.Mesh.OutboundDefault)
	}
}

func exact(s string) istio.StringMatch  { return istio.StringMatch{Exact: &s} }
func prefix(s string) istio.StringMatch { return istio.StringMatch{Prefix: &s} }

func TestRoutesAreTriedByPrecedenceThenKeyUpToACatchAll(t *testing.T) {
	to := func(version string, precedence int32, match *istio.MatchCondition) *istio.RouteRuleSpec {
		return &istio.RouteRuleSpec{
			Destination: &istio.Service{Name: "details"}, Precedence: precedence, Match: match,
			Route: []istio.DestinationWeight{{Labels: map[string]string{"version": version}}},
		}
	}
	from := func(name string, labels map[string]string) *istio.MatchCondition {
		return &istio.MatchCondition{Source: &istio.Service{Name: name, Labels: labels}}
	}
	headers := func(of map[string]istio.StringMatch) *istio.MatchCondition {
		return &istio.MatchCondition{Request: &istio.MatchRequest{Headers: of}}
	}
	out := Compile(Input{Objects: []api.Object{
		routeRule("default-v1", to("v1", 1, nil)),
		routeRule("never", to("v9", 0, nil)),
		routeRule("jason", to("v2", 2, headers(map[string]istio.StringMatch{"cookie": exact("user=jason"), "method": exact("GET")}))),
		routeRule("api", to("v2", 2, headers(map[string]istio.StringMatch{"uri": prefix("/api")}))),
		routeRule("of-productpage", to("v3", 3, from("productpage", nil))),
		routeRule("of-reviews-v2", to("v4", 4, from("reviews", map[string]string{"version": "v2"}))),
		routeRule("everything", &istio.RouteRuleSpec{
			Destination: &istio.Service{Service: "ratings.default.svc.cluster.local"},
			Match:       headers(map[string]istio.StringMatch{"uri": prefix("/")}),
		}),
		routeRule("ratings-after", &istio.RouteRuleSpec{Destination: &istio.Service{Name: "ratings"}, Precedence: -1}),
	}})
	if len(out.Problems) > 0 {
		t.Fatal(out.Problems)
	}
	for caller, want := range map[string]string{
		"details-v1/1":     "details:[api jason default-v1] ratings:[everything]",
		"productpage-v1/1": "details:[of-productpage] ratings:[everything]",
		"reviews-v2/1":     "details:[of-reviews-v2] ratings:[everything]",
		"reviews-v1/1":     "details:[api jason default-v1] ratings:[everything]",
	} {
		var got []string
		for _, service := range snapshotOf(t, out, workload(t, caller, "default")).Routes.Services {
			var rules []string
			for _, rule := range service.Rules {
				rules = append(rules, strings.TrimPrefix(rule.ID, "route-rule/default/"))
			}
			got = append(got, fmt.Sprintf("%s:%v", strings.TrimSuffix(service.Service.String(), ".default.svc.cluster.local"), rules))
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%s: got %v, want %s", caller, got, want)
		}
	}
	jason := snapshotOf(t, out, workload(t, "details-v1/1", "default")).Routes.Services[0].Rules[1]
	equal(t, "the rule for jason", jason, json.RawMessage(`{"id":"route-rule/default/jason",`+
		`"match":{"headers":{":method":{"exact":"GET"},"cookie":{"exact":"user=jason"}}},"targets":[{"labels":{"version":"v2"},"weight":100}]}`))
}

func TestASourceIsAlsoAServiceThatSelectsTheCaller(t *testing.T) {
	out := Compile(Input{
		Objects: []api.Object{
			object("sluice.dev/v1alpha1", "MeshService", "default", "frontends", &v1alpha1.MeshServiceSpec{
				Ports: []v1alpha1.ServicePort{{Port: 80}}, Selector: map[string]string{"app": "productpage"}}),
			routeRule("r", &istio.RouteRuleSpec{
				Destination: &istio.Service{Name: "details"},
				Match:       &istio.MatchCondition{Source: &istio.Service{Name: "frontends"}},
			}),
		},
	})
	if got := len(snapshotOf(t, out, workload(t, "productpage-v1/1", "default")).Routes.Services); got != 1 {
		t.Errorf("productpage has %d routes", got)
	}
	if got := len(snapshotOf(t, out, workload(t, "reviews-v1/1", "default")).Routes.Services); got != 0 {
		t.Errorf("reviews has %d routes", got)
	}
}

func TestServicesComeFromWorkloadsAndMeshServices(t *testing.T) {
	silent := workload(t, "client-v1/1", "default")
	silent.Ports = nil
	second := workload(t, "details-v2/1", "default")
	second.Ports, second.Protocols = []uint16{9080, 9443}, map[uint16]policy.Protocol{9080: policy.ProtocolHTTP}
	out := Compile(Input{
		Objects: []api.Object{
			object("sluice.dev/v1alpha1", "MeshService", "default", "ratings", &v1alpha1.MeshServiceSpec{
				Ports: []v1alpha1.ServicePort{{Port: 9080, Protocol: "tcp"}}}),
			object("sluice.dev/v1alpha1", "MeshService", "default", "canary", &v1alpha1.MeshServiceSpec{
				Ports: []v1alpha1.ServicePort{{Port: 9080}}, Selector: map[string]string{"version": "v2"}}),
		},
		Workloads: []wire.Workload{second, workload(t, "details-v1/1", "default"), workload(t, "ratings-v1/1", "default"), workload(t, "details-v2/1", "shop"), silent},
		// Of what left, a service that nobody else speaks of stays, without endpoints.
		Past: []wire.Workload{
			{Service: "details", Namespace: "default", Ports: []uint16{1}}, {Service: "ratings", Namespace: "default", Ports: []uint16{2}},
			{Service: "reviews", Namespace: "default", Ports: []uint16{9080}, Protocols: map[uint16]policy.Protocol{9080: policy.ProtocolHTTP}},
		},
	})
	snapshot := snapshotOf(t, out, workload(t, "details-v1/1", "default"))
	var got []string
	for _, service := range snapshot.Directory.Services {
		var behind []string
		for _, endpoints := range snapshot.Endpoints {
			if endpoints.Service == service.Name {
				for _, e := range endpoints.Endpoints {
					behind = append(behind, fmt.Sprint(e.Instance, e.Ports))
				}
			}
		}
		got = append(got, fmt.Sprintf("%s.%s%v=%v", service.Short, service.Namespace, service.Ports, behind))
	}
	want := []string{
		"canary.default[{9080 }]=[details-v2/1[9080 9443]]",
		"client.default[]=[]",
		"details.default[{9080 http} {9443 }]=[details-v1/1[9080] details-v2/1[9080 9443]]",
		"details.shop[{9080 }]=[details-v2/1[9080]]",
		"ratings.default[{9080 tcp}]=[ratings-v1/1[9080]]",
		"reviews.default[{9080 http}]=[]",
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// What one workload says of a port counts where others say nothing of it. Where they
// say different things none counts, whatever their order, and one of them is reported.
func TestWorkloadsThatDisagreeOnAPortLeaveItsProtocolOpen(t *testing.T) {
	says := func(instance string, p policy.Protocol) wire.Workload {
		w := workload(t, instance, "default")
		if p != policy.ProtocolNone {
			w.Protocols = map[uint16]policy.Protocol{9080: p}
		}
		return w
	}
	const none, http, tcp = policy.ProtocolNone, policy.ProtocolHTTP, policy.ProtocolTCP
	for _, x := range []struct {
		said []policy.Protocol
		want policy.Protocol
	}{
		{[]policy.Protocol{none, none}, none}, {[]policy.Protocol{none, tcp}, tcp}, {[]policy.Protocol{http, none, http}, http},
		{[]policy.Protocol{http, tcp}, none}, {[]policy.Protocol{tcp, http, tcp, none}, none},
	} {
		var all []wire.Workload
		for i, p := range x.said {
			all = append(all, says(fmt.Sprint("details-v1/", i+1), p))
		}
		out := Compile(Input{Workloads: all})
		if got, ok := snapshotOf(t, out, all[0]).Directory.Services[0].Find(9080); !ok || got != x.want {
			t.Errorf("%v: %v, want %v", x.said, got, x.want)
		}
		reported := ""
		for _, p := range out.Problems {
			reported += p.Object + ": " + p.Text
		}
		if disagree := slices.Contains(x.said, http) && slices.Contains(x.said, tcp); disagree != strings.Contains(reported, "details-v1/2: port 9080 is ") {
			t.Errorf("%v: reported %q", x.said, reported)
		}
	}
}

func TestTheMeshConfigNamedDefaultCounts(t *testing.T) {
	out := Compile(Input{Objects: []api.Object{
		object("sluice.dev/v1alpha1", "MeshConfig", "", "default", &v1alpha1.MeshConfigSpec{
			TrustedRoots: "PEM", MaxStale: "1h", Limits: &v1alpha1.Limits{MaxConnections: 7, MaxUpstreamConnections: 8, QueueTimeout: "9s"},
		}),
	}})
	mesh := snapshotOf(t, out, workload(t, "details-v1/1", "default")).Mesh
	limits := wire.Limits{Connections: 7, UpstreamConnections: 8, QueueTimeout: 9 * time.Second}
	if mesh.TrustedRoots != "PEM" || mesh.MaxStale != time.Hour || mesh.OutboundDefault != "Deny" || mesh.Limits != limits {
		t.Errorf("got %+v", mesh)
	}
	if mesh := snapshotOf(t, Compile(Input{}), workload(t, "details-v1/1", "default")).Mesh; mesh.MaxStale != 24*time.Hour {
		t.Errorf("without one: %+v", mesh)
	}
}

func TestAMeshConfigThatDoesNotCompileLeavesInForceWhatItWas(t *testing.T) {
	config := func(spec v1alpha1.MeshConfigSpec) []api.Object {
		return []api.Object{object("sluice.dev/v1alpha1", "MeshConfig", "", "default", &spec)}
	}
	good := v1alpha1.MeshConfigSpec{TrustedRoots: "PEM", MaxStale: "1h", Limits: &v1alpha1.Limits{MaxConnections: 7}}
	bad := v1alpha1.MeshConfigSpec{MaxStale: "soon", OutboundDefault: "Audit"}
	var compiler Compiler
	for i, step := range []struct {
		objects []api.Object
		roots   string
		stale   time.Duration
		limit   int
		problem string
	}{
		{config(bad), "", v1alpha1.DefaultMaxStale, 0, "maxStale: "},
		{config(good), "PEM", time.Hour, 7, ""},
		{config(bad), "PEM", time.Hour, 7, "; what it was before stays in force"},
		{config(bad), "PEM", time.Hour, 7, "; what it was before stays in force"},
		{nil, "", v1alpha1.DefaultMaxStale, 0, ""},
		{config(bad), "", v1alpha1.DefaultMaxStale, 0, "maxStale: "}, // what was deleted does not come back
		{config(good), "PEM", time.Hour, 7, ""},
		{append(config(good), object("sluice.dev/v1alpha1", "MeshConfig", "", "other", &bad)), "PEM", time.Hour, 7, "the one MeshConfig is named default; this one has no effect"},
	} {
		out := compiler.Compile(Input{Objects: step.objects})
		mesh := snapshotOf(t, out, workload(t, "details-v1/1", "default")).Mesh
		if mesh.TrustedRoots != step.roots || mesh.MaxStale != step.stale || mesh.Limits.Connections != step.limit || mesh.OutboundDefault != "Deny" {
			t.Errorf("step %d: %+v", i, mesh)
		}
		text := ""
		for _, problem := range out.Problems {
			text += problem.Text
		}
		if (text == "") != (step.problem == "") || !strings.Contains(text, step.problem) {
			t.Errorf("step %d says %q: want %q", i, text, step.problem)
		}
	}
}

// Audit holds where it is asked for and nowhere else, and a namespace's default does
// not keep the others from sharing their parts.
func TestANamespaceHasItsOwnOutboundDefault(t *testing.T) {
	config := func(spec *v1alpha1.MeshConfigSpec) []api.Object {
		return []api.Object{object("sluice.dev/v1alpha1", "MeshConfig", "", "default", spec), egressPolicy("sluice-system", "r", nil, "a.example.com")}
	}
	of := func(value string) v1alpha1.NamespaceConfig { return v1alpha1.NamespaceConfig{OutboundDefault: value} }
	for name, c := range map[string]struct {
		in                   Input
		shop, bank, anywhere string
	}{
		"nothing":        {Input{}, "Deny", "Deny", "Deny"},
		"the mesh":       {Input{Objects: config(&v1alpha1.MeshConfigSpec{OutboundDefault: "Audit"})}, "Audit", "Audit", "Audit"},
		"one of them":    {Input{Objects: config(&v1alpha1.MeshConfigSpec{Namespaces: map[string]v1alpha1.NamespaceConfig{"shop": of("Audit")}})}, "Audit", "Deny", "Deny"},
		"all but one":    {Input{Objects: config(&v1alpha1.MeshConfigSpec{OutboundDefault: "Audit", Namespaces: map[string]v1alpha1.NamespaceConfig{"bank": of("Deny")}})}, "Audit", "Deny", "Audit"},
		"a bad value":    {Input{Objects: config(&v1alpha1.MeshConfigSpec{OutboundDefault: "Audit", Namespaces: map[string]v1alpha1.NamespaceConfig{"bank": of("Allow")}})}, "Deny", "Deny", "Deny"},
		"an empty value": {Input{Objects: config(&v1alpha1.MeshConfigSpec{OutboundDefault: "Audit", Namespaces: map[string]v1alpha1.NamespaceConfig{"bank": of("")}})}, "Deny", "Deny", "Deny"},
		"a bad age":      {Input{Objects: config(&v1alpha1.MeshConfigSpec{OutboundDefault: "Audit", MaxStale: "1ms"})}, "Deny", "Deny", "Deny"},
		"--audit":        {Input{Audit: true}, "Audit", "Audit", "Audit"},
	} {
		t.Run(name, func(t *testing.T) {
			out := Compile(c.in)
			for namespace, want := range map[string]string{"shop": c.shop, "bank": c.bank, "anywhere": c.anywhere} {
				if got := snapshotOf(t, out, workload(t, "x/1", namespace)).Mesh.OutboundDefault; got != want {
					t.Errorf("%s: %s, want %s", namespace, got, want)
				}
			}
		})
	}
	out := Compile(Input{Objects: config(&v1alpha1.MeshConfigSpec{Namespaces: map[string]v1alpha1.NamespaceConfig{"shop": of("Audit"), "bank": of("Audit")}})})
	parts := func(namespace string) map[string]*wire.Part {
		view, err := out.View(workload(t, "x/1", namespace))
		if err != nil {
			t.Fatal(err)
		}
		named := make(map[string]*wire.Part)
		for _, part := range view.Parts {
			named[part.Name] = part
		}
		return named
	}
	shop, bank, anywhere := parts("shop"), parts("bank"), parts("anywhere")
	for name, part := range shop {
		if part != bank[name] {
			t.Errorf("two namespaces of one default do not share part %s", name)
		}
		if (part == anywhere[name]) != (name != wire.PartMesh) {
			t.Errorf("part %s is shared by namespaces of different defaults: %t", name, part == anywhere[name])
		}
	}
}

func TestAllowIsForEveryWorkload(t *testing.T) {
	rule := policy.Rule{ID: "--allow www.example.com:443", Hosts: []names.Pattern{names.MustParsePattern("www.example.com")}, Ports: []policy.Port{{Port: 443, Protocol: policy.ProtocolHTTPS}}}
	out := Compile(Input{Allow: []policy.Rule{rule}})
	equal(t, "rules", snapshotOf(t, out, workload(t, "x-v1/1", "anywhere")).Rules(), []policy.Rule{rule})
}

func TestClassesShareTheirParts(t *testing.T) {
	out := Compile(Input{Objects: []api.Object{
		egressPolicy("default", "all", nil, "a.example.com"),
		egressPolicy("default", "v2", map[string]string{"version": "v2"}, "b.example.com"),
	}})
	view := func(instance string) map[string]*wire.Part {
		v, err := out.View(workload(t, instance, "default"))
		if err != nil {
			t.Fatal(err)
		}
		parts := make(map[string]*wire.Part)
		for _, part := range v.Parts {
			parts[part.Name] = part
		}
		return parts
	}
	first, second, other := view("details-v2/1"), view("details-v2/2"), view("reviews-v1/1")
	for name, part := range first {
		if second[name] != part {
			t.Errorf("two workloads of a class have two parts %s", name)
		}
		if shared := !strings.HasPrefix(name, wire.PartPolicyOwn); (other[name] == part) != shared {
			t.Errorf("another class shares %s: %v", name, !shared)
		}
	}
}

func TestACompilerDoesAgainOnlyWhatChanged(t *testing.T) {
	var compiler Compiler
	objects := []api.Object{egressPolicy("default", "a", nil, "a.example.com"), egressPolicy("shop", "b", nil, "b.example.com")}
	in := workload(t, "details-v2/1", "default")
	before, _ := compiler.Compile(Input{Objects: objects, Revision: 1}).View(in)
	objects[1] = egressPolicy("shop", "b", nil, "c.example.com")
	after, _ := compiler.Compile(Input{Objects: objects, Revision: 2}).View(in)
	if before.Version != after.Version || !slices.Equal(before.Parts, after.Parts) {
		t.Error("a rule of another namespace made new parts")
	}
	if after.Revision != 2 {
		t.Errorf("revision %d", after.Revision)
	}
	objects[0] = egressPolicy("default", "a", nil, "d.example.com")
	changed, _ := compiler.Compile(Input{Objects: objects, Revision: 3}).View(in)
	different := 0
	for i, part := range changed.Parts {
		if part != after.Parts[i] {
			different++
		}
	}
	if different != 1 || changed.Version == after.Version {
		t.Errorf("a change of one rule made %d new parts", different)
	}
	// The same version of the store's object need not be the same value.
	again := egressPolicy("default", "a", nil, "d.example.com")
	again.Metadata.UID, again.Metadata.ResourceVersion = "u", "7"
	compile := func(object api.Object) *compiled {
		return compiler.Compile(Input{Objects: []api.Object{object}}).objects[0]
	}
	one := compile(again)
	copied := again
	copied.Spec = egressPolicy("default", "a", nil, "d.example.com").Spec
	if compile(copied) != one {
		t.Error("an object of the same version was compiled again")
	}
	copied.Metadata.ResourceVersion = "8"
	copied.Spec = egressPolicy("default", "a", nil, "e.example.com").Spec
	if compile(copied) == one {
		t.Error("a newer version was not compiled")
	}
}

func TestTheCacheForgetsWhatIsGone(t *testing.T) {
	var compiler Compiler
	in := workload(t, "details-v2/1", "default")
	for i := range 50 {
		out := compiler.Compile(Input{Objects: []api.Object{egressPolicy("default", fmt.Sprint("r", i), nil, fmt.Sprintf("h%d.example.com", i))}})
		snapshotOf(t, out, in)
	}
	c := compiler.cache
	if n := len(compiler.objects.objects); n > 1 {
		t.Errorf("%d objects are kept of one that is there", n)
	}
	if of := compiler.rules.namespaces["default"]; len(of.rules) != 1 || len(compiler.rules.index.namespaces) != 1 {
		t.Errorf("%d rules are kept of one that is there", len(of.rules))
	}
	if n := len(c.parts.current) + len(c.parts.previous); n > 2*6 {
		t.Errorf("%d parts are kept", n)
	}
}

func TestTooMuchForOneSnapshotIsAnError(t *testing.T) {
	huge := egressPolicy("default", "huge", nil, "a.example.com")
	huge.Spec.(*v1alpha1.EgressPolicySpec).TLS = &v1alpha1.EgressTLS{CABundle: strings.Repeat("x", wire.MaxPartBytes)}
	out := Compile(Input{Objects: []api.Object{huge}})
	if _, err := out.ForWorkload(workload(t, "details-v2/1", "default")); err == nil || !strings.Contains(err.Error(), "more than") {
		t.Errorf("got %v", err)
	}
	if _, err := out.ForWorkload(workload(t, "details-v2/1", "shop")); err != nil {
		t.Errorf("a namespace without the rule: %v", err)
	}
}

// A rule for one workload never changes a verdict for another.
func TestARuleForOneWorkloadNeverChangesAVerdictForAnother(t *testing.T) {
	versions := []string{"v1", "v2", "v3"}
	hosts := []string{"a.example.com", "*.example.com", "b.example.com", "*", "a.example.org", "*.org"}
	asked := []string{"a.example.com", "b.example.com", "c.example.com", "a.example.org", "x.test"}
	drawPolicy := func(t *rapid.T, name string, version string) api.Object {
		o := egressPolicy("default", name, map[string]string{"version": version}, rapid.SampledFrom(hosts).Draw(t, "host"))
		spec := o.Spec.(*v1alpha1.EgressPolicySpec)
		spec.To.Ports[0].Protocol = rapid.SampledFrom([]string{"https", "tls", "tcp", "http"}).Draw(t, "protocol")
		if rapid.Bool().Draw(t, "cidr") {
			spec.To.CIDRs = []string{"203.0.113.0/24"}
		}
		return o
	}
	rapid.Check(t, func(rt *rapid.T) {
		var objects []api.Object
		for i := range rapid.IntRange(0, 6).Draw(rt, "rules") {
			objects = append(objects, drawPolicy(rt, fmt.Sprint("p", i), rapid.SampledFrom(versions).Draw(rt, "version")))
		}
		forOne := rapid.SampledFrom(versions).Draw(rt, "for")
		added := drawPolicy(rt, fmt.Sprint("p", rapid.IntRange(0, 9).Draw(rt, "name"), "x"), forOne)
		before := Compile(Input{Objects: objects})
		after := Compile(Input{Objects: append(slices.Clone(objects), added)})
		for _, version := range versions {
			if version == forOne {
				continue
			}
			w := workload(t, "details-"+version+"/1", "default")
			one, two := snapshotOf(t, before, w), snapshotOf(t, after, w)
			if one.Version != two.Version {
				rt.Fatalf("a rule for %s changed the snapshot of %s", forOne, version)
			}
			first, err := policy.NewSet(one.Rules(), policy.Options{})
			if err != nil {
				rt.Fatal(err)
			}
			second, err := policy.NewSet(two.Rules(), policy.Options{})
			if err != nil {
				rt.Fatal(err)
			}
			for _, name := range asked {
				chain := policy.Chain{Port: 443, Dialled: names.MustParse(name), Sniffed: policy.ClientHello, SNI: names.MustParse(name)}
				a, b := first.Decide(&chain), second.Decide(&chain)
				if a.Action != b.Action || a.Reason != b.Reason || a.Treatment != b.Treatment {
					rt.Fatalf("%s to %s: %v became %v", version, name, a, b)
				}
			}
		}
	})
}

func TestCompileLinksNoKubernetesAndNoGRPC(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps", ".").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	for _, dep := range strings.Fields(string(out)) {
		for _, forbidden := range []string{"k8s.io/", "sigs.k8s.io/", "google.golang.org/", "go.etcd.io/"} {
			if strings.HasPrefix(dep, forbidden) {
				t.Errorf("it links %s", dep)
			}
		}
	}
}

// mesh is n rules and the workloads of classes classes: a tenth of the rules for
// everyone, the rest each for one class.
func mesh(t testing.TB, n, classes int) ([]api.Object, []wire.Workload) {
	var objects []api.Object
	for i := range n {
		var labels map[string]string
		if i%10 != 0 {
			labels = map[string]string{"app": fmt.Sprintf("s%d", i%classes)}
		}
		o := egressPolicy("default", fmt.Sprintf("rule-%05d", i), labels, fmt.Sprintf("*.h%d.example.com", i), fmt.Sprintf("h%d.example.org", i))
		objects = append(objects, o)
	}
	var workloads []wire.Workload
	for i := range classes {
		workloads = append(workloads, workload(t, fmt.Sprintf("s%d-v1/1", i), "default"))
	}
	return objects, workloads
}

func BenchmarkChangeOfOneRuleAmongTenThousandForAHundredClasses(b *testing.B) {
	objects, workloads := mesh(b, 10_000, 100)
	var compiler Compiler
	views := func(out *Output) {
		for _, w := range workloads {
			if _, err := out.View(w); err != nil {
				b.Fatal(err)
			}
		}
	}
	views(compiler.Compile(Input{Objects: objects, Workloads: workloads}))
	for _, c := range []struct {
		name string
		rule int
	}{{"ForOneClass", 5_001}, {"ForEveryone", 5_000}} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			for i := range b.N {
				changed := *objects[c.rule].Spec.(*v1alpha1.EgressPolicySpec)
				changed.To.Hosts = []string{fmt.Sprintf("changed%d.example.com", i)}
				objects[c.rule].Spec = &changed
				views(compiler.Compile(Input{Objects: objects, Workloads: workloads}))
			}
		})
	}
}

// A namespace's expressions are bounded together: the rules past the bound are dropped,
// each with the reason, and another namespace's are not.
func TestTheExpressionsOfANamespaceAreBoundedTogether(t *testing.T) {
	large := "a{900}b{900}"
	one, err := route.RegexSize(large)
	if err != nil {
		t.Fatal(err)
	}
	var objects []api.Object
	for i := range route.MaxRegexOfNamespace/one + 2 {
		objects = append(objects, routeRule(fmt.Sprintf("r%02d", i), &istio.RouteRuleSpec{
			Destination: &istio.Service{Name: "details"},
			Match:       &istio.MatchCondition{Request: &istio.MatchRequest{Headers: map[string]istio.StringMatch{"a": {Regex: &large}}}},
		}))
	}
	other := routeRule("other", objects[0].Spec.(*istio.RouteRuleSpec))
	other.Metadata.Namespace = "shop"
	out := Compile(Input{Objects: append(objects, other)})
	if len(out.Problems) != 2 || out.Problems[0].Object != "route-rule/default/r11" || !strings.Contains(out.Problems[1].Text, "RouteRules of namespace default may come to 20000 together") {
		t.Errorf("%d problems: %+v", len(out.Problems), out.Problems)
	}
}

// The rules of a host outside come to a list of their own, under the text that names it, and may
// name services; those of services may name hosts.
func TestARouteRuleOfAHostOutsideIsCompiled(t *testing.T) {
	wild := &istio.Service{Service: "*.example.com"}
	out := Compile(Input{Objects: []api.Object{
		routeRule("wild", &istio.RouteRuleSpec{Destination: wild, Precedence: 1, Route: []istio.DestinationWeight{
			{Destination: wild, Weight: 25}, {Destination: &istio.Service{Service: "b.example.org"}, Weight: 25}, {Destination: &istio.Service{Name: "details"}, Weight: 50}}}),
		routeRule("never", &istio.RouteRuleSpec{Destination: wild}),
		routeRule("in", &istio.RouteRuleSpec{Destination: &istio.Service{Name: "details"}, Mirror: &istio.Service{Service: "copy.example.com"},
			Route: []istio.DestinationWeight{{Destination: &istio.Service{Service: "b.example.org"}}}}),
	}})
	if len(out.Problems) > 0 {
		t.Fatalf("%+v", out.Problems)
	}
	routes := snapshotOf(t, out, workload(t, "productpage-v1/1", "default")).Routes
	equal(t, "of hosts", routes.Hosts, json.RawMessage(`[{"host":"*.example.com","rules":[{"id":"route-rule/default/wild","targets":[{"weight":25},{"host":"b.example.org","weight":25},`+
		`{"service":"details.default.svc.cluster.local","weight":50}]}]}]`))
	equal(t, "of services", routes.Services, json.RawMessage(`[{"service":"details.default.svc.cluster.local","rules":[{"id":"route-rule/default/in","targets":[{"host":"b.example.org","weight":100}],`+
		`"mirror":{"host":"copy.example.com"}}]}]`))
}

// A rule for hosts outside holds for its own namespace, and the root's for all, as egress rules do: another's would see
// what leaves there. What goes to a service of the mesh is led by whoever is about it.
func TestARouteRuleOfAHostOutsideHoldsInItsNamespaceAlone(t *testing.T) {
	outside := &istio.RouteRuleSpec{Destination: &istio.Service{Service: "api.example.com"}, Mirror: &istio.Service{Name: "sink"}}
	inside := &istio.RouteRuleSpec{Destination: &istio.Service{Name: "details", Namespace: "default"}}
	of := func(name, namespace string, spec *istio.RouteRuleSpec) api.Object {
		o := routeRule(name, spec)
		o.Metadata.Namespace = namespace
		return o
	}
	mine, foreign, root, service := of("mine", "default", outside), of("foreign", "shop", outside), of("root", RootNamespace, outside), of("service", "shop", inside)
	for who, x := range map[string]struct {
		objects []api.Object
		hosts   int
	}{
		"its own": {[]api.Object{mine, service}, 1}, "another's": {[]api.Object{foreign, service}, 0}, "the root's": {[]api.Object{root, service}, 1},
	} {
		out := Compile(Input{Objects: x.objects})
		w := workload(t, "productpage-v1/1", "default")
		routes := snapshotOf(t, out, w).Routes
		if len(out.Problems) > 0 || len(routes.Hosts) != x.hosts || len(routes.Services) != 1 {
			t.Errorf("%s: %d rules for hosts, %d for services, problems %v", who, len(routes.Hosts), len(routes.Services), out.Problems)
		}
		if got := Selects(&x.objects[0], w); got != (x.hosts > 0) {
			t.Errorf("%s: selected %t", who, got)
		}
	}
}

func TestWhatARouteRuleDoesIsCompiled(t *testing.T) {
	large := "b"
	out := Compile(Input{Objects: []api.Object{
		routeRule("a", &istio.RouteRuleSpec{
			Destination: &istio.Service{Name: "details"}, Match: &istio.MatchCondition{Request: &istio.MatchRequest{Headers: map[string]istio.StringMatch{"a": {Exact: &large}}}},
			Redirect: &istio.Redirect{URI: "/a", Authority: "b"},
		}),
		routeRule("b", &istio.RouteRuleSpec{
			Destination: &istio.Service{Name: "details"}, Rewrite: &istio.Rewrite{URI: "/c"}, AppendHeaders: map[string]string{"z": "1", "y": "2"},
			HTTPReqTimeout: &istio.HTTPTimeout{SimpleTimeout: &istio.SimpleTimeout{Timeout: "3s"}},
			HTTPReqRetries: &istio.HTTPRetry{SimpleRetry: &istio.SimpleRetry{Attempts: 3, PerTryTimeout: "1.5s"}},
			HTTPFault:      &istio.HTTPFault{Delay: &istio.Delay{Percent: 0.01, FixedDelay: "7s"}, Abort: &istio.Abort{Percent: 12.5, HTTPStatus: 418}},
		}),
		routeRule("none", &istio.RouteRuleSpec{Destination: &istio.Service{Name: "ratings"}, HTTPFault: &istio.HTTPFault{Abort: &istio.Abort{HTTPStatus: 418}}}),
	}})
	if len(out.Problems) > 0 {
		t.Fatalf("%+v", out.Problems)
	}
	services := snapshotOf(t, out, workload(t, "productpage-v1/1", "default")).Routes.Services
	equal(t, "the redirect", services[0].Rules[0].Actions, json.RawMessage(`{"redirect":{"uri":"/a","authority":"b"}}`))
	equal(t, "the rest", services[0].Rules[1].Actions, json.RawMessage(`{"rewrite":{"uri":"/c"},"append":[{"name":"y","value":"2"},{"name":"z","value":"1"}],`+
		`"delay":{"share":100,"for":7000000000},"abort":{"share":125000,"status":418},"timeout":3000000000,"retries":{"attempts":3,"eachTimeout":1500000000}}`))
	equal(t, "a share of 0", services[1].Rules[0].Actions, json.RawMessage(`{}`))
}
