// Command bench measures Sluice and its peers and prints tables: what a request on its
// way out costs, what TLS that is passed through, how soon a rule is seen, what thousands of
// rules cost, what a question to DNS costs, what a command pays inside a sandbox, and how
// big everything is.
//
//	go run ./bench [-only egress,through,visible,among,rules,questions,inside,size] [-o markdown|json]
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"sluice.dev/sluice/bench/egress"
	"sluice.dev/sluice/bench/report"
)

// options are the flags.
type options struct {
	only     string
	output   string
	bin      string
	conns    string
	changes  int
	counts   string
	rules    []int
	policies int
	samples  string
	starts   int
	inside   int
	asking   time.Duration
	egress   egress.Options
}

func main() {
	if len(os.Args) > 1 && !strings.HasPrefix(os.Args[1], "-") {
		if err := takeRole(os.Args[1], os.Args[2:]); err != nil {
			fmt.Fprintln(os.Stderr, "bench:", err)
			os.Exit(1)
		}
		return
	}
	var o options
	flag.StringVar(&o.only, "only", "", "sections to measure, by commas: "+strings.Join(sectionNames(), ", ")+" (default: all)")
	flag.StringVar(&o.output, "o", "markdown", "markdown or json")
	flag.StringVar(&o.bin, "bin", "bin", "folder of the binaries (make build)")
	flag.IntVar(&o.egress.Rounds, "rounds", 5, "egress: rounds")
	flag.DurationVar(&o.egress.Duration, "duration", 1500*time.Millisecond, "egress: length of one measurement")
	flag.StringVar(&o.conns, "conns", "16,64", "egress: numbers of connections")
	flag.StringVar(&o.egress.Profile, "profile", "", "egress: folder for a CPU profile of Sluice (which costs CPU itself)")
	flag.StringVar(&o.egress.Before, "before", "", "egress, through: the bench of another build, measured beside this one's (go build -o OLD ./bench)")
	flag.IntVar(&o.changes, "changes", 100, "visible: creates, and as many deletes")
	flag.StringVar(&o.counts, "rules", "10,1000,10000", "rules: how many there are, one row each")
	flag.IntVar(&o.policies, "policies", 1000, "among: EgressPolicies of 100 hosts that are there beside")
	flag.DurationVar(&o.asking, "asking", 10*time.Second, "questions: length of one measurement")
	flag.IntVar(&o.inside, "turns", 9, "inside: rounds")
	flag.IntVar(&o.starts, "starts", 20, "size: starts of each command")
	flag.StringVar(&o.samples, "samples", "samples", "size: folder of the samples, for the demo")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// takeRole is one of the processes that bench starts of itself.
func takeRole(role string, args []string) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	r, ok := roles[role]
	if !ok {
		return fmt.Errorf("%q is no argument: see -help", role)
	}
	if len(args) != r.args {
		return fmt.Errorf("%s takes %d arguments, not %d", role, r.args, len(args))
	}
	return r.run(self, args)
}

func run(ctx context.Context, o options) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	if o.egress.Conns, err = parseCounts("-conns", o.conns, maxConns); err != nil {
		return err
	}
	if o.rules, err = parseCounts("-rules", o.counts, maxRules); err != nil {
		return err
	}
	if o.policies < 1 || o.policies > maxRules {
		return fmt.Errorf("-policies %d must be 1 to %d", o.policies, maxRules)
	}
	if o.egress.Rounds < 1 || o.egress.Duration <= 0 {
		return fmt.Errorf("-rounds and -duration must be above zero")
	}
	if o.changes < 1 || o.starts < 1 || o.inside < 1 {
		return fmt.Errorf("-changes, -starts and -turns must be above zero")
	}
	if o.output != "markdown" && o.output != "json" {
		return fmt.Errorf("-o %q must be markdown or json", o.output)
	}
	for _, path := range []*string{&o.bin, &o.samples, &o.egress.Profile, &o.egress.Before} {
		if *path == "" {
			continue
		}
		if *path, err = filepath.Abs(*path); err != nil {
			return err
		}
	}
	chosen, err := chooseSections(o.only)
	if err != nil {
		return err
	}
	progress := report.NewProgress()
	results := []report.Section{machine()}
	var errs []error
	for _, s := range chosen {
		result, err := s.run(ctx, self, o, progress)
		progress.Clear()
		if err != nil { // what was measured till then is printed, and the others are measured
			errs = append(errs, fmt.Errorf("%s: %w", s.name, err))
			result.Skipped = err.Error()
		}
		results = append(results, result)
		if ctx.Err() != nil {
			break
		}
	}
	print := report.Markdown
	if o.output == "json" {
		print = report.JSON
	}
	return errors.Join(append(errs, print(os.Stdout, results))...)
}

func chooseSections(only string) ([]section, error) {
	if only == "" {
		return sections, nil
	}
	var chosen []section
	for word := range strings.SplitSeq(only, ",") {
		i := slices.IndexFunc(sections, func(s section) bool { return s.name == word })
		if i < 0 {
			return nil, fmt.Errorf("-only %q is none of %s", word, strings.Join(sectionNames(), ", "))
		}
		chosen = append(chosen, sections[i])
	}
	return chosen, nil
}

func parseCounts(flag, s string, most int) ([]int, error) {
	var all []int
	for word := range strings.SplitSeq(s, ",") {
		n, err := strconv.Atoi(word)
		if err != nil || n < 1 || n > most {
			return nil, fmt.Errorf("%s %q must be numbers of 1 to %d, by commas", flag, s, most)
		}
		all = append(all, n)
	}
	return all, nil
}
