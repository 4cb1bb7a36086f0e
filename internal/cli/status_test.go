package cli

import (
	"strings"
	"testing"
	"time"

	"sluice.dev/sluice/internal/control/inspect"
	"sluice.dev/sluice/internal/wire"
)

func TestStatusSaysWhichPortsAreNotServedAndForHowLong(t *testing.T) {
	now := time.Date(2026, 11, 3, 12, 0, 0, 0, time.UTC)
	quiet := wire.Unready{Port: 8000, Since: now.Add(-12 * time.Second)}
	held := wire.Unready{Port: 9080, Since: now.Add(-3 * time.Minute), Why: "GET /health was answered with 503"}
	for what, x := range map[string]struct {
		status inspect.WorkloadStatus
		want   string
	}{
		"one that serves":        {inspect.WorkloadStatus{Connected: true, SentVersion: "a", AckedVersion: "a"}, "current"},
		"one that does not":      {inspect.WorkloadStatus{Workload: wire.Workload{Unready: []wire.Unready{quiet}}, Connected: true, SentVersion: "a", AckedVersion: "a"}, "not listening on 8000 for 12 s"},
		"two ports":              {inspect.WorkloadStatus{Workload: wire.Workload{Unready: []wire.Unready{quiet, held}}, Connected: true, SentVersion: "a", AckedVersion: "a"}, "not listening on 8000 for 12 s; not ready on 9080 for 3 min 0 s: GET /health was answered with 503"},
		"one that is behind too": {inspect.WorkloadStatus{Workload: wire.Workload{Unready: []wire.Unready{quiet}}, Connected: true, SentVersion: "b", AckedVersion: "a"}, "behind b; not listening on 8000 for 12 s"},
		"one that is gone":       {inspect.WorkloadStatus{Workload: wire.Workload{Unready: []wire.Unready{quiet}}}, "gone"},
	} {
		if got := state(&x.status, now); got != x.want {
			t.Errorf("%s: %q, want %q", what, got, x.want)
		}
	}
	var b strings.Builder
	if err := printStatus(&b, &inspect.Status{Workloads: []inspect.WorkloadStatus{{
		Workload: wire.Workload{Instance: "details-v1/1", Namespace: "default", Unready: []wire.Unready{quiet}}, Connected: true, SentVersion: "a", AckedVersion: "a",
	}}}, now); err != nil || !strings.HasSuffix(b.String(), "  not listening on 8000 for 12 s\n") {
		t.Errorf("%v:\n%s", err, b.String())
	}
}
