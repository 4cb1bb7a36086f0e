package api

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"sluice.dev/sluice/api/istio"
	"sluice.dev/sluice/api/v1alpha1"
	"sluice.dev/sluice/internal/httppath"
)

// certificatePEM returns a certificate that is good enough to be read.
func certificatePEM(t *testing.T) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}

// ours decodes an object of ours from its kind and its spec in flow style.
func ours(t *testing.T, kind, spec string) *Object {
	t.Helper()
	name := "default"
	metadata := "name: " + name
	if kind != "MeshConfig" {
		metadata += ", namespace: default"
	}
	o := decodeOne(t, fmt.Sprintf("apiVersion: sluice.dev/v1alpha1\nkind: %s\nmetadata: {%s}\nspec: %s\n", kind, metadata, spec))
	return &o
}

func TestEgressPolicyIsValidated(t *testing.T) {
	const to = "to: {hosts: [www.example.com], ports: [{port: 443, protocol: https}]}"
	const plain = "to: {hosts: [www.example.com], ports: [{port: 80, protocol: http}]}"
	const tls = "to: {hosts: [www.example.com], ports: [{port: 443, protocol: tls}]}"
	const tcp = "to: {hosts: [db.example.com], ports: [{port: 3306, protocol: tcp}]}"
	for spec, want := range map[string]string{
		"{" + to + "}":  "",
		"{" + tcp + "}": "",
		"{" + to + ", from: {labels: {app: a}, serviceAccounts: [details]}}":                                                              "",
		"{" + to + ", tls: {mode: Originate, minVersion: \"1.3\", clientCertificate: {certFile: partner/a.pem, keyFile: partner/a.key}}}": "",
		"{" + to + ", tls: {minVersion: \"1.2\"}}":                                                                                        "",
		"{" + to + ", tls: {mode: Originate, serverName: other.example.com}, http: [{methods: [GET], paths: [/a, /b/*, /*]}]}":            "",
		"{" + plain + ", http: [{methods: [GET, M-SEARCH]}]}":                                                                             "",
		"{to: {cidrs: [10.0.0.0/8, 10.1.2.3, '2001:db8::/32', '::1'], ports: [{port: 1, protocol: tcp}, {port: 2, protocol: mongo}]}}":    "",
		"{to: {hosts: ['*', '*.example.com', '*-x.example.com'], ports: [{port: 443, protocol: https}, {port: 443, protocol: tcp}]}}":     "",
		"{to: {hosts: [a.b], ports: [{port: 80, protocol: http, upstream: {port: 443, protocol: https}}, {port: 81, protocol: http, upstream: {port: 80, protocol: http}}]}, tls: {mode: Originate, serverName: c.d}, http: [{paths: [/a]}]}": "",
		"{to: {hosts: [a.b], ports: [{port: 443, protocol: https, upstream: {port: 8443, protocol: https}}]}}":                                                                                                                                "spec.to.ports[0].upstream: is for ports of protocol http, http2 or grpc, on which each request is read; what is said on https port 443 goes to that port",
		"{to: {hosts: [a.b], ports: [{port: 80, protocol: http, upstream: {port: 0, protocol: tls}}]}}":                                                                                                                                       `spec.to.ports[0].upstream.port: port number 0 must be in the range 1..65535|spec.to.ports[0].upstream.protocol: protocol "tls" is not one of http, https`,
		"{to: {hosts: [a.b], ports: [{port: 80, protocol: http, upstream: {port: 443, protocol: https}}]}, tls: {mode: Passthrough}}":                                                                                                         "spec.to.ports[0].upstream.protocol: https is TLS that Sluice originates, and in tls.mode Passthrough it originates none",
		"{" + to + ", privateAnswers: [10.0.0.0/8]}":                                                         "",
		"{to: {hosts: [my_svc.example.com, '*.my_svc.example.com'], ports: [{port: 443, protocol: https}]}}": "",

		"{}": "spec.to: must list hosts, cidrs or both|spec.to.ports: must list at least one port",
		"{to: {hosts: [a.b, a.b], ports: [{port: 80, protocol: http}]}}":                                                  "spec.to.hosts[1]: duplicate host: a.b",
		"{to: {hosts: [a..b], ports: [{port: 80, protocol: http}]}}":                                                      `spec.to.hosts[0]: domain name "a..b" invalid (label "" invalid)`,
		"{to: {hosts: [10.0.0.1], ports: [{port: 80, protocol: http}]}}":                                                  "spec.to.hosts[0]: 10.0.0.1 is an address: list it under to.cidrs",
		"{to: {hosts: [10.0.0.0/8], ports: [{port: 80, protocol: http}]}}":                                                "spec.to.hosts[0]: 10.0.0.0/8 is not a host: list addresses and ranges under to.cidrs",
		"{to: {hosts: ['*.0.0.1'], ports: [{port: 80, protocol: http}]}}":                                                 "spec.to.hosts[0]: *.0.0.1 can match no host name: its last label is a number, and it is not an address",
		"{to: {cidrs: [10.0.0.1/8], ports: [{port: 80, protocol: tcp}]}}":                                                 "spec.to.cidrs[0]: 10.0.0.1/8 has bits set beyond its prefix: write 10.0.0.0/8, or 10.0.0.1 for the one address",
		"{to: {cidrs: [10.0.0.0/40], ports: [{port: 80, protocol: tcp}]}}":                                                "spec.to.cidrs[0]: 10.0.0.0/40 is not a valid CIDR block or address",
		"{to: {cidrs: ['::ffff:1.2.3.4'], ports: [{port: 80, protocol: tcp}]}}":                                           "spec.to.cidrs[0]: an IPv4-mapped address: write 1.2.3.4",
		"{to: {cidrs: ['::ffff:1.2.3.0/120'], ports: [{port: 80, protocol: tcp}]}}":                                       "spec.to.cidrs[0]: IPv4-mapped addresses: write the IPv4 range",
		"{to: {cidrs: ['fe80::1%eth0'], ports: [{port: 80, protocol: tcp}]}}":                                             "spec.to.cidrs[0]: an address here has no zone",
		"{to: {cidrs: [::1, ::1], ports: [{port: 80, protocol: tcp}]}}":                                                   "spec.to.cidrs[1]: duplicate range: ::1",
		"{to: {hosts: [a.b], ports: [{port: 0, protocol: http}]}}":                                                        "spec.to.ports[0].port: port number 0 must be in the range 1..65535",
		"{to: {hosts: [a.b], ports: [{port: 80}]}}":                                                                       "spec.to.ports[0].protocol: is missing: one of http, http2, grpc, https, tls, tcp, mongo",
		"{to: {hosts: [a.b], ports: [{port: 80, protocol: HTTP}]}}":                                                       `spec.to.ports[0].protocol: protocol "HTTP" is not one of http, http2, grpc, https, tls, tcp, mongo: write http`,
		"{to: {hosts: [a.b], ports: [{port: 80, protocol: http2, upstream: {port: 81, protocol: http}}]}}":                `spec.to.ports[0].upstream.protocol: protocol "http" is not one of http2, grpc, https: on http2 port 80 the server is spoken to in HTTP/2`,
		"{to: {hosts: [a.b], ports: [{port: 80, protocol: http, upstream: {port: 81, protocol: grpc}}]}}":                 `spec.to.ports[0].upstream.protocol: protocol "grpc" is not one of http, https`,
		"{to: {hosts: [a.b], ports: [{port: 80, protocol: grpc, idleTimeout: 5s}]}}":                                      "spec.to.ports[0].idleTimeout: is for connections whose bytes are carried as they are; on grpc port 80 requests are read",
		"{to: {hosts: [a.b], ports: [{port: 80, protocol: udp}]}}":                                                        "spec.to.ports[0].protocol: protocol udp is not supported yet",
		"{to: {hosts: [a.b], ports: [{port: 80, protocol: quic}]}}":                                                       "spec.to.ports[0].protocol: protocol quic is not supported yet",
		"{to: {hosts: [a.b], ports: [{port: 80, protocol: http}, {port: 80, protocol: http2}]}}":                          "spec.to.ports[1].protocol: port 80 is http already (spec.to.ports[0]): every request in the clear is taken there, and http2 would never count",
		"{to: {hosts: [a.b], ports: [{port: 9, protocol: grpc}, {port: 80, protocol: http}, {port: 9, protocol: http}]}}": "spec.to.ports[2].protocol: port 9 is grpc already (spec.to.ports[0]): every request in the clear is taken there, and http would never count",
		"{to: {hosts: [a.b], ports: [{port: 80, protocol: tcp}, {port: 80, protocol: tcp}]}}":                             "spec.to.ports[1]: duplicate port: 80 tcp",
		"{to: {hosts: [a.b], ports: [{port: 80, protocol: tcp, idleTimeout: 5m}, {port: 80, protocol: tcp}]}}":            "spec.to.ports[1]: duplicate port: 80 tcp",
		"{to: {hosts: [a.b], ports: [{port: 1, protocol: tcp, idleTimeout: 1s}, {port: 2, protocol: mongo, idleTimeout: 168h}, {port: 3, protocol: tls, idleTimeout: 90m}, {port: 4, protocol: https, idleTimeout: 5m}]}}": "",
		"{to: {hosts: [a.b], ports: [{port: 1, protocol: tcp, idleTimeout: 999ms}]}}":                          "spec.to.ports[0].idleTimeout: 999ms is not in the range 1s..168h0m0s",
		"{to: {hosts: [a.b], ports: [{port: 1, protocol: tcp, idleTimeout: 169h}]}}":                           "spec.to.ports[0].idleTimeout: 169h0m0s is not in the range 1s..168h0m0s",
		"{to: {hosts: [a.b], ports: [{port: 1, protocol: tcp, idleTimeout: '0'}]}}":                            "spec.to.ports[0].idleTimeout: 0s is not in the range 1s..168h0m0s",
		"{to: {hosts: [a.b], ports: [{port: 1, protocol: tcp, idleTimeout: never}]}}":                          `spec.to.ports[0].idleTimeout: "never" is not a duration such as 30m`,
		"{to: {hosts: [a.b], ports: [{port: 80, protocol: http, idleTimeout: 5m}]}}":                           "spec.to.ports[0].idleTimeout: is for connections whose bytes are carried as they are; on http port 80 requests are read",
		"{to: {hosts: [a.b], ports: [{port: 443, protocol: https, idleTimeout: 5m}]}, tls: {mode: Originate}}": "spec.to.ports[0].idleTimeout: is for connections whose bytes are carried as they are; on https port 443 with tls.mode Originate requests are read",
		"{to: {cidrs: [::1], ports: [{port: 80, protocol: tcp}]}, privateAnswers: ['::1']}":                    "spec.privateAnswers: says where the names under to.hosts may lead, and there are none (cidrs are consent for their own addresses)",
		"{" + to + ", maxNewNamesPerMinute: 10}":                                                               "spec.maxNewNamesPerMinute: bounds the names that a wildcard allows, and spec.to.hosts has none",
		"{to: {hosts: ['*.a.example'], ports: [{port: 443, protocol: https}]}, maxNewNamesPerMinute: -1}":      "spec.maxNewNamesPerMinute: must be from 1 to 6000",
		"{to: {hosts: ['*.a.example'], ports: [{port: 443, protocol: https}]}, maxNewNamesPerMinute: 6001}":    "spec.maxNewNamesPerMinute: must be from 1 to 6000",
		"{" + to + ", privateAnswers: [x]}":                                                                    "spec.privateAnswers[0]: x is not a valid CIDR block or address",
		"{" + to + ", from: {labels: {a b: c}, serviceAccounts: [A]}}":                                         `spec.from.labels[a b]: "a b" is not a label's name|spec.from.serviceAccounts[0]: "A" is not a service account's name`,

		"{" + to + ", tls: {mode: Intercept}}":                                              "spec.tls.mode: mode Intercept is not supported yet",
		"{" + to + ", tls: {mode: auto}}":                                                   `spec.tls.mode: mode "auto" is not one of Auto, Originate, Passthrough`,
		"{" + plain + ", tls: {}}":                                                          "spec.tls: needs an https or tls port: on the ports here no TLS is looked at",
		"{" + plain + ", tls: {mode: Originate}}":                                           "spec.tls.mode: mode Originate needs an https port: it turns plain HTTP into HTTPS",
		"{" + tls + ", tls: {mode: Originate}}":                                             "spec.tls.mode: mode Originate needs an https port: it turns plain HTTP into HTTPS|spec.tls.mode: mode Originate does not go with a tls port, on which the workload does TLS itself",
		"{" + tls + ", tls: {mode: Passthrough}}":                                           "",
		"{" + to + ", tls: {mode: Passthrough, serverName: a.b}}":                           "spec.tls.serverName: is sent where Sluice originates TLS; in mode Passthrough the workload's own TLS is passed on",
		"{" + to + ", tls: {minVersion: \"1.1\"}}":                                          `spec.tls.minVersion: "1.1" is not one of "1.2", "1.3"`,
		"{" + to + ", tls: {mode: Passthrough, minVersion: \"1.3\"}}":                       "spec.tls.minVersion: holds where Sluice originates TLS; in mode Passthrough the workload's own TLS is passed on",
		"{" + to + ", tls: {clientCertificate: {certFile: a.pem}}}":                         "spec.tls.clientCertificate.keyFile: is missing",
		"{" + to + ", tls: {clientCertificate: {keyFile: a.key}}}":                          "spec.tls.clientCertificate.certFile: is missing",
		"{" + to + ", tls: {clientCertificate: {certFile: /a.pem, keyFile: a.key}}}":        `spec.tls.clientCertificate.certFile: "/a.pem" is not a path below the folder of the rule's namespace: it must neither begin with / nor hold . or .. as an element`,
		"{" + to + ", tls: {clientCertificate: {certFile: a.pem, keyFile: b/../../a.key}}}": `spec.tls.clientCertificate.keyFile: "b/../../a.key" is not a path below the folder of the rule's namespace: it must neither begin with / nor hold . or .. as an element`,
		"{" + tls + ", tls: {clientCertificate: {certFile: a.pem, keyFile: a.key}}}":        "spec.tls.clientCertificate: is shown where Sluice originates TLS, and that needs an https port",
		"{" + to + ", tls: {serverName: a.b, mode: Originate, clientCertificate: {certFile: 'a\\b', keyFile: " + strings.Repeat("k", 257) + "}}}": `spec.tls.clientCertificate.certFile: "a\\b" is not a path below the folder of the rule's namespace: it must neither begin with / nor hold . or .. as an element|spec.tls.clientCertificate.keyFile: is longer than 256 bytes`,
		"{" + tls + ", tls: {serverName: a.b}}":     "spec.tls.serverName: is sent where Sluice originates TLS, and that needs an https port",
		"{" + to + ", tls: {serverName: 10.0.0.1}}": `spec.tls.serverName: host name "10.0.0.1": it is an address, not a name`,
		"{" + to + ", tls: {caBundle: hello}}":      "spec.tls.caBundle: holds no PEM certificate (-----BEGIN CERTIFICATE-----)",

		"{" + to + ", http: [{methods: [GET]}]}":                                                   "spec.http: on https port 443 needs tls.mode Originate: TLS that is passed through (mode Auto) hides method and path",
		"{" + to + ", tls: {mode: Passthrough}, http: [{methods: [GET]}]}":                         "spec.http: on https port 443 needs tls.mode Originate: TLS that is passed through (mode Passthrough) hides method and path",
		"{" + tls + ", http: [{methods: [GET]}]}":                                                  "spec.http: cannot be held on tls port 443: TLS that is passed through hides method and path",
		"{" + tcp + ", http: [{methods: [GET]}]}":                                                  "spec.http: cannot be held on tcp port 3306: no request is read there",
		"{" + plain + ", http: [{}]}":                                                              "spec.http[0]: names neither methods nor paths, which allows any request and any upgrade: leave http out for that",
		"{" + plain + ", http: [{paths: [/chat], upgrades: [websocket, TCP, SPDY/3.1]}]}":          "",
		"{" + plain + ", http: [{upgrades: [websocket]}]}":                                         "spec.http[0]: names neither methods nor paths, which allows any request and any upgrade: leave http out for that",
		"{" + plain + ", http: [{paths: [/a], upgrades: ['', 'a b', 'a/b/c', 'websocket, tcp']}]}": `spec.http[0].upgrades[0]: "" is not a protocol of an Upgrade field, such as websocket, of at most 64 bytes|spec.http[0].upgrades[1]: "a b" is not a protocol of an Upgrade field, such as websocket, of at most 64 bytes|spec.http[0].upgrades[2]: "a/b/c" is not a protocol of an Upgrade field, such as websocket, of at most 64 bytes|spec.http[0].upgrades[3]: "websocket, tcp" is not a protocol of an Upgrade field, such as websocket, of at most 64 bytes`,
		"{" + plain + ", http: [{methods: [GET], upgrades: [websocket, WebSocket]}]}":              "spec.http[0].upgrades[1]: duplicate upgrade: WebSocket",
		"{" + plain + ", http: [{methods: [get, CONNECT]}]}":                                       `spec.http[0].methods[0]: "get" is not a method in upper case|spec.http[0].methods[1]: method CONNECT is not supported yet`,
		"{" + plain + ", http: [{paths: [a, '/a?b', '/*a', '/a/../b', '/ü']}]}":                    `spec.http[0].paths[0]: "a" does not begin with /|spec.http[0].paths[1]: "/a?b" holds a query or fragment: paths are matched without them|spec.http[0].paths[2]: "/*a" holds * before its end: it stands for the rest of the path, at the end only|spec.http[0].paths[3]: "/a/../b" holds the segment "..", which no request that reaches a server keeps|spec.http[0].paths[4]: "/ü" holds a byte that no path has: write it percent-encoded`,
	} {
		if got := strings.Join(problemsOf(ours(t, "EgressPolicy", spec)), "|"); got != want {
			t.Errorf("%s\n got %s\nwant %s", spec, got, want)
		}
	}
}

