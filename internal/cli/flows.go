package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/term"

	"sluice.dev/sluice/api"
	"sluice.dev/sluice/internal/control/inspect"
	"sluice.dev/sluice/internal/names"
	"sluice.dev/sluice/internal/record"
	"sluice.dev/sluice/internal/rest"
)

// flowOptions are the flags of `sluice flows`.
type flowOptions struct {
	output, workload string
	follow, open     bool
	everywhere       bool
	denied, failed   bool
	to, rule, port   string
	since            timespan
	summed           bool
	last             int
	namespace        string // "" for every one
}

func newFlowsCommand() *cobra.Command {
	var o flowOptions
	cmd := &cobra.Command{
		Use:   "flows",
		Short: "Show who went where, the verdict, bytes and duration",
		Long: `Shows the last flows of every workload, oldest first: each is one connection, or one HTTP
request. Each proxy keeps the last 4,096. A flow's id opens with sluice why ID.

--from, --to, --denied, --errors, --rule, --port and --since show some of them: each that is given
must hold. -o wide has the method and the path of each request too. With --since the server adds
those that it keeps: of the last hour, at most 50,000, of each proxy about 200 a second (100 of what
was allowed).

--summary shows who talked to what, what came of it and how much was carried, summed up for each hour;
the server keeps these sums for 30 days. What there were too many hosts for is summed up as (other),
and said.

With --open it shows those that are open now: DURATION is how long each has lasted so far, and a
VERDICT of - says that nothing was decided yet. Relayed bytes are counted as they move, those of
an HTTP request when it ends. In JSON an open flow has no verdict until there is one, and its
duration is 0: it began at start.`,
		Example: `  sluice flows
  sluice flows --denied --since 10m
  sluice flows --follow --from details-v2 --to www.googleapis.com
  sluice flows --open
  sluice flows --since 7d --summary
  sluice flows --last 1000 -o json | jq 'select(.verdict == "deny")'`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usageError(cmd, "flows takes no arguments: sluice flows --from "+args[0]+" shows one workload")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, _ []string) error { return o.run(cmd) },
	}
	f := cmd.Flags()
	f.BoolVarP(&o.follow, "follow", "f", false, "go on with each new flow until ^C")
	f.BoolVar(&o.open, "open", false, "those that are open now, in place of past ones")
	f.IntVar(&o.last, "last", 100, "how many past flows to show, at most; with --open, how many of the newest")
	f.StringVarP(&o.workload, "from", "w", "", "only those of this workload, or of all workloads of a service: details-v2/1, details-v2, books/details-v2/1, or details")
	f.StringVar(&o.to, "to", "", "only those to this host: what was dialled, the SNI, or the Host of a request")
	f.StringVar(&o.port, "port", "", "only those to this port")
	f.StringVar(&o.rule, "rule", "", "only those that this rule decided: egress-rule/default/googleapis, or er/googleapis")
	f.BoolVar(&o.denied, "denied", false, "only those that were denied")
	f.BoolVar(&o.failed, "errors", false, "only those that were allowed, and failed")
	f.Var(&o.since, "since", "only those that began in this time, such as 10m or 7d")
	f.BoolVar(&o.summed, "summary", false, "who talked to what, summed up by the hour, of the hours of --since (default 1h, at most 30d)")
	f.BoolVarP(&o.everywhere, "all-namespaces", "A", false, "the workloads of every namespace, as without -n")
	f.SetNormalizeFunc(func(_ *pflag.FlagSet, name string) pflag.NormalizedName {
		if name == "workload" { // what --from was called
			name = "from"
		}
		return pflag.NormalizedName(name)
	})
	complete(cmd, "from", completeWorkloads())
	complete(cmd, "to", completeHosts())
	complete(cmd, "rule", completeRules())
	addOutputFlag(cmd, &o.output, "text", "wide", "json")
	for _, name := range []string{"from", "to", "port", "rule"} {
		flag := f.Lookup(name)
		flag.Value = &once{Value: flag.Value}
	}
	return cmd
}

// once is the value of a flag that is given once: a second one would silently take the place
// of the first.
type once struct {
	pflag.Value
	given bool
}

