package demo

import (
	"context"
	"fmt"
	"strings"
	"time"

	"sluice.dev/sluice/internal/control/inspect"
	"sluice.dev/sluice/internal/rest"
)

// ingressApp is the label app of an ingress.
const ingressApp = "istio-ingress"

// waitForMesh waits until every service takes calls, the ingress is there, and each of
// them knows all the others. It returns the level of enforcement that holds for each
// service, by its name. It looks, and calls nobody: the first flow is the user's.
func waitForMesh(ctx context.Context, g *group, runtime string, p places) (map[string]string, error) {
	ctx, cancel := context.WithTimeout(ctx, readyTime)
	defer cancel()
	client, err := rest.New(rest.Config{Server: runtime})
	if err != nil {
		return nil, err
	}
	defer client.Close()
	for {
		var status inspect.Status
		err := client.Sluice(ctx, inspect.StatusPath, nil, &status)
		levels, missing := levelsOf(&status, p)
		if err == nil && missing == "" {
			return levels, nil
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("the mesh did not become ready: %s: %w", missing, context.Cause(ctx))
		case name := <-g.ended:
			return nil, fmt.Errorf("%s ended at its start: %s", name, g.said(name))
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// levelsOf is the level of each service by its name, and what is missing until all can
// call one another.
func levelsOf(status *inspect.Status, p places) (levels map[string]string, missing string) {
	levels = make(map[string]string)
	waited := map[string]bool{ingressApp: true}
	for _, s := range bookinfo(p) {
		waited[s.name] = true
	}
	for i := range status.Workloads {
		w := &status.Workloads[i]
		name, instance, _ := strings.Cut(w.Instance, "/")
		if w.Labels["app"] == ingressApp {
			name = ingressApp
		} else if instance != "1" {
			continue
		}
		switch {
		case !waited[name]:
		case !w.Connected || w.AckedVersion == "":
			missing = name + " has no rules yet"
		case len(w.Unready) > 0:
			missing = name + " does not serve yet"
		case w.Census < status.Census:
			missing = name + " does not know all the others yet"
		default:
			levels[name] = w.Level
		}
	}
	for name := range waited {
		if levels[name] == "" && missing == "" {
			missing = name + " has not joined"
		}
	}
	return levels, missing
}
