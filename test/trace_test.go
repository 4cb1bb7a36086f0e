package test

import (
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"

	"sluice.dev/sluice/internal/record"
	"sluice.dev/sluice/internal/telemetry/trace"
	"sluice.dev/sluice/test/mesh"
)

const tracing = `apiVersion: sluice.dev/v1alpha1
kind: MeshConfig
metadata: {name: default}
spec: {telemetry: {tracing: {sampling: 100}}}
`

// A page of Bookinfo is one trace, from the ingress to the server outside the mesh, and
// sluice trace draws it.
func TestAPageOfBookinfoIsOneTraceWithTheCallThatLeavesTheMesh(t *testing.T) {
	d := mesh.StartDemo(t, mesh.User{Name: "user", UID: -1})
	d.Background(t, []string{"ENABLE_EXTERNAL_BOOK_SERVICE=true", "WITH_ISTIO=true"}, "sluice", "run",
		"--service", "details", "--version", "v2", "--listen", "9080", "--", filepath.Join(d.Bin, "bookinfo"), "details", "9080")
	waitForWorkload(t, d, "details-v2/1")
	if r := d.Run(t, tracing, "sluice", "create", "-f", "-"); r.Code != 0 {
		t.Fatalf("%+v", r)
	}
	for _, file := range []string{"route-rule-details-v2.yaml", "egress-rule-google-apis.yaml"} {
		if r := d.Sluice(t, "create", "-f", filepath.Join(d.Samples, "bookinfo", "kube", file)); r.Code != 0 {
			t.Fatalf("%+v", r)
		}
	}
	var page record.Record
	mesh.Eventually(t, func() string {
		d.Page(t)
		steps := make(map[trace.ID][]record.Record)
		for line := range strings.Lines(d.Sluice(t, "flows", "--last", "4096", "-o", "json").Stdout) {
			var f record.Record
			if err := json.Unmarshal([]byte(line), &f); err != nil {
				t.Fatal(err)
			}
			steps[f.Trace] = append(steps[f.Trace], f)
		}
		delete(steps, trace.ID{})
		for _, all := range steps {
			if root, ok := joined(all); ok {
				page = root
				return ""
			}
		}
		return d.Sluice(t, "flows", "-o", "wide").Stdout
	})
	r := d.Sluice(t, "trace", page.Trace.String())
	lines := strings.Split(r.Stdout, "\n")
	below := "" // what stands below the call of details
	for i, line := range lines {
		if strings.Contains(line, "productpage-v1/1 -> details:9080") {
			below = strings.TrimLeft(strings.TrimLeft(lines[i+1], " "), "│ ")
		}
	}
	if r.Code != 0 || !strings.HasPrefix(lines[0], "trace "+page.Trace.String()) || !strings.HasPrefix(lines[1], "└─ istio-ingress/1 -> ") ||
		!strings.HasPrefix(below, "└─ details-v2/1 -> www.googleapis.com:443  GET /books/v1/volumes") {
		t.Errorf("exit %d\n%s%s", r.Code, r.Stdout, r.Stderr)
	}
	if by := d.Sluice(t, "trace", page.ID.String()); !strings.HasPrefix(by.Stdout, "trace "+page.Trace.String()+": ") {
		t.Errorf("by the id of a flow:\n%s%s", by.Stdout, by.Stderr)
	}
	if r := d.Sluice(t, "trace", strings.Repeat("1", 32)); r.Code != 1 || !strings.Contains(r.Stderr, "no flow of trace") {
		t.Errorf("a trace that nobody knows: %+v", r)
	}
}

// joined returns the first step of a trace that leads from the ingress to a server outside.
func joined(all []record.Record) (root record.Record, ok bool) {
	spans := make(map[trace.SpanID]bool)
	for i := range all {
		spans[all[i].Span] = true
	}
	outside, roots := false, 0
	for i := range all {
		f := &all[i]
		outside = outside || f.Direction == record.Egress && f.Host == "www.googleapis.com:443" && f.Verdict == record.Allowed && f.Workload == "details-v2/1"
		switch {
		case f.Parent == (trace.SpanID{}):
			root = *f
			roots++
		case !spans[f.Parent]:
			return root, false
		}
	}
	return root, outside && roots == 1 && root.Direction == record.Ingress && len(all) >= 4
}
