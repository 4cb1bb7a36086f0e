package kubeapi

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"strings"
	"testing"

	"go.yaml.in/yaml/v4"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"sluice.dev/sluice/api"
)

// refusedSpecs is a spec for each text with which the kinds of Istio 0.5 are refused,
// and some of our own, by kind.
var refusedSpecs = map[string][]string{
	"IngressRule": {
		"{destination: {name: a}, destinationPort: 80}",
		"{port: 70000, destination: {name: a}, destinationPort: 80}",
		"{port: 80, destinationPort: 80}",
		"{port: 80, destination: {name: a}}",
		"{port: 80, destination: {name: a}, destinationPort: 80, tlsSecret: b}",
		"{port: 80, destination: {name: a, labels: {version: v1}}, destinationPort: 80}",
		"{port: 80, destination: {name: a}, destinationPort: 80, match: {request: {headers: {cookie: {exact: b}}}}}",
	},
	"Ingress": {
		"{rules: [{host: a..com, http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: a, port: {number: 80}}}}]}}]}",
		"{rules: [{host: a.com, http: {paths: [{path: b, pathType: Prefix, backend: {service: {name: a, port: {number: 80}}}}]}}]}",
		"{rules: [{host: a.com, http: {paths: [{path: /, pathType: Glob, backend: {service: {name: a, port: {number: 80}}}}]}}]}",
		"{rules: [{host: a.com, http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: a}}}]}}]}",
	},
	"EgressRule": {
		"{ports: [{port: 80, protocol: http}]}",
		"{destination: {service: a.com, name: b, namespace: c, domain: d, labels: {e: f}}, ports: [{port: 80, protocol: http}]}",
		"{destination: {service: a.com}}",
		"{destination: {service: a.com}, ports: [{port: 80, protocol: http}, {port: 80, protocol: https}]}",
		"{destination: {service: a.com}, ports: [{port: 0, protocol: http}, {port: 65536, protocol: http}]}",
		"{destination: {service: a.com}, ports: [{port: 80, protocol: udp}, {port: 81}, {protocol: http}]}",
		"{destination: {service: 10.0.0.0/8}, ports: [{port: 80, protocol: http}]}",
		"{destination: {service: a.com}, ports: [{port: 80, protocol: http}], useEgressProxy: true}",
		"{destination: {service: 10.0.0.0/8}, ports: [{port: 80, protocol: grpc}]}",
		"{destination: {service: ''}, ports: [{port: 80, protocol: tcp}]}",
		"{destination: {service: cnn..com}, ports: [{port: 80, protocol: tcp}]}",
		"{destination: {service: 'cnn.com:80'}, ports: [{port: 80, protocol: tcp}]}",
		"{destination: {service: '*cnn*.com'}, ports: [{port: 80, protocol: tcp}]}",
		"{destination: {service: 'cnn.*.com'}, ports: [{port: 80, protocol: tcp}]}",
		"{destination: {service: '**com'}, ports: [{port: 80, protocol: tcp}]}",
		"{destination: {service: '**0'}, ports: [{port: 80, protocol: tcp}]}",
		"{destination: {service: '*.'}, ports: [{port: 80, protocol: tcp}]}",
		"{destination: {service: 10.15.0/16}, ports: [{port: 80, protocol: tcp}]}",
		"{destination: {service: 10.15.0.0/33}, ports: [{port: 80, protocol: tcp}]}",
		"{destination: {service: '2001:db8::/32'}, ports: [{port: 80, protocol: tcp}]}",
		"{destination: {service: " + strings.Repeat("a.", 130) + "com}, ports: [{port: 80, protocol: tcp}]}",
		// Values of the wrong type.
		"{destination: {service: a.com}, ports: [{port: '80', protocol: http}]}",
		"{destination: {service: a.com}, ports: [{port: 80.5, protocol: http}]}",
		"{destination: {service: a.com}, ports: [{port: 4294967296, protocol: http}]}",
		"{destination: [a.com], ports: 80}",
		"{destination: {service: 5}, ports: [{port: 80, protocol: true}], useEgressProxy: 'yes'}",
	},
	"DestinationPolicy": {
		"{}",
		"{destination: {name: a}}",
		"{destination: {name: A, labels: {a b: c}}, source: {}, loadBalancing: {}}",
		"{destination: {name: a}, loadBalancing: {name: MAGLEV}}",
		"{destination: {name: a}, loadBalancing: {custom: {ringHash: {header: X, maxLoad: 1}}}}",
		"{destination: {name: a}, loadBalancing: {name: RANDOM, custom: {}}, circuitBreaker: {simpleCb: {maxConnections: -1}}}",
		"{destination: {name: 5}, loadBalancing: {name: [RANDOM]}}",
	},
	"RouteRule": {
		"{}",
		"{destination: {}}",
		"{destination: {name: a, service: a.b.svc.cluster.local}}",
		"{destination: {service: a.b.svc.cluster.local, namespace: c}}",
		"{destination: {service: a.b.svc.cluster.local, domain: c}}",
		"{destination: {name: A, namespace: B, domain: '*.c', labels: {a b: c, d: 'ü'}}}",
		"{destination: {service: 10.0.0.1}}",
		"{destination: {name: a}, rewrite: {}}",
		"{destination: {name: a}, rewrite: {uri: /a}, redirect: {}}",
		"{destination: {name: a}, redirect: {uri: /a}, route: [{labels: {v: a}}], httpFault: {}, websocketUpgrade: true}",
		"{destination: {name: a}, route: [{weight: 50}, {weight: 40}]}",
		"{destination: {name: a}, route: [{weight: 101}, {weight: -1}]}",
		"{destination: {name: a}, match: {request: {headers: {Cookie: {exact: a}, b: {exact: ''}, c: {exact: d, regex: e}, f: {regex: '('}}}}}",
		"{destination: {name: a}, match: {request: {headers: {uri: {exact: ''}}}}}",
		"{destination: {name: a}, match: {tcp: {sourceSubnet: [1.2.3.4/33, a]}, udp: {}}}",
		"{destination: {name: a}, httpReqTimeout: {simpleTimeout: {timeout: 10us}}}",
		"{destination: {name: a}, httpReqTimeout: {simpleTimeout: {timeout: 1.0005s}}}",
		"{destination: {name: a}, httpReqRetries: {simpleRetry: {attempts: -1, perTryTimeout: 1us}}}",
		"{destination: {name: a}, httpFault: {delay: {percent: 101, fixedDelay: 1us, exponentialDelay: 1s}, abort: {percent: -1, httpStatus: 601, grpcStatus: x}}}",
		"{destination: {name: a}, l4Fault: {terminate: {percent: 100}}}",
		"{destination: {name: a}, mirror: {}}",
		"{destination: {name: a}, corsPolicy: {allowMethods: [FETCH], maxAge: 1500ms}}",
		"{destination: {name: a}, appendHeaders: {A: b, c: ''}}",
		"{destination: {name: a}, mirror: {service: '*.example.com'}}",
	},
	"EgressPolicy": {
		"{}",
		"{to: {hosts: [a..b, 10.0.0.1], cidrs: [10.0.0.1/8], ports: [{port: 80, protocol: quic}]}}",
		"{to: {hosts: [a.b], ports: [{port: 443, protocol: https}]}, http: [{paths: [/a]}]}",
		"{to: {hosts: [a.b], ports: [{port: 443, protocol: https, upstream: {port: 0, protocol: tls}}, {port: 80, protocol: http, upstream: {}}]}}",
		"{to: {hosts: [a.b], ports: [{port: 80, protocol: http, upstream: {port: 443, protocol: https}}]}, tls: {mode: Passthrough}}",
	},
	"MeshService": {"{}", "{ports: [{port: 0, name: A, protocol: x}]}"},
	"MeshConfig":  {"{outboundDefault: Allow, maxStale: soon, trustedRoots: none}"},
}

