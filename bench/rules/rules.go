// Package rules measures what many rules cost the server that takes them in: how long it
// takes to create them one after the other, the processor time of each, and how long their
// statuses trail. It speaks to the server as a user does, by api.sock.
package rules

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"sluice.dev/sluice/bench/mesh"
	"sluice.dev/sluice/bench/process"
	"sluice.dev/sluice/bench/report"
	"sluice.dev/sluice/bench/size"
)

// Options say how much is measured.
type Options struct {
	Bin    string
	Counts []int // of rules there are when a row is measured; each begins where the one before ended
}

// Name and Title are the section's.
const (
	Name  = "rules"
	Title = "Creating EgressRules, one after the other, with one workload connected"
)

const (
	statusTime = 10 * time.Minute // for the statuses of all rules
	lookEvery  = 20 * time.Millisecond
)

// Run measures.
func Run(ctx context.Context, o Options, progress report.Progress) (report.Section, error) {
	section := report.Section{Name: Name, Title: Title, Samples: map[string][]float64{}}
	progress.Say("rules: starting server and proxy")
	m, err := mesh.Start(ctx, o.Bin)
	if errors.Is(err, mesh.ErrNotBuilt) {
		section.Skipped = err.Error()
		return section, nil
	}
	if err != nil {
		return section, err
	}
	defer m.Stop()
	client, err := m.Sandbox("client", "v1", size.Sleeper...)
	if err != nil {
		return section, err
	}
	defer client.Stop()
	if _, err := client.Line(statusTime); err != nil {
		return section, err
	}
	table := report.Table{Columns: []string{"rules in the end", "created", "s", "server CPU ms per rule, with its status", "proxy CPU ms per rule", "last status after s", "server PSS MB", "proxy PSS MB"}}
	there := 0
	for _, count := range slices.Sorted(slices.Values(o.Counts)) {
		row, err := measure(ctx, m, there, count, progress)
		if err != nil {
			return section, fmt.Errorf("%d rules: %w", count, err)
		}
		table.Add(fmt.Sprint(count), fmt.Sprint(count-there), report.Number(row.took.Seconds(), 1),
			report.Number(row.server, 2), report.Number(row.proxy, 2), report.Number(row.trail.Seconds(), 1),
			report.Number(float64(row.serverMemory)/1e6, 0), report.Number(float64(row.proxyMemory)/1e6, 0))
		name := fmt.Sprint(count, " rules, ")
		section.Samples[name+"s"] = []float64{row.took.Seconds()}
		section.Samples[name+"server CPU ms per rule"] = []float64{row.server}
		section.Samples[name+"proxy CPU ms per rule"] = []float64{row.proxy}
		section.Samples[name+"last status after s"] = []float64{row.trail.Seconds()}
		there = count
	}
	section.Tables = []report.Table{table}
	section.Notes = []string{
		"EgressRules of one host each by POST on api.sock, over one connection, each after the answer to the one before. CPU is what the scheduler counted for all threads, from the first create until every rule's status says Programmed. The last status is counted from the last answer.",
	}
	return section, nil
}

// row is what was measured of one step.
type row struct {
	took, trail               time.Duration
	server, proxy             float64 // ms of CPU for each rule
	serverMemory, proxyMemory int64
}

// measure creates the rules from there on until there are count.
func measure(ctx context.Context, m *mesh.Mesh, there, count int, progress report.Progress) (r row, err error) {
	serverBefore, err := process.CPUTime(m.Server.PID)
	if err != nil {
		return r, err
	}
	proxyBefore, err := process.CPUTime(m.Proxy.PID)
	if err != nil {
		return r, err
	}
	began := time.Now()
	for i := there; i < count; i++ {
		if i%100 == 0 {
			progress.Say("rules: %d of %d", i, count)
		}
		if err := m.CreateEgressRule(fmt.Sprintf("rule-%06d", i), fmt.Sprintf("host-%06d.example.com", i), 443, "https"); err != nil {
			return r, err
		}
	}
	r.took = time.Since(began)
	created := time.Now()
	progress.Say("rules: waiting for the statuses of %d", count)
	for {
		programmed, err := m.Programmed()
		if err != nil {
			return r, err
		}
		if programmed == count {
			break
		}
		if time.Since(created) > statusTime {
			return r, fmt.Errorf("after %s %d of %d statuses say Programmed", statusTime, programmed, count)
		}
		// To list thousands of rules costs the server itself: the more there are, the less
		// often that is asked.
		select {
		case <-ctx.Done():
			return r, context.Cause(ctx)
		case <-time.After(max(lookEvery, time.Duration(count)*200*time.Microsecond)):
		}
	}
	r.trail = time.Since(created)
	server, err := process.CPUTime(m.Server.PID)
	if err != nil {
		return r, err
	}
	proxy, err := process.CPUTime(m.Proxy.PID)
	if err != nil {
		return r, err
	}
	each := func(before, after time.Duration) float64 {
		return (after - before).Seconds() * 1000 / float64(count-there)
	}
	r.server, r.proxy = each(serverBefore, server), each(proxyBefore, proxy)
	for _, of := range []struct {
		pid  int
		into *int64
	}{{m.Server.PID, &r.serverMemory}, {m.Proxy.PID, &r.proxyMemory}} {
		memory, err := process.ReadMemory(of.pid)
		if err != nil {
			return r, err
		}
		*of.into = memory.PSS
	}
	return r, nil
}
