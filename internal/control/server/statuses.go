package server

import (
	"sluice.dev/sluice/internal/control/compile"
	"sluice.dev/sluice/internal/control/kubeapi"
)

// reportOf says of every object what was compiled of it, and what to know of it.
func reportOf(out *compile.Output, running, connected int) kubeapi.Report {
	problems := make(map[string]string, len(out.Problems))
	for _, problem := range out.Problems {
		if earlier, more := problems[problem.Object]; more {
			problem.Text = earlier + "; " + problem.Text
		}
		problems[problem.Object] = problem.Text
	}
	warnings := make(map[string]kubeapi.Warning)
	for id, all := range out.Warnings() {
		var warning kubeapi.Warning
		for i, one := range all {
			if i > 0 {
				warning.Text += "; "
			}
			warning.Text += one.Text
			warning.SelectsNothing = warning.SelectsNothing || one.SelectsNothing
		}
		warnings[id] = warning
	}
	return kubeapi.Report{Revision: out.Revision, Problems: problems, Warnings: warnings, Running: running, Connected: connected}
}