// Behind another version of HTTP, or TLS, requests would pass that no rule sees.
func TestAnUpgradeToAnotherHTTPOrToTLSIsRefused(t *testing.T) {
	const after = " no method and no path is seen"
	for upgrade, want := range map[string]string{
		"h2c":      "would carry further requests past this rule: after the change to another version of HTTP" + after,
		"H2":       "would carry further requests past this rule: after the change to another version of HTTP" + after,
		"h3":       "would carry further requests past this rule: after the change to another version of HTTP" + after,
		"HTTP/2.0": "would carry further requests past this rule: after the change to another version of HTTP" + after,
		"http":     "would carry further requests past this rule: after the change to another version of HTTP" + after,
		"TLS/1.0":  "would hide further requests from this rule: after the change to TLS" + after,
		"tls":      "would hide further requests from this rule: after the change to TLS" + after,
	} {
		spec := "{to: {hosts: [a.b], ports: [{port: 80, protocol: http}]}, http: [{paths: [/a], upgrades: [" + upgrade + "]}]}"
		if got := strings.Join(problemsOf(ours(t, "EgressPolicy", spec)), "|"); got != "spec.http[0].upgrades[0]: "+upgrade+" "+want {
			t.Errorf("%s: %s", upgrade, got)
		}
	}
}

