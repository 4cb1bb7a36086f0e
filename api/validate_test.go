package api

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"sluice.dev/sluice/api/istio"
	"sluice.dev/sluice/api/v1alpha1"
	"sluice.dev/sluice/internal/route"
)

// problemsOf returns what Validate says, as "path: message".
func problemsOf(o *Object) []string {
	var got []string
	for _, e := range Validate(o) {
		got = append(got, e.Error())
	}
	return got
}

func egressRule(service string, ports ...istio.Port) *Object {
	return &Object{
		APIVersion: "config.istio.io/v1alpha2", Kind: "EgressRule", Metadata: Meta{Name: "rule", Namespace: "default"},
		Spec: &istio.EgressRuleSpec{Destination: &istio.Service{Service: service}, Ports: ports},
	}
}

func TestEgressRuleTakesAndRefusesTheServicesOfIstio(t *testing.T) {
	tcp := istio.Port{Port: 80, Protocol: "tcp"}
	for _, service := range []string{
		"cnn.com", "10.0.0.100", "*cnn.com", "*.cnn.com", "*-cnn.com", "*.0.0.100", "*0.0.100", "*com", "*0", "*",
		"192.168.3.0/24", "50.1.2.3/32", "10.15.0.0/0",
		"*." + strings.Repeat("a.", 126) + "aa",
	} {
		if got := problemsOf(egressRule(service, tcp)); got != nil {
			t.Errorf("%s: %q", service, got)
		}
	}
	long := strings.Repeat("a.", 127) + "aa"
	for service, want := range map[string]string{
		"cnn..com":           `domain name "cnn..com" invalid (label "" invalid)`,
		"cnn.com:80":         `domain name "cnn.com:80" invalid (label "com:80" invalid)`,
		"*cnn*.com":          `domain name "cnn*.com" invalid (label "cnn*" invalid)`,
		"cnn.*.com":          `domain name "cnn.*.com" invalid (label "*" invalid)`,
		"**com":              `domain name "*com" invalid (label "*com" invalid)`,
		"**0":                `domain name "*0" invalid (label "*0" invalid)`,
		"":                   `domain must not be empty string`,
		"*.":                 `domain name "" invalid (label "" invalid)`,
		"10.15.0/16":         `10.15.0/16 is not a valid CIDR block`,
		"10.15.0.0/33":       `10.15.0.0/33 is not a valid CIDR block`,
		"10.15.0.0/":         `10.15.0.0/ is not a valid CIDR block`,
		"2001:db8::/32":      `2001:db8:: is not a valid IPv4 address`,
		"::ffff:1.2.3.0/120": `::ffff:1.2.3.0 is not a valid IPv4 address`,
		"a/b/c":              `domain name "a/b/c" invalid (label "a/b/c" invalid)`,
		"CNN.com":            `domain name "CNN.com" invalid (label "CNN" invalid)`,
		"my_svc.example.com": `domain name "my_svc.example.com" invalid (label "my_svc" invalid)`,
		long:                 fmt.Sprintf("domain name %q too long (max 255)", long),
	} {
		if diff := cmp.Diff([]string{"spec.destination.service: " + want}, problemsOf(egressRule(service, tcp))); diff != "" {
			t.Errorf("%q:\n%s", service, diff)
		}
	}
}

