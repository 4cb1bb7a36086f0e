package egress

import (
	"context"
	"errors"
	"fmt"
	"time"

	"sluice.dev/sluice/bench/load"
	"sluice.dev/sluice/bench/process"
	"sluice.dev/sluice/bench/report"
	"sluice.dev/sluice/bench/stats"
)

// NameThrough and TitleThrough are the section's of TLS that is passed on as it is.
const (
	NameThrough  = "through"
	TitleThrough = "Egress: TLS 1.3 that is passed through by its server name"
)

// RunThrough measures it, as Run does.
func RunThrough(ctx context.Context, self string, o Options, progress report.Progress) (report.Section, error) {
	o.Through = true
	return Run(ctx, self, o, progress)
}

// pulls are what is asked of each contender. A measure is the proxy's CPU for a unit of work.
var pulls = []struct {
	name    string
	order   load.Pull
	measure string
	of      func(load.Pulled) float64 // units
}{
	{"bulk, 4 connections", load.Pull{Conns: 4, Size: 64 << 20}, cpuPerGB, gigabytes},
	{"answers of 2 MiB, 4 connections", load.Pull{Conns: 4, Size: 2 << 20}, cpuPerGB, gigabytes},
	{"answers of 300 KiB, 4 connections", load.Pull{Conns: 4, Size: 300 << 10}, cpuPerGB, gigabytes},
	{"a new connection, full handshake, c=16", load.Pull{Conns: 16, Size: 1, Each: true}, cpuPerConn, connections},
	{"a new connection, resumed handshake, c=16", load.Pull{Conns: 16, Size: 1, Each: true, Resume: true}, cpuPerConn, connections},
}

const (
	cpuPerGB   = "CPU ms per GB"
	cpuPerConn = "CPU µs per connection"
)

func gigabytes(p load.Pulled) float64   { return float64(p.Bytes) / 1e9 * 1e3 } // so that µs become ms
func connections(p load.Pulled) float64 { return float64(p.Asks) }

// runThrough measures all rounds: A B C, A B C.
func (m *measurement) runThrough(contenders []contender) error {
	m.samples = make(map[string][]float64)
	for round := range m.options.Rounds {
		for _, pull := range pulls {
			for i := range contenders {
				c := contenders[(i+round)%len(contenders)] // none is always the first
				m.say("through: round %d of %d: %s, %s", round+1, m.options.Rounds, pull.name, c.name)
				order := pull.order
				order.Address, order.Duration = c.through, m.options.Duration
				used, got, err := m.pull(c, order)
				if err != nil {
					return fmt.Errorf("%s, %s: %w", c.name, pull.name, err)
				}
				add := func(measure string, v float64) {
					k := keyThrough(c, pull.name, measure)
					m.samples[k] = append(m.samples[k], v)
				}
				add(pull.measure, microseconds(used)/pull.of(got))
				add(p50, microseconds(got.P50))
				add(p99, microseconds(got.P99))
			}
		}
	}
	return nil
}

func keyThrough(c contender, pull, measure string) string {
	return fmt.Sprintf("%s, %s, %s", c.name, pull, measure)
}

// pull makes one measurement; the proxy's cost is read while nothing is asked.
func (m *measurement) pull(c contender, order load.Pull) (used time.Duration, got load.Pulled, err error) {
	if err := m.load.Send(order); err != nil {
		return 0, got, err
	}
	var warm load.Ready
	if err := m.load.Receive(startTime, &warm); err != nil {
		return 0, got, err
	}
	if warm.Error != "" {
		return 0, got, errors.New(warm.Error)
	}
	before, err := process.CPUTime(c.pid)
	if err != nil {
		return 0, got, err
	}
	if err := m.load.Send("go"); err != nil {
		return 0, got, err
	}
	if err := m.load.Receive(m.options.Duration+startTime, &got); err != nil {
		return 0, got, err
	}
	after, err := process.CPUTime(c.pid)
	switch {
	case err != nil:
		return 0, got, err
	case got.Error != "":
		return 0, got, errors.New(got.Error)
	case got.Asks == 0:
		return 0, got, errors.New("nothing was answered")
	}
	return after - before, got, nil
}

// reportThrough makes the table. The first contender is ours.
func (m *measurement) reportThrough(s *report.Section, contenders []contender) {
	s.Samples = m.samples
	for _, pull := range pulls {
		table := report.Table{Columns: []string{pull.name, pull.measure, "Sluice / it", p50, p99}}
		for _, c := range contenders {
			of := func(c contender, measure string) []float64 { return m.samples[keyThrough(c, pull.name, measure)] }
			table.Add(c.name,
				report.Number(stats.Median(of(c, pull.measure)), 1),
				report.Number(stats.Ratio(of(contenders[0], pull.measure), of(c, pull.measure)), 2),
				report.Number(stats.Median(of(c, p50)), 0),
				report.Number(stats.Median(of(c, p99)), 0))
		}
		s.Tables = append(s.Tables, table)
	}
	s.Notes = append(s.Notes,
		"Both ends speak TLS 1.3 on one processor, the proxy has the other. The proof of the server's certificate was made once, before what is measured. A connection is opened, asked for one byte and closed; its time is that of all three.",
		fmt.Sprintf("Medians of %d rounds of %v, contenders in turn; ratios of each round, then their median.", m.options.Rounds, m.options.Duration))
}