func TestEgressPolicyHasBounds(t *testing.T) {
	o := ours(t, "EgressPolicy", "{}")
	spec := o.Spec.(*v1alpha1.EgressPolicySpec)
	spec.From = &v1alpha1.WorkloadSelector{ServiceAccounts: make([]string, maxWords+1)}
	spec.To.Hosts = make([]string, maxHosts+1)
	spec.To.CIDRs = make([]string, maxCIDRs+1)
	spec.To.Ports = make([]v1alpha1.EgressPort, maxPorts+1)
	spec.HTTP = make([]v1alpha1.HTTPMatch, maxMatches+1)
	want := []string{
		"spec.from.serviceAccounts: more than 256 accounts", "spec.to.hosts: more than 1000 hosts", "spec.to.cidrs: more than 1000 ranges",
		"spec.to.ports: more than 64 ports", "spec.http: more than 64 matches",
	}
	if diff := cmp.Diff(want, problemsOf(o)); diff != "" {
		t.Error(diff)
	}
	spec.From, spec.To.Hosts, spec.To.CIDRs = nil, []string{"a.b"}, nil
	spec.To.Ports = []v1alpha1.EgressPort{{Port: 80, Protocol: "http"}}
	spec.HTTP = []v1alpha1.HTTPMatch{{Methods: make([]string, maxWords+1)}, {Paths: []string{"/" + strings.Repeat("a", httppath.MaxPattern)}}, {Paths: []string{"/"}, Upgrades: make([]string, maxWords+1)},
		{Paths: []string{"/"}, Upgrades: []string{strings.Repeat("a", maxUpgrade+1)}}}
	want = []string{"spec.http[0]: more than 256 methods, paths or upgrades", "spec.http[1].paths[0]: longer than 4096 bytes", "spec.http[2]: more than 256 methods, paths or upgrades",
		fmt.Sprintf("spec.http[3].upgrades[0]: %q is not a protocol of an Upgrade field, such as websocket, of at most 64 bytes", strings.Repeat("a", maxUpgrade+1))}
	if diff := cmp.Diff(want, problemsOf(o)); diff != "" {
		t.Error(diff)
	}
}

