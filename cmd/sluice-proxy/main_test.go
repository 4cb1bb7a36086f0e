package main

import (
	"io"
	"strings"
	"testing"
)

func TestFlagsThatSayNothingTogetherAreRefused(t *testing.T) {
	for line, want := range map[string]string{
		"--server a:1":          "need --sidecar",
		"--identity-dir /x":     "need --sidecar",
		"--listen 80":           "need --sidecar",
		"--max-series 1000":     "--max-series needs --metrics",
		"--sidecar":             "--sidecar needs --server",
		"--ingress-route /=a:1": "--ingress-route needs --ingress",
		"--sidecar --server a:1 --runtime-dir /x":          "--sidecar excludes --runtime-dir",
		"--sidecar --server a:1 --metrics 127.0.0.1:15001": "take another, as in 127.0.0.1:15090",
		"--sidecar --server a:1 --metrics 127.0.0.1:15006": "take another",
		"--sidecar --server a:1 --metrics :15020":          "take another",
		"--sidecar --server a:1 --metrics [::1]:15053":     "take another",
		"redirect --no-inbound --include-inbound-ports 80": "--no-inbound excludes",
		"redirect --no-inbound --exclude-inbound-ports 80": "--no-inbound excludes",
	} {
		c := newCommand()
		c.SetArgs(strings.Fields(line))
		c.SetOut(io.Discard)
		if err := c.ExecuteContext(t.Context()); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", line, err)
		}
	}
	o := options{metrics: "127.0.0.1:15090", maxSeries: 1000, sidecar: sidecarOptions{on: true, server: "a:1"}}
	if err := o.validate(func(string) bool { return true }); err != nil {
		t.Error(err)
	}
}
