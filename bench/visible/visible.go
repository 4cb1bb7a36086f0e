// Package visible measures how soon a client in a sandbox gets the verdict of a
// rule that was created or deleted: from the server's answer to the first request
// that is decided anew. It never trusts an acknowledgement.
package visible

import (
	"context"
	"errors"
	"fmt"
	"time"

	"sluice.dev/sluice/bench/mesh"
	"sluice.dev/sluice/bench/process"
	"sluice.dev/sluice/bench/report"
	"sluice.dev/sluice/bench/stats"
)

// Options say how much is measured.
type Options struct {
	Bin     string
	Changes int // creates, and as many deletes
	// Policies and Hosts are what is there beside: so many EgressPolicies of so many hosts.
	Policies, Hosts int
}

// Name and Title are the section's; RolePoll is the client's role.
const (
	Name     = "visible"
	Title    = "Visible: from `create` returning to the first request that gets the new verdict"
	RolePoll = "visible-poll"
)

// NameAmong is that of the section with many other hosts.
const NameAmong = "among"

const (
	host       = "www.googleapis.com"
	port       = 80
	changeTime = 20 * time.Second // for one change to be seen
)

// series is what was measured of one kind of change, in milliseconds.
type series struct {
	call []float64 // how long the call to the API took
	seen []float64 // from its return to the answer with the new verdict; at least 0
	soon int       // of these the verdict was seen before the call returned
}

// Run measures.
func Run(ctx context.Context, self string, o Options, progress report.Progress) (report.Section, error) {
	section := report.Section{Name: Name, Title: Title}
	if o.Policies > 0 {
		section.Name, section.Title = NameAmong, fmt.Sprintf("Visible among %d hosts: one change of an EgressPolicy beside %d of %d hosts", o.Policies*o.Hosts, o.Policies, o.Hosts)
	}
	progress.Say("visible: starting server, proxy and small internet")
	m, err := mesh.Start(ctx, o.Bin)
	if errors.Is(err, mesh.ErrNotBuilt) {
		section.Skipped = err.Error()
		return section, nil
	}
	if err != nil {
		return section, err
	}
	defer m.Stop()
	client, err := m.Sandbox("client", "v1", self, RolePoll, host, fmt.Sprint(port))
	if err != nil {
		return section, err
	}
	defer client.Stop()
	if _, err := await(client, denied); err != nil {
		return section, fmt.Errorf("the client's first request: %w", err)
	}
	if err := fill(m, o, progress); err != nil {
		return section, err
	}
	var created, deleted series
	for i := range o.Changes {
		progress.Say("visible: %d of %d", i+1, o.Changes)
		name := fmt.Sprintf("bench-%d", i)
		create, remove := func() error { return m.CreateEgressRule(name, host, port, "http") }, func() error { return m.DeleteEgressRule(name) }
		if o.Policies > 0 {
			create = func() error { return m.CreateEgressPolicy(name, []string{host}, port, "http") }
			remove = func() error { return m.DeleteEgressPolicy(name) }
		}
		if err := created.measure(client, allowed, create); err != nil {
			return section, fmt.Errorf("create %d: %w", i, err)
		}
		if err := deleted.measure(client, denied, remove); err != nil {
			return section, fmt.Errorf("delete %d: %w", i, err)
		}
	}
	table := report.Table{Columns: []string{"", "changes", "seen after p50 ms", "p99 ms", "max ms", "seen before the call returned", "call itself p50 ms", "p99 ms"}}
	for _, row := range []struct {
		name string
		series
	}{{"create", created}, {"delete", deleted}} {
		table.Add(row.name, fmt.Sprint(len(row.seen)),
			report.Number(stats.Percentile(row.seen, 50), 1), report.Number(stats.Percentile(row.seen, 99), 1), report.Number(stats.Percentile(row.seen, 100), 1),
			fmt.Sprint(row.soon), report.Number(stats.Percentile(row.call, 50), 1), report.Number(stats.Percentile(row.call, 99), 1))
	}
	section.Tables = []report.Table{table}
	section.Samples = map[string][]float64{
		"create, seen after ms": created.seen, "create, call ms": created.call,
		"delete, seen after ms": deleted.seen, "delete, call ms": deleted.call,
	}
	section.Notes = []string{
		"An EgressRule by POST and DELETE on api.sock, one after the other; sluice-server, sluice-proxy, the small internet and a client inside `sluice run --service` that asks http://" + host + "/ every millisecond. Counted until that client's answer was there, so it holds up to 1 ms of waiting and the request itself (after a create with its DNS and dial). 0 where the verdict was seen before the call returned.",
	}
	if o.Policies > 0 {
		section.Notes[0] = "As above, by an EgressPolicy of one host."
		memory, err := process.ReadMemory(m.Proxy.PID)
		if err != nil {
			return section, err
		}
		table := report.Table{Columns: []string{"sluice-proxy with these rules", "PSS MB", "of it anonymous"}}
		table.Add("after the changes", report.Number(float64(memory.PSS)/1e6, 1), report.Number(float64(memory.Anonymous)/1e6, 1))
		section.Tables = append(section.Tables, table)
		section.Samples["sluice-proxy, PSS MB"] = []float64{float64(memory.PSS) / 1e6}
	}
	return section, nil
}

// fill creates what is there beside.
func fill(m *mesh.Mesh, o Options, progress report.Progress) error {
	for i := range o.Policies {
		if i%20 == 0 {
			progress.Say("among: policy %d of %d", i, o.Policies)
		}
		hosts := make([]string, o.Hosts)
		for k := range hosts {
			hosts[k] = fmt.Sprintf("host-%03d.group-%04d.example.com", k, i)
		}
		if err := m.CreateEgressPolicy(fmt.Sprintf("group-%04d", i), hosts, 443, "https"); err != nil {
			return fmt.Errorf("policy %d: %w", i, err)
		}
	}
	return nil
}

// measure makes one change and waits until the client sees it.
func (s *series) measure(client *process.Process, verdict string, change func() error) error {
	began := monotonic()
	if err := change(); err != nil {
		return err
	}
	returned := monotonic()
	seen, err := await(client, verdict)
	if err != nil {
		return err
	}
	s.call = append(s.call, milliseconds(returned-began))
	s.seen = append(s.seen, max(0, milliseconds(seen.At-returned)))
	if seen.At < returned {
		s.soon++
	}
	return nil
}

// await returns the client's next change to a verdict. An error of the far side
// in between, such as a dial that failed, is none.
func await(client *process.Process, verdict string) (Change, error) {
	deadline := time.Now().Add(changeTime)
	last := "nothing"
	for {
		var c Change
		if err := client.Receive(time.Until(deadline), &c); err != nil {
			return c, fmt.Errorf("the client did not see %q, but %s: %w", verdict, last, err)
		}
		if c.Verdict == verdict {
			return c, nil
		}
		last = c.Verdict
	}
}

func milliseconds(ns int64) float64 { return float64(ns) / 1e6 }
