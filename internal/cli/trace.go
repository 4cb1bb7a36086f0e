package cli

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"sluice.dev/sluice/internal/control/inspect"
	"sluice.dev/sluice/internal/record"
	"sluice.dev/sluice/internal/rest"
	"sluice.dev/sluice/internal/telemetry/trace"
)

// maxDepth is how deep a trace is drawn: what is deeper stands at that depth.
const maxDepth = 32

func newTraceCommand() *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use:   "trace ID",
		Short: "Draw a trace as a tree: who asked whom, and what came of it",
		Long: `Draws the requests and connections of one trace as a tree, each below the one in which it was made.
The ID is that of the trace, 32 hex digits, or that of any flow in it, as sluice flows shows. Proxies
know of traces where telemetry.tracing of the MeshConfig is set. Each keeps its last 4,096 flows, and
the server some of the last hour; whether a trace is sampled makes no difference here.

A service joins what it asks for to what it was asked for by copying traceparent, or x-b3-traceid,
x-b3-spanid and x-b3-sampled, from one request to the other.`,
		Example: `  sluice trace 4bf92f3577b34da6a3ce929d0e0e4736
  sluice trace 70d350fa85c31e82
  sluice trace 70d350fa85c31e82 -o json`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return errors.New("trace takes the id of one trace, or of a flow of it; sluice flows shows flows")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error { return runTrace(cmd, args[0], output) },
	}
	addOutputFlag(cmd, &output, "text", "json")
	return cmd
}

func runTrace(cmd *cobra.Command, text, output string) error {
	if err := checkOutput(output, "text", "json"); err != nil {
		return err
	}
	flow, notFlow := record.ParseID(text)
	id, notTrace := trace.ParseID(text)
	if notFlow != nil && notTrace != nil {
		return fmt.Errorf("%q is not a valid id of a trace (32 hex digits), nor of a flow (16)", text)
	}
	client, err := clientFor(cmd)
	if err != nil {
		return err
	}
	defer client.Close()
	if notTrace != nil {
		if id, err = traceOf(cmd.Context(), client, flow); err != nil {
			return err
		}
	}
	steps, err := stepsOf(cmd.Context(), client, id)
	if err != nil {
		return err
	}
	if len(steps) == 0 {
		return fmt.Errorf("no flow of trace %s is kept: each proxy keeps its last 4,096, and the server some of the last hour", id)
	}
	var b []byte
	if output == "json" {
		for i := range steps {
			b = record.AppendJSON(b, &steps[i])
		}
	} else {
		b = drawTrace(id, steps)
	}
	_, err = cmd.OutOrStdout().Write(b)
	return err
}

// traceOf finds the trace of a flow.
func traceOf(ctx context.Context, client *rest.Client, id record.ID) (trace.ID, error) {
	var opened inspect.Opened
	if err := client.Sluice(ctx, inspect.WhyPath+"/"+id.String(), nil, &opened); err != nil {
		return trace.ID{}, err
	}
	if opened.Flow.Trace == (trace.ID{}) {
		return trace.ID{}, fmt.Errorf("flow %s is of no trace: telemetry.tracing of the MeshConfig was not set when it began", id)
	}
	return opened.Flow.Trace, nil
}

// stepsOf returns the flows of a trace that proxies or the server keep, in the order in which
// they began.
func stepsOf(ctx context.Context, client *rest.Client, id trace.ID) (steps []record.Record, err error) {
	query := url.Values{"n": {strconv.Itoa(inspect.MaxFlows)}, "trace": {id.String()}}
	err = merged(ctx, []func(context.Context, func([]byte) error) error{
		func(ctx context.Context, each func([]byte) error) error {
			return client.Follow(ctx, inspect.FlowsPath, query, each)
		},
		func(ctx context.Context, each func([]byte) error) error { return kept(ctx, client, query, each) },
	}, func(line []byte) error {
		var f record.Record
		if err := json.Unmarshal(line, &f); err != nil {
			return fmt.Errorf("read a flow: %w", err)
		}
		if f.Trace == id { // a server of an older release says all that it knows
			steps = append(steps, f)
		}
		return nil
	})
	slices.SortStableFunc(steps, func(a, b record.Record) int {
		return cmp.Or(a.Start.Compare(b.Start), cmp.Compare(a.ID, b.ID))
	})
	return steps, err
}

// drawTrace draws the steps, each below the one in which it was made. What was made in one
// that nobody keeps, or in the service itself, stands at the root.
func drawTrace(id trace.ID, steps []record.Record) []byte {
	began, ended := steps[0].Start, steps[0].Start
	there := make(map[trace.SpanID]bool, len(steps))
	below := make(map[trace.SpanID][]*record.Record)
	for i := range steps {
		there[steps[i].Span] = true
		if end := steps[i].Start.Add(steps[i].Duration); end.After(ended) {
			ended = end
		}
	}
	var roots []*record.Record
	for i := range steps {
		if s := &steps[i]; s.Parent != s.Span && there[s.Parent] {
			below[s.Parent] = append(below[s.Parent], s)
		} else {
			roots = append(roots, s)
		}
	}
	b := fmt.Appendf(nil, "trace %s: %d steps in %s\n", id, len(steps), ended.Sub(began).Round(10*time.Microsecond))
	drawn := make(map[*record.Record]bool, len(steps))
	var draw func(s *record.Record, prefix string, last bool, depth int)
	draw = func(s *record.Record, prefix string, last bool, depth int) {
		if drawn[s] {
			return
		}
		drawn[s] = true
		branch, after := "├─ ", "│  "
		if last {
			branch, after = "└─ ", "   "
		}
		b = append(record.AppendStep(append(b, prefix+branch...), s, began), '\n')
		if depth < maxDepth {
			prefix += after
		}
		for i, child := range below[s.Span] {
			draw(child, prefix, i == len(below[s.Span])-1, depth+1)
		}
	}
	for i, root := range roots {
		draw(root, "", i == len(roots)-1, 1)
	}
	for i := range steps { // which name one another as parents
		draw(&steps[i], "", true, 1)
	}
	return b
}