// acceptedSpecs is what the objects are that the refused specs are to replace.
var acceptedSpecs = map[string]string{
	"EgressRule": "{destination: {service: a.com}, ports: [{port: 443, protocol: https}]}",
	"RouteRule":  "{destination: {name: a}}",

	"DestinationPolicy": "{destination: {name: a}, loadBalancing: {name: RANDOM}}",
	"IngressRule":       "{port: 80, destination: {name: a}, destinationPort: 80}",
	"Ingress":           "{rules: [{host: a.com, http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: a, port: {number: 80}}}}]}}]}",

	"EgressPolicy": "{to: {hosts: [a.b], ports: [{port: 443, protocol: https}]}}",
	"MeshService":  "{ports: [{port: 80}]}",
	"MeshConfig":   "{maxStale: 1h}",
}

// commandLine returns what the command line says of an object.
func commandLine(t *testing.T, object string) (faults []api.FieldError) {
	t.Helper()
	objects, err := api.Decode("f", strings.NewReader(object))
	if err == nil {
		err = api.ValidateAll(objects)
	}
	var problems api.Problems
	if !errors.As(err, &problems) {
		t.Fatalf("the command line takes %s: %v", object, err)
	}
	for _, problem := range problems {
		faults = append(faults, problem.FieldError)
	}
	return faults
}

