package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"sluice.dev/sluice/internal/control/inspect"
	"sluice.dev/sluice/internal/record"
	"sluice.dev/sluice/internal/rest"
)

// timespan is a duration that may have days: 7d, 1d12h, 10m.
type timespan time.Duration

// maxTimespan is what --since says at most: nothing is kept for as long.
const maxTimespan = 365 * 24 * time.Hour

// String implements pflag.Value.
func (t *timespan) String() string { return time.Duration(*t).String() }

// Type implements pflag.Value.
func (*timespan) Type() string { return "duration" }

// Set implements pflag.Value.
func (t *timespan) Set(text string) error {
	days, rest, found := strings.Cut(text, "d")
	if !found {
		days, rest = "0", text
	}
	n, err := strconv.ParseUint(days, 10, 16)
	var d time.Duration
	if err == nil && (rest != "" || !found) {
		d, err = time.ParseDuration(rest)
	}
	d += time.Duration(n) * 24 * time.Hour
	if err != nil || found && d < 0 {
		return fmt.Errorf("%q is not a valid duration, as in 10m, 12h or 7d", text)
	}
	if d > maxTimespan {
		return errors.New("nothing is kept for more than 365d")
	}
	*t = timespan(d)
	return nil
}

// summary prints who talked to what.
func (o *flowOptions) summary(cmd *cobra.Command, filter record.Filter) error {
	switch {
	case o.open || o.follow:
		return errors.New("--summary sums up what is past: neither --open nor --follow goes with it")
	case cmd.Flags().Changed("last"):
		return errors.New("--last is how many flows are shown: --summary sums up all of --since")
	case o.output == "wide":
		return errors.New("--summary has no -o wide")
	case strings.Contains(o.workload, "/"):
		return fmt.Errorf("--summary sums up all instances of a workload: write --from %s", strings.Split(o.workload, "/")[0])
	}
	client, err := clientFor(cmd)
	if err != nil {
		return err
	}
	defer client.Close()
	since := time.Hour
	if o.since > 0 {
		since = time.Duration(o.since)
	}
	query := inspect.SummaryQuery{Since: time.Now().Add(-since), SumFilter: record.SumFilter{
		Namespace: o.namespace, Workload: o.workload, Verdict: filter.Verdict, Host: filter.Host, Port: filter.Port, Rule: filter.Rule,
	}}
	var answer inspect.Summary
	if err := client.Sluice(cmd.Context(), inspect.SummaryPath, query.Values(), &answer); err != nil {
		return err
	}
	if o.output == "json" {
		return printJSON(cmd.OutOrStdout(), answer)
	}
	if err := writeSummary(cmd.OutOrStdout(), &answer); err != nil {
		return err
	}
	for _, said := range missing(&answer) {
		fmt.Fprintln(cmd.ErrOrStderr(), "Note:", said)
	}
	return nil
}

func writeSummary(w io.Writer, answer *inspect.Summary) error {
	text := []byte(record.SumHeader)
	for i := range answer.Sums {
		text = answer.Sums[i].AppendText(text)
	}
	table := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	if _, err := table.Write(text); err != nil {
		return err
	}
	return table.Flush()
}

// missing says what is not in a summary as it could be.
func missing(answer *inspect.Summary) (said []string) {
	if answer.More > 0 {
		said = append(said, fmt.Sprintf("%d lines more, with fewer flows, are not shown: --from, --to, --rule, --port and --denied narrow it", answer.More))
	}
	if answer.Lost.Folded > 0 {
		said = append(said, fmt.Sprintf("%d flows of all that were ever kept are shown as %s: there were more hosts than are kept apart", answer.Lost.Folded, record.Other))
	}
	if !answer.ForgottenTo.IsZero() && answer.ForgottenTo.After(answer.From) {
		said = append(said, "what was before "+answer.ForgottenTo.Format(time.RFC3339)+" is forgotten in part: there was more than is kept")
	}
	if answer.Missing != "" {
		said = append(said, "what was closed in the last seconds is missing in part: "+answer.Missing)
	}
	return said
}

// kept calls each with the flows that the server keeps, beside those of the rings. A server
// without a data folder keeps none, and one of an older release does not know of it.
func kept(ctx context.Context, client *rest.Client, query url.Values, each func(line []byte) error) error {
	err := client.Follow(ctx, inspect.KeptPath, query, each)
	var refused *rest.StatusError
	if errors.As(err, &refused) && (refused.Code == http.StatusNotImplemented || refused.Code == http.StatusNotFound) {
		return nil
	}
	return err
}

// merged calls each with the lines of both, in the order in which they began; what is in
// both once.
func merged(ctx context.Context, both []func(context.Context, func([]byte) error) error, each func(line []byte) error) error {
	type flow struct {
		start time.Time
		line  []byte
	}
	var flows []flow
	seen := make(map[record.ID]bool)
	for _, from := range both {
		if err := from(ctx, func(line []byte) error {
			var f record.Record
			if err := json.Unmarshal(line, &f); err != nil {
				return fmt.Errorf("read a flow: %w", err)
			}
			if !seen[f.ID] {
				seen[f.ID] = true
				flows = append(flows, flow{f.Start, slices.Clone(line)})
			}
			return nil
		}); err != nil {
			return err
		}
	}
	slices.SortStableFunc(flows, func(a, b flow) int { return a.start.Compare(b.start) })
	for i := range flows {
		if err := each(flows[i].line); err != nil {
			return err
		}
	}
	return nil
}
