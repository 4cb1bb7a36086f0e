package size

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"sluice.dev/sluice/bench/mesh"
	"sluice.dev/sluice/bench/process"
	"sluice.dev/sluice/bench/report"
)

// meshStarts is how often server and proxy are started anew; each takes seconds.
const meshStarts = 5

// starts measures how long commands take from their start to their end, or until
// they are of use.
func starts(ctx context.Context, o Options, section *report.Section, progress report.Progress) (report.Table, error) {
	table := report.Table{Columns: []string{"start", "median ms", "slowest ms", "starts"}}
	add := func(name string, samples []float64) { addSamples(&table, section, name, samples) }
	sluice := filepath.Join(o.Bin, "sluice")
	var version, alone, sandboxed, cost []float64
	var begin, end, bareBegin, bareEnd []float64
	for i := range o.Starts {
		progress.Say("size: commands, %d of %d", i+1, o.Starts)
		for _, c := range []struct {
			into *[]float64
			argv []string
		}{
			{&version, []string{sluice, "version"}},
			{&alone, []string{"true"}},
			{&sandboxed, []string{sluice, "run", "--allow", "www.example.com", "--", "true"}},
		} {
			took, err := timeCommand(ctx, c.argv)
			if err != nil {
				return table, err
			}
			*c.into = append(*c.into, took)
		}
		cost = append(cost, sandboxed[i]-alone[i])
		for _, c := range []struct {
			begin, end *[]float64
			argv       []string
		}{
			{&bareBegin, &bareEnd, Sleeper},
			{&begin, &end, append([]string{sluice, "run", "--"}, Sleeper...)},
		} {
			began, ended, err := timeBothEnds(ctx, c.argv)
			if err != nil {
				return table, err
			}
			*c.begin, *c.end = append(*c.begin, began), append(*c.end, ended)
		}
	}
	add("sluice version", version)
	add("true, alone", alone)
	add("sluice run --allow www.example.com -- true", sandboxed)
	add("what run adds to a command", cost)
	add("sh, alone: from its start until it runs", bareBegin)
	add("sluice run -- sh: from its start until sh runs", begin)
	add("sh, alone: from its last input to its end", bareEnd)
	add("sluice run -- sh: from sh's last input to the end of sluice run", end)
	var server, proxy []float64
	for i := range meshStarts {
		progress.Say("size: server and proxy, %d of %d", i+1, meshStarts)
		m, err := mesh.Start(ctx, o.Bin)
		if err != nil {
			return table, err
		}
		m.Stop()
		server, proxy = append(server, milliseconds(m.ServerReady)), append(proxy, milliseconds(m.ProxyReady))
	}
	add("sluice-server, empty store, to the first list of rules", server)
	add("sluice-proxy, to its first sandbox", proxy)
	return table, nil
}

// addSamples adds a row of milliseconds.
func addSamples(table *report.Table, section *report.Section, name string, samples []float64) {
	slowest := 0.0
	for _, s := range samples {
		slowest = max(slowest, s)
	}
	table.Add(name, median(samples), report.Number(slowest, 1), fmt.Sprint(len(samples)))
	section.Samples[name+", ms"] = samples
}

// timeCommand runs a command to its end and returns how many ms it took.
func timeCommand(ctx context.Context, argv []string) (float64, error) {
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Env = os.Environ()
	began := time.Now()
	out, err := cmd.CombinedOutput()
	took := milliseconds(time.Since(began))
	if ctx.Err() != nil {
		return 0, context.Cause(ctx)
	}
	if err != nil {
		return 0, fmt.Errorf("%v: %w\n%s", argv, err, out)
	}
	return took, nil
}

// timeBothEnds runs Sleeper, on its own or in something, and returns how many ms passed until
// it ran, and from the line on which it ends until all had ended.
func timeBothEnds(ctx context.Context, argv []string) (begin, end float64, err error) {
	began := time.Now()
	p, err := process.Start(ctx, process.Config{Name: argv[0], CPU: process.AnyCPU, Argv: argv})
	if err != nil {
		return 0, 0, err
	}
	defer p.Stop()
	if _, err := p.Line(manyPatience); err != nil {
		return 0, 0, err
	}
	begin = milliseconds(time.Since(began))
	ended := time.Now()
	if err := p.Send("end"); err != nil {
		return 0, 0, err
	}
	select {
	case <-p.Done():
	case <-ctx.Done():
		return 0, 0, context.Cause(ctx)
	}
	return begin, milliseconds(time.Since(ended)), nil
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