// sayTheSame asserts that an answer has exactly the faults as its causes.
func sayTheSame(t *testing.T, how string, code int, answer string, want []api.FieldError) {
	t.Helper()
	status := decode[metav1.Status](t, answer)
	if code != http.StatusUnprocessableEntity || status.Details == nil {
		t.Errorf("%s: %d %s", how, code, answer)
		return
	}
	var got, wanted []string
	for _, cause := range status.Details.Causes {
		got = append(got, cause.Field+": "+cause.Message)
	}
	for _, fault := range want {
		wanted = append(wanted, fault.Path+": "+fault.Message)
		if !strings.Contains(status.Message, fault.Error()) {
			t.Errorf("%s: the message %q lacks %q", how, status.Message, fault.Error())
		}
	}
	if strings.Join(got, "\n") != strings.Join(wanted, "\n") {
		t.Errorf("%s:\n%s\nthe command line says\n%s", how, strings.Join(got, "\n"), strings.Join(wanted, "\n"))
	}
}

func TestEveryWayToWriteGivesTheTextsOfTheCommandLine(t *testing.T) {
	s := start(t, "", acceptAll)
	jsonOf := func(value any) string {
		data, err := json.Marshal(value)
		if err != nil {
			t.Fatal(err)
		}
		return string(data)
	}
	for _, kind := range api.Kinds() {
		path := "/apis/" + kind.APIVersion() + "/namespaces/default/" + kind.Plural
		metadata := map[string]any{"name": "default", "namespace": "default"}
		if !kind.Namespaced {
			path = "/apis/" + kind.APIVersion() + "/" + kind.Plural
			delete(metadata, "namespace")
		}
		object := func(spec string) map[string]any {
			var plain map[string]any
			if err := yaml.Unmarshal([]byte(spec), &plain); err != nil {
				t.Fatalf("%s: %v", spec, err)
			}
			return map[string]any{"apiVersion": kind.APIVersion(), "kind": kind.Name, "metadata": metadata, "spec": plain}
		}
		accepted := object(acceptedSpecs[kind.Name])
		code, stored := s.do(t, "POST", path, "application/json", jsonOf(accepted))
		if code != http.StatusCreated {
			t.Fatalf("%s: %d %s", kind.Name, code, stored)
		}
		one := path + "/default"
		for _, spec := range refusedSpecs[kind.Name] {
			refused := object(spec)
			want := commandLine(t, jsonOf(refused))
			update := maps.Clone(refused)
			update["metadata"] = decode[map[string]any](t, stored)["metadata"]
			// A merge patch keeps what it does not name.
			merged := maps.Clone(refused["spec"].(map[string]any))
			for field := range accepted["spec"].(map[string]any) {
				if _, named := merged[field]; !named {
					merged[field] = nil
				}
			}
			nested := false // a merge patch would mix lower levels of the two
			for field, value := range merged {
				_, mapping := value.(map[string]any)
				_, both := accepted["spec"].(map[string]any)[field]
				nested = nested || mapping && both
			}
			other := maps.Clone(refused)
			other["metadata"] = maps.Clone(metadata)
			if kind.Namespaced {
				other["metadata"].(map[string]any)["name"] = "other"
				code, answer := s.do(t, "POST", path, "application/json", jsonOf(other))
				sayTheSame(t, "create "+spec, code, answer, want)
				code, answer = s.do(t, "POST", path+"?dryRun=All&fieldValidation=Ignore", "application/yaml", jsonOf(other))
				sayTheSame(t, "dry run in YAML "+spec, code, answer, want)
				code, answer = s.do(t, "PATCH", path+"/other?fieldManager=kubectl", "application/apply-patch+yaml", jsonOf(other))
				if !strings.Contains(answer, "expected") { // of a type that the schema has not: server-side apply merges first
					sayTheSame(t, "server-side apply "+spec, code, answer, want)
				} else if code < 400 {
					t.Errorf("server-side apply %s: %d %s", spec, code, answer)
				}
			}
			code, answer := s.do(t, "PUT", one, "application/json", jsonOf(update))
			sayTheSame(t, "update "+spec, code, answer, want)
			code, answer = s.do(t, "PATCH", one, "application/json-patch+json", fmt.Sprintf(`[{"op":"replace","path":"/spec","value":%s}]`, jsonOf(refused["spec"])))
			sayTheSame(t, "JSON patch "+spec, code, answer, want)
			if !nested {
				code, answer = s.do(t, "PATCH", one, "application/merge-patch+json", jsonOf(map[string]any{"spec": merged}))
				sayTheSame(t, "merge patch "+spec, code, answer, want)
			}
		}
		if _, now := s.do(t, "GET", one, "", ""); now != stored {
			t.Errorf("what was refused changed\n%s to\n%s", stored, now)
		}
		if code, answer := s.do(t, "GET", path, "", ""); strings.Contains(answer, `"name":"other"`) {
			t.Errorf("what was refused is there: %d %s", code, answer)
		}
	}
}

