// Package inside measures what a command in a sandbox pays for its own work: messages
// over unix sockets and connects, in turns with the same work outside. bench calls it. It
// never counts the start of a sandbox, which is of the section size.
package inside

import (
	"context"
	"fmt"
	"path/filepath"
	"time"

	"sluice.dev/sluice/bench/mesh"
	"sluice.dev/sluice/bench/process"
	"sluice.dev/sluice/bench/report"
	"sluice.dev/sluice/bench/stats"
)

// Options say how much is measured.
type Options struct {
	Bin    string
	Rounds int
}

// Name and Title are the section's.
const (
	Name  = "inside"
	Title = "Inside a sandbox: messages and connects of a command"
)

const patience = time.Minute // for one measurement

// works are measured in each round, by the names that RoleWork takes.
var works = []struct{ name, title string }{
	{workStream, fmt.Sprintf("%d messages over a unix socket, ms", messages)},
	{workPair, fmt.Sprintf("%d messages over a socket pair of packets, ms", messages)},
	{workTCP, "a connect by TCP, p50 µs"},
	{workUnix, "a connect to a socket file, p50 µs"},
}

// Run measures.
func Run(ctx context.Context, self string, o Options, progress report.Progress) (report.Section, error) {
	section := report.Section{Name: Name, Title: Title, Samples: map[string][]float64{}}
	if err := mesh.CheckBinaries(o.Bin, "sluice"); err != nil {
		section.Skipped = err.Error()
		return section, nil
	}
	sluice := filepath.Join(o.Bin, "sluice")
	role := []string{self, RoleWork}
	places := []struct {
		name string
		argv []string
	}{
		{"outside", role},
		{"inside", append([]string{sluice, "run", "--"}, role...)},
		{"inside, --unsupervised", append([]string{sluice, "run", "--quiet", "--unsupervised", "--"}, role...)},
	}
	took := make([][][]float64, len(works)) // of each work, of each place
	for w := range works {
		took[w] = make([][]float64, len(places))
	}
	workers := make([]*process.Process, len(places))
	for i, place := range places {
		p, err := process.Start(ctx, process.Config{Name: place.name, CPU: process.AnyCPU, Argv: place.argv})
		if err != nil {
			return section, err
		}
		defer p.Stop()
		workers[i] = p
	}
	for round := range o.Rounds + 1 { // the first warms up, and counts for nothing
		progress.Say("inside: round %d of %d", round, o.Rounds)
		for w, work := range works {
			for i := range places {
				at := (i + round) % len(places) // none is always behind the same other
				var figure float64
				err := workers[at].Send(work.name)
				if err == nil {
					err = workers[at].Receive(patience, &figure)
				}
				if err != nil {
					return section, fmt.Errorf("%s, %s: %w", work.title, places[at].name, err)
				}
				if round > 0 {
					took[w][at] = append(took[w][at], figure)
				}
			}
		}
	}
	table := report.Table{Columns: []string{"", "outside", "inside", "inside, --unsupervised", "inside / outside", "rounds"}}
	for w, work := range works {
		row := []string{work.title}
		for at, place := range places {
			row = append(row, report.Number(stats.Median(took[w][at]), 1))
			section.Samples[work.title+", "+place.name] = took[w][at]
		}
		table.Add(append(row, report.Number(stats.Ratio(took[w][1], took[w][0]), 3), fmt.Sprint(o.Rounds))...)
	}
	section.Tables = []report.Table{table}
	section.Notes = []string{
		"Two processes in the same place; each message of 64 bytes is answered before the next. The three places are measured in turns, and the ratio is the median of the rounds' ratios. A connect is performed by the sandbox's init, which first decides about it; --unsupervised leaves that out.",
	}
	return section, nil
}
