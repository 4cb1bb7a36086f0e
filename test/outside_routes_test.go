package test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sluice.dev/sluice/test/mesh"
)

// httpbin is rules for egress to the hosts that Istio 0.5 tried its route rules with.
const httpbin = `apiVersion: config.istio.io/v1alpha2
kind: EgressRule
metadata: {name: httpbin}
spec:
  destination: {service: httpbin.org}
  ports: [{port: 80, protocol: http}, {port: 443, protocol: https}]
---
apiVersion: config.istio.io/v1alpha2
kind: EgressRule
metadata: {name: httpbins}
spec:
  destination: {service: "*.httpbin.org"}
  ports: [{port: 80, protocol: http}]
---
apiVersion: config.istio.io/v1alpha2
kind: EgressRule
metadata: {name: nghttp2}
spec:
  destination: {service: nghttp2.org}
  ports: [{port: 80, protocol: http2}]
`

// What Istio 0.5 held of route rules on hosts outside: faults on a host, on a wildcard and
// where TLS is originated, appended headers, redirects to another path and another host,
// rewrites, the time-out of its task, and a fault on a rule of protocol http2.
func TestRouteRulesOnHostsOutsideDoWhatTheyDidInIstio(t *testing.T) {
	curl, err := exec.LookPath("curl")
	if err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal("curl is missing: under CI it must be there")
		}
		t.Skip("curl is missing")
	}
	users := mesh.Users(t)
	place := mesh.NewPlace(t, users[len(users)-1]) // whose they are makes no difference to rules
	a := &alone{Place: place, net: place.StartInternet(t), curl: curl}
	file := filepath.Join(filepath.Dir(a.net.CA), "routes.yaml")
	asked := func(rule string, curl ...string) mesh.Result {
		t.Helper()
		text := httpbin
		if rule != "" {
			text += "---\napiVersion: config.istio.io/v1alpha2\nkind: RouteRule\nmetadata: {name: r}\nspec: " + rule + "\n"
		}
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return a.run(t, append([]string{"--rules", file, "--", a.curl, "-sS", "--max-time", "120", "-w", " %{http_code}"}, curl...)...)
	}
	for _, x := range []struct {
		rule string
		curl []string
		says []string // in what comes back
	}{
		{"{destination: {service: httpbin.org}, httpFault: {abort: {percent: 100, httpStatus: 418}}}", []string{"http://httpbin.org/headers"}, []string{" 418"}},
		{`{destination: {service: "*.httpbin.org"}, httpFault: {abort: {percent: 100, httpStatus: 418}}}`, []string{"http://www.httpbin.org/headers"}, []string{" 418"}},
		{"{destination: {service: httpbin.org}, httpFault: {abort: {percent: 100, httpStatus: 418}}}", []string{"http://httpbin.org:443/headers"}, []string{" 418"}},
		{"{destination: {service: nghttp2.org}, httpFault: {abort: {percent: 100, httpStatus: 418}}}", []string{"http://nghttp2.org/"}, []string{" 418"}},
		{"{destination: {service: httpbin.org}, appendHeaders: {istio-custom-header1: user-defined-value1, istio-custom-header2: user-defined-value2}}",
			[]string{"http://httpbin.org/headers"}, []string{`"Istio-Custom-Header1":["user-defined-value1"]`, `"Istio-Custom-Header2":["user-defined-value2"]`, " 200"}},
		{"{destination: {service: httpbin.org}, match: {request: {headers: {uri: {exact: /post}}}}, redirect: {uri: /headers}}",
			[]string{"-L", "http://httpbin.org/post"}, []string{`"host":"httpbin.org"`, `"url":"/headers"`, " 200"}},
		{"{destination: {service: httpbin.org}, redirect: {uri: /headers, authority: www.httpbin.org}}", // by the other rule for egress
			[]string{"-L", "http://httpbin.org/post"}, []string{`"host":"www.httpbin.org"`, `"url":"/headers"`, " 200"}},
		{"{destination: {service: httpbin.org}, match: {request: {headers: {uri: {exact: /post}}}}, rewrite: {uri: /headers}}",
			[]string{"http://httpbin.org/post"}, []string{`"host":"httpbin.org"`, `"url":"/headers"`, " 200"}},
		{"{destination: {service: httpbin.org}, route: [{weight: 100, destination: {service: www.httpbin.org}}]}",
			[]string{"http://httpbin.org/headers"}, []string{`"host":"www.httpbin.org"`, " 200"}},
	} {
		r := asked(x.rule, x.curl...)
		for _, text := range x.says {
			if !strings.Contains(r.Stdout, text) {
				t.Errorf("%s\n%q: exit %d, no %s in\n%s%s", x.rule, x.curl, r.Code, text, r.Stdout, r.Stderr)
			}
		}
	}
	// /delay/5 of the task page: whole without a rule, and cut off after 3 s with one. The
	// answer would come so late that no slow machine makes up for it.
	begun := time.Now()
	if r := asked("", "http://httpbin.org/delay/5000"); !strings.HasSuffix(r.Stdout, " 200") || time.Since(begun) < 5*time.Second {
		t.Errorf("no rule: exit %d after %v, %s%s", r.Code, time.Since(begun), r.Stdout, r.Stderr)
	}
	for _, port := range []int{80, 443} {
		begun = time.Now()
		r := asked("{destination: {service: httpbin.org}, httpReqTimeout: {simpleTimeout: {timeout: 3s}}}", fmt.Sprintf("http://httpbin.org:%d/delay/60000", port))
		if took := time.Since(begun); !strings.HasSuffix(r.Stdout, " 504") || took < 3*time.Second {
			t.Errorf("port %d, a time-out of 3 s: exit %d after %v, %s%s", port, r.Code, took, r.Stdout, r.Stderr)
		} else {
			t.Logf("port %d: 504 after %v, with the start of the sandbox", port, took)
		}
	}
}
