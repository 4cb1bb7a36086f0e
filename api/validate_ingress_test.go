package api

import (
	"strings"
	"testing"
)

// decodedOne decodes one object.
func decodedOne(t *testing.T, text string) Object {
	t.Helper()
	objects, err := Decode("f.yaml", strings.NewReader(text))
	if err != nil || len(objects) != 1 {
		t.Fatalf("%d objects, %v, of\n%s", len(objects), err, text)
	}
	objects[0].SetNamespace(DefaultNamespace)
	return objects[0]
}

func TestAnIngressAndAnIngressRuleThatAreWrongAreRefusedByField(t *testing.T) {
	const (
		ingress = "apiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata: {name: x}\nspec: "
		rule    = "kind: IngressRule\nmetadata: {name: x}\nspec: "
		to      = "backend: {service: {name: web, port: {number: 80}}}"
	)
	path := func(fields string) string {
		return ingress + "{rules: [{http: {paths: [{" + fields + "}]}}]}"
	}
	asks := func(text string) string {
		return strings.Replace(text, "{name: x}", "{name: x, annotations: {ingress.sluice.dev/client-certificates: required}}", 1)
	}
	for _, x := range []struct{ text, want string }{
		{ingress + "{defaultBackend: {service: {name: web, port: {number: 80}}}}", ""},
		{path("path: /a, pathType: Prefix, " + to), ""},
		{path("pathType: ImplementationSpecific, " + to), ""},
		{path("path: /a.*, pathType: ImplementationSpecific, " + to), ""},
		{ingress + "{}", "spec: write rules or defaultBackend"},
		{path("path: /a, " + to), "spec.rules[0].http.paths[0].pathType: is missing"},
		{path("path: /a, pathType: prefix, " + to), `spec.rules[0].http.paths[0].pathType: "prefix" is not one of`},
		{path("pathType: Exact, " + to), "spec.rules[0].http.paths[0].path: is missing"},
		{path("path: a, pathType: Exact, " + to), `spec.rules[0].http.paths[0].path: "a" must begin with /`},
		{path("path: /a/../b, pathType: Exact, " + to), "can be read in more than one way"},
		{path("path: '/a(/|$)(.*)', pathType: ImplementationSpecific, " + to), "is a regular expression"},
		{path("path: /a, pathType: Exact"), "spec.rules[0].http.paths[0].backend: is missing"},
		{path("path: /a, pathType: Exact, backend: {service: {name: web}}"), "spec.rules[0].http.paths[0].backend.service.port: write number or name"},
		{path("path: /a, pathType: Exact, backend: {service: {name: web, port: {number: 70000}}}"), "spec.rules[0].http.paths[0].backend.service.port.number: port number 70000"},
		{path("path: /a, pathType: Exact, backend: {service: {name: web, port: {number: 1, name: a}}}"), "write either number or name, not both"},
		{ingress + "{rules: [{host: foo.com}]}", "spec.rules[0].http: is missing"},
		{ingress + "{rules: [{host: Foo.com, http: {paths: [{path: /, pathType: Prefix, " + to + "}]}}]}", "spec.rules[0].host: \"Foo.com\" is compared as foo.com"},
		{ingress + "{rules: [{host: 'a.*.com', http: {paths: [{path: /, pathType: Prefix, " + to + "}]}}]}", "spec.rules[0].host:"},
		{ingress + "{tls: [{hosts: [foo.com]}], defaultBackend: {service: {name: web, port: {number: 80}}}}", "spec.tls[0].secretName: is missing"},
		{strings.Replace(path("path: /a, pathType: Exact, "+to), "{name: x}", "{name: x, annotations: {ingress.sluice.dev/redirect: \"true\"}}", 1), "metadata.annotations[ingress.sluice.dev/redirect]: is not known"},
		{strings.Replace(path("path: /a, pathType: Exact, "+to), "{name: x}", "{name: x, annotations: {ingress.sluice.dev/client-certificates: required}}", 1), "metadata.annotations[ingress.sluice.dev/client-certificates]: clients show a certificate by TLS alone"},
		{asks(ingress + "{tls: [{hosts: [foo.com, '*.bar.com'], secretName: s}], rules: [{host: foo.com, http: {paths: [{path: /, pathType: Prefix, " + to + "}]}}, {host: x.bar.com, http: {paths: [{path: /, pathType: Prefix, " + to + "}]}}]}"), ""},
		{asks(ingress + "{tls: [{hosts: [foo.com], secretName: s}], rules: [{host: bar.com, http: {paths: [{path: /, pathType: Prefix, " + to + "}]}}]}"), "spec.rules[0].host: is in no tls[].hosts, so that no client certificate could be asked for"},
		{asks(ingress + "{tls: [{hosts: ['*.foo.com'], secretName: s}], rules: [{host: a.b.foo.com, http: {paths: [{path: /, pathType: Prefix, " + to + "}]}}]}"), "spec.rules[0].host: is in no tls[].hosts"},
		{asks(ingress + "{tls: [{hosts: [foo.com], secretName: s}], rules: [{http: {paths: [{path: /, pathType: Prefix, " + to + "}]}}]}"), "spec.rules[0].host: is in no tls[].hosts"},
		{asks(ingress + "{tls: [{secretName: s}], rules: [{host: foo.com, http: {paths: [{path: /, pathType: Prefix, " + to + "}]}}]}"), "spec.tls[0].hosts: is missing, so that no client certificate could be asked for"},
		{asks(ingress + "{tls: [{hosts: [foo.com], secretName: s}], defaultBackend: {service: {name: web, port: {number: 80}}}}"), "spec.defaultBackend: is for every host, so that no client certificate could be asked for"},
		{asks(rule + "{port: 443, tlsSecret: s, destination: {name: web}, destinationPort: 80}"), "spec.match.request.headers: authority is missing, so that no client certificate could be asked for"},
		{asks(rule + "{port: 443, tlsSecret: s, match: {request: {headers: {authority: {exact: foo.com}}}}, destination: {name: web}, destinationPort: 80}"), ""},
		{ingress + "{ingressClassName: nginx, rules: [{host: 'a.*.com', http: {paths: [{path: '/a(/|$)(.*)', pathType: ImplementationSpecific, " + to + "}]}}]}", ""},
		{ingress + "{ingressClassName: nginx, tls: [" + strings.Repeat("{secretName: s},", 65) + "]}", "spec.tls: more than 64 certificates"},
		{strings.Replace(path("path: /a, pathType: Exact, "+to), "{name: x}", "{name: x, annotations: {ingress.sluice.dev/https-redirect: \"yes\"}}", 1), "metadata.annotations[ingress.sluice.dev/https-redirect]: \"yes\" is not one of"},
		{rule + "{port: 80, destination: {name: web}, destinationPort: 80}", ""},
		{rule + "{port: 80, match: {request: {headers: {uri: {prefix: /a}, authority: {exact: foo.com}}}}, destination: {name: web}, destinationPort: 80}", ""},
		{rule + "{destination: {name: web}, destination_port: 80}", "spec.port: port number 0 must be in the range 1..65535"},
		{rule + "{port: 80, destinationPort: 80}", "spec.destination: ingress rule must have a destination service"},
		{rule + "{port: 80, destination: {name: web, labels: {version: v1}}, destinationPort: 80}", "spec.destination.labels: ingress rule destination labels must be empty"},
		{rule + "{port: 80, destination: {service: www.example.com}, destinationPort: 80}", "spec.destination: www.example.com is not a service of the mesh"},
		{rule + "{port: 80, destination: {name: web}}", "spec: write destinationPort"},
		{rule + "{port: 80, destination: {name: web}, destinationPort: 80, destinationPortName: http}", "spec.destinationPortName: write either"},
		{rule + "{port: 80, tlsSecret: a, destination: {name: web}, destinationPort: 80}", "spec.tlsSecret: port 80 is the listener of plain HTTP"},
		{rule + "{port: 80, match: {source: {name: a}}, destination: {name: web}, destinationPort: 80}", "spec.match.source: what comes in from outside"},
		{rule + "{port: 80, match: {request: {headers: {cookie: {exact: a}}}}, destination: {name: web}, destinationPort: 80}", "spec.match.request.headers[cookie]: an ingress rule looks at uri and authority alone"},
		{rule + "{port: 80, match: {request: {headers: {uri: {regex: /a}}}}, destination: {name: web}, destinationPort: 80}", "spec.match.request.headers[uri].regex: regular expressions are not supported"},
		{rule + "{port: 80, match: {request: {headers: {authority: {exact: 'foo.com:80'}}}}, destination: {name: web}, destinationPort: 80}", "spec.match.request.headers[authority].exact:"},
	} {
		o := decodedOne(t, x.text)
		var texts []string
		for _, e := range Validate(&o) {
			texts = append(texts, e.Path+": "+e.Message)
		}
		if got := strings.Join(texts, "\n"); x.want == "" && got != "" || x.want != "" && (len(texts) != 1 || !strings.HasPrefix(got, x.want) && !strings.Contains(got, x.want)) {
			t.Errorf("%s\n got %s\nwant %s", x.text, got, x.want)
		}
	}
}

