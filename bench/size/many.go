package size

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"time"

	"sluice.dev/sluice/bench/process"
	"sluice.dev/sluice/bench/report"
)

const (
	manySandboxes = 50
	manyRounds    = 3
	manyPatience  = 90 * time.Second // for all of them, on a machine that does much else
)

// Took is how long sandboxes took that were started at once.
type Took struct {
	Run time.Duration // from the first start until each command runs
	End time.Duration // from the end of `sluice run`, which is killed, until no process is left
}

// AtOnce runs count times a command that starts the sandbox of Sleeper, all at once, kills
// them, and waits until nothing of them is left. An error says what failed or stayed.
func AtOnce(ctx context.Context, count int, argv []string) (took Took, err error) {
	ctx, cancel := context.WithTimeout(ctx, manyPatience)
	defer cancel()
	all, failed := make([]*process.Process, count), make([]error, count)
	began := time.Now()
	var starting sync.WaitGroup
	for i := range all {
		starting.Go(func() {
			p, err := process.Start(ctx, process.Config{Name: fmt.Sprint("sandbox ", i), CPU: process.AnyCPU, Argv: argv})
			if err == nil {
				all[i] = p
				_, err = p.Line(manyPatience)
			}
			failed[i] = err
		})
	}
	starting.Wait()
	took.Run = time.Since(began)
	var pids []int
	for _, p := range all {
		if p != nil {
			pids = append(append(pids, p.PID), process.Children(p.PID)...)
		}
	}
	killed := time.Now()
	for _, p := range all {
		if p != nil {
			p.Kill()
		}
	}
	for _, p := range all {
		if p != nil {
			<-p.Done()
		}
	}
	if err := errors.Join(failed...); err != nil {
		return took, err
	}
	if len(pids) < 3*count { // sluice, init and the command
		return took, fmt.Errorf("%d sandboxes had %d processes", count, len(pids))
	}
	for _, pid := range pids {
		for alive(pid) {
			if ctx.Err() != nil {
				return took, fmt.Errorf("process %d is left: %v", pid, process.Command(pid))
			}
			time.Sleep(time.Millisecond)
		}
	}
	took.End = time.Since(killed)
	return took, nil
}

// alive says that a process has not ended; what is a zombie has.
func alive(pid int) bool { return program(pid) != "" }

// many measures sandboxes that are started at once.
func many(ctx context.Context, o Options, section *report.Section, progress report.Progress) (report.Table, error) {
	table := report.Table{Columns: []string{fmt.Sprint(manySandboxes, " sandboxes at once"), "median ms", "slowest ms", "rounds"}}
	argv := append([]string{filepath.Join(o.Bin, "sluice"), "run", "--allow", "www.example.com", "--"}, Sleeper...)
	var run, end []float64
	for i := range manyRounds {
		progress.Say("size: %d sandboxes at once, %d of %d", manySandboxes, i+1, manyRounds)
		took, err := AtOnce(ctx, manySandboxes, argv)
		if err != nil {
			return table, err
		}
		run, end = append(run, milliseconds(took.Run)), append(end, milliseconds(took.End))
	}
	addSamples(&table, section, "until every command runs", run)
	addSamples(&table, section, "from their kill until no process is left", end)
	return table, nil
}
