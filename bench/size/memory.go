package size

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"sluice.dev/sluice/bench/mesh"
	"sluice.dev/sluice/bench/process"
)

const (
	settle    = 2 * time.Second  // from ready to the reading
	demoTime  = 60 * time.Second // for the demo to say its last word
	lastWords = "Ctrl-C ends"    // how the demo's last line begins
)

// idleMemory reads server and proxy without a workload, and what one command in
// a sandbox takes, alone and attached.
func idleMemory(ctx context.Context, bin string) ([]usage, error) {
	m, err := mesh.Start(ctx, bin)
	if err != nil {
		return nil, err
	}
	defer m.Stop()
	attached, err := m.Sandbox("idle", "v1", Sleeper...)
	if err != nil {
		return nil, err
	}
	defer attached.Stop()
	alone, err := process.Start(ctx, process.Config{
		Name: "sluice run", CPU: process.AnyCPU,
		Argv: append([]string{filepath.Join(bin, "sluice"), "run", "--allow", "www.example.com", "--"}, Sleeper...),
	})
	if err != nil {
		return nil, err
	}
	defer alone.Stop()
	for _, p := range []*process.Process{attached, alone} {
		if _, err := p.Line(demoTime); err != nil {
			return nil, err
		}
	}
	if err := rest(ctx); err != nil {
		return nil, err
	}
	var all []usage
	for _, of := range []struct {
		name string
		pids []int
	}{
		{"idle: sluice-server", []int{m.Server.PID}},
		{"idle: sluice-proxy, one workload", []int{m.Proxy.PID}},
		{"idle: sluice run --service, without its command", Added(attached.PID)},
		{"idle: sluice run --allow, without its command", Added(alone.PID)},
	} {
		u, err := read(of.name, of.pids...)
		if err != nil {
			return nil, err
		}
		all = append(all, u)
	}
	return all, nil
}

// Sleeper is a command that says when it runs, and then waits for its input's end.
var Sleeper = []string{"sh", "-c", "echo runs; read x"}

// Added is the processes that `sluice run` adds to a command: itself and its
// inits, which all are sluice.
func Added(pid int) []int {
	all := []int{pid}
	for _, child := range process.Children(pid) {
		if program(child) == program(pid) {
			all = append(all, child)
		}
	}
	return all
}

// program is the file that a process runs; "" where that cannot be seen.
func program(pid int) string {
	path, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid))
	if err != nil {
		return ""
	}
	return path
}

// demoMemory reads every process of a running demo, by program.
func demoMemory(ctx context.Context, o Options) ([]usage, error) {
	dir, err := os.MkdirTemp("", "slb")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	runtime := filepath.Join(dir, "run")
	if err := os.Mkdir(runtime, 0o700); err != nil {
		return nil, err
	}
	demo, err := process.Start(ctx, process.Config{
		Name: "sluice demo", CPU: process.AnyCPU, Dir: dir,
		Argv: []string{filepath.Join(o.Bin, "sluice"), "demo", "--ingress", "127.0.0.1:0", "--samples", o.Samples},
		Env:  []string{"SLUICE_RUNTIME=" + runtime, "SLUICE_DATA=" + filepath.Join(dir, "data")},
	})
	if err != nil {
		return nil, err
	}
	defer demo.Stop()
	deadline := time.Now().Add(demoTime)
	for {
		line, err := demo.Line(time.Until(deadline))
		if err != nil {
			return nil, err
		}
		if strings.HasPrefix(string(line), lastWords) {
			break
		}
	}
	if err := rest(ctx); err != nil {
		return nil, err
	}
	return readTree(demo.PID)
}

// rest lets processes settle.
func rest(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(settle):
		return nil
	}
}

// readTree reads a process and all below it, added up by program.
func readTree(root int) ([]usage, error) {
	pids := make(map[string][]int)
	everything := append([]int{root}, process.Children(root)...)
	for _, pid := range everything {
		if name := filepath.Base(program(pid)); name != "." {
			pids[name] = append(pids[name], pid)
		}
	}
	var all []usage
	for name, of := range pids {
		u, err := read(fmt.Sprintf("demo: %s, %d of it", name, len(of)), of...)
		if errors.Is(err, os.ErrNotExist) {
			continue // it has ended
		}
		if err != nil {
			return nil, err
		}
		all = append(all, u)
	}
	slices.SortFunc(all, func(a, b usage) int { return strings.Compare(a.name, b.name) })
	total := usage{name: fmt.Sprintf("demo: all %d processes", len(everything))}
	for _, u := range all {
		total.PSS += u.PSS
		total.Anonymous += u.Anonymous
	}
	return append(all, total), nil
}
