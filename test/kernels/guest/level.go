package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// lacking are the starts of the sentences of a level that come on Linux 6.1 alone. Another
// one, and one that does not come, is a change of what users of that kernel get: it belongs
// here and into the guide's table.
var lacking = []string{
	"the command can signal what is outside in its own process group: the kernel has no Landlock scopes (Linux 6.12)",
}

func levelIsKnown(w who) func(context.Context, *lab) (string, error) {
	return func(ctx context.Context, _ *lab) (string, error) {
		report := filepath.Join(w.home, "report.jsonl")
		defer os.Remove(report)
		if outcome, err := expect(w.sluice(ctx, "run", "--report", report, "--", "true"))(0); err != nil {
			return outcome, err
		}
		lowered, err := readLowered(report)
		if err != nil {
			return "", err
		}
		outcome := strings.Join(lowered, "\n")
		for _, sentence := range lowered {
			if !slices.Contains(lacking, sentence) {
				return outcome, fmt.Errorf("not known of this kernel: %s", sentence)
			}
		}
		for _, sentence := range lacking {
			if !slices.Contains(lowered, sentence) {
				return outcome, fmt.Errorf("not said, though known of this kernel: %s", sentence)
			}
		}
		return outcome, nil
	}
}

// readLowered reads the first line of a report.
func readLowered(name string) ([]string, error) {
	file, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	line, err := bufio.NewReader(file).ReadString('\n')
	if err != nil {
		return nil, fmt.Errorf("the report has no first line: %w", err)
	}
	var start struct{ Lowered []string }
	return start.Lowered, json.Unmarshal([]byte(line), &start)
}
