package demo

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"sluice.dev/sluice/internal/control/inspect"
	"sluice.dev/sluice/internal/rest"
)

// waitForPage waits until the page shows details, reviews and stars.
func waitForPage(ctx context.Context, g *group, url string) error {
	ctx, cancel := context.WithTimeout(ctx, readyTime)
	defer cancel()
	client := &http.Client{Timeout: 2 * time.Second}
	last := "nothing answered yet"
	for {
		if body, err := page(ctx, client, url); err != nil {
			last = err.Error()
		} else if strings.Contains(body, "Book Details") && strings.Contains(body, "Book Reviews") {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("the page at %s did not come: %s", url, last)
		case name := <-g.ended:
			return fmt.Errorf("%s ended at its start: %s", name, g.said(name))
		case <-time.After(10 * time.Millisecond):
		}
	}
}

func page(ctx context.Context, client *http.Client, url string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", err
	}
	resp, err := client.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("status %d: %s", resp.StatusCode, strings.TrimSpace(string(body[:min(len(body), 200)])))
	}
	return string(body), err
}

// waitForWorkloads waits until every service runs a snapshot, and returns the level
// of enforcement that holds for each, by its name.
func waitForWorkloads(ctx context.Context, g *group, runtime string, p places) (map[string]string, error) {
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
		levels := make(map[string]string)
		for _, w := range status.Workloads {
			if name, instance, _ := strings.Cut(w.Instance, "/"); instance == "1" && w.AckedVersion != "" {
				levels[name] = w.Level
			}
		}
		missing := ""
		for _, s := range bookinfo(p) {
			if levels[s.name] == "" {
				missing = s.name
			}
		}
		if err == nil && missing == "" {
			return levels, nil
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("%s did not join the mesh: %w", missing, context.Cause(ctx))
		case name := <-g.ended:
			return nil, fmt.Errorf("%s ended at its start: %s", name, g.said(name))
		case <-time.After(10 * time.Millisecond):
		}
	}
}
