package main

import (
	"fmt"
	"io"
	"strings"

	"sluice.dev/sluice/test/kernels/verdict"
)

// table prints rows as they come: verdict, kernel, processor, how long it took, row.
type table struct {
	out      io.Writer
	kernel   string
	arch     string
	verbose  bool
	verdicts map[string]int
	seconds  float64 // of all rows
}

func newTable(out io.Writer, arch string, verbose bool) *table {
	return &table{out: out, kernel: "?", arch: arch, verbose: verbose, verdicts: make(map[string]int)}
}

// row prints one row; what was seen is shown where it failed or was skipped.
func (t *table) row(r verdict.Row) {
	t.verdicts[r.Verdict]++
	took := ""
	if r.Seconds > 0 {
		took = fmt.Sprintf("%.1f s", r.Seconds)
		t.seconds += r.Seconds
	}
	fmt.Fprintf(t.out, "%-4s  %-24s %-5s %8s  %s — %s\n", r.Verdict, t.kernel, t.arch, took, r.ID, r.Sentence)
	if r.Outcome == "" || r.Verdict == verdict.OK && !t.verbose {
		return
	}
	for line := range strings.Lines(r.Outcome) {
		fmt.Fprintf(t.out, "        %s\n", strings.TrimRight(line, "\r\n"))
	}
}

// end sums up and returns how many rows failed.
func (t *table) end() (failed int) {
	fmt.Fprintf(t.out, "%s %s: %d ok, %d skipped, %d failed, in %.0f s\n", t.kernel, t.arch, t.verdicts[verdict.OK], t.verdicts[verdict.Skip], t.verdicts[verdict.Fail], t.seconds)
	return t.verdicts[verdict.Fail]
}
