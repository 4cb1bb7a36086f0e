package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"sluice.dev/sluice/internal/control/inspect"
	"sluice.dev/sluice/internal/wire"
)

func newStatusCommand() *cobra.Command {
	var output string
	var everywhere bool
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show each workload, what enforces its rules, and which snapshot it runs",
		Long: `Shows each workload with its proxy, its level of enforcement, the version of the snapshot that
its proxy acknowledged, and that snapshot's age. A workload that runs an older version than the
one that was sent is marked, and so is one whose proxy refused a version. Of a workload that does
not serve yet, or no longer, STATE says on which port of its --listen, and for how long.`,
		Example: `  sluice status
  sluice status -o json`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := checkOutput(output, "text", "json"); err != nil {
				return err
			}
			if _, given := namespaceFor(cmd); given && everywhere {
				return errors.New("--namespace and --all-namespaces exclude each other")
			}
			client, err := clientFor(cmd)
			if err != nil {
				return err
			}
			defer client.Close()
			var status inspect.Status
			if err := client.Sluice(cmd.Context(), inspect.StatusPath, nil, &status); err != nil {
				return err
			}
			namespace, given := namespaceFor(cmd)
			elsewhere := 0
			if given {
				all := len(status.Workloads)
				status.Workloads = slices.DeleteFunc(status.Workloads, func(w inspect.WorkloadStatus) bool { return w.Namespace != namespace })
				elsewhere = all - len(status.Workloads)
			}
			if output == "json" {
				return printJSON(cmd.OutOrStdout(), status)
			}
			if len(status.Workloads) == 0 && elsewhere > 0 {
				fmt.Fprintln(cmd.OutOrStdout(), serverLine(&status, time.Now()))
				_, err := fmt.Fprintf(cmd.OutOrStdout(), "No workload of namespace %s has joined; those of others (%d) are shown without --namespace\n", namespace, elsewhere)
				return err
			}
			return printStatus(cmd.OutOrStdout(), &status, time.Now())
		},
	}
	cmd.Flags().BoolVarP(&everywhere, "all-namespaces", "A", false, "the workloads of every namespace, as without -n")
	addOutputFlag(cmd, &output, "text", "json")
	return cmd
}

// serverLine is the line of the server.
func serverLine(s *inspect.Status, now time.Time) string {
	return fmt.Sprintf("server %s, revision %d, %d objects, up %s", s.Server.Version, s.Revision, s.Rules, age(now.Sub(s.Server.Started)))
}

func printStatus(w io.Writer, s *inspect.Status, now time.Time) error {
	fmt.Fprintln(w, serverLine(s, now))
	if len(s.Workloads) == 0 {
		fmt.Fprintln(w, "No workload has joined. Start one with: sluice run --service NAME --listen PORT -- COMMAND")
		return nil
	}
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	fmt.Fprintln(t, "NAMESPACE\tWORKLOAD\tPROXY\tLEVEL\tSNAPSHOT\tAGE\tSTATE")
	for i := range s.Workloads {
		each := &s.Workloads[i]
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", each.Namespace, each.Instance, each.Proxy, each.Level,
			orDash(short(each.AckedVersion)), snapshotAge(each, now), state(each, now))
	}
	if err := t.Flush(); err != nil {
		return err
	}
	for _, level := range []string{wire.LevelSidecar, wire.LevelLowered, wire.LevelBypassed} {
		if slices.ContainsFunc(s.Workloads, func(w inspect.WorkloadStatus) bool { return w.Level == level }) {
			fmt.Fprintf(w, "level %s: %s\n", level, wire.LevelLacks(level))
		}
	}
	return nil
}

// state says in a few words how a workload's proxy stands to its server, and which of
// its ports take no calls; where all is well but for those, they alone are said.
func state(w *inspect.WorkloadStatus, now time.Time) string {
	var texts []string
	if stands := standing(w); stands != "current" || len(w.Unready) == 0 {
		texts = append(texts, stands)
	}
	if w.Connected {
		for i := range w.Unready {
			texts = append(texts, w.Unready[i].Text(now))
		}
	}
	return strings.Join(texts, "; ")
}

func standing(w *inspect.WorkloadStatus) string {
	switch {
	case !w.Connected:
		return "gone"
	case w.Nack != "":
		return "refused " + short(w.SentVersion) + ": " + w.Nack
	case w.AckedVersion == "":
		return "no rules yet: everything is denied"
	case w.SentVersion != w.AckedVersion:
		return "behind " + short(w.SentVersion)
	}
	return "current"
}

func snapshotAge(w *inspect.WorkloadStatus, now time.Time) string {
	if w.Created.IsZero() {
		return "-"
	}
	return age(now.Sub(w.Created))
}

// short is a version as people compare it.
func short(version string) string {
	if len(version) > 12 {
		return version[:12]
	}
	return version
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// age is a duration in the two units that matter.
func age(d time.Duration) string {
	switch {
	case d < time.Minute:
		return d.Round(time.Second).String()
	case d < time.Hour:
		return fmt.Sprintf("%dm%ds", int(d.Minutes()), int(d.Seconds())%60)
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh%dm", int(d.Hours()), int(d.Minutes())%60)
	}
	return fmt.Sprintf("%dd", int(d.Hours())/24)
}

// addOutputFlag adds -o, whose first value is the default.
func addOutputFlag(cmd *cobra.Command, output *string, values ...string) {
	cmd.Flags().StringVarP(output, "output", "o", values[0], "how to print: "+join(values))
	_ = cmd.RegisterFlagCompletionFunc("output", cobra.FixedCompletions(values, cobra.ShellCompDirectiveNoFileComp))
}

func checkOutput(output string, values ...string) error {
	for _, v := range values {
		if output == v {
			return nil
		}
	}
	return fmt.Errorf("unknown output format %q; it must be %s", output, join(values))
}

func join(values []string) string {
	text := values[0]
	for i, v := range values[1:] {
		if i == len(values)-2 {
			text += " or " + v
		} else {
			text += ", " + v
		}
	}
	return text
}

func printJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(v)
}
