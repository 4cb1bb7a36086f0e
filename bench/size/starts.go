package size

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"sluice.dev/sluice/bench/mesh"
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
	}
	add("sluice version", version)
	add("true, alone", alone)
	add("sluice run --allow www.example.com -- true", sandboxed)
	add("what run adds to a command", cost)
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

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
