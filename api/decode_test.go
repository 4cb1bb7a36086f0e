package api

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"sluice.dev/sluice/api/istio"
	"sluice.dev/sluice/api/v1alpha1"
)

const istioEgressRule = `apiVersion: config.istio.io/v1alpha2
kind: EgressRule
metadata:
  name: googleapis
  namespace: default
spec:
  destination:
    service: "*.googleapis.com"
  ports:
  - port: 443
    protocol: https
`

const egressPolicy = `apiVersion: sluice.dev/v1alpha1
kind: EgressPolicy
metadata: {name: google-books, namespace: default}
spec:
  from:
    labels: {app: details, version: v2}
  to:
    hosts: ["*.googleapis.com"]
    ports: [{port: 443, protocol: https}]
  tls:
    mode: Originate
  http:
  - {methods: [GET], paths: ["/books/v1/*"]}
`

const routeRuleSnake = `kind: RouteRule
metadata:
  name: reviews-test-v2
spec:
  destination: {name: reviews}
  precedence: 2
  match:
    request:
      headers:
        cookie:
          regex: "^(.*?;)?(user=jason)(;.*)?$"
  route:
  - labels: {version: v2}
    weight: 100
  websocket_upgrade: true
  http_req_timeout: {simple_timeout: {timeout: 7s}}
  http_fault: {abort: {http_status: 418, http2_error: x, percent: 12.5}}
  cors_policy: {allow_origin: ["*"]}
  append_headers: {x-custom: a}
`

// same compares objects without their origins.
func same(t *testing.T, got, want any) {
	t.Helper()
	if diff := cmp.Diff(want, got, cmpopts.IgnoreFields(Object{}, "Origin")); diff != "" {
		t.Errorf("got + want -:\n%s", diff)
	}
}

