package cli

import (
	"strings"
	"testing"
	"time"

	"sluice.dev/sluice/internal/record"
	"sluice.dev/sluice/internal/telemetry/trace"
)

func step(span, parent byte, workload, to, method string, at time.Duration) record.Record {
	f := record.Record{
		ID: record.ID(span), Start: time.Unix(100, 0).Add(at), Duration: 5 * time.Millisecond, Workload: workload, Dialled: to, Port: 9080, Method: method, Path: "/x",
		Verdict: record.Allowed, Status: 200, Context: trace.Context{Trace: trace.ID{1}, Span: trace.SpanID{span}},
	}
	if parent != 0 {
		f.Parent = trace.SpanID{parent}
	}
	return f
}

func TestATraceIsDrawnAsATree(t *testing.T) {
	denied := step(5, 2, "details-v2/1", "evil\x1b[31m", "", 3*time.Millisecond)
	denied.Verdict, denied.Reason, denied.Status = record.Denied, "no-rule", 0
	got := string(drawTrace(trace.ID{1}, []record.Record{
		step(1, 0, "istio-ingress/1", "productpage", "GET", 0), step(2, 1, "productpage-v1/1", "details", "GET", time.Millisecond),
		step(3, 1, "productpage-v1/1", "reviews", "GET", 2*time.Millisecond), denied, step(6, 9, "other-v1/1", "details", "GET", 4*time.Millisecond),
	}))
	want := `trace 01000000000000000000000000000000: 5 steps in 9ms
├─ istio-ingress/1 -> productpage:9080  GET /x  allow 200  at 0s for 5ms  0000000000000001
│  ├─ productpage-v1/1 -> details:9080  GET /x  allow 200  at 1ms for 5ms  0000000000000002
│  │  └─ details-v2/1 -> evil\u001b[31m:9080  deny  at 3ms for 5ms  0000000000000005  no-rule
│  └─ productpage-v1/1 -> reviews:9080  GET /x  allow 200  at 2ms for 5ms  0000000000000003
└─ other-v1/1 -> details:9080  GET /x  allow 200  at 4ms for 5ms  0000000000000006
`
	if strings.ReplaceAll(got, `\x1b`, `\u001b`) != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// Whoever writes ids of his own into requests gets each of his steps drawn, once.
func TestSpansThatNameOneAnotherAreDrawnOnce(t *testing.T) {
	steps := []record.Record{step(1, 2, "a/1", "b", "GET", 0), step(2, 1, "a/1", "b", "GET", 1), step(3, 3, "a/1", "b", "GET", 2), step(3, 1, "a/1", "b", "GET", 3)}
	var deep []record.Record
	for i := range 200 {
		deep = append(deep, step(byte(i+1), byte(i), "a/1", "b", "GET", time.Duration(i)))
	}
	for _, all := range [][]record.Record{steps, deep} {
		got := string(drawTrace(trace.ID{1}, all))
		if n := strings.Count(got, "\n"); n != len(all)+1 {
			t.Errorf("%d lines of %d steps:\n%s", n, len(all), got)
		}
		for line := range strings.Lines(got) {
			if len([]rune(line)) > 3*maxDepth+120 {
				t.Errorf("a line of %d characters", len([]rune(line)))
			}
		}
	}
}
