//go:build linux

package cli

import (
	"fmt"
	"slices"

	"sluice.dev/sluice/internal/sandbox"
)

// parseReady reads the values of --ready, each for another of these ports.
func parseReady(texts []string, ports []uint16) ([]sandbox.Check, error) {
	if len(texts) > sandbox.MaxChecks {
		return nil, fmt.Errorf("--ready is given %d times, at most %d are allowed", len(texts), sandbox.MaxChecks)
	}
	var all []sandbox.Check
	for _, text := range texts {
		check, err := sandbox.ParseCheck(text)
		switch {
		case err != nil:
			return nil, fmt.Errorf("--ready %q: %w", text, err)
		case !slices.Contains(ports, check.Port):
			return nil, fmt.Errorf("--ready %q: add --listen %d, the port on which the command serves", text, check.Port)
		case slices.ContainsFunc(all, func(other sandbox.Check) bool { return other.Port == check.Port }):
			return nil, fmt.Errorf("--ready %q: port %d already has a --ready", text, check.Port)
		}
		all = append(all, check)
	}
	return all, nil
}
