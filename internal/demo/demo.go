package demo

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"
)

// Bounds of the demo's patience.
const (
	readyTime = time.Minute     // for everything to be there; a cold machine takes 1 to 3 s
	endTime   = 2 * time.Second // for everything to end by itself; then it is killed
)

// Config is one demo.
type Config struct {
	Runtime  string // the runtime folder, which exists
	Binaries string // folder of sluice, sluice-server, sluice-proxy, bookinfo, simnet
	Samples  string // folder of the samples, as the user would type it
	Real     bool   // the machine's resolver and internet in place of the small one
	Print    bool   // print the commands, start nothing
	Ingress  string // host:port to try first; "127.0.0.1:8080"
	Out, Err io.Writer
	// Probe says why this machine gives no sandbox.
	Probe func(context.Context) error
}

// Run runs the demo until ctx ends or one of its processes does.
func Run(ctx context.Context, c Config) error {
	err := run(ctx, c)
	if ctx.Err() != nil {
		return nil // ^C ends it as meant, at its start too
	}
	return err
}

func run(ctx context.Context, c Config) error {
	p := placesOf(c)
	if c.Print {
		for _, each := range allProcesses(p, c, portsOf(c.Ingress)) {
			fmt.Fprintln(c.Out, each.command())
		}
		return nil
	}
	if err := refuseBeside(c.Runtime); err != nil {
		return err
	}
	if err := c.Probe(ctx); err != nil {
		return err
	}
	if err := p.haveBinaries(); err != nil {
		return err
	}
	unlock, err := p.make()
	if err != nil {
		return err
	}
	defer unlock()
	defer p.remove()
	removeDeadSockets(c.Runtime)
	defer removeDeadSockets(c.Runtime)
	at, err := portsOf(c.Ingress).free()
	if err != nil {
		return err
	}
	if err := os.Mkdir(p.logs(), 0o700); err != nil {
		return fmt.Errorf("make the folder of the logs: %w", err)
	}
	began := time.Now()
	g := newGroup(p.logs())
	defer g.end()
	if err := startAll(ctx, g, p, c, at); err != nil {
		return err
	}
	url := "http://" + at.ingress + "/productpage"
	levels, err := waitForMesh(ctx, g, c.Runtime, p)
	if err != nil {
		return err
	}
	if err := writeState(p, c.Real); err != nil {
		return err
	}
	tell(c, p, url, at, levels, time.Since(began))
	select {
	case <-ctx.Done():
		fmt.Fprintln(c.Err, "\nending the demo")
		return nil
	case name := <-g.ended:
		return fmt.Errorf("%s ended; the demo ends with it. What it said: %s", name, g.said(name))
	}
}

// allProcesses is every command of the demo, in the order of their start.
func allProcesses(p places, c Config, at ports) []process {
	var all []process
	if !c.Real {
		all = append(all, internet(p))
	}
	all = append(all, server(p, at), wayIn(p, c.Samples), dataPlane(p, c.Real, at))
	return append(all, bookinfo(p)...)
}

// startAll starts each process once what it needs is there.
func startAll(ctx context.Context, g *group, p places, c Config, at ports) error {
	ctx, cancel := context.WithTimeout(ctx, readyTime)
	defer cancel()
	if !c.Real {
		if err := g.start(internet(p)); err != nil {
			return err
		}
	}
	if err := g.start(server(p, at)); err != nil {
		return err
	}
	if !c.Real {
		if err := g.waitFor(ctx, "internet", p.internetSockets(), p.internetCA()); err != nil {
			return err
		}
	}
	if err := g.waitFor(ctx, "sluice-server", filepath.Join(c.Runtime, "push.sock")); err != nil {
		return err
	}
	if err := g.run(ctx, wayIn(p, c.Samples)); err != nil {
		return err
	}
	if err := g.start(dataPlane(p, c.Real, at)); err != nil {
		return err
	}
	if err := g.waitFor(ctx, "sluice-proxy", filepath.Join(c.Runtime, "attach.sock")); err != nil {
		return err
	}
	for _, s := range bookinfo(p) {
		if err := g.start(s); err != nil {
			return err
		}
	}
	return nil
}
