package main

import (
	"context"
	"os"

	"sluice.dev/sluice/bench/egress"
	"sluice.dev/sluice/bench/inside"
	"sluice.dev/sluice/bench/load"
	"sluice.dev/sluice/bench/questions"
	"sluice.dev/sluice/bench/report"
	"sluice.dev/sluice/bench/rules"
	"sluice.dev/sluice/bench/size"
	"sluice.dev/sluice/bench/visible"
)

// Bounds of what the flags ask for.
const (
	maxConns = load.MaxConns
	maxRules = 100_000
)

// section is one subject.
type section struct {
	name string
	run  func(ctx context.Context, self string, o options, p report.Progress) (report.Section, error)
}

// sections in the order in which they are measured.
var sections = []section{
	{egress.Name, func(ctx context.Context, self string, o options, p report.Progress) (report.Section, error) {
		return egress.Run(ctx, self, o.egress, p)
	}},
	{egress.NameThrough, func(ctx context.Context, self string, o options, p report.Progress) (report.Section, error) {
		return egress.RunThrough(ctx, self, o.egress, p)
	}},
	{visible.Name, func(ctx context.Context, self string, o options, p report.Progress) (report.Section, error) {
		return visible.Run(ctx, self, visible.Options{Bin: o.bin, Changes: o.changes}, p)
	}},
	{visible.NameAmong, func(ctx context.Context, self string, o options, p report.Progress) (report.Section, error) {
		return visible.Run(ctx, self, visible.Options{Bin: o.bin, Changes: o.changes, Policies: o.policies, Hosts: 100}, p)
	}},
	{rules.Name, func(ctx context.Context, _ string, o options, p report.Progress) (report.Section, error) {
		return rules.Run(ctx, rules.Options{Bin: o.bin, Counts: o.rules}, p)
	}},
	{questions.Name, func(ctx context.Context, self string, o options, p report.Progress) (report.Section, error) {
		return questions.Run(ctx, self, questions.Options{Bin: o.bin, Duration: o.asking}, p)
	}},
	{inside.Name, func(ctx context.Context, self string, o options, p report.Progress) (report.Section, error) {
		return inside.Run(ctx, self, inside.Options{Bin: o.bin, Rounds: o.inside}, p)
	}},
	{size.Name, func(ctx context.Context, _ string, o options, p report.Progress) (report.Section, error) {
		return size.Run(ctx, size.Options{Bin: o.bin, Samples: o.samples, Starts: o.starts}, p)
	}},
}

func sectionNames() []string {
	var all []string
	for _, s := range sections {
		all = append(all, s.name)
	}
	return all
}

// role is what a sub-process of bench is; it speaks by standard input and output.
type role struct {
	args int
	run  func(self string, args []string) error
}

var roles = map[string]role{
	egress.RoleInside:   {0, func(self string, _ []string) error { return egress.Inside(self, os.Stdin, os.Stdout) }},
	egress.RoleUpstream: {1, func(_ string, args []string) error { return egress.Upstream(args[0], os.Stdin, os.Stdout) }},
	egress.RolePull:     {1, func(_ string, args []string) error { return egress.Pull(args[0], os.Stdin, os.Stdout) }},
	egress.RoleSluice: {3, func(_ string, args []string) error {
		return egress.Sluice(args[0], args[1], args[2], os.Stdin, os.Stdout)
	}},
	egress.RoleLoad:   {0, func(string, []string) error { return load.Obey(os.Stdin, os.Stdout) }},
	inside.RoleWork:   {0, func(self string, _ []string) error { return inside.Work(self, os.Stdin, os.Stdout) }},
	inside.RoleAnswer: {0, func(string, []string) error { return inside.Answer() }},
	questions.RoleAsk: {2, func(_ string, args []string) error { return questions.Ask(args[0], args[1], os.Stdout) }},
	visible.RolePoll:  {2, func(_ string, args []string) error { return visible.Poll(args[0], args[1], os.Stdout) }},
}
