package run

import (
	"context"
	"fmt"

	"sluice.dev/sluice/internal/attach"
	"sluice.dev/sluice/internal/capture"
	"sluice.dev/sluice/internal/record"
)

// runAttached hands the sandbox to the resident proxy.
func runAttached(ctx context.Context, c Config, w *watch) (int, error) {
	client, err := attach.Dial(ctx, c.Attach)
	if err != nil {
		return ExitFailed, fmt.Errorf("reach the proxy of this machine: %w; start sluice-server and sluice-proxy first, or leave --service and --server out to run alone", err)
	}
	defer client.Close()
	box, err := open(ctx, c, w)
	if err != nil {
		return ExitFailed, err
	}
	defer box.Kill()
	hello := attach.Hello{Workload: c.Workload, Each: w.each()}
	hello.PID = box.PID()
	hello.Unready = unready(box)
	hello.Level = box.Enforcement().Level
	files := box.Files()
	welcome, err := client.Attach(ctx, hello, files, func(r *record.Record) { w.tell(r) })
	capture.CloseFiles(files) // the proxy holds its own: a copy here would outlive it
	if err != nil {
		return ExitFailed, fmt.Errorf("attach to the proxy of this machine: %w", err)
	}
	c.Log.Info("attached", "instance", welcome.Instance)
	go followPorts(box, client.Report)
	sayLevel(c, box)
	w.start(c, welcome.Instance, box.Enforcement()) // no record comes before the command is there
	o := outcome{advise: whyAdvice}
	o.exit, o.failed = startAndWait(ctx, c.signals, box, welcome.Search, client.Done(), nil, w)
	o.reached = box.Reached()
	o.summary, o.dropped, o.unknown = client.Finish()
	return w.finish(c, o)
}

// whyAdvice says how to ask the server about a record.
func whyAdvice(r *record.Record) string { return "see sluice why " + r.ID.String() }