// An Ingress of the time of Istio 0.5 is read, and it is said what was made of it.
func TestAnOlderIngressIsUpgradedAndThatIsSaid(t *testing.T) {
	for _, version := range []string{"extensions/v1beta1", "networking.k8s.io/v1beta1"} {
		o := decodedOne(t, "apiVersion: "+version+`
kind: Ingress
metadata:
  name: gateway
  annotations:
    kubernetes.io/ingress.class: "istio"
spec:
  backend:
    serviceName: rest
    servicePort: http
  rules:
  - http:
      paths:
      - path: /productpage
        backend:
          serviceName: productpage
          servicePort: 9080
`)
		if problems := Validate(&o); len(problems) != 0 {
			t.Errorf("%s: %v", version, problems)
		}
		encoded, err := Encode(&o)
		const want = `"spec":{"defaultBackend":{"service":{"name":"rest","port":{"name":"http"}}},"rules":[{"http":{"paths":[{"path":"/productpage","pathType":"ImplementationSpecific","backend":{"service":{"name":"productpage","port":{"number":9080}}}}]}}]}`
		if err != nil || !strings.Contains(string(encoded), want) || !strings.Contains(string(encoded), `"apiVersion":"networking.k8s.io/v1"`) {
			t.Errorf("%s: %s, %v", version, encoded, err)
		}
		said := strings.Join(Warnings(&o), "\n")
		if said != "has the apiVersion "+version+", which is not served any more: upgraded to networking.k8s.io/v1, spec.backend renamed to spec.defaultBackend, paths of the type ImplementationSpecific" {
			t.Errorf("%s: %s", version, said)
		}
	}
	_, err := Decode("f.yaml", strings.NewReader("apiVersion: extensions/v1beta1\nkind: Ingress\nmetadata: {name: x}\nspec:\n  backend:\n    serviceName: a\n"))
	if err == nil || !strings.Contains(err.Error(), "f.yaml:6: spec.defaultBackend.serviceName: unknown field") {
		t.Errorf("half a backend: %v", err)
	}
}

func TestAnIngressOfAnotherControllerIsAnsweredWithAWarning(t *testing.T) {
	const text = "apiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata: {name: x, annotations: {nginx.ingress.kubernetes.io/rewrite-target: /}}\nspec: {ingressClassName: nginx, defaultBackend: {service: {name: web, port: {number: 80}}}}\n"
	o := decodedOne(t, text)
	said := Warnings(&o)
	if len(said) != 2 || !strings.Contains(said[0], "is of the class nginx, which is not ours: it has no effect here") || !strings.Contains(said[1], "another controller's") {
		t.Errorf("%q", said)
	}
}
