package main

import (
	"bytes"
	"fmt"
	"go/constant"
	"slices"
	"syscall"

	"sluice.dev/sluice/internal/run"
	"sluice.dev/sluice/internal/sandbox"
)

func writeExits(b *bytes.Buffer, s sources) error {
	b.WriteString("# Exit statuses\n\n## sluice\n\n")
	table(b, []string{"status", ""}, [][]string{
		{"0", "it was done"},
		{"1", "it was not; standard error says why and what to do. `create`, `replace`, `apply` and `delete` of several objects: at least one failed"},
	})
	why, err := exitStatuses(s, "internal/cli", "Exit statuses of sluice why.")
	if err != nil {
		return err
	}
	b.WriteString("\n## sluice why\n\n")
	table(b, []string{"status", ""}, slices.Concat([][]string{{"0", "it is allowed, or passes because outboundDefault is Audit"}}, why,
		[][]string{{"1", "the question cannot be answered; standard error says why"}}))
	missing := &sandbox.CommandError{Err: syscall.ENOENT}
	forbidden := &sandbox.CommandError{Err: syscall.EACCES}
	b.WriteString("\n## sluice run\n\nThe command's own, and:\n\n")
	table(b, []string{"status", ""}, [][]string{
		{fmt.Sprint(run.ExitDenied), "with `--fail-on-denied`: the command ended with 0, and something was denied"},
		{fmt.Sprint(run.ExitFailed), "there is no sandbox or no proxy, or a flag or a rule is wrong, and the command did not run; or the command ended with 0 and its report could not be written"},
		{fmt.Sprint(forbidden.ExitCode()), "the command is there and cannot be executed"},
		{fmt.Sprint(missing.ExitCode()), "there is no such command"},
		{"128 + N", "the command ended by signal N"},
	})
	server, err := exitStatuses(s, "cmd/sluice-server", "Exit statuses.")
	if err != nil {
		return err
	}
	b.WriteString("\n## sluice-server\n\n")
	table(b, []string{"status", ""}, append([][]string{{"0", "it was stopped by SIGINT or SIGTERM"}}, server...))
	b.WriteString("\n## sluice-proxy\n\n")
	table(b, []string{"status", ""}, [][]string{
		{"0", "it was stopped by SIGINT or SIGTERM"},
		{"1", "it did not start, or a part of it ended; standard error says why"},
	})
	return nil
}

// exitStatuses are the constants of a group in a package, with what each means.
func exitStatuses(s sources, folder, group string) ([][]string, error) {
	source, err := newReader(s.root).load(folder)
	if err != nil {
		return nil, err
	}
	var rows [][]string
	for _, c := range source.constants() {
		if c.group == group && c.object.Val().Kind() == constant.Int {
			rows = append(rows, []string{c.object.Val().String(), cell(c.comment)})
		}
	}
	if len(rows) == 0 {
		return nil, fmt.Errorf("%s names no exit statuses: mend the reference", folder)
	}
	return rows, nil
}