func TestBundlesHoldCertificatesAndNothingElse(t *testing.T) {
	one := certificatePEM(t)
	key := string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: []byte("x")}))
	for name, c := range map[string]struct{ bundle, want string }{
		"one":            {one, ""},
		"two, with text": {"# a root\n" + one + "# another\n" + one + "\n", ""},
		"a key":          {one + key, `holds a block "PRIVATE KEY": only certificates belong here`},
		"cut off":        {one + "-----BEGIN CERTIFICATE-----\nAAAA", "holds something that is not a PEM block after certificate 1"},
		"damaged":        {string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte("x")})), "certificate 1 cannot be read: x509: malformed certificate"},
		"too large":      {strings.Repeat("#", maxBundleBytes+1), "more than 262144 bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			got := ""
			if err := certificates(c.bundle); err != nil {
				got = err.Error()
			}
			if got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
			if strings.Contains(got, "AAAA") {
				t.Error("the bundle itself is reported")
			}
		})
	}
	small := bytes.Repeat([]byte(one), maxBundleCertificates+1)
	if err := certificates(string(small)); err == nil {
		t.Error("too many certificates were taken")
	}
}

func TestMeshServiceAndMeshConfigAreValidated(t *testing.T) {
	for _, c := range []struct{ kind, spec, want string }{
		{"MeshService", "{ports: [{port: 9080}, {name: db, port: 3306, protocol: tcp}], selector: {app: a}}", ""},
		{"MeshService", "{}", "spec.ports: must list at least one port"},
		{"MeshService", "{ports: [{port: 1}, {port: 1}, {port: 0}]}", "spec.ports[1].port: duplicate port: 1|spec.ports[2].port: port number 0 must be in the range 1..65535"},
		{"MeshService", "{ports: [{port: 1, name: a}, {port: 2, name: a}, {port: 3, name: A}]}", `spec.ports[1].name: duplicate port name: a|spec.ports[2].name: "A" is not a DNS label`},
		{"MeshService", "{ports: [{port: 1, protocol: udp}, {port: 2, protocol: x}, {port: 3, protocol: http2}, {port: 4, protocol: grpc}]}", `spec.ports[0].protocol: protocol udp is not supported yet for a service|spec.ports[1].protocol: protocol "x" is not one of http, http2, grpc, tcp`},
		{"MeshService", "{ports: [{port: 1}], selector: {'': a}}", `spec.selector[]: "" is not a label's name`},
		{"MeshConfig", "{}", ""},
		{"MeshConfig", "{outboundDefault: Deny, maxStale: 90m}", ""},
		{"MeshConfig", "{outboundDefault: Allow}", "spec.outboundDefault: outboundDefault Allow is not supported yet: Audit lets pass and records what no rule allows"},
		{"MeshConfig", "{outboundDefault: Audit, namespaces: {shop: {outboundDefault: Deny}, bank: {outboundDefault: Audit}}}", ""},
		{"MeshConfig", "{namespaces: {shop: {outboundDefault: Allow}, a.b: {outboundDefault: Deny}, c: {}, d: {outboundDefault: audit}}}",
			`spec.namespaces[a.b]: "a.b" is not a namespace's name: it is not a DNS label|spec.namespaces[c].outboundDefault: is missing: Deny or Audit|` +
				`spec.namespaces[d].outboundDefault: outboundDefault "audit" is not one of Deny, Audit|` +
				"spec.namespaces[shop].outboundDefault: outboundDefault Allow is not supported yet: Audit lets pass and records what no rule allows"},
		{"MeshConfig", "{outboundDefault: deny}", `spec.outboundDefault: outboundDefault "deny" is not one of Deny, Audit`},
		{"MeshConfig", "{trustedRoots: x}", "spec.trustedRoots: holds no PEM certificate (-----BEGIN CERTIFICATE-----)"},
		{"MeshConfig", "{maxStale: 1d}", `spec.maxStale: "1d" is not a duration such as 24h`},
		{"MeshConfig", "{limits: {maxConnections: 2000, maxUpstreamConnections: 1048576, queueTimeout: 5s}}", ""},
		{"MeshConfig", "{limits: {maxConnections: -1, maxUpstreamConnections: 1048577, queueTimeout: soon}}",
			`spec.limits.maxConnections: -1 is not a number from 1 to 1048576|spec.limits.maxUpstreamConnections: 1048577 is not a number from 1 to 1048576|` +
				`spec.limits.queueTimeout: "soon" is not a duration such as 30s`},
		{"MeshConfig", "{telemetry: {metrics: {compatibility: istio, maxSeries: 500}}}", ""},
		{"MeshConfig", "{telemetry: {metrics: {compatibility: statsd, maxSeries: 499}}}",
			`spec.telemetry.metrics.compatibility: compatibility "statsd" is not istio|spec.telemetry.metrics.maxSeries: 499 is not a number from 500 to 1000000`},
		{"MeshConfig", "{telemetry: {tracing: {}}}", ""},
		{"MeshConfig", "{telemetry: {tracing: {sampling: 0.5}}}", ""},
		{"MeshConfig", "{telemetry: {tracing: {sampling: 101}}}", "spec.telemetry.tracing.sampling: 101 is not a number from 0 to 100"},
		{"EgressPolicy", "{to: {hosts: [a.example.com], ports: [{port: 443, protocol: https}]}, telemetry: {propagate: true}}", ""},
		{"EgressPolicy", "{to: {hosts: [a.example.com], ports: [{port: 80, protocol: http2}, {port: 50051, protocol: grpc}]}, telemetry: {propagate: true}, http: [{methods: [POST], paths: [/a.B/C]}]}", ""},
		{"EgressPolicy", "{to: {hosts: [a.example.com], ports: [{port: 80, protocol: http2, upstream: {port: 81, protocol: grpc}}, {port: 50051, protocol: grpc, upstream: {port: 443, protocol: https}}]}, tls: {minVersion: '1.3'}}", ""},
		{"EgressPolicy", "{to: {hosts: [a.example.com], ports: [{port: 443, protocol: tls}]}, telemetry: {propagate: true}}",
			"spec.telemetry.propagate: has no effect: no port of spec.to.ports is http, http2, grpc or https, where requests are seen"},
		{"MeshConfig", "{limits: {queueTimeout: 1h}}", "spec.limits.queueTimeout: 1h0m0s is not in the range 10ms..10m0s"},
		{"MeshConfig", "{maxStale: 1ms}", "spec.maxStale: 1ms is not in the range 1s..720h0m0s"},
	} {
		if got := strings.Join(problemsOf(ours(t, c.kind, c.spec)), "|"); got != c.want {
			t.Errorf("%s %s\n got %s\nwant %s", c.kind, c.spec, got, c.want)
		}
	}
}

