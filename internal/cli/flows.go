package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os/signal"
	"strconv"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"sluice.dev/sluice/internal/control/inspect"
	"sluice.dev/sluice/internal/record"
)

func newFlowsCommand() *cobra.Command {
	var output, workload string
	var follow, open bool
	var last int
	cmd := &cobra.Command{
		Use:   "flows",
		Short: "Show who went where, the verdict, bytes and duration",
		Long: `Shows the last flows of every workload, oldest first: each is one connection, or one HTTP
request. Each proxy keeps the last 4,096. A flow's id opens with sluice why ID.

With --open it shows those that are open now: DURATION is how long each has lasted so far, and a
VERDICT of - says that nothing was decided yet. Relayed bytes are counted as they move, those of
an HTTP request when it ends. In JSON an open flow has no verdict until there is one, and its
duration is 0: it began at start.`,
		Example: `  sluice flows
  sluice flows --follow --workload details-v2
  sluice flows --open
  sluice flows --last 1000 -o json | jq 'select(.verdict == "deny")'`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usageError(cmd, "flows takes no arguments: sluice flows --workload "+args[0]+" shows one workload")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := checkOutput(output, "text", "json"); err != nil {
				return err
			}
			if last < 0 || last > inspect.MaxFlows {
				return fmt.Errorf("--last %d must be from 0 to %d", last, inspect.MaxFlows)
			}
			if open && follow {
				return errors.New("--open and --follow exclude each other: --open lists what is open now, --follow shows each flow when it ends")
			}
			client, err := clientFor(cmd)
			if err != nil {
				return err
			}
			defer client.Close()
			query := url.Values{"n": {strconv.Itoa(last)}}
			if workload != "" {
				query.Set("workload", workload)
			}
			if follow {
				query.Set("follow", "1")
			}
			if open {
				query.Set("open", "1")
			}
			ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGINT, syscall.SIGTERM)
			defer stop()
			out := cmd.OutOrStdout()
			if output == "text" {
				if _, err := out.Write(record.AppendHeader(nil)); err != nil {
					return err
				}
			}
			err = client.Follow(ctx, inspect.FlowsPath, query, func(line []byte) error {
				if output == "json" {
					_, err := fmt.Fprintf(out, "%s\n", line)
					return err
				}
				var f record.Record
				if err := json.Unmarshal(line, &f); err != nil {
					return fmt.Errorf("read a flow: %w", err)
				}
				if open {
					f.Duration = max(0, time.Since(f.Start)) // so far
				}
				_, err := out.Write(record.AppendText(nil, &f))
				return err
			})
			if ctx.Err() != nil {
				return nil // ^C ends it as meant
			}
			return err
		},
	}
	f := cmd.Flags()
	f.BoolVarP(&follow, "follow", "f", false, "go on with each new flow until ^C")
	f.BoolVar(&open, "open", false, "those that are open now, in place of past ones")
	f.IntVar(&last, "last", 100, "how many past flows to show, at most; with --open, how many of the newest")
	f.StringVarP(&workload, "workload", "w", "", "only those of this workload: details-v2/1, or details-v2")
	_ = cmd.RegisterFlagCompletionFunc("workload", completeWorkloads)
	addOutputFlag(cmd, &output, "text", "json")
	return cmd
}