func TestAStatusWriteCannotChangeASpec(t *testing.T) {
	s := start(t, "", acceptAll)
	s.create(t, "rule", "one.example.com")
	_, stored := s.do(t, "GET", egressRules+"/rule", "", "")
	whole := strings.Replace(stored, "one.example.com", "*", 1)
	for _, write := range []struct{ method, contentType, body string }{
		{"PUT", "application/json", whole},
		{"PATCH", "application/merge-patch+json", `{"spec":{"destination":{"service":"*"}}}`},
		{"PATCH", "application/json-patch+json", `[{"op":"replace","path":"/spec/destination/service","value":"*"}]`},
		{"PATCH", "application/apply-patch+yaml", egressRule("rule", "*")},
	} {
		code, answer := s.do(t, write.method, egressRules+"/rule/status?fieldManager=other&force="+fmt.Sprint(write.contentType == "application/apply-patch+yaml"), write.contentType, write.body)
		if _, now := s.do(t, "GET", egressRules+"/rule", "", ""); !strings.Contains(now, `"service":"one.example.com"`) {
			t.Fatalf("%s %s: %d %s, and the rule is %s", write.method, write.contentType, code, answer, now)
		}
	}
}

func TestNoWriterMayHaveUnknownFieldsDropped(t *testing.T) {
	s := start(t, "", acceptAll)
	body := strings.Replace(egressRule("rule", "one.example.com"), `"spec":{`, `"spec":{"form":{"labels":{"app":"a"}},`, 1)
	for _, asked := range []string{"Ignore", "Warn", "Strict", ""} {
		code, answer := s.do(t, "POST", egressRules+"?fieldValidation="+asked, "application/json", body)
		if code != http.StatusBadRequest || !strings.Contains(answer, `unknown field \"spec.form\"`) {
			t.Errorf("%q: %d %s", asked, code, answer)
		}
	}
	s.create(t, "rule", "one.example.com")
	for _, patch := range []struct{ contentType, body string }{
		{"application/merge-patch+json", `{"spec":{"form":{"a":"b"}}}`},
		{"application/json-patch+json", `[{"op":"add","path":"/spec/form","value":"a"}]`},
	} {
		if code, answer := s.do(t, "PATCH", egressRules+"/rule?fieldValidation=Ignore", patch.contentType, patch.body); code < 400 || !strings.Contains(answer, "spec.form") {
			t.Errorf("%s: %d %s", patch.contentType, code, answer)
		}
	}
}
