package api

import (
	"slices"
	"strings"
	"testing"
)

// destinationPolicy decodes a DestinationPolicy whose spec has a destination and the lines given.
func destinationPolicy(t *testing.T, lines string) *Object {
	t.Helper()
	text := "kind: DestinationPolicy\nmetadata: {name: policy, namespace: default}\nspec:\n"
	if !strings.HasPrefix(lines, "destination:") {
		text += "  destination: {name: reviews}\n"
	}
	for line := range strings.Lines(lines) {
		text += "  " + line
	}
	o := decodeOne(t, text+"\n")
	return &o
}

func TestADestinationPolicyIsTakenAsIstioWroteIt(t *testing.T) {
	for _, lines := range []string{
		"loadBalancing: {name: ROUND_ROBIN}",
		"load_balancing: {name: LEAST_CONN}",
		"source: {name: productpage, labels: {version: v1}}\nloadBalancing: {name: RANDOM}",
		"loadBalancing: {custom: {ringHash: {header: x-user}}}",
		"circuitBreaker: {simpleCb: {maxConnections: 1, httpMaxPendingRequests: 1, http_max_requests_per_connection: 1}}",
		"circuitBreaker: {simpleCb: {}}",
		"destination: {service: '*.googleapis.com'}\ncircuitBreaker: {simpleCb: {httpMaxRequests: 1}}",
		"loadBalancing: {custom: {ring_hash: {header: x-user, max_load: 101}}}",
	} {
		if got := problemsOf(destinationPolicy(t, lines)); len(got) > 0 {
			t.Errorf("%s: %v", lines, got)
		}
	}
}

func TestADestinationPolicyIsRefusedWithItsFieldAndWhatToWrite(t *testing.T) {
	for lines, want := range map[string]string{
		"destination: {}\nloadBalancing: {name: RANDOM}":                                     "spec.destination: name or service is mandatory for a service reference",
		"destination: {service: '*.googleapis.com'}\nloadBalancing: {name: RANDOM}":          "spec.loadBalancing: *.googleapis.com is outside the mesh, where no instance is picked: leave it out",
		"destination: {service: google.com, labels: {a: b}}\ncircuitBreaker: {simpleCb: {}}": "spec.destination.labels: labels select instances of a service; google.com is outside the mesh",
		"destination: {service: 10.0.0.0/8}\ncircuitBreaker: {simpleCb: {}}":                 "spec.destination: 10.0.0.0/8 is a range of addresses: a route rule is about a service or a host",
		"loadBalancing: {}":                                              "spec.loadBalancing: must set load balancing if specified",
		"loadBalancing: {name: MAGLEV}":                                  `spec.loadBalancing.name: "MAGLEV" is not one of ROUND_ROBIN, LEAST_CONN, RANDOM`,
		"loadBalancing: {name: least_conn}":                              `spec.loadBalancing.name: "least_conn" is not one of ROUND_ROBIN, LEAST_CONN, RANDOM`,
		"loadBalancing: {name: RANDOM, custom: {ringHash: {header: a}}}": "spec.loadBalancing: write either name or custom, not both",
		"loadBalancing: {custom: {}}":                                    "spec.loadBalancing.custom: write ringHash, with the header that counts",
		"loadBalancing: {custom: {ringHash: {}}}":                        "spec.loadBalancing.custom.ringHash.header: must be non-empty",
		"loadBalancing: {custom: {ringHash: {header: X-User}}}":          `spec.loadBalancing.custom.ringHash.header: header name "X-User" invalid: must be in lower case`,
		"loadBalancing: {custom: {ringHash: {header: a, maxLoad: 100}}}": "spec.loadBalancing.custom.ringHash.maxLoad: must be 101 to 1000",
		"source: {name: a, service: a.b}\nloadBalancing: {name: RANDOM}": "spec.source: specify either name or service, not both",
		"source: {name: productpage}":                                    "spec: write loadBalancing, circuitBreaker or both: a policy without them changes nothing",
		"circuitBreaker: {}":                                             "spec.circuitBreaker: write simpleCb",
		"circuitBreaker: {simpleCb: {maxConnections: -1}}":               "spec.circuitBreaker.simpleCb.maxConnections: circuitBreaker maxConnections must be in range [0..]",
		"circuitBreaker: {simpleCb: {httpMaxPendingRequests: 4097}}":     "spec.circuitBreaker.simpleCb.httpMaxPendingRequests: more than 4096",
		"circuitBreaker: {simpleCb: {httpMaxRequests: 65537}}":           "spec.circuitBreaker.simpleCb.httpMaxRequests: more than 65536",
		"circuitBreaker: {simpleCb: {httpMaxRetries: -3}}":               "spec.circuitBreaker.simpleCb.httpMaxRetries: circuitBreaker httpMaxRetries must be in range [0..]",
		"circuitBreaker: {simpleCb: {sleepWindow: 3m}}":                  "spec.circuitBreaker.simpleCb.sleepWindow: the ejection of instances is not supported yet",
	} {
		if got := problemsOf(destinationPolicy(t, lines)); !slices.Contains(got, want) {
			t.Errorf("%s:\n got %q\nwant %q", lines, got, want)
		}
	}
	o := decodeOne(t, "kind: DestinationPolicy\nmetadata: {name: policy, namespace: default}\nspec: {loadBalancing: {name: RANDOM}}\n")
	if got := problemsOf(&o); !slices.Contains(got, "spec.destination: destination is required in the destination policy") {
		t.Errorf("without a destination: %q", got)
	}
}
