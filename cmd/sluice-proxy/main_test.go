package main

import (
	"io"
	"strings"
	"testing"
)

func TestFlagsThatSayNothingTogetherAreRefused(t *testing.T) {
	for line, want := range map[string]string{
		"--server a:1":                                  "need --sidecar",
		"--identity-dir /x":                             "need --sidecar",
		"--listen 80":                                   "need --sidecar",
		"--max-series 1000":                             "--max-series needs --metrics or --otlp",
		"--access-log-sample 1":                         "--access-log-sample needs --access-log",
		"--access-log a --access-log-sample 101":        "--access-log-sample 101 is not a number from 0 to 100",
		"--access-log otlp":                             "--access-log otlp needs --otlp",
		"--max-series 499 --otlp http://127.0.0.1:4318": "--max-series 499 is less than 500",
		"--sidecar --server a:1 --health :15020":        "--health :15020: the sidecar itself listens on that port",
		"--sidecar":                                     "--sidecar needs --server",
		"--ingress-route /=a:1":                         "--ingress-route needs --ingress",
		"--ingress-tls :1":                              "--ingress-tls needs --ingress-certs",
		"--ingress-certs /x":                            "--ingress-certs needs --ingress-tls",
		"--sidecar --server a:1 --ingress-tls :1 --ingress-certs /x": "--sidecar excludes --ingress, --ingress-tls",
		"--sidecar --server a:1 --runtime-dir /x":                    "--sidecar excludes --runtime-dir",
		"--sidecar --server a:1 --metrics 127.0.0.1:15001":           "take another, as in 127.0.0.1:15090",
		"--sidecar --server a:1 --metrics 127.0.0.1:15006":           "take another",
		"--sidecar --server a:1 --metrics :15020":                    "take another",
		"--sidecar --server a:1 --metrics [::1]:15053":               "take another",
		"redirect --no-inbound --include-inbound-ports 80":           "--no-inbound excludes",
		"redirect --no-inbound --exclude-inbound-ports 80":           "--no-inbound excludes",
	} {
		c := newCommand()
		c.SetArgs(strings.Fields(line))
		c.SetOut(io.Discard)
		if err := c.ExecuteContext(t.Context()); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", line, err)
		}
	}
	o := options{metrics: "127.0.0.1:15090", maxSeries: 1000, sidecar: sidecarOptions{on: true, server: "a:1"}}
	if err := o.validate(func(flag string) bool { return flag == "max-series" }); err != nil {
		t.Error(err)
	}
}