// Set implements pflag.Value.
func (o *once) Set(text string) error {
	if o.given {
		return fmt.Errorf("one value is allowed, and %s was given before; run sluice flows once for each", o.Value)
	}
	o.given = true
	return o.Value.Set(text)
}

func (o *flowOptions) run(cmd *cobra.Command) error {
	filter, err := o.filter(cmd)
	if err != nil {
		return err
	}
	if o.summed {
		return o.summary(cmd, filter)
	}
	client, err := clientFor(cmd)
	if err != nil {
		return err
	}
	defer client.Close()
	ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	wanted, err := o.wanted(ctx, client, filter)
	if err != nil {
		return err
	}
	p := &flowPrinter{out: cmd.OutOrStdout(), json: o.output == "json", layout: record.Plain(), open: o.open, keep: o.last}
	if o.output == "wide" {
		p.layout = record.Wide()
	} else if width, _, err := term.GetSize(int(os.Stdout.Fd())); err == nil {
		p.layout = p.layout.Within(width)
	}
	query := url.Values{"n": {strconv.Itoa(o.last)}}
	filtered := wanted != nil
	if filtered && o.last > 0 {
		query.Set("n", strconv.Itoa(inspect.MaxFlows)) // the last of those that are wanted
	}
	if o.workload != "" {
		query.Set("workload", o.workload)
	}
	if o.open {
		query.Set("open", "1")
	}
	each := func(line []byte) error {
		var f record.Record
		if err := json.Unmarshal(line, &f); err != nil {
			return fmt.Errorf("read a flow: %w", err)
		}
		if filtered && !wanted(&f) {
			return nil
		}
		return p.add(line, &f)
	}
	if o.follow {
		// The header stands there while nothing happens yet, once there is a server.
		if err := client.Follow(ctx, inspect.FlowsPath, url.Values{"n": {"0"}}, each); err != nil {
			return err
		}
		if err := p.begin(); err != nil {
			return err
		}
		query.Set("follow", "1")
		if filtered {
			query.Set("n", "0") // the past ones come first, in a question of their own
			past := url.Values{"n": {strconv.Itoa(inspect.MaxFlows)}}
			if o.workload != "" {
				past.Set("workload", o.workload)
			}
			if o.last > 0 {
				p.holds = true
				if err := client.Follow(ctx, inspect.FlowsPath, past, each); err != nil {
					return err
				}
				if err := p.release(); err != nil {
					return err
				}
			}
		}
	} else {
		p.holds = filtered
	}
	rings := func(ctx context.Context, each func([]byte) error) error {
		return client.Follow(ctx, inspect.FlowsPath, query, each)
	}
	if o.since > 0 && !o.open && !o.follow {
		all := url.Values{"n": {strconv.Itoa(inspect.MaxKept)}}
		if o.workload != "" {
			all.Set("workload", o.workload)
		}
		err = merged(ctx, []func(context.Context, func([]byte) error) error{
			rings, func(ctx context.Context, each func([]byte) error) error { return kept(ctx, client, all, each) },
		}, each)
	} else {
		err = rings(ctx, each)
	}
	if ctx.Err() != nil {
		return nil // ^C ends it as meant
	}
	if err != nil {
		return err
	}
	return p.release()
}