func TestWarningsSayWhatMayNotBeMeant(t *testing.T) {
	const scope = "applies to the workloads of namespace default; in Istio 0.5 it applied to all namespaces (for that, put it into namespace sluice-system)"
	for service, want := range map[string]bool{
		"*": true, "*.com": true, "*com": true, "*.co.uk": true, "*.github.io": true, "*cnn.com": true, "*-cnn.com": true, "*.": true,
		"*.cnn.com": false, "*.a.cnn.com": false, "*-b.cnn.com": false, "*b.cnn.com": false, "cnn.com": false, "com": false, "10.0.0.0/8": false,
		"*.googleapis.com": true, // on the list of public suffixes: anybody may have a bucket's name under it
	} {
		got := Warnings(egressRule(service))
		strangers := len(got) == 2 && strings.Contains(got[1], "allows "+service+", under which anybody can register a name")
		if got[0] != scope || strangers != want {
			t.Errorf("%s: %q", service, got)
		}
	}
	rule := ours(t, "EgressPolicy", "{to: {hosts: ['*.example.com', a.b], ports: [{port: 3306, protocol: tcp}]}}")
	want := []string{"allows *.example.com on port 3306 as tcp: only the name that the workload asked DNS for is known there, nothing proves that the server is the one of that name"}
	if diff := cmp.Diff(want, Warnings(rule)); diff != "" {
		t.Error(diff)
	}
	root := egressRule("cnn.com")
	root.Metadata.Namespace = "sluice-system"
	if got := Warnings(root); got != nil {
		t.Error(got)
	}
}

