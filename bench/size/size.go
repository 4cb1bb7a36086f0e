// Package size measures what Sluice takes before it does anything: the length of
// each binary, how long a start takes, and resident memory, idle and with the
// demo running. It only runs commands and reads /proc.
package size

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"sluice.dev/sluice/bench/mesh"
	"sluice.dev/sluice/bench/process"
	"sluice.dev/sluice/bench/report"
	"sluice.dev/sluice/bench/stats"
)

// Options say how much is measured.
type Options struct {
	Bin     string
	Samples string // folder of the samples, for the demo
	Starts  int    // of each command
}

// Name and Title are the section's.
const (
	Name  = "size"
	Title = "Size, start and memory"
)

// Run measures.
func Run(ctx context.Context, o Options, progress report.Progress) (report.Section, error) {
	section := report.Section{Name: Name, Title: Title, Samples: map[string][]float64{}}
	if err := mesh.CheckBinaries(o.Bin, mesh.Binaries...); err != nil {
		section.Skipped = err.Error()
		return section, nil
	}
	section.Notes = []string{
		"Memory is PSS of /proc/PID/smaps_rollup, read 2 s after the last process was ready, without traffic but the demo's own first page: a page that n processes share counts 1/n for each.",
	}
	for _, measure := range []func() (report.Table, error){
		func() (report.Table, error) { return binaries(o.Bin) },
		func() (report.Table, error) { return starts(ctx, o, &section, progress) },
		func() (report.Table, error) { return many(ctx, o, &section, progress) },
		func() (report.Table, error) { return memory(ctx, o, progress) },
	} {
		table, err := measure()
		if len(table.Rows) > 0 {
			section.Tables = append(section.Tables, table)
		}
		if err != nil {
			return section, err
		}
	}
	return section, nil
}

func binaries(bin string) (report.Table, error) {
	table := report.Table{Columns: []string{"binary", "MB"}}
	for _, name := range mesh.Binaries {
		info, err := os.Stat(filepath.Join(bin, name))
		if err != nil {
			return table, err
		}
		table.Add(name, report.Number(float64(info.Size())/1e6, 1))
	}
	return table, nil
}

// memory is a table of the processes alone, then with the demo.
func memory(ctx context.Context, o Options, progress report.Progress) (report.Table, error) {
	table := report.Table{Columns: []string{"process", "PSS MB", "of it anonymous"}}
	progress.Say("size: memory of the idle processes")
	idle, err := idleMemory(ctx, o.Bin)
	if err != nil {
		return table, fmt.Errorf("memory of the idle processes: %w", err)
	}
	progress.Say("size: memory with the demo running")
	demo, err := demoMemory(ctx, o)
	if err != nil {
		err = fmt.Errorf("memory with the demo running: %w", err)
	}
	for _, u := range append(idle, demo...) {
		table.Add(u.name, megabytes(u.PSS), megabytes(u.Anonymous))
	}
	return table, err
}

func megabytes(n int64) string { return report.Number(float64(n)/1e6, 1) }

// usage is the memory of one or more processes under one name.
type usage struct {
	name string
	process.Memory
}

// read adds up the memory of processes; one that ended meanwhile counts nothing.
func read(name string, pids ...int) (usage, error) {
	u := usage{name: name}
	var errs []error
	for _, pid := range pids {
		m, err := process.ReadMemory(pid)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		u.PSS += m.PSS
		u.Anonymous += m.Anonymous
	}
	if len(errs) == len(pids) {
		return u, errors.Join(errs...)
	}
	return u, nil
}

func median(samples []float64) string { return report.Number(stats.Median(samples), 1) }
