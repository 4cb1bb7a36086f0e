package run

import (
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"sync"
	"time"

	"sluice.dev/sluice/internal/hidden"
	"sluice.dev/sluice/internal/record"
	"sluice.dev/sluice/internal/report"
	"sluice.dev/sluice/internal/sandbox"
	"sluice.dev/sluice/internal/version"
)

// watch takes all that the command's connections came to, and reports it: as
// it happens where that was asked for, in a report, and after the command.
type watch struct {
	stderr  io.Writer
	verbose bool
	suggest *suggestion     // nil: nobody asked for one
	hides   *hidden.Plan    // what is hidden from the command
	opened  []report.Hidden // what of it the command opened

	mu     sync.Mutex
	file   *report.File // nil: no report, or it is closed
	failed error        // of the report; what comes behind it is not written
}

// newWatch opens the files before anything is started, so that the command has no
// part in them.
func newWatch(c Config) (*watch, error) {
	w := &watch{stderr: c.Stderr, verbose: c.Verbose}
	same, err := sameName(c.Report, c.Suggest)
	switch {
	case err != nil:
		return nil, err
	case same:
		return nil, fmt.Errorf("--report and --suggest both name %s: give each a file of its own", c.Report)
	}
	if c.Suggest != "" {
		if w.suggest, err = newSuggestion(c); err != nil {
			return nil, err
		}
	}
	if c.Report == "" {
		return w, nil
	}
	if w.file, err = report.Create("report", c.Report); err != nil {
		w.close()
		return nil, err
	}
	return w, nil
}

// sameName reports whether two files that are asked for have one name.
func sameName(a, b string) (bool, error) {
	if a == "" || b == "" {
		return false, nil
	}
	first, err := filepath.Abs(a)
	second, err2 := filepath.Abs(b)
	return first == second, errors.Join(err, err2)
}

// each reports whether somebody wants every record, not the sum alone.
func (w *watch) each() bool { return w.verbose || w.file != nil || w.suggest != nil }

// hidden are the files that the command must not reach.
func (w *watch) hidden() (paths []string) {
	files := []*report.File{w.file}
	if w.suggest != nil {
		files = append(files, w.suggest.file)
	}
	for _, f := range files {
		if f != nil && f.Path() != "" {
			paths = append(paths, f.Path())
		}
	}
	return paths
}

// start begins the report.
func (w *watch) start(c Config, instance string, level sandbox.Enforcement) {
	w.write(report.Start{
		Format: report.Format, Kind: "start", Time: time.Now(), Sluice: version.String(), Workload: instance, Command: c.Command,
		Level: level.Level, Lowered: level.Lowered, SharedCgroup: level.SharedCgroup,
	})
}

// tell tells of one record as it happens.
func (w *watch) tell(r *record.Record) {
	if w.verbose {
		io.WriteString(w.stderr, report.Line(r)) // nobody may listen
	}
	if w.suggest != nil {
		w.suggest.add(r)
	}
	w.write(report.FlowOf(r))
}

func (w *watch) write(line any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.file != nil && w.failed == nil {
		w.failed = w.file.Write(line)
	}
}

// outcome is what is known once the command has ended.
type outcome struct {
	exit    int   // the command's own
	failed  error // it did not start, or was ended from outside
	summary report.Summary
	dropped uint64 // records that tell was not given
	unknown error  // why there is no summary; nil where there is one
	reached sandbox.Reached
	advise  report.Advisor // what to do about a denial
}

// finish tells of all of it, ends the report, and returns the exit status: the
// command's own, unless that is 0 and something else is to be said by it.
func (w *watch) finish(c Config, o outcome) (int, error) {
	if o.unknown == nil {
		w.write(report.End{
			Format: report.Format, Kind: "end", Time: time.Now(), Exit: o.exit, Counts: o.summary.Counts, Dropped: o.dropped,
			MemoryKills: o.reached.MemoryKills, ForksRefused: o.reached.ForksRefused,
		})
	}
	var suggested error
	if w.suggest != nil {
		suggested = w.suggest.write(o.dropped)
	}
	broken := errors.Join(w.close(), suggested)
	if !c.Quiet {
		report.Print(c.Stderr, o.summary, o.advise) // nobody may listen
		report.PrintHidden(c.Stderr, w.opened)
		sayReached(c, o.reached)
		if o.dropped > 0 {
			fmt.Fprintf(c.Stderr, "sluice: %d flows came too fast to be told of one by one; the sums hold them\n", o.dropped)
		}
	}
	wrong := errors.Join(o.unknown, broken)
	switch {
	case o.exit != 0 || o.failed != nil:
		if wrong != nil {
			fmt.Fprintln(c.Stderr, "sluice:", wrong)
		}
		return o.exit, o.failed
	case broken != nil, o.unknown != nil && (c.FailOnDenied || c.Report != "" || c.Suggest != ""):
		return ExitFailed, wrong
	case o.unknown != nil:
		fmt.Fprintln(c.Stderr, "sluice:", wrong)
	case c.FailOnDenied && o.summary.Counts.Denied > 0:
		return ExitDenied, nil
	}
	return 0, nil
}

// close closes the report and returns what went wrong with it. After it nothing is
// written.
func (w *watch) close() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.suggest != nil {
		w.suggest.close()
	}
	if w.file == nil {
		return w.failed
	}
	err := w.file.Close()
	w.file = nil
	if w.failed == nil {
		w.failed = err
	}
	return w.failed
}
