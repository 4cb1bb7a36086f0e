// Package demo is `sluice demo`: it starts the control plane, one proxy, the
// services of Bookinfo and a small internet, each as a command that it could
// print, says what to do next, and ends all of it. It never does anything that
// those commands do not.
package demo

import (
	"path/filepath"
	"strings"
)

// process is one command of the demo.
type process struct {
	name string
	env  []string // beside the demo's own
	argv []string
}

// command is the process as a shell would take it.
func (p process) command() string {
	words := append(append([]string(nil), p.env...), p.argv...)
	for i, word := range words {
		if strings.ContainsAny(word, " *'\"$&;|<>()[]{}\\?") {
			words[i] = quote(word)
		}
	}
	return strings.Join(words, " ")
}

// places is where the demo's files are.
type places struct {
	binaries string // folder of the binaries
	private  string // below the runtime folder, masked in every sandbox
	public   string // what workloads may read: the small internet's CA
}

func (p places) binary(name string) string { return filepath.Join(p.binaries, name) }
func (p places) internetSockets() string   { return filepath.Join(p.private, "internet.sock") }
func (p places) internetControl() string   { return filepath.Join(p.private, "internet-control.sock") }
func (p places) internetCA() string        { return filepath.Join(p.public, "internet-ca.pem") }
func (p places) data() string              { return filepath.Join(p.private, "data") }
func (p places) state() string             { return filepath.Join(p.private, "state.json") }
func (p places) logs() string              { return filepath.Join(p.private, "logs") }

// resolver is the small internet's.
const resolver = "8.8.8.8:53"

func internet(p places) process {
	return process{name: "internet", argv: []string{p.binary("simnet"),
		"--sockets", p.internetSockets(), "--ca", p.internetCA(), "--control", p.internetControl()}}
}

func server(p places, at ports) process {
	return process{name: "sluice-server", argv: []string{p.binary("sluice-server"), "--data-dir", p.data(), "--metrics", at.serverMetrics}}
}

func dataPlane(p places, real bool, at ports) process {
	argv := []string{p.binary("sluice-proxy"), "--tell-all", "--data-dir", p.data() + "-proxy"}
	if !real {
		argv = append(argv, "--egress-sockets", p.internetSockets(), "--resolver", resolver, "--upstream-ca", p.internetCA())
	}
	return process{name: "sluice-proxy", argv: append(argv, "--metrics", at.proxyMetrics, "--health", at.health, "--ingress", at.ingress)}
}

// wayIn is the rule that leads what comes in to the page.
func wayIn(p places, samples string) process {
	return process{name: "ingress-rule", argv: []string{p.binary("sluice"), "create", "-f", filepath.Join(samples, "bookinfo", "kube", "ingress-rule-productpage.yaml")}}
}

// service is one service of Bookinfo, in a sandbox of its own.
func service(p places, name, version string, env ...string) process {
	return process{name: name + "-" + version, env: env, argv: []string{p.binary("sluice"), "run",
		"--service", name, "--version", version, "--listen", "9080", "--", p.binary("bookinfo"), name, "9080"}}
}

// bookinfo is the services that the article starts from.
func bookinfo(p places) []process {
	return []process{
		service(p, "details", "v1"),
		service(p, "ratings", "v1"),
		service(p, "reviews", "v1"),
		service(p, "reviews", "v2", "ENABLE_RATINGS=true"),
		service(p, "reviews", "v3", "ENABLE_RATINGS=true", "STAR_COLOR=red"),
		service(p, "productpage", "v1"),
	}
}

// detailsV2 is what the user starts beside them: with plain, in the manner of
// the article; without, by TLS of its own.
func detailsV2(p places, plain, real bool) process {
	env := []string{"ENABLE_EXTERNAL_BOOK_SERVICE=true"}
	switch {
	case plain:
		env = append(env, "WITH_ISTIO=true")
	case !real:
		env = append(env, "SSL_CERT_FILE="+p.internetCA())
	}
	return service(p, "details", "v2", env...)
}
