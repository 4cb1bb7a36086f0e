package server

import (
	"context"
	"slices"
	"time"

	"sluice.dev/sluice/internal/control/compile"
	"sluice.dev/sluice/internal/control/kubeapi"
)

const (
	// reportGrace is how long the workloads have to run what was compiled before it
	// is reported as pending: as a rule they are faster, and it costs one report.
	reportGrace = 500 * time.Millisecond
	// reportAtMost is the least time between two looks at what was acknowledged: in
	// a storm one look takes all acknowledgements of that time.
	reportAtMost = 250 * time.Millisecond
)

// reporter reports to the store what became of the rules, for people who look at a
// status. It sleeps until something is compiled or acknowledged.
type reporter struct {
	compiled func() (last *compile.Output, newer <-chan struct{})
	acked    func(revision int64) (running, connected int, changed <-chan struct{})
	byAll    func() (revision int64) // every workload runs what was compiled of it
	report   func(kubeapi.Report)
}

// run reports until ctx ends.
func (r *reporter) run(ctx context.Context) {
	var (
		reported *compile.Output // last
		ran, of  int             // and how many workloads ran it, of how many
		all      int64           // the revision that was reported last as run by all
		late     time.Time       // when what is not acknowledged is reported as pending; zero where nothing waits
	)
	timer := time.NewTimer(reportGrace)
	defer timer.Stop()
	for {
		out, newer := r.compiled()
		looked := time.Now()
		var changed <-chan struct{}
		var expired <-chan time.Time
		if out != nil {
			var running, connected int
			running, connected, changed = r.acked(out.Revision)
			grace := !late.IsZero() && !looked.Before(late)
			var runByAll int64
			if grace && out != reported && running != connected && sameProblems(reported, out) {
				runByAll = r.byAll()
			}
			switch {
			case runByAll > all:
				// In a storm something is always newer than what all run. What they run is not
				// pending for that.
				all = runByAll
				older := reportOf(out, connected, connected)
				older.Revision = all
				r.report(older)
				late = looked.Add(reportGrace)
			case out == reported && (ran == of || running == ran && connected == of):
				late = time.Time{} // as was said; what all ran stays so when others come
			case running == connected, out == reported, grace:
				r.report(reportOf(out, running, connected))
				reported, ran, of, late = out, running, connected, time.Time{}
				if running == connected {
					all = out.Revision
				}
			case late.IsZero():
				late = looked.Add(reportGrace)
			}
			if !late.IsZero() {
				timer.Reset(time.Until(late))
				expired = timer.C
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-expired:
			continue
		case <-newer:
		case <-changed:
		}
		timer.Reset(reportAtMost - time.Since(looked))
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
	}
}

// sameProblems reports whether a newer compilation refuses what the older did: else its
// problems are not those of what runs, and would be reported as if they were.
func sameProblems(older, newer *compile.Output) bool {
	if older == nil {
		return len(newer.Problems) == 0
	}
	return slices.Equal(older.Problems, newer.Problems)
}