// A range that is wider than one block of special addresses is not consent to any
// of them, whatever it seems to say.
func TestARangeThatIsNoConsentIsWarnedOf(t *testing.T) {
	const denied = ": they stay denied (private-address) unless a range that lies wholly inside one block allows them"
	policy := func(cidrs, answers string) *Object {
		return ours(t, "EgressPolicy", "{to: {hosts: [a.b], cidrs: ["+cidrs+"], ports: [{port: 1, protocol: tcp}]}, privateAnswers: ["+answers+"]}")
	}
	for _, c := range []struct {
		object *Object
		want   string
	}{
		{policy("0.0.0.0/0", ""), "allows 0.0.0.0/0, which is not consent to the special addresses in it such as 10.0.0.0/8 (Private-Use, RFC 1918)" + denied},
		{policy("10.0.0.0/7", ""), "allows 10.0.0.0/7, which is not consent to the special addresses in it such as 10.0.0.0/8 (Private-Use, RFC 1918)" + denied},
		{policy("'::/0'", ""), "allows ::/0, which is not consent to the special addresses in it such as ::1/128 (Loopback Address, RFC 4291)" + denied},
		{policy("1.2.3.4", "0.0.0.0/1"), "lists under privateAnswers 0.0.0.0/1, which is not consent to the special addresses in it such as 10.0.0.0/8 (Private-Use, RFC 1918)" + denied},
		{policy("1.2.3.4", "1.2.3.0/24"), "lists 1.2.3.0/24 under privateAnswers, which has no effect: all of its addresses are public, and public answers need no consent"},
		{policy("198.18.0.0/16", ""), "allows 198.18.0.0/16, which has no effect: Sluice never connects to addresses there (they are Sluice's own)"},
		{policy("224.0.0.0/8", ""), "allows 224.0.0.0/8, which has no effect: Sluice never connects to addresses there (they are Multicast, RFC 5771)"},
		{policy("0.0.0.0", ""), "allows 0.0.0.0/32, which has no effect: Sluice never connects to addresses there (they are This host on this network, RFC 1122 section 3.2.1.3)"},
		{policy("10.1.0.0/16, 169.254.169.254, 8.8.8.0/24, '2001:db8::/32'", "10.0.0.0/8, 'fd12::/16', 100.64.0.0/10"), ""},
		{egressRule("10.15.0.0/0", istio.Port{Port: 443, Protocol: "TCP"}), "allows 0.0.0.0/0, which is not consent to the special addresses in it such as 10.0.0.0/8 (Private-Use, RFC 1918)" + denied},
		{egressRule("10.15.0.0/16", istio.Port{Port: 443, Protocol: "TCP"}), ""},
		{egressRule("10.15.0.1", istio.Port{Port: 443, Protocol: "TCP"}), ""},
	} {
		c.object.Metadata.Namespace = "sluice-system" // whose EgressRules hold for all
		if got := strings.Join(Warnings(c.object), "|"); got != c.want {
			t.Errorf("%+v\n got %s\nwant %s", c.object.Spec, got, c.want)
		}
	}
}

