package demo

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// tell prints what runs, and the next commands of the walk.
func tell(c Config, p places, url string, at ports, levels map[string]string, took time.Duration) {
	sluice := p.binary("sluice")
	fmt.Fprintf(c.Out, "\nBookinfo runs behind Sluice; ready in %.1f s.\n\n", took.Seconds())
	fmt.Fprintf(c.Out, "  page        %s\n", url)
	if at.ingress != c.Ingress {
		fmt.Fprintf(c.Out, "              (%s is taken, so it is another port)\n", c.Ingress)
	}
	if c.Real {
		fmt.Fprintf(c.Out, "  internet    this machine's\n")
	} else {
		fmt.Fprintf(c.Out, "  internet    a small one in a namespace; nothing leaves this machine\n")
	}
	fmt.Fprintf(c.Out, "  server      %s\n", filepath.Join(c.Runtime, "api.sock"))
	fmt.Fprintf(c.Out, "  metrics     http://%s/metrics, of the server http://%s/metrics\n", at.proxyMetrics, at.serverMetrics)
	fmt.Fprintf(c.Out, "  health      http://%s/healthz/ready\n", at.health)
	fmt.Fprintf(c.Out, "  logs        %s (until the demo ends)\n", p.logs())
	for _, s := range bookinfo(p) {
		fmt.Fprintf(c.Out, "  %-15s level %s\n", s.name, levels[s.name])
	}
	say := func(text string, commands ...string) {
		fmt.Fprintf(c.Out, "\n%s\n", text)
		for _, command := range commands {
			fmt.Fprintf(c.Out, "  %s\n", command)
		}
	}
	kube := filepath.Join(c.Samples, "bookinfo", "kube")
	folder := ""
	if runtime := os.Getenv("SLUICE_RUNTIME"); runtime != "" {
		folder = ", with SLUICE_RUNTIME=" + runtime + " too"
	}
	start := "Start details v2, which asks www.googleapis.com:"
	if c.Real {
		start = "No rule lets anything out yet. In another terminal" + folder + ", start details v2, which asks www.googleapis.com:"
	} else {
		env := process{argv: []string{sluice, "demo", "--env"}}
		say("No rule lets anything out yet. In another terminal"+folder+", first let the shell use the small internet and its CA:",
			`eval "$(`+env.command()+`)"`)
	}
	say(start,
		detailsV2(p, true, c.Real).command())
	say("Send every request for details to it; the page then says \"Error fetching product details!\":",
		sluice+" create -f "+filepath.Join(kube, "route-rule-details-v2.yaml"))
	say("Let it out; the page shows what the books service answered:",
		sluice+" create -f "+filepath.Join(kube, "egress-rule-google-apis.yaml"))
	say("Look, ask, and take it back:",
		strings.Join([]string{sluice + " get egressrules", sluice + " status", sluice + " flows",
			sluice + " why --from details-v2 https://www.google.com/", sluice + " delete egressrule googleapis -n default"}, "\n  "))
	fmt.Fprintf(c.Out, "\nCtrl-C ends the demo and leaves nothing behind.\n")
}
