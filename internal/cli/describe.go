package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/url"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"sluice.dev/sluice/api"
	"sluice.dev/sluice/internal/control/compile"
	"sluice.dev/sluice/internal/control/inspect"
	"sluice.dev/sluice/internal/record"
	"sluice.dev/sluice/internal/rest"
)

// maxDenials is how many of the last denials describe shows.
const maxDenials = 5

func newDescribeCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "describe (TYPE NAME... | TYPE/NAME...)",
		Short: "Show a rule, whom it selects, who runs it, and its last denials",
		Long: `Shows objects with what the server knows of them: whether each is in effect, which of the
workloads that run now it selects and which version of the rules each of these runs, and the last
denials that it is the reason of.`,
		Example: `  sluice describe egressrule googleapis
  sluice describe egress-policy/default/books`,
		ValidArgsFunction: completeTypes,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 || len(args) == 1 && !strings.Contains(args[0], "/") {
				return usageError(cmd, "describe takes objects: a type and names, or TYPE/NAME")
			}
			refs, err := parseReferences(cmd, args)
			if err != nil {
				return err
			}
			client, err := clientFor(cmd)
			if err != nil {
				return err
			}
			defer client.Close()
			for i, ref := range refs {
				if i > 0 {
					fmt.Fprintln(cmd.OutOrStdout())
				}
				if err := describe(cmd.Context(), cmd.OutOrStdout(), client, ref); err != nil {
					return err
				}
			}
			return nil
		},
	}
}

func describe(ctx context.Context, w io.Writer, client *rest.Client, ref reference) error {
	o, err := client.Get(ctx, ref.Kind, ref.Namespace, ref.Name)
	if err != nil {
		return err
	}
	var status inspect.Status
	if err := client.Sluice(ctx, inspect.StatusPath, nil, &status); err != nil {
		return err
	}
	denials, err := lastDenials(ctx, client, o.ID())
	if err != nil {
		return err
	}
	return writeDescription(w, &o, &status, denials, time.Now())
}

// lastDenials returns the newest denials that name a rule, the oldest first.
func lastDenials(ctx context.Context, client *rest.Client, rule string) (last []record.Record, err error) {
	wanted := record.Filter{Verdict: record.Denied, Rule: rule}
	err = client.Follow(ctx, inspect.FlowsPath, url.Values{"n": {strconv.Itoa(inspect.MaxFlows)}}, func(line []byte) error {
		var f record.Record
		if err := json.Unmarshal(line, &f); err != nil {
			return fmt.Errorf("read a flow: %w", err)
		}
		if wanted.Match(&f) {
			if len(last) == maxDenials {
				last = last[1:]
			}
			last = append(last, f)
		}
		return nil
	})
	return last, err
}

func writeDescription(w io.Writer, o *api.Object, status *inspect.Status, denials []record.Record, now time.Time) error {
	fmt.Fprintf(w, "%s\n", o.ID())
	table := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	line := func(what, text string) { fmt.Fprintf(table, "  %s\t%s\n", what, text) }
	if created := o.Metadata.CreationTimestamp; !created.IsZero() {
		line("created", fmt.Sprintf("%s, %s ago", created.Local().Format(time.DateTime), age(max(0, now.Sub(created)))))
	}
	line("revision", orDash(o.Metadata.ResourceVersion))
	for _, c := range statusOfObject(o).Conditions {
		text := c.Status
		if c.Message != "" {
			text += ": " + c.Message
		}
		if c.ObservedGeneration != o.Metadata.Generation {
			text += " (of the object as it was before)"
		}
		line(strings.ToLower(c.Type), text)
	}
	if err := table.Flush(); err != nil {
		return err
	}

	fmt.Fprintln(w, "\nspec:")
	if err := writeIndented(w, o); err != nil {
		return err
	}

	fmt.Fprintln(w, "\nselects:")
	table = tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	selected := 0
	for i := range status.Workloads {
		each := &status.Workloads[i]
		if compile.Selects(o, each.Workload) {
			selected++
			line(each.Namespace+"/"+each.Instance, fmt.Sprintf("runs %s: %s", orDash(short(each.AckedVersion)), standing(each)))
		}
	}
	if selected == 0 {
		fmt.Fprintln(table, "  no workload that runs now")
	}
	if err := table.Flush(); err != nil {
		return err
	}

	fmt.Fprintln(w, "\nlast denials:")
	if len(denials) == 0 {
		_, err := fmt.Fprintln(w, "  none among the last flows")
		return err
	}
	b := record.AppendHeader([]byte("  "))
	for i := range denials {
		b = record.AppendText(append(b, "  "...), &denials[i])
	}
	_, err := w.Write(b)
	return err
}

// writeIndented writes the spec of an object as YAML.
func writeIndented(w io.Writer, o *api.Object) error {
	var b strings.Builder
	if err := api.WriteYAML(&b, []api.Object{{APIVersion: o.APIVersion, Kind: o.Kind, Metadata: api.Meta{Name: o.Metadata.Name}, Spec: o.Spec}}); err != nil {
		return err
	}
	_, spec, _ := strings.Cut(b.String(), "\nspec:\n")
	_, err := io.WriteString(w, strings.TrimSuffix(spec, "---\n"))
	return err
}