func TestAProtocolThatItsPortDoesNotSpeakIsWarnedOf(t *testing.T) {
	const http = "has port: 443 protocol: http, which takes plain HTTP only and sends it on without TLS: servers on port 443 mostly speak TLS, for which write protocol: https"
	const https = "has port: 80 protocol: https, which speaks TLS to the server: servers on port 80 mostly speak plain HTTP, for which write protocol: http"
	for _, c := range []struct {
		port     int32
		protocol string
		want     string
	}{{443, "http", http}, {80, "https", https}, {80, "http", ""}, {443, "https", ""}, {8443, "http", ""}, {443, "tcp", ""}} {
		policy := ours(t, "EgressPolicy", fmt.Sprintf("{to: {hosts: [a.b], ports: [{port: %d, protocol: %s}]}}", c.port, c.protocol))
		rule := egressRule("a.b", istio.Port{Port: c.port, Protocol: strings.ToUpper(c.protocol)})
		rule.Metadata.Namespace = "sluice-system"
		for _, object := range []*Object{policy, rule} {
			if got := strings.Join(Warnings(object), "|"); got != c.want {
				t.Errorf("%d %s in an %s: %s", c.port, c.protocol, object.Kind, got)
			}
		}
	}
}

func TestWarningsAreBounded(t *testing.T) {
	policy := ours(t, "EgressPolicy", "{to: {hosts: [a.b], ports: [{port: 1, protocol: tcp}]}}")
	policy.Spec.(*v1alpha1.EgressPolicySpec).To.Hosts = make([]string, maxHosts)
	for i := range maxHosts {
		policy.Spec.(*v1alpha1.EgressPolicySpec).To.Hosts[i] = fmt.Sprintf("*.host%d.example.com", i)
	}
	got := Warnings(policy)
	if len(got) != maxWarnings+1 || got[maxWarnings] != "has 984 more warnings" {
		t.Errorf("%d warnings, the last is %q", len(got), got[len(got)-1])
	}
}
