package controlplane

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"sluice.dev/sluice/internal/control/inspect"
	"sluice.dev/sluice/internal/kube/reach"
	"sluice.dev/sluice/internal/wire"
	"sluice.dev/sluice/internal/wire/stream"
)

func TestARuleThatTakesNoEffectSaysSoInItsEventsAndSaysWhenItDoesAgain(t *testing.T) {
	m := newMesh(t)
	namespace := m.Namespace(t)
	m.server("one")
	rule := func(name, protocol string) string {
		return `
apiVersion: config.istio.io/v1alpha2
kind: EgressRule
metadata: {namespace: ` + namespace + `, name: ` + name + `}
spec:
  destination: {service: www.example.com}
  ports: [{port: 443, protocol: ` + protocol + `}]
`
	}
	m.apply(rule("first", "https"))
	m.apply(rule("second", "https"))
	events := func() string {
		r := m.Kubectl(t, "", "-n", namespace, "get", "events", "--field-selector", "involvedObject.kind=EgressRule,involvedObject.name=second",
			"-o", `jsonpath={range .items[*]}{.type} {.reason} {.source.component}: {.message}{"\n"}{end}`)
		if r.Code != 0 {
			t.Fatalf("%+v", r)
		}
		return r.Stdout
	}
	const refused, again = "Warning Rejected sluice-server: rule egress-rule/", "Normal Compiled sluice-server: in effect"
	eventually(t, "an event says that the second rule conflicts with the first", func() bool { return strings.Contains(events(), refused) })
	if said := events(); !strings.Contains(said, "conflicts with rule") || strings.Contains(said, again) || strings.Count(said, "\n") != 1 {
		t.Errorf("%s", said)
	}
	if r := m.Kubectl(t, "", "-n", namespace, "describe", "egressrule", "second"); !strings.Contains(r.Stdout, "conflicts with rule") {
		t.Errorf("kubectl describe: %+v", r)
	}
	if r := m.Kubectl(t, "", "-n", namespace, "delete", "egressrule", "first"); r.Code != 0 {
		t.Fatalf("%+v", r)
	}
	eventually(t, "an event says that it takes effect", func() bool { return strings.Contains(events(), again) })
}

func TestTheStatusOfAWorkloadIsTheOneThatTheServerOfItsProxySays(t *testing.T) {
	m := newMesh(t)
	namespace := m.Namespace(t)
	servers := map[string]*control{"one": m.server("one"), "two": m.server("two")}
	for name, s := range servers {
		member := m.join(s, m.token(m.pod(namespace, "web-"+name, "10.1.0."+map[string]string{"one": "1", "two": "2"}[name], nil), stream.TokenAudience))
		until(t, member, "the first snapshot", func(*wire.Snapshot) bool { return true })
	}
	var all []reach.Server
	for name, s := range servers {
		all = append(all, reach.Server{Name: name, HTTP: inspected(s.InspectAddress())})
	}
	handler := reach.New(reach.Config{
		Servers: fixed(all).list,
		Missing: func(server string, err error) { t.Errorf("%s did not answer: %v", server, err) },
	})
	ask := func(path string) *httptest.ResponseRecorder {
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, path, nil))
		return w
	}
	eventually(t, "both Pods are connected and run their rules, whichever server they are connected to", func() bool {
		said := ask(inspect.StatusPath).Body.String()
		return strings.Count(said, `"connected":true`) == 2 && strings.Count(said, `"ackedVersion"`) == 2 && !strings.Contains(said, `"connected":false`)
	})
	for name := range servers {
		path := inspect.WhyPath + "?from=web-" + name + "." + namespace + "&namespace=" + namespace + "&url=https://www.example.com/"
		eventually(t, "one of the servers knows what "+name+" would be told", func() bool {
			w := ask(path)
			return w.Code == http.StatusOK && strings.Contains(w.Body.String(), `"snapshot"`)
		})
	}
	// A page in a browser, whose name somebody lets lead to a forwarded port, is told nothing.
	request := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "http://evil.example.com"+inspect.StatusPath, nil)
	response, err := inspected(servers["one"].InspectAddress()).RoundTrip(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusMisdirectedRequest {
		t.Errorf("another name is answered %d", response.StatusCode)
	}
}
