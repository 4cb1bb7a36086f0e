package run

import (
	"errors"
	"path/filepath"
	"strings"

	"sluice.dev/sluice/api/v1alpha1"
	"sluice.dev/sluice/internal/advice"
	"sluice.dev/sluice/internal/record"
	"sluice.dev/sluice/internal/report"
	"sluice.dev/sluice/internal/wire"
)

// allowAdvice says which --allow lets a record's destination through; "" where none
// does, or where a shell would not take it between quotes: people paste the line.
func allowAdvice(r *record.Record, rules *wire.Snapshot, workload wire.Workload) string {
	question, ok := advice.OfRecord(r)
	if !ok {
		return ""
	}
	denying := *rules // where it is only audited, what would deny it counts
	if rules.Mesh != nil {
		mesh := *rules.Mesh
		mesh.OutboundDefault, denying.Mesh = v1alpha1.DefaultDeny, &mesh
	}
	explained, err := advice.Answer(question, &denying, workload)
	if err != nil || explained.Remedy == nil || explained.Reason != r.Reason {
		return ""
	}
	text := explained.Remedy.Allow
	if text == "" || strings.Contains(text, "'") || report.Printable(text) != text {
		return ""
	}
	return "allow it with --allow '" + text + "'"
}

// exitOf is the status of a command that could not be started, as a shell has it.
func exitOf(err error) int {
	var coded interface{ ExitCode() int }
	if errors.As(err, &coded) {
		return coded.ExitCode()
	}
	return ExitFailed
}

// instanceName is what flows call a workload that runs alone.
func instanceName(c Config) string {
	if base := c.Workload.Base(); base != "" {
		return base + "/1"
	}
	return filepath.Base(c.Command[0]) + "/1"
}