func decodeOne(t *testing.T, text string) Object {
	t.Helper()
	objects, err := Decode("f.yaml", strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	if len(objects) != 1 {
		t.Fatalf("%d objects", len(objects))
	}
	return objects[0]
}

func TestDecodeReadsTheRulesOfTheArticle(t *testing.T) {
	o := decodeOne(t, istioEgressRule)
	same(t, o, Object{
		APIVersion: "config.istio.io/v1alpha2", Kind: "EgressRule",
		Metadata: Meta{Name: "googleapis", Namespace: "default"},
		Spec: &istio.EgressRuleSpec{
			Destination: &istio.Service{Service: "*.googleapis.com"},
			Ports:       []istio.Port{{Port: 443, Protocol: "https"}},
		},
	})
	if o.Origin.File != "f.yaml" || o.Origin.Line != 1 {
		t.Errorf("origin %s:%d", o.Origin.File, o.Origin.Line)
	}
	same(t, decodeOne(t, egressPolicy), Object{
		APIVersion: "sluice.dev/v1alpha1", Kind: "EgressPolicy",
		Metadata: Meta{Name: "google-books", Namespace: "default"},
		Spec: &v1alpha1.EgressPolicySpec{
			From: &v1alpha1.WorkloadSelector{Labels: map[string]string{"app": "details", "version": "v2"}},
			To: v1alpha1.EgressDestinations{
				Hosts: []string{"*.googleapis.com"}, Ports: []v1alpha1.EgressPort{{Port: 443, Protocol: "https"}},
			},
			TLS:  &v1alpha1.EgressTLS{Mode: "Originate"},
			HTTP: []v1alpha1.HTTPMatch{{Methods: []string{"GET"}, Paths: []string{"/books/v1/*"}}},
		},
	})
}

func TestDecodeReadsBothSpellingsOfIstioAndKeepsCamelCase(t *testing.T) {
	o := decodeOne(t, routeRuleSnake)
	regex := "^(.*?;)?(user=jason)(;.*)?$"
	same(t, o.Spec, &istio.RouteRuleSpec{
		Destination:      &istio.Service{Name: "reviews"},
		Precedence:       2,
		Match:            &istio.MatchCondition{Request: &istio.MatchRequest{Headers: map[string]istio.StringMatch{"cookie": {Regex: &regex}}}},
		Route:            []istio.DestinationWeight{{Labels: map[string]string{"version": "v2"}, Weight: 100}},
		WebsocketUpgrade: true,
		HTTPReqTimeout:   &istio.HTTPTimeout{SimpleTimeout: &istio.SimpleTimeout{Timeout: "7s"}},
		HTTPFault:        &istio.HTTPFault{Abort: &istio.Abort{HTTPStatus: 418, HTTP2Error: "x", Percent: 12.5}},
		CorsPolicy:       &istio.CorsPolicy{AllowOrigin: []string{"*"}},
		AppendHeaders:    map[string]string{"x-custom": "a"},
	})
	if o.APIVersion != "config.istio.io/v1alpha2" {
		t.Errorf("a missing apiVersion became %q", o.APIVersion)
	}
	var out bytes.Buffer
	if err := WriteYAML(&out, []Object{o}); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(out.String(), "http_") || !strings.Contains(out.String(), "httpReqTimeout") {
		t.Errorf("not in camelCase:\n%s", out.String())
	}
	// Both at once are a duplicate of one field; our own kinds have one spelling.
	refused(t, strings.Replace(istioEgressRule, "  ports:", "  useEgressProxy: false\n  use_egress_proxy: false\n  ports:", 1),
		"f.yaml:10: spec.useEgressProxy: duplicate: written as useEgressProxy and as use_egress_proxy")
	refused(t, strings.Replace(egressPolicy, "  tls:", "  private_answers: []\n  tls:", 1),
		"f.yaml:10: spec.private_answers: unknown field: do you mean privateAnswers?")
	// The last line is a case of its own: an odd mixture is not a spelling.
	refused(t, istioEgressRule+"  use_EgressProxy: true\n", "f.yaml:12: spec.use_EgressProxy: unknown field: do you mean useEgressProxy?")
}

// refused asserts the problems that Decode finds, in their order.
func refused(t *testing.T, text string, want ...string) {
	t.Helper()
	objects, err := Decode("f.yaml", strings.NewReader(text))
	var problems Problems
	if !errors.As(err, &problems) {
		t.Errorf("want %q, got %d objects and error %v for:\n%.300s", want, len(objects), err, text)
		return
	}
	if len(objects) != 0 {
		t.Errorf("%d objects beside an error", len(objects))
	}
	got := make([]string, len(problems))
	for i, p := range problems {
		got[i] = p.Error()
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("got + want - for\n%.300s\n%s", text, diff)
	}
}

func TestDecodeRefusesWithFileLineAndField(t *testing.T) {
	replace := func(old, new string) string { return strings.Replace(istioEgressRule, old, new, 1) }
	for name, c := range map[string]struct {
		text string
		want []string
	}{
		"no YAML":                   {"a: [", []string{"f.yaml:2: not YAML: did not find expected node content"}},
		"no mapping":                {"- 1\n", []string{"f.yaml:1: must be a mapping of names to values"}},
		"a scalar":                  {"hello\n", []string{"f.yaml:1: must be a mapping of names to values"}},
		"no kind":                   {"metadata: {name: a}\n", []string{"f.yaml:1: kind: is missing"}},
		"unknown kind":              {replace("EgressRule", "EgressRuel"), []string{"f.yaml:2: kind EgressRuel is not known: do you mean EgressRule?"}},
		"kind not supported yet":    {replace("EgressRule", "denier"), []string{"f.yaml:2: kind denier is not supported yet: " + insteadOf("denier")}},
		"unknown field":             {replace("service:", "servce:"), []string{"f.yaml:8: spec.destination.servce: unknown field"}},
		"unknown field in a list":   {replace("protocol: https", "proto: https"), []string{"f.yaml:11: spec.ports[0].proto: unknown field"}},
		"plural":                    {replace("ports:", "port:"), []string{"f.yaml:9: spec.port: unknown field: do you mean ports?"}},
		"unknown top field":         {istioEgressRule + "extra: 1\n", []string{"f.yaml:12: extra: unknown field"}},
		"unknown metadata":          {replace("  namespace: default", "  finalizers: [a]"), []string{"f.yaml:5: metadata.finalizers: unknown field"}},
		"field not supported yet":   {strings.Replace(egressPolicy, "mode: Originate", "ech: Allow", 1), []string{"f.yaml:11: spec.tls.ech: ech is not supported yet"}},
		"duplicate key":             {replace("    protocol: https", "    protocol: https\n    port: 80"), []string{"f.yaml:12: spec.ports[0].port: duplicate, first on line 10"}},
		"duplicate top key":         {istioEgressRule + "kind: RouteRule\n", []string{"f.yaml:12: kind: duplicate, first on line 2"}},
		"duplicate map key":         {replace("metadata:", "metadata:\n  labels: {a: b, a: c}"), []string{"f.yaml:4: metadata.labels.a: duplicate, first on line 4"}},
		"number as text":            {replace("https", "443"), []string{`f.yaml:11: spec.ports[0].protocol: must be a string: write "443" in quotes`}},
		"text as number":            {replace("443", `"443"`), []string{"f.yaml:10: spec.ports[0].port: must be a whole number of 32 bits: write 443 without quotes"}},
		"a wildcard without quotes": {replace(`"*.googleapis.com"`, "*.googleapis.com"), []string{`f.yaml:8: not YAML: a value that begins with * must be quoted: write "*.googleapis.com"`}},
		"such a wildcard in a list": {strings.Replace(egressPolicy, "hosts: [", "hosts: [*.example.com, ", 1), []string{`f.yaml:8: not YAML: a value that begins with * must be quoted: write "*.example.com"`}},
		"a kind nearly known":       {strings.Replace(istioEgressRule, "EgressRule", "EgresRule", 1), []string{"f.yaml:2: kind EgresRule is not known: do you mean EgressRule?"}},
		"fraction":                  {replace("443", "443.5"), []string{"f.yaml:10: spec.ports[0].port: must be a whole number of 32 bits"}},
		"too large":                 {replace("443", "4294967296"), []string{"f.yaml:10: spec.ports[0].port: must be a whole number of 32 bits"}},
		"yes is not a boolean":      {istioEgressRule + "  useEgressProxy: yes\n", []string{"f.yaml:12: spec.useEgressProxy: must be true or false"}},
		"list as mapping":           {replace("\n    service: \"*.googleapis.com\"", " [a]"), []string{"f.yaml:7: spec.destination: must be a mapping of names to values"}},
		"mapping as list":           {replace("\n  - port: 443\n    protocol: https", " {}"), []string{"f.yaml:9: spec.ports: must be a list"}},
		"empty item":                {replace("- port: 443\n    protocol: https", "-"), []string{"f.yaml:10: spec.ports[0]: has no value"}},
		"label without quotes":      {replace("metadata:", "metadata:\n  labels: {version: 1.10}"), []string{`f.yaml:4: metadata.labels[version]: must be a string: write "1.10" in quotes`}},
		"label without value":       {replace("metadata:", "metadata:\n  labels: {version: }"), []string{"f.yaml:4: metadata.labels[version]: has no value"}},
		"key that is not text":      {replace("metadata:", "metadata:\n  labels: {1: a}"), []string{"f.yaml:4: metadata.labels: a key must be a string"}},
		"merge key":                 {"x: &x {}\n" + istioEgressRule + "<<: *x\n", []string{"f.yaml:1: x: unknown field", "f.yaml:13: <<: merge keys are not supported: write the fields out"}},
		"not a time":                {replace("metadata:", "metadata:\n  creationTimestamp: soon"), []string{"f.yaml:4: metadata.creationTimestamp: must be a time such as 2018-02-02T00:00:00Z"}},
		"infinity":                  {strings.Replace(routeRuleSnake, "12.5", ".inf", 1), []string{"f.yaml:17: spec.httpFault.abort.percent: must be a number"}},
		"everything at once": {
			replace("service:", "servce:") + "---\n" + replace("443", "x") + "---\nkind: Nothing\n",
			[]string{"f.yaml:8: spec.destination.servce: unknown field", "f.yaml:22: spec.ports[0].port: must be a whole number of 32 bits", "f.yaml:25: kind Nothing is not known"},
		},
		"what was read before the syntax error counts too": {
			replace("service:", "servce:") + "---\na: [\n",
			[]string{"f.yaml:8: spec.destination.servce: unknown field", "f.yaml:14: not YAML: did not find expected node content"},
		},
		"a List with a bad item": {
			`{"apiVersion": "v1", "kind": "List", "items": [` + "\n" + `{"kind": "Pod"}], "more": 1}`,
			[]string{"f.yaml:2: more: unknown field", "f.yaml:2: kind Pod is not known: " + startWorkload},
		},
		"a tab that indents":          {replace("  ports:", "\tports:"), []string{"f.yaml:9: not YAML: found character that cannot start any token: a tab cannot indent, write spaces"}},
		"a control character":         {replace("default", "def\x01ault"), []string{"f.yaml:5: not YAML: control characters are not allowed (value: 1)"}},
		"NUL":                         {replace("default", "def\x00ault"), []string{"f.yaml:5: not YAML: control characters are not allowed (value: 0)"}},
		"no UTF-8":                    {replace("default", "def\xffault"), []string{"f.yaml:5: not YAML: invalid leading UTF-8 octet (value: 255)"}},
		"lines that end in CR LF":     {strings.ReplaceAll(replace("443", "x"), "\n", "\r\n"), []string{"f.yaml:10: spec.ports[0].port: must be a whole number of 32 bits"}},
		"a byte order mark":           {"\ufeff" + replace("443", "x"), []string{"f.yaml:10: spec.ports[0].port: must be a whole number of 32 bits"}},
		"an alias of nothing":         {replace("443", "*x"), []string{"f.yaml:10: not YAML: unknown anchor 'x' referenced"}},
		"a key that a terminal obeys": {replace("service:", `"a\e[31m\nb":`), []string{`f.yaml:8: spec.destination.a\x1b[31m\nb: unknown field`}},
		"JSON that is too deep": {
			"{\"kind\": \"EgressRule\",\n\"spec\": " + strings.Repeat("[", 70) + strings.Repeat("]", 70) + "}", []string{"f.yaml:2: exceeded max depth of 64"},
		},
		"blocks that are too deep": {
			"kind: EgressRule\nspec:\n" + nested(100), []string{"f.yaml:66: not YAML: exceeded max depth of 64"},
		},
		"a List of a List":      {"apiVersion: v1\nkind: List\nitems:\n- apiVersion: v1\n  kind: List\n", []string{"f.yaml:5: kind List is not known: apiVersion v1 is neither config.istio.io/v1alpha2 nor sluice.dev/v1alpha1"}},
		"a List of no objects":  {"apiVersion: v1\nkind: List\nitems:\n- null\n- 3\n", []string{"f.yaml:4: must be a mapping of names to values", "f.yaml:5: must be a mapping of names to values"}},
		"a List without a list": {"apiVersion: v1\nkind: List\nitems: {}\n", []string{"f.yaml:3: items: must be a list"}},
		"JSON": {
			"{\"kind\": \"EgressRule\",\n\"spec\": {\"ports\":\n [{\"port\": 4.5, \"port\": 3,\n\"x\": null}]}, \"kind\": 3}",
			[]string{"f.yaml:4: kind: duplicate, first on line 1", "f.yaml:3: spec.ports[0].port: must be a whole number of 32 bits",
				"f.yaml:3: spec.ports[0].port: duplicate, first on line 3", "f.yaml:4: spec.ports[0].x: unknown field"},
		},
	} {
		t.Run(name, func(t *testing.T) { refused(t, c.text, c.want...) })
	}
}

// nested is mappings within one another, each on a line of its own.
func nested(depth int) string {
	var b strings.Builder
	for i := 1; i <= depth; i++ {
		b.WriteString(strings.Repeat(" ", i) + "a:\n")
	}
	return b.String()
}

func TestWhatIsSaidOfAHugeObjectIsBounded(t *testing.T) {
	ports := strings.Repeat("{port: 0, protocol: no},", 2000)
	rule := decodeOne(t, "kind: EgressRule\nmetadata: {name: a, namespace: b}\nspec: {destination: {service: a.com}, ports: ["+ports+"]}\n")
	if got := problemsOf(&rule); len(got) != 1 || got[0] != "spec.ports: more than 64 ports" {
		t.Errorf("%d errors, the first %.200s", len(got), got[0])
	}
	bad := strings.Repeat("':',", maxCORSValues)
	cors := decodeOne(t, "kind: RouteRule\nmetadata: {name: a, namespace: b}\nspec: {destination: {name: a}, corsPolicy: {allowMethods: ["+bad+"], allowHeaders: ["+bad+"], exposeHeaders: ["+bad+"]}}\n")
	if got := problemsOf(&cors); len(got) != maxProblems {
		t.Errorf("%d errors", len(got))
	}
	var problems Problems
	if err := ValidateAll(slices.Repeat([]Object{cors}, 10)); !errors.As(err, &problems) || len(problems) > 2*maxProblems {
		t.Errorf("%d problems", len(problems))
	}
	long := egressRule(strings.Repeat("x", 1<<20), istio.Port{Port: 80, Protocol: "tcp"})
	if got := problemsOf(long); len(got) != 1 || len(got[0]) > maxPathText+maxMessageText {
		t.Errorf("%d errors, the first of %d bytes", len(got), len(got[0]))
	}
}

func TestDecodeHasBounds(t *testing.T) {
	document := "kind: EgressRule\nmetadata: {name: a}\nspec: {}\n---\n"
	t.Run("bytes", func(t *testing.T) {
		refused(t, strings.Repeat("#"+strings.Repeat("x", 1022)+"\n", 1024)+"#", "f.yaml: more than 1048576 bytes: split the file")
		if _, err := Decode("f", strings.NewReader(strings.Repeat("#"+strings.Repeat("x", 1022)+"\n", 1024))); err != nil {
			t.Error(err)
		}
	})
	t.Run("objects have none but the file's bytes", func(t *testing.T) {
		const many = 5000
		objects, err := Decode("f", strings.NewReader(strings.Repeat(document, many)))
		if err != nil || len(objects) != many {
			t.Fatal(len(objects), err)
		}
		refused(t, strings.Repeat(document, MaxFileBytes/len(document)+1), "f.yaml: more than 1048576 bytes: split the file")
	})
	t.Run("depth", func(t *testing.T) {
		refused(t, strings.Repeat("[", 100)+strings.Repeat("]", 100), "f.yaml:1: exceeded max depth of 64")
		refused(t, "a: "+strings.Repeat("[", 100)+strings.Repeat("]", 100), "f.yaml:1: not YAML: exceeded max depth of 64")
	})
	t.Run("problems", func(t *testing.T) {
		_, err := Decode("f", strings.NewReader(strings.Repeat("kind: No\n---\n", 500)))
		var problems Problems
		if !errors.As(err, &problems) || len(problems) != maxProblems {
			t.Errorf("%d problems", len(problems))
		}
	})
	t.Run("a billion laughs", func(t *testing.T) {
		var b strings.Builder
		b.WriteString("kind: EgressRule\nmetadata: {name: a}\nstatus:\n  a: &a [x,x,x,x,x,x,x,x,x,x]\n")
		for c := 'b'; c <= 'j'; c++ {
			fmt.Fprintf(&b, "  %c: &%c [%s]\n", c, c, strings.TrimSuffix(strings.Repeat("*"+string(c-1)+",", 10), ","))
		}
		_, err := Decode("f.yaml", strings.NewReader(b.String()))
		if err == nil || !strings.Contains(err.Error(), "aliases followed") {
			t.Errorf("got %.300v", err)
		}
	})
	t.Run("an alias within itself", func(t *testing.T) {
		_, err := Decode("f.yaml", strings.NewReader("kind: EgressRule\nmetadata: {name: a}\nstatus: &a {b: *a}\n"))
		if err == nil {
			t.Error("no error")
		}
	})
	t.Run("reading fails", func(t *testing.T) {
		_, err := Decode("f.yaml", iotest.ErrReader(io.ErrUnexpectedEOF))
		if !errors.Is(err, io.ErrUnexpectedEOF) || !strings.Contains(err.Error(), "read f.yaml") {
			t.Error(err)
		}
	})
}

func TestDecodeReadsWhatKubectlPrints(t *testing.T) {
	o := decodeOne(t, strings.Replace(istioEgressRule, "metadata:", `metadata:
  creationTimestamp: null
  managedFields:
  - manager: kubectl
    fieldsV1: {"f:spec": {}}
  selfLink: /x`, 1))
	same(t, o.Metadata, Meta{Name: "googleapis", Namespace: "default"})
	o = decodeOne(t, strings.Replace(istioEgressRule, "metadata:", "metadata:\n  creationTimestamp: 2018-02-02T01:02:03Z", 1))
	if got := o.Metadata.CreationTimestamp; !got.Equal(time.Date(2018, 2, 2, 1, 2, 3, 0, time.UTC)) {
		t.Error(got)
	}
}

func TestDecodeFollowsAliases(t *testing.T) {
	o := decodeOne(t, `kind: RouteRule
metadata: {name: a, labels: &l {version: v2}}
spec: {destination: {name: reviews}, route: [{labels: *l, weight: 50}, {labels: *l, weight: 50}]}
`)
	if got := o.Spec.(*istio.RouteRuleSpec).Route[1].Labels["version"]; got != "v2" {
		t.Error(got)
	}
}

func TestDecodeReadsJSONAndSkipsEmptyDocuments(t *testing.T) {
	var compact bytes.Buffer
	text := `{"apiVersion": "config.istio.io/v1alpha2", "kind": "EgressRule",
	"metadata": {"name": "googleapis", "namespace": "default", "managedFields": [{"manager": "x"}], "annotations": {"smile": "\ud83d\ude00 \/"}},
	"spec": {"destination": {"service": "*.googleapis.com"}, "ports": [{"port": 443, "protocol": "https"}]},
	"status": {"observedGeneration": 1, "conditions": [{"type": "Ready", "ok": true, "share": 0.5}]}}`
	if err := json.Compact(&compact, []byte(text)); err != nil {
		t.Fatal(err)
	}
	want := decodeOne(t, istioEgressRule).Spec
	for _, form := range []string{text, compact.String(), "---\n" + strings.Replace(text, `\ud83d\ude00`, "", 1) + "\n---\n# nothing\n---\n"} {
		o := decodeOne(t, form)
		same(t, o.Spec, want)
		if got := string(o.Status); got != `{"conditions":[{"ok":true,"share":0.5,"type":"Ready"}],"observedGeneration":1}` {
			t.Error(got)
		}
	}
	for _, empty := range []string{"", "---\n", "# a comment\n", "\n\n---\n---\nnull\n"} {
		if objects, err := Decode("f", strings.NewReader(empty)); err != nil || len(objects) != 0 {
			t.Errorf("%q: %d objects, %v", empty, len(objects), err)
		}
	}
}

func TestWhatIsWrittenIsReadAgain(t *testing.T) {
	var objects []Object
	for _, text := range []string{istioEgressRule, egressPolicy, routeRuleSnake} {
		objects = append(objects, decodeOne(t, text))
	}
	objects[0].Metadata.ResourceVersion = "12"
	objects[0].Metadata.Generation = 3
	objects[0].Metadata.CreationTimestamp = time.Date(2018, 2, 2, 1, 2, 3, 0, time.UTC)
	objects[0].Metadata.Labels = map[string]string{"version": "1.10", "on": "yes", "empty": ""}
	objects[0].Status = json.RawMessage(`{"observedGeneration":1000000}`)
	var asYAML, asJSON bytes.Buffer
	if err := WriteYAML(&asYAML, objects); err != nil {
		t.Fatal(err)
	}
	if err := WriteJSON(&asJSON, objects, true); err != nil {
		t.Fatal(err)
	}
	for form, text := range map[string]string{"YAML": asYAML.String(), "JSON": asJSON.String()} {
		again, err := Decode("f", strings.NewReader(text))
		if err != nil {
			t.Fatalf("%s: %v\n%s", form, err, text)
		}
		same(t, again, objects)
	}
	for i := range objects {
		data, err := Encode(&objects[i])
		if err != nil {
			t.Fatal(err)
		}
		again, err := DecodeJSON(data)
		if err != nil {
			t.Fatal(err)
		}
		same(t, again, objects[i])
	}
}

func TestWriteYAMLSortsKeysAndEndsEachObjectWithALine(t *testing.T) {
	var out bytes.Buffer
	o := decodeOne(t, istioEgressRule)
	if err := WriteYAML(&out, []Object{o, o}); err != nil {
		t.Fatal(err)
	}
	one := `apiVersion: config.istio.io/v1alpha2
kind: EgressRule
metadata:
  name: googleapis
  namespace: default
spec:
  destination:
    service: '*.googleapis.com'
  ports:
  - port: 443
    protocol: https
---
`
	if diff := cmp.Diff(one+one, out.String()); diff != "" {
		t.Error(diff)
	}
}

func TestDecodeJSONListReadsWhatTheAPIServes(t *testing.T) {
	kind, _ := Lookup("er")
	objects, version, err := DecodeJSONList([]byte(`{"kind":"EgressRuleList","metadata":{"resourceVersion":"77"},"items":[
		{"metadata":{"name":"a","namespace":"default","resourceVersion":"5","creationTimestamp":"2026-01-02T03:04:05Z"},"spec":{"ports":[{"port":1}]}},
		{"metadata":{"name":"b"}}]}`), kind)
	if err != nil || version != "77" || len(objects) != 2 {
		t.Fatal(objects, version, err)
	}
	if objects[0].Kind != "EgressRule" || objects[0].Spec.(*istio.EgressRuleSpec).Ports[0].Port != 1 {
		t.Error(objects[0])
	}
	if _, _, err := DecodeJSONList([]byte(`{"items":[{"spec":[]}]}`), kind); err == nil {
		t.Error("a spec that is a list was read")
	}
	for _, bad := range []string{`{`, `{"kind":"No"}`, `{"apiVersion":"config.istio.io/v1alpha2","kind":"EgressRule","spec":3}`} {
		if _, err := DecodeJSON([]byte(bad)); err == nil {
			t.Errorf("DecodeJSON took %s", bad)
		}
	}
}

func TestLinesAreFoundForFieldsThatAreMissing(t *testing.T) {
	o := decodeOne(t, "# one\n"+istioEgressRule)
	for path, want := range map[string]int{
		"spec.ports[0].port":    11,
		"spec.ports[0].other":   11,
		"spec.ports[7].port":    10,
		"spec.useEgressProxy":   7,
		"metadata.labels[a.b]":  4,
		"status":                2,
		"":                      2,
		"spec.destination[x].y": 8,
	} {
		if got := o.Origin.LineOf(path); got != want {
			t.Errorf("%s: line %d, want %d", path, got, want)
		}
	}
	if got := (Origin{}).LineOf("spec.ports"); got != 0 {
		t.Error(got)
	}
}

func TestProblemsReadAsInIstio(t *testing.T) {
	one := Problems{{File: "f.yaml", FieldError: FieldError{Path: "spec", Line: 3, Message: "is wrong"}}}
	if got := one.Error(); got != "1 error occurred:\n\n* f.yaml:3: spec: is wrong" {
		t.Errorf("%q", got)
	}
	two := append(one, Problem{FieldError: FieldError{Message: "bad"}}, Problem{File: "g", FieldError: FieldError{Message: "bad"}})
	if got := two.Error(); got != "3 errors occurred:\n\n* f.yaml:3: spec: is wrong\n* bad\n* g: bad" {
		t.Errorf("%q", got)
	}
}

func FuzzDecode(f *testing.F) {
	for _, seed := range []string{
		istioEgressRule, egressPolicy, routeRuleSnake, "a: &a [*a]", "<<: *x", "kind: List\napiVersion: v1\nitems: [{}]",
		"? {a: b}\n: c", "!!binary x", "kind: !!int 3", "%YAML 1.3\n---\n", "\xff\xfe", "a: \"\\ud83d\\ude00\"", "- - - - -", "{[", "&a &b c",
		"kind: EgressRule\nspec: {destination: {service: \"*.*\"}, ports: [{port: 0x1bb, protocol: TCP}]}",
	} {
		f.Add([]byte(seed))
	}
	for _, text := range hostile() {
		f.Add([]byte(text[:min(len(text), 256)]))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		objects, err := Decode("f", bytes.NewReader(data))
		if err != nil {
			if len(objects) != 0 {
				t.Fatal("objects beside an error")
			}
			return
		}
		for i := range objects {
			Validate(&objects[i])
			Warnings(&objects[i])
			encoded, err := Encode(&objects[i])
			if err != nil {
				t.Fatal(err)
			}
			if _, err := DecodeJSON(encoded); err != nil {
				t.Fatal(err)
			}
		}
		var out bytes.Buffer
		if err := WriteYAML(&out, objects); err != nil {
			t.Fatal(err)
		}
		if out.Len() > MaxFileBytes {
			return
		}
		again, err := Decode("again", &out)
		if err != nil {
			t.Fatalf("what was written cannot be read: %v\n%s", err, out.String())
		}
		if len(again) != len(objects) {
			t.Fatalf("%d objects written, %d read", len(objects), len(again))
		}
	})
}
