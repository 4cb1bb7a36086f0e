package run

import (
	"context"
	"fmt"

	"sluice.dev/sluice/internal/attach"
	"sluice.dev/sluice/internal/capture"
)

// runAttached hands the sandbox to the resident proxy.
func runAttached(ctx context.Context, c Config) (int, error) {
	client, err := attach.Dial(ctx, c.Attach)
	if err != nil {
		return ExitFailed, fmt.Errorf("reach the proxy of this machine: %w; start sluice-server and sluice-proxy first, or leave --service and --server out to run alone", err)
	}
	defer client.Close()
	box, err := open(ctx, c)
	if err != nil {
		return ExitFailed, err
	}
	defer box.Kill()
	hello := c.Workload
	hello.PID = box.PID()
	hello.Level = box.Enforcement().Level
	files := box.Files()
	welcome, err := client.Attach(ctx, hello, files)
	capture.CloseFiles(files) // the proxy holds its own: a copy here would outlive it
	if err != nil {
		return ExitFailed, fmt.Errorf("attach to the proxy of this machine: %w", err)
	}
	c.Log.Info("attached", "instance", welcome.Instance)
	tellLevel(c, box)
	return startAndWait(ctx, box, welcome.Search, client.Done(), c.Stderr)
}
