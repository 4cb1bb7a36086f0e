package server

import (
	"context"
	"time"

	"sluice.dev/sluice/internal/control/compile"
	"sluice.dev/sluice/internal/control/kubeapi"
)

// reportEvery is how often a newly compiled revision is looked for, and how long
// the workloads have to run it before it is reported as pending.
const reportEvery = 500 * time.Millisecond

// reportStatuses tells the store what became of the rules, until ctx ends. It is
// for people who look at a status: nothing waits for it.
func (s *Server) reportStatuses(ctx context.Context) {
	tick := time.NewTicker(reportEvery)
	defer tick.Stop()
	var reported *compile.Output
	complete := false
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		out := s.loop.Latest()
		if out == nil || out == reported && complete {
			continue
		}
		waiting, cancel := context.WithTimeout(ctx, reportEvery)
		programmed := s.push.WaitAcked(waiting, out.Revision) == nil
		cancel()
		if ctx.Err() != nil {
			return
		}
		if out == reported && !programmed {
			continue // still pending, as was said
		}
		s.store.Report(reportOf(out, programmed))
		reported, complete = out, programmed
	}
}

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