// filter says what is wrong with the flags, and which flows they mean.
func (o *flowOptions) filter(cmd *cobra.Command) (filter record.Filter, err error) {
	_, given := namespaceFor(cmd)
	switch {
	case given && o.everywhere:
		return filter, errors.New("--namespace and --all-namespaces exclude each other")
	case o.last < 0 || o.last > inspect.MaxFlows:
		return filter, fmt.Errorf("--last %d must be from 0 to %d", o.last, inspect.MaxFlows)
	case o.open && o.follow:
		return filter, errors.New("--open and --follow exclude each other: --open lists what is open now, --follow shows each flow when it ends")
	case o.denied && o.failed:
		return filter, errors.New("--denied and --errors exclude each other: what is denied is not tried")
	case cmd.Flags().Changed("since") && o.since <= 0:
		return filter, fmt.Errorf("--since %s must be longer than 0, such as 10m", &o.since)
	}
	if err := checkOutput(o.output, "text", "wide", "json"); err != nil {
		return filter, err
	}
	if o.rule != "" {
		if _, err := api.ParseReference(o.rule); err != nil {
			return filter, fmt.Errorf("--rule: %w", err)
		}
		refs, err := parseReferences(cmd, []string{o.rule})
		if err != nil {
			return filter, fmt.Errorf("--rule: %w", err)
		}
		filter.Rule = refs[0].Kind.ID(refs[0].Namespace, refs[0].Name)
	}
	workload, namespace, given, err := workloadFor(cmd, o.workload)
	switch {
	case err != nil:
		return filter, err
	case given && o.everywhere:
		return filter, fmt.Errorf("--from names the namespace %s: leave --all-namespaces out", namespace)
	case given:
		o.namespace = namespace
	}
	o.workload = workload
	filter.Host = o.to
	if o.port != "" {
		port, ok := names.ParsePort(o.port)
		if !ok {
			return filter, fmt.Errorf("--port %q must be a port from 1 to 65535", o.port)
		}
		filter.Port = port
	}
	switch {
	case o.denied:
		filter.Verdict = record.Denied
	case o.failed:
		filter.Verdict = record.Failed
	}
	if o.since > 0 {
		filter.Since = time.Now().Add(-time.Duration(o.since))
	}
	return filter, nil
}

// wanted returns what says of a flow whether it is to be shown; nil where all are. It
// asks the server whether the workload of --from is known, and who is in the namespace.
// A service means all of its workloads: then o.workload is none of them.
func (o *flowOptions) wanted(ctx context.Context, client *rest.Client, filter record.Filter) (func(*record.Record) bool, error) {
	if o.workload == "" && o.namespace == "" {
		if filter == (record.Filter{}) {
			return nil, nil
		}
		return filter.Match, nil
	}
	roster, err := newRoster(ctx, client)
	if err != nil {
		return nil, err
	}
	var service string
	if o.workload != "" {
		instance, ofService := roster.anyOf(o.workload)
		if !instance && ofService {
			service, o.workload, instance = o.workload, "", true
		}
		if !instance {
			if instance, err = keepsFlowOf(ctx, client, o.workload); err != nil {
				return nil, err
			}
		}
		if !instance {
			return nil, fmt.Errorf("no workload %s is connected, and no flow of it is kept; sluice status lists those that are", o.workload)
		}
	}
	if filter == (record.Filter{}) && o.namespace == "" && service == "" {
		return nil, nil
	}
	return func(f *record.Record) bool {
		if !filter.Match(f) {
			return false
		}
		if o.namespace == "" && service == "" {
			return true
		}
		who := roster.of(ctx, f.Workload)
		return (o.namespace == "" || who.namespace == o.namespace) && (service == "" || who.service == service)
	}, nil
}

// flowPrinter prints flows. While it holds them it keeps the last ones.
type flowPrinter struct {
	out    io.Writer
	json   bool
	layout record.Layout
	open   bool // their duration is that so far
	keep   int
	holds  bool
	held   [][]byte
	begun  bool
}

// begin prints the header, once.
func (p *flowPrinter) begin() error {
	if p.begun || p.json {
		return nil
	}
	p.begun = true
	_, err := p.out.Write(p.layout.AppendHeader(nil))
	return err
}

func (p *flowPrinter) add(line []byte, f *record.Record) error {
	if p.open {
		f.Duration = max(0, time.Since(f.Start)) // so far
	}
	var text []byte
	if p.json {
		text = append(slices.Clone(line), '\n')
	} else {
		text = p.layout.AppendText(nil, f)
	}
	if !p.holds {
		if err := p.begin(); err != nil {
			return err
		}
		_, err := p.out.Write(text)
		return err
	}
	if p.held = append(p.held, text); len(p.held) > p.keep {
		p.held = p.held[1:]
	}
	return nil
}

// release prints what is held, and holds nothing from then on.
func (p *flowPrinter) release() error {
	p.holds = false
	if err := p.begin(); err != nil {
		return err
	}
	for _, text := range p.held {
		if _, err := p.out.Write(text); err != nil {
			return err
		}
	}
	p.held = nil
	return nil
}