func TestEgressRuleRefusesInTheWordsOfIstio(t *testing.T) {
	spec := func(change func(*istio.EgressRuleSpec)) *Object {
		o := egressRule("*.cnn.com", istio.Port{Port: 80, Protocol: "http"}, istio.Port{Port: 443, Protocol: "HTTPS"})
		change(o.Spec.(*istio.EgressRuleSpec))
		return o
	}
	const protocols = "egress rule support is available only for the following protocols: HTTP,HTTP2,GRPC,HTTPS,TCP,Mongo"
	const cidrOnly = "Only the following protocols can be defined for CIDR destination service notation: TCP,Mongo. This rule - port: 80 protocol: http destination.service: 10.0.0.0/8"
	for name, c := range map[string]struct {
		object *Object
		want   []string
	}{
		"a valid rule":                      {spec(func(*istio.EgressRuleSpec) {}), nil},
		"a valid rule on an address":        {egressRule("192.168.3.0", istio.Port{Port: 80, Protocol: "http"}, istio.Port{Port: 443, Protocol: "https"}), nil},
		"a valid rule on a CIDR":            {egressRule("192.168.3.0/24", istio.Port{Port: 80, Protocol: "Tcp"}, istio.Port{Port: 443, Protocol: "MONGO"}), nil},
		"tcp on a domain passed and passes": {egressRule("cnn.com", istio.Port{Port: 80, Protocol: "tcp"}), nil},
		"no destination": {spec(func(s *istio.EgressRuleSpec) { s.Destination = nil }), []string{
			"spec.destination: destination of egress rule must have destination field",
		}},
		"more than a service": {spec(func(s *istio.EgressRuleSpec) {
			s.Destination = &istio.Service{Name: "cnn", Namespace: "a", Domain: "com", Service: "cnn.com", Labels: map[string]string{"a": "b"}}
		}), []string{
			"spec.destination.name: destination of egress rule must not have name field",
			"spec.destination.namespace: destination of egress rule must not have namespace field",
			"spec.destination.domain: destination of egress rule must not have domain field",
			"spec.destination.labels: destination of egress rule must not have labels field",
		}},
		"no ports":         {egressRule("cnn.com"), []string{"spec.ports: egress rule must have a ports list"}},
		"one port twice":   {egressRule("cnn.com", istio.Port{Port: 80, Protocol: "http"}, istio.Port{Port: 80, Protocol: "https"}), []string{"spec.ports[1].port: duplicate port: 80"}},
		"port zero":        {egressRule("cnn.com", istio.Port{Protocol: "http"}), []string{"spec.ports[0].port: port number 0 must be in the range 1..65535"}},
		"port too large":   {egressRule("cnn.com", istio.Port{Port: 65536, Protocol: "http"}), []string{"spec.ports[0].port: port number 65536 must be in the range 1..65535"}},
		"negative port":    {egressRule("cnn.com", istio.Port{Port: -1, Protocol: "http"}), []string{"spec.ports[0].port: port number -1 must be in the range 1..65535"}},
		"no protocol":      {egressRule("cnn.com", istio.Port{Port: 80}), []string{"spec.ports[0].protocol: " + protocols}},
		"another protocol": {egressRule("cnn.com", istio.Port{Port: 80, Protocol: "udp"}), []string{"spec.ports[0].protocol: " + protocols}},
		"http on a CIDR":   {egressRule("10.0.0.0/8", istio.Port{Port: 80, Protocol: "http"}), []string{"spec.ports[0].protocol: " + cidrOnly}},
		"an egress proxy":  {spec(func(s *istio.EgressRuleSpec) { s.UseEgressProxy = true }), []string{"spec.useEgressProxy: directing traffic through egress proxy is not implemented yet"}},
		"http2 and grpc":   {egressRule("cnn.com", istio.Port{Port: 80, Protocol: "HTTP2"}, istio.Port{Port: 81, Protocol: "grpc"}), nil},
		"grpc on a CIDR":   {egressRule("10.0.0.0/8", istio.Port{Port: 80, Protocol: "grpc"}), []string{"spec.ports[0].protocol: " + strings.Replace(cidrOnly, "protocol: http ", "protocol: grpc ", 1)}},
		"everything at once": {spec(func(s *istio.EgressRuleSpec) {
			s.Destination = nil
			s.Ports = append(s.Ports, istio.Port{Port: 80, Protocol: "x"})
			s.UseEgressProxy = true
		}), []string{
			"spec.destination: destination of egress rule must have destination field",
			"spec.ports[2].port: duplicate port: 80",
			"spec.ports[2].protocol: " + protocols,
			"spec.useEgressProxy: directing traffic through egress proxy is not implemented yet",
		}},
	} {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(c.want, problemsOf(c.object)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// routeRule decodes a RouteRule whose spec has a destination and the lines given.
func routeRule(t *testing.T, lines string) *Object {
	t.Helper()
	text := "kind: RouteRule\nmetadata: {name: rule, namespace: default}\nspec:\n"
	if !strings.Contains(lines, "\ndestination:") && !strings.HasPrefix(lines, "destination:") {
		text += "  destination: {name: reviews}\n"
	}
	for line := range strings.Lines(lines) {
		text += "  " + line
	}
	o := decodeOne(t, text+"\n")
	return &o
}

func TestRouteRuleRefusesInTheWordsOfIstio(t *testing.T) {
	for lines, want := range map[string]string{
		// What is built.
		"":               "",
		"precedence: -3": "",
		"destination: {name: reviews, namespace: books}":            "",
		"destination: {service: reviews.default.svc.cluster.local}": "",
		"destination: {name: reviews, domain: cluster.local}":       "",
		"destination: {name: reviews, domain: svc.cluster.local}":   "",
		`destination: {service: "*.httpbin.org"}`:                   "",
		"destination: {service: a.example.org}\nroute: [{destination: {service: a.example.org}, weight: 50}, {weight: 50, destination: {name: reviews}, labels: {version: v1}}]\nrewrite: {authority: a.example.org}": "",
		"destination: {name: reviews, domain: example.org}":                                                                      "spec.destination: reviews.default.svc.example.org is not a service of the mesh: a host outside it is given as service",
		"destination: {service: 10.0.0.1}":                                                                                       "spec.destination: 10.0.0.1 is an address: a route rule is about a service or a host",
		"destination: {service: 10.0.0.0/8}":                                                                                     "spec.destination: 10.0.0.0/8 is a range of addresses: a route rule is about a service or a host",
		"match: {source: {service: a.example.org}}":                                                                              "spec.match.source: a.example.org is not a service of the mesh",
		"route: [{destination: {service: 10.0.0.1}}]":                                                                            "spec.route[0].destination: 10.0.0.1 is an address: a route rule is about a service or a host",
		`route: [{destination: {service: "*.example.org"}}]`:                                                                     "spec.route[0].destination: *.example.org stands for many hosts: name the one to send to",
		"route: [{destination: {service: a.example.org}, labels: {version: v1}}]":                                                "spec.route[0].labels: labels select instances of a service; a.example.org is outside the mesh",
		"route: [{destination: {service: a.example.org}}]\nrewrite: {authority: b.example.org}":                                  "spec.rewrite.authority: b.example.org is sent to a.example.org by spec.route[0]: a host outside the mesh is called by its own name",
		"destination: {service: a.example.org}\nroute: [{labels: {version: v1}}]":                                                "spec.route[0].labels: labels select instances of a service; a.example.org is outside the mesh",
		"route: [{labels: {version: v1}}]":                                                                                       "",
		"route: [{labels: {version: v1}, weight: 100}]":                                                                          "",
		"route: [{labels: {v: a}, weight: 25}, {weight: 75}]":                                                                    "",
		"route: [{destination: {name: other}}]":                                                                                  "",
		"match: {source: {name: productpage, labels: {version: v1}}}":                                                            "",
		"match: {request: {headers: {cookie: {regex: '^(.*?;)?(user=jason)(;.*)?$'}, uri: {prefix: /a}, method: {exact: GET}}}}": "",
		// References.
		"destination: null":                                 "spec.destination: route rule must have a destination service",
		"destination: {}":                                   "spec.destination: name or service is mandatory for a service reference",
		"destination: {name: a, service: b.c}":              "spec.destination: specify either name or service, not both",
		"destination: {service: b.c, namespace: x}":         "spec.destination.namespace: namespace is not valid when service is provided",
		"destination: {service: b.c, domain: x}":            "spec.destination.domain: domain is not valid when service is provided",
		"destination: {name: a.b}":                          `spec.destination.name: name "a.b" must be a valid label`,
		"destination: {name: a, namespace: B}":              `spec.destination.namespace: namespace "B" must be a valid label`,
		"destination: {name: a, domain: '*.b'}":             `spec.destination.domain: domain name "*.b" invalid (label "*" invalid)`,
		"destination: {name: a, domain: 'B.c'}":             `spec.destination.domain: domain name "B.c" invalid (label "B" invalid)`,
		"destination: {service: b..c}":                      `spec.destination.service: domain name "b..c" invalid (label "" invalid)`,
		"destination: {name: a, labels: {v: a}}":            "spec.destination.labels: route rule destination labels must be empty",
		"route: [{labels: {'a b': c}}]":                     `spec.route[0].labels[a b]: invalid tag key: "a b"`,
		"route: [{labels: {a: 'ü'}}]":                       `spec.route[0].labels[a]: invalid tag value: "ü"`,
		"route: [{destination: {}}]":                        "spec.route[0].destination: name or service is mandatory for a service reference",
		"route: [{destination: {name: a, labels: {b: c}}}]": "spec.route[0].destination.labels: labels of a route belong beside its destination, not in it",
		"match: {source: {labels: {a: b}}}":                 "spec.match.source: name or service is mandatory for a service reference",
		// Weights.
		"route: [{weight: 50}, {weight: 40}]":  "spec.route: route weights total 90 (must total 100)",
		"route: [{weight: 50}]":                "spec.route: route weights total 50 (must total 100)",
		"route: [{}, {}]":                      "spec.route: route weights total 0 (must total 100)",
		"route: [{weight: 101}, {weight: -1}]": "spec.route[0].weight: weight invalid: percentage 101 is not in range 0..100|spec.route[1].weight: weight invalid: percentage -1 is not in range 0..100",
		// Headers.
		"match: {request: {headers: {Cookie: {exact: a}}}}":      `spec.match.request.headers[Cookie]: header name "Cookie" invalid: must be in lower case`,
		"match: {request: {headers: {'a b': {exact: a}}}}":       `spec.match.request.headers[a b]: header name "a b" invalid`,
		"match: {request: {headers: {uri: {exact: ''}}}}":        `spec.match.request.headers[uri].exact: exact header value for "uri" must be non-empty`,
		"match: {request: {headers: {uri: {prefix: ''}}}}":       `spec.match.request.headers[uri].prefix: prefix header value for "uri" must be non-empty`,
		"match: {request: {headers: {a: {exact: ''}}}}":          `spec.match.request.headers[a].exact: exact header value for "a" must be non-empty`,
		"match: {request: {headers: {a: {regex: ''}}}}":          `spec.match.request.headers[a].regex: regex header value for "a" must be non-empty`,
		"match: {request: {headers: {a: {}}}}":                   `spec.match.request.headers[a]: unrecognized string match "a": write one of exact, prefix and regex`,
		"match: {request: {headers: {a: {exact: a, regex: b}}}}": `spec.match.request.headers[a]: unrecognized string match "a": write one of exact, prefix and regex`,
		"match: {request: {headers: {a: {regex: '('}}}}":         "spec.match.request.headers[a].regex: error parsing regexp: missing closing ): `(`",
		"match: {tcp: {sourceSubnet: [1.2.3.4/33]}}":             "spec.match.tcp.sourceSubnet[0]: 1.2.3.4/33 is not a valid CIDR block",
		"match: {tcp: {destinationSubnet: [a]}}":                 "spec.match.tcp.destinationSubnet[0]: a is not a valid IPv4 address",
		"match: {tcp: {sourceSubnet: [1.2.3.4/24]}}":             "",
		"match: {udp: {}}": "spec.match.udp: UDP protocol not supported yet",
		// Redirect and rewrite.
		"redirect: {}":                     "spec.redirect: redirect must specify path, host, or both",
		"redirect: {uri: /a}":              "",
		"redirect: {uri: a}":               `spec.redirect.uri: uri "a" does not begin with "/"`,
		"redirect: {uri: '/a b'}":          `spec.redirect.uri: uri "/a b" has a byte that must be percent-encoded`,
		"redirect: {authority: 'a/b'}":     `spec.redirect.authority: authority "a/b" is not a host with or without a port`,
		"rewrite: {uri: /%zz}":             `spec.rewrite.uri: uri "/%zz" has broken percent-encoding`,
		"redirect: {uri: /a}\nroute: [{}]": "spec.redirect: rule cannot contain both route and redirect",
		"redirect: {uri: /a}\nhttpFault: {abort: {httpStatus: 500}}": "spec.redirect: rule cannot contain both fault and redirect",
		"redirect: {uri: /a}\nwebsocketUpgrade: true":                "spec.websocketUpgrade: WebSocket upgrade is not allowed on redirect rules",
		"redirect: {uri: /a}\nrewrite: {uri: /b}":                    "spec.rewrite: rule cannot contain both rewrite and redirect",
		"rewrite: {uri: \"/a?b=c\"}":                                 `spec.rewrite.uri: "/a?b=c" has a query, and that of the request stays: write a path alone`,
		"rewrite: {}":                                                "spec.rewrite: rewrite must specify path, host, or both",
		"rewrite: {authority: a}":                                    "",
		"websocketUpgrade: true":                                     "",
		// Times.
		"httpReqTimeout: {simpleTimeout: {timeout: 7s}}":                    "",
		"httpReqTimeout: {simpleTimeout: {timeout: 10us}}":                  "spec.httpReqTimeout.simpleTimeout.timeout: httpTimeout invalid: duration must be greater than 1ms",
		"httpReqTimeout: {simpleTimeout: {timeout: 1.0005s}}":               "spec.httpReqTimeout.simpleTimeout.timeout: httpTimeout invalid: only durations to ms precision are supported",
		"httpReqTimeout: {simpleTimeout: {timeout: soon}}":                  `spec.httpReqTimeout.simpleTimeout.timeout: httpTimeout invalid: bad duration "soon"`,
		"httpReqRetries: {simpleRetry: {attempts: 3, perTryTimeout: 2s}}":   "",
		"httpReqRetries: {simpleRetry: {attempts: -1, perTryTimeout: 1us}}": "spec.httpReqRetries.simpleRetry.attempts: attempts must be in range [0..]|spec.httpReqRetries.simpleRetry.perTryTimeout: perTryTimeout invalid: duration must be greater than 1ms",
		"httpReqTimeout: {simpleTimeout: {timeout: 61m}}":                   "spec.httpReqTimeout.simpleTimeout.timeout: httpTimeout invalid: longer than 1h0m0s",
		"httpReqTimeout: {}": "",
		// Faults.
		"httpFault: {delay: {percent: 100, fixedDelay: 7s}}":      "",
		"httpFault: {delay: {percent: 100, fixedDelay: 2h}}":      "spec.httpFault.delay.fixedDelay: fixedDelay invalid: longer than 1h0m0s",
		"httpFault: {delay: {percent: 100}}":                      `spec.httpFault.delay.fixedDelay: fixedDelay invalid: bad duration ""`,
		"httpFault: {}":                                           "spec.httpFault: write delay, abort or both",
		"httpFault: {abort: {percent: 0.01, httpStatus: 418}}":    "",
		"httpFault: {abort: {percent: 100}}":                      "spec.httpFault.abort.httpStatus: invalid abort http status 0: it cannot be answered, use 200 to 599",
		"httpFault: {abort: {percent: 100, http2Error: REFUSED}}": "spec.httpFault.abort.http2Error: HTTP/2 error injection not supported yet",
		"httpFault: {delay: {percent: 101, fixedDelay: 1us}}":     "spec.httpFault.delay.percent: percent invalid: percentage 101 is not in range 0..100|spec.httpFault.delay.fixedDelay: fixedDelay invalid: duration must be greater than 1ms",
		"httpFault: {delay: {exponentialDelay: 1s}}":              "spec.httpFault.delay.exponentialDelay: exponentialDelay not supported yet",
		"httpFault: {abort: {grpcStatus: a}}":                     "spec.httpFault.abort.grpcStatus: gRPC fault injection not supported yet",
		"httpFault: {abort: {percent: -1, httpStatus: 601}}":      "spec.httpFault.abort.percent: percent invalid: percentage -1 is not in range 0..100|spec.httpFault.abort.httpStatus: invalid abort http status 601",
		"l4Fault: {throttle: {downstreamLimitBps: 65536}}":        "spec.l4Fault: L4 faults are not implemented",
		"l4Fault: {terminate: {percent: 100}}":                    "spec.l4Fault: L4 faults are not implemented|spec.l4Fault.terminate: the terminate fault not supported yet",
		// The rest.
		"mirror: {name: a}":                                                              "",
		"mirror: {name: a, labels: {version: v2}}":                                       "",
		`mirror: {service: "*.example.com"}`:                                             "spec.mirror: *.example.com stands for many hosts: name the one to send to",
		"mirror: {service: a.example.com, labels: {version: v1}}":                        "spec.mirror.labels: labels select instances of a service; a.example.com is outside the mesh",
		"redirect: {uri: /a}\nmirror: {name: a}":                                         "spec.mirror: a rule with redirect sends nothing on that could be mirrored",
		"mirror: {}":                                                                     "spec.mirror: name or service is mandatory for a service reference",
		"corsPolicy: {allowMethods: [GET]}":                                              "",
		"corsPolicy: {allowOrigin: ['a b', '']}":                                         `spec.corsPolicy.allowOrigin[0]: origin "a b" invalid: write it as browsers do, such as https://www.example.com, or *|spec.corsPolicy.allowOrigin[1]: must be non-empty`,
		"corsPolicy: {allowOrigin: ['*'], allowCredentials: true}":                       `spec.corsPolicy.allowCredentials: credentials cannot be allowed to any origin: list the origins in place of "*"`,
		"corsPolicy: {allowOrigin: ['*'], allowCredentials: false}":                      "",
		"corsPolicy: {maxAge: 9000h}":                                                    "spec.corsPolicy.maxAge: longer than 8760h0m0s",
		"corsPolicy: {allowHeaders: [" + strings.Repeat("a, ", 64) + "a]}":               "spec.corsPolicy.allowHeaders: more than 64 values, or than 2048 bytes of them",
		"match: {tcp: {sourceSubnet: [" + strings.Repeat("1.1.1.1, ", 64) + "1.1.1.1]}}": "spec.match.tcp: more than 64 subnets",
		"httpReqRetries: {simpleRetry: {attempts: 33}}":                                  "spec.httpReqRetries.simpleRetry.attempts: more than 32 attempts",
		"corsPolicy: {allowMethods: [FETCH]}":                                            `spec.corsPolicy.allowMethods[0]: "FETCH" is not a supported HTTP method`,
		"corsPolicy: {maxAge: 1500ms}":                                                   "spec.corsPolicy.maxAge: max_age duration is accurate only to seconds precision",
		"corsPolicy: {allowHeaders: ['a b'], exposeHeaders: [':']}":                      `spec.corsPolicy.allowHeaders[0]: header name "a b" invalid|spec.corsPolicy.exposeHeaders[0]: header name ":" invalid`,
		"appendHeaders: {a: b}":                                                          "",
		"appendHeaders: {host: b}":                                                       `spec.appendHeaders[host]: header "host" cannot be appended: it frames the request, says where it goes or is for one hop alone`,
		"appendHeaders: {x-sluice-id: b}":                                                `spec.appendHeaders[x-sluice-id]: header "x-sluice-id" cannot be appended: Sluice alone says it`,
		"appendHeaders: {a: \"b\\r\\nc: d\"}":                                            `spec.appendHeaders[a]: header "a" has a value with a control byte`,
		"appendHeaders: {A: b, c: ''}":                                                   `spec.appendHeaders[A]: header name "A" invalid: must be in lower case|spec.appendHeaders[c]: appended header "c" must have a non-empty value`,
	} {
		if got := strings.Join(problemsOf(routeRule(t, lines)), "|"); got != want {
			t.Errorf("%s\n got %s\nwant %s", lines, got, want)
		}
	}
}

func TestRouteRuleHasBounds(t *testing.T) {
	headers, labels := map[string]istio.StringMatch{}, map[string]string{}
	a, long := "a", strings.Repeat("x", maxMatchBytes+1)
	for i := range maxHeaders + 1 {
		headers[fmt.Sprint("h", i)] = istio.StringMatch{Exact: &a}
	}
	for i := range maxLabels + 1 {
		labels[fmt.Sprint("l", i)] = "v"
	}
	o := routeRule(t, "")
	spec := o.Spec.(*istio.RouteRuleSpec)
	spec.Route = make([]istio.DestinationWeight, maxRoutes+1)
	spec.Match = &istio.MatchCondition{
		Source:  &istio.Service{Name: "a", Labels: labels},
		Request: &istio.MatchRequest{Headers: headers},
	}
	want := []string{
		"spec.match.source.labels: more than 64 labels",
		"spec.match.request.headers: more than 32 headers",
		"spec.route: more than 32 routes",
	}
	if diff := cmp.Diff(want, problemsOf(o)); diff != "" {
		t.Error(diff)
	}
	spec.Route, spec.Match.Source = nil, nil
	spec.Match.Request.Headers = map[string]istio.StringMatch{"a": {Regex: &long}}
	if diff := cmp.Diff([]string{"spec.match.request.headers[a].regex: longer than 1024 bytes"}, problemsOf(o)); diff != "" {
		t.Error(diff)
	}
	spec.Match.Request.Headers = map[string]istio.StringMatch{"a": {Prefix: &long}}
	if diff := cmp.Diff([]string{"spec.match.request.headers[a].prefix: longer than 4096 bytes"}, problemsOf(o)); diff != "" {
		t.Error(diff)
	}
	large := "x{1000}y{1000}z{1000}"
	spec.Match.Request.Headers = map[string]istio.StringMatch{"a": {Regex: &large}}
	if got := strings.Join(problemsOf(o), "|"); !strings.Contains(got, "instructions: at most 2000") {
		t.Errorf("an expression of many instructions: %q", got)
	}
	spec.Match = nil
	spec.AppendHeaders = map[string]string{"a": strings.Repeat("x", maxAppendedBytes)}
	if diff := cmp.Diff([]string{"spec.appendHeaders: names and values of more than 4096 bytes"}, problemsOf(o)); diff != "" {
		t.Error(diff)
	}
	for i := range maxHeaders + 1 {
		spec.AppendHeaders[fmt.Sprint("h", i)] = "v"
	}
	if diff := cmp.Diff([]string{"spec.appendHeaders: more than 32 headers"}, problemsOf(o)); diff != "" {
		t.Error(diff)
	}
	if maxAppendedBytes != route.MaxAppendedBytes || maxHeaders != route.MaxAppended || maxDuration != route.MaxDelay {
		t.Error("what is taken here is refused by a route, with the whole snapshot")
	}
	if maxRegexBytes != route.MaxRegex {
		t.Errorf("an expression of %d bytes is taken, and a route takes %d: a snapshot with it would be refused", maxRegexBytes, route.MaxRegex)
	}
}

func TestMetadataIsValidated(t *testing.T) {
	for name, c := range map[string]struct {
		text string
		want []string
	}{
		"nothing":                      {"kind: EgressRule", []string{"metadata.name: is missing", "metadata.namespace: is missing"}},
		"a bad name":                   {"kind: EgressRule\nmetadata: {name: A_b, namespace: a.b}", []string{`metadata.name: "A_b" is not a name (lower-case letters, digits, inner hyphens and dots, at most 253)`, `metadata.namespace: "a.b" is not a DNS label`}},
		"a service with dots":          {"apiVersion: sluice.dev/v1alpha1\nkind: MeshService\nmetadata: {name: a.b, namespace: c}\nspec: {ports: [{port: 1}]}", []string{`metadata.name: "a.b" is not a DNS label (lower-case letters, digits and inner hyphens, at most 63): a service's name is part of its host name`}},
		"a MeshConfig of another name": {"apiVersion: sluice.dev/v1alpha1\nkind: MeshConfig\nmetadata: {name: other, namespace: c}", []string{"metadata.name: must be default: there is one MeshConfig", "metadata.namespace: a MeshConfig is cluster-scoped and has no namespace"}},
		"labels": {"kind: EgressRule\nmetadata: {name: a, namespace: b, labels: {a/b/c: d, ok/x: '', '-': a, x: '-'}}", []string{
			`metadata.labels[-]: "-" is not a label's name`, `metadata.labels[a/b/c]: "a/b/c" is not a label's name`, `metadata.labels[x]: "-" is not a label's value`}},
	} {
		t.Run(name, func(t *testing.T) {
			o := decodeOne(t, c.text+"\n")
			var got []string
			for _, problem := range problemsOf(&o) {
				if strings.HasPrefix(problem, "metadata") {
					got = append(got, problem)
				}
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
	if got := problemsOf(&Object{Kind: "Pod"}); len(got) != 1 || got[0] != "kind Pod is not known: "+startWorkload {
		t.Error(got)
	}
	if got := problemsOf(&Object{Kind: "EgressRule", Metadata: Meta{Name: "a", Namespace: "b"}}); len(got) != 1 || got[0] != "spec: is missing" {
		t.Error(got)
	}
}

func TestValidateAllNamesFileAndLineAndFindsTwins(t *testing.T) {
	objects, err := Decode("rules.yaml", strings.NewReader(istioEgressRule+"---\n"+strings.Replace(istioEgressRule, "443", "70000", 1)))
	if err != nil {
		t.Fatal(err)
	}
	got := ValidateAll(objects)
	want := "2 errors occurred:\n\n* rules.yaml:22: spec.ports[0].port: port number 70000 must be in the range 1..65535\n" +
		"* rules.yaml:16: metadata.name: egress-rule/default/googleapis is a duplicate, first on line 1"
	if got == nil || got.Error() != want {
		t.Errorf("got %v", got)
	}
	if err := ValidateAll(objects[:1]); err != nil {
		t.Error(err)
	}
}

func TestSetNamespaceGivesOnlyWhatIsMissing(t *testing.T) {
	a := &Object{Kind: "EgressRule"}
	b := &Object{Kind: "EgressRule", Metadata: Meta{Namespace: "b"}}
	c := &Object{APIVersion: "sluice.dev/v1alpha1", Kind: "MeshConfig"}
	for _, o := range []*Object{a, b, c} {
		o.SetNamespace("x")
	}
	if a.Metadata.Namespace != "x" || b.Metadata.Namespace != "b" || c.Metadata.Namespace != "" {
		t.Error(a.Metadata, b.Metadata, c.Metadata)
	}
}

func TestFullNameOfAService(t *testing.T) {
	for want, s := range map[string]istio.Service{
		"a.default.svc.cluster.local": {Name: "a"},
		"a.b.svc.cluster.local":       {Name: "a", Namespace: "b", Domain: "svc.cluster.local"},
		"a.b.svc.example":             {Name: "a", Namespace: "b", Domain: "example"},
		"*.foo.com":                   {Service: "*.foo.com"},
	} {
		if got := s.FullName("default", istio.ClusterDomain); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}

func TestDefaultsAreSaidInOnePlace(t *testing.T) {
	if got := (&v1alpha1.EgressPolicySpec{TLS: &v1alpha1.EgressTLS{}}).TLSMode(); got != "Auto" {
		t.Error(got)
	}
	if got, err := (&v1alpha1.MeshConfigSpec{}).StaleAfter(); err != nil || got != v1alpha1.DefaultMaxStale {
		t.Error(got, err)
	}
	if got := (&v1alpha1.MeshServiceSpec{}).SelectorFor("details"); got["app"] != "details" || len(got) != 1 {
		t.Error(got)
	}
}
