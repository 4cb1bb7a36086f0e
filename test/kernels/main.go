// Command kernels boots kernels that Sluice's users have and this machine has not: those
// of Debian 12, for each processor, in an emulator. Inside it runs `sluice run`, the
// sandbox's own tests and the table of attacks, as root and as a user, and prints one
// table. It changes nothing of the machine.
//
//	go run ./test/kernels [-arch amd64,arm64] [-rows run,attack-root/unix-pair,sandbox-user/TestX] [-update] [-v]
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"sluice.dev/sluice/test/kernels/verdict"
)

type options struct {
	architectures string
	rows          string
	cache         string
	patience      time.Duration
	update        bool
	verbose       bool
}

func main() {
	var o options
	flag.StringVar(&o.architectures, "arch", "amd64,arm64", "processors, by commas")
	flag.StringVar(&o.rows, "rows", "", "only rows whose id begins so, or ROW/NAME for one attempt or test of a row, by commas; boot is always among them (default: all)")
	flag.StringVar(&o.cache, "cache", ".build/kernels", "folder in which packages and images are kept")
	flag.DurationVar(&o.patience, "patience", 30*time.Minute, "how long one kernel may take")
	flag.BoolVar(&o.update, "update", false, "ask apt for newer packages than those that are kept")
	flag.BoolVar(&o.verbose, "v", false, "show the console of each kernel, and the outcome of each row")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	code, err := run(ctx, o)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "kernels:", err)
	}
	os.Exit(code)
}

// run returns 1 where a row failed, or where one that must run under CI did not.
func run(ctx context.Context, o options) (int, error) {
	if flag.NArg() > 0 {
		return 2, fmt.Errorf("%q is not expected: what to run is said by flags", flag.Arg(0))
	}
	var chosen []target
	for name := range strings.SplitSeq(o.architectures, ",") {
		at := slices.IndexFunc(targets, func(t target) bool { return t.arch == name })
		if at < 0 {
			return 2, fmt.Errorf("-arch %q: it takes amd64 and arm64", name)
		}
		chosen = append(chosen, targets[at])
	}
	code := 0
	for _, t := range chosen {
		table := newTable(os.Stdout, t.arch, o.verbose)
		err := try(ctx, o, t, table)
		var missing *missingError
		switch {
		case errors.As(err, &missing) && os.Getenv("CI") != "true":
			table.row(verdict.Row{ID: "boot", Verdict: verdict.Skip, Sentence: "the kernel boots", Outcome: err.Error()})
		case err != nil:
			table.row(verdict.Row{ID: "boot", Verdict: verdict.Fail, Sentence: "the kernel boots and ends", Outcome: err.Error()})
		}
		if table.end() > 0 {
			code = 1
		}
		if ctx.Err() != nil {
			return 1, ctx.Err()
		}
	}
	return code, nil
}

// missingError says what this machine lacks to boot a kernel.
type missingError struct{ text string }

func (e *missingError) Error() string { return e.text }

// try boots one kernel and gives the table what it says.
func try(ctx context.Context, o options, t target, table *table) error {
	if err := t.check(); err != nil {
		return err
	}
	packages, err := fetch(ctx, t, o.cache, o.update)
	if err != nil {
		return err
	}
	built, err := build(ctx, t, o.cache)
	if err != nil {
		return err
	}
	table.kernel = packages.release
	image, err := makeImage(t, o.cache, packages, built)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, o.patience)
	defer cancel()
	return boot(ctx, t, machine{kernel: packages.kernel, image: image, rows: o.rows, verbose: o.verbose}, table.row)
}
