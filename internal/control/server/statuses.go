package server

import (
	"sluice.dev/sluice/internal/control/compile"
	"sluice.dev/sluice/internal/control/kubeapi"
)

// reportOf says of every object what was compiled of it.
func reportOf(out *compile.Output, programmed bool) kubeapi.Report {
	problems := make(map[string]string, len(out.Problems))
	for _, problem := range out.Problems {
		if earlier, more := problems[problem.Object]; more {
			problem.Text = earlier + "; " + problem.Text
		}
		problems[problem.Object] = problem.Text
	}
	return kubeapi.Report{Revision: out.Revision, Problems: problems, Programmed: programmed}
}
