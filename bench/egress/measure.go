package egress

import (
	"errors"
	"fmt"
	"time"

	"sluice.dev/sluice/bench/load"
	"sluice.dev/sluice/bench/process"
	"sluice.dev/sluice/bench/report"
	"sluice.dev/sluice/bench/stats"
)

// measurement is the rounds of all contenders: A B C, A B C, so that what the
// machine does beside them falls on all alike.
type measurement struct {
	options Options
	load    *process.Process
	say     func(string, ...any)
	samples map[string][]float64 // by key
}

// ways are what is asked of each contender.
var ways = []struct {
	name    string
	address func(contender) string
}{
	{"HTTP to HTTP", func(c contender) string { return c.plain }},
	{"HTTP to TLS 1.3, verified (origination)", func(c contender) string { return c.tls }},
}

// key names a series: one contender, way, number of connections and measure.
func key(c contender, way string, conns int, measure string) string {
	return fmt.Sprintf("%s, %s, %s, %s", c.name, way, nameOf(conns), measure)
}

const (
	cpu  = "CPU µs per request"
	rate = "requests per s"
	p50  = "p50 µs"
	p99  = "p99 µs"
)

func (m *measurement) run(contenders []contender) error {
	m.samples = make(map[string][]float64)
	for round := range m.options.Rounds {
		for _, way := range ways {
			for _, conns := range m.options.Conns {
				for _, c := range contenders {
					m.say("egress: round %d of %d: %s, %s, %s", round+1, m.options.Rounds, way.name, nameOf(conns), c.name)
					if err := m.once(c, way.name, way.address(c), conns); err != nil {
						return fmt.Errorf("%s, %s, %s: %w", c.name, way.name, nameOf(conns), err)
					}
				}
			}
		}
	}
	return nil
}

// once makes one measurement. The proxy's cost is read while nothing is sent.
func (m *measurement) once(c contender, way, address string, conns int) error {
	if err := m.load.Send(load.Order{Address: address, Conns: conns, Requests: warmRequests, Duration: m.options.Duration}); err != nil {
		return err
	}
	var warm load.Ready
	if err := m.load.Receive(startTime, &warm); err != nil {
		return err
	}
	if warm.Error != "" {
		return errors.New(warm.Error)
	}
	before, err := process.CPUTime(c.pid)
	if err != nil {
		return err
	}
	if err := m.load.Send("go"); err != nil {
		return err
	}
	var result load.Result
	if err := m.load.Receive(m.options.Duration+startTime, &result); err != nil {
		return err
	}
	after, err := process.CPUTime(c.pid)
	switch {
	case err != nil:
		return err
	case result.Error != "":
		return errors.New(result.Error)
	case result.Requests == 0:
		return errors.New("no request was answered")
	}
	add := func(measure string, v float64) {
		k := key(c, way, conns, measure)
		m.samples[k] = append(m.samples[k], v)
	}
	add(cpu, microseconds(after-before)/float64(result.Requests))
	add(rate, float64(result.Requests)/result.Took.Seconds())
	add(p50, microseconds(result.P50))
	add(p99, microseconds(result.P99))
	return nil
}

func microseconds(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }

// report makes a table of each way. The first contender is ours.
func (m *measurement) report(s *report.Section, contenders []contender) {
	s.Samples = m.samples
	ours := contenders[0]
	for _, way := range ways {
		columns := []string{way.name}
		for _, conns := range m.options.Conns {
			columns = append(columns, nameOf(conns)+": "+cpu, "Sluice / it", rate, p50, p99)
		}
		table := report.Table{Columns: columns}
		for _, c := range contenders {
			row := []string{c.name}
			for _, conns := range m.options.Conns {
				of := func(c contender, measure string) []float64 { return m.samples[key(c, way.name, conns, measure)] }
				row = append(row,
					report.Number(stats.Median(of(c, cpu)), 2),
					report.Number(stats.Ratio(of(ours, cpu), of(c, cpu)), 2),
					report.Number(stats.Median(of(c, rate)), 0),
					report.Number(stats.Median(of(c, p50)), 0),
					report.Number(stats.Median(of(c, p99)), 0))
			}
			table.Add(row...)
		}
		s.Tables = append(s.Tables, table)
	}
	s.Notes = append(s.Notes,
		"Sluice is internal/proxy's own way out, fed by a listener on the synthetic address of the name: ConnGate, sniffing, RequestGate over 1,000 rules of which one decides, pooled upstream, a flow record of each request. What the kernel does to capture a connection in a sandbox is not in it.",
		fmt.Sprintf("Medians of %d rounds of %v, contenders in turn; ratios of each round, then their median. CPU is what the scheduler counted for the proxy's threads, user and kernel. Proxy on one processor, load and upstream on another: they limit the rate, so compare CPU. Status, length and every byte of each answer were checked.", m.options.Rounds, m.options.Duration))
}
