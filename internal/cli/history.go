package cli

import (
	"fmt"
	"io"
	"net/url"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"go.yaml.in/yaml/v4"

	"sluice.dev/sluice/internal/control/history"
	"sluice.dev/sluice/internal/control/inspect"
)

func newHistoryCommand() *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use:   "history (TYPE NAME | TYPE/NAME)",
		Short: "Show who changed an object, when, and what",
		Long: fmt.Sprintf(`Shows the changes of one object, oldest first: the revision, when, who (with the role, and from
where), how, and what it changed of the labels, annotations and spec; with -o yaml or json the whole
after each change. One that was deleted is answered too. The server keeps the last %d changes of an
object and %d MiB in all; a state that it found, and saw nobody make, is called %q.`,
			history.MaxEntries, history.MaxBytes>>20, history.Found),
		Example: `  sluice history egressrule googleapis
  sluice history egress-rule/default/googleapis -o yaml`,
		ValidArgsFunction: completeTypes,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := checkOutput(output, "text", "yaml", "json"); err != nil {
				return err
			}
			if len(args) == 0 {
				return usageError(cmd, "specify the object: TYPE NAME, or TYPE/NAME")
			}
			refs, err := parseReferences(cmd, args)
			if err != nil {
				return err
			}
			if len(refs) != 1 || refs[0].Name == "" {
				return usageError(cmd, "history is of one object: TYPE NAME, or TYPE/NAME")
			}
			client, err := clientFor(cmd)
			if err != nil {
				return err
			}
			defer client.Close()
			ref := refs[0]
			var answer inspect.History
			if err := client.Sluice(cmd.Context(), inspect.HistoryPath, url.Values{
				"resource": {ref.Kind.Resource()}, "namespace": {ref.Namespace}, "name": {ref.Name},
			}, &answer); err != nil {
				return err
			}
			if len(answer.Entries) == 0 {
				return fmt.Errorf("no change of %s is kept: it never existed, or has not changed since the history began", ref.Kind.ID(ref.Namespace, ref.Name))
			}
			switch output {
			case "json":
				return printJSON(cmd.OutOrStdout(), answer)
			case "yaml":
				return writeStates(cmd.OutOrStdout(), answer.Entries)
			}
			return printHistory(cmd.OutOrStdout(), answer.Entries)
		},
	}
	addOutputFlag(cmd, &output, "text", "yaml", "json")
	return cmd
}

// printHistory writes a line for each change, and below it what it changed.
func printHistory(w io.Writer, entries []history.Entry) error {
	var table strings.Builder
	t := tabwriter.NewWriter(&table, 0, 8, 2, ' ', 0)
	fmt.Fprintln(t, "REVISION\tTIME\tWHO\tROLE\tVERB\tFROM")
	for i := range entries {
		e := &entries[i]
		at := "-"
		if !e.Time.IsZero() {
			at = e.Time.Format(time.RFC3339)
		}
		fmt.Fprintf(t, "%d\t%s\t%s\t%s\t%s\t%s\n", e.Revision, at, orDash(e.Who), orDash(e.Role), e.Verb, orDash(e.From))
	}
	if err := t.Flush(); err != nil {
		return err
	}
	lines := strings.SplitAfter(table.String(), "\n")
	fmt.Fprint(w, lines[0])
	var before []string
	for i := range entries {
		fmt.Fprint(w, lines[i+1])
		e := &entries[i]
		after, err := stateLines(e)
		if err != nil {
			return err
		}
		switch {
		case e.TooLarge:
			fmt.Fprintln(w, "    (too large to be kept)")
			before = nil
			continue
		case i == 0 && e.Verb != "create" && e.Verb != "apply":
			before = after // what was there before is not known
			continue
		}
		for _, line := range changedLines(before, after) {
			if _, err := fmt.Fprintln(w, "    "+line); err != nil {
				return err
			}
		}
		before = after
	}
	return nil
}

// stateLines is the state after a change, as lines of YAML; none where it was deleted.
func stateLines(e *history.Entry) ([]string, error) {
	if e.State == nil || e.Deleted() {
		return nil, nil
	}
	text, err := stateYAML(e.State)
	if err != nil {
		return nil, err
	}
	return strings.Split(strings.TrimSuffix(string(text), "\n"), "\n"), nil
}

func stateYAML(state *history.State) ([]byte, error) {
	var plain struct {
		Labels      map[string]string `yaml:"labels,omitempty"`
		Annotations map[string]string `yaml:"annotations,omitempty"`
		Spec        any               `yaml:"spec"`
	}
	plain.Labels, plain.Annotations = state.Labels, state.Annotations
	// JSON is YAML, and so numbers stay as they were written.
	if err := yaml.Unmarshal(state.Spec, &plain.Spec); err != nil {
		return nil, fmt.Errorf("read a state of the history: %w", err)
	}
	return yaml.Marshal(&plain)
}

// writeStates writes the whole state after each change, a document each.
func writeStates(w io.Writer, entries []history.Entry) error {
	for i := range entries {
		e := &entries[i]
		head := struct {
			Revision   int64  `yaml:"revision"`
			Time       string `yaml:"time,omitempty"`
			Who        string `yaml:"who,omitempty"`
			Role       string `yaml:"role,omitempty"`
			Verb       string `yaml:"verb"`
			From       string `yaml:"from,omitempty"`
			Generation int64  `yaml:"generation,omitempty"`
			TooLarge   bool   `yaml:"tooLarge,omitempty"`
		}{e.Revision, "", e.Who, e.Role, e.Verb, e.From, e.Generation, e.TooLarge}
		if !e.Time.IsZero() {
			head.Time = e.Time.Format(time.RFC3339)
		}
		text, err := yaml.Marshal(&head)
		if err == nil && e.State != nil {
			var state []byte
			state, err = stateYAML(e.State)
			text = append(text, state...)
		}
		if err != nil {
			return err
		}
		if _, err := fmt.Fprintf(w, "---\n%s", text); err != nil {
			return err
		}
	}
	return nil
}

// changedLines are the lines that went, with "-", and those that came, with "+", in
// their order: the longest common subsequence stays unsaid. What is too long for that is
// said as a whole.
func changedLines(before, after []string) (lines []string) {
	const maxLines = 2000 // of either; the table below has its square
	for len(before) > 0 && len(after) > 0 && before[0] == after[0] {
		before, after = before[1:], after[1:]
	}
	for len(before) > 0 && len(after) > 0 && before[len(before)-1] == after[len(after)-1] {
		before, after = before[:len(before)-1], after[:len(after)-1]
	}
	n, m := len(before), len(after)
	if n > maxLines || m > maxLines {
		return []string{fmt.Sprintf("(%d lines became %d: see -o yaml)", n, m)}
	}
	common := make([][]int32, n+1) // of before[i:] and after[j:]
	for i := range common {
		common[i] = make([]int32, m+1)
	}
	for i := n - 1; i >= 0; i-- {
		for j := m - 1; j >= 0; j-- {
			if before[i] == after[j] {
				common[i][j] = common[i+1][j+1] + 1
			} else {
				common[i][j] = max(common[i+1][j], common[i][j+1])
			}
		}
	}
	for i, j := 0, 0; i < n || j < m; {
		switch {
		case i < n && j < m && before[i] == after[j]:
			i, j = i+1, j+1
		case j == m || i < n && common[i+1][j] >= common[i][j+1]:
			lines = append(lines, "- "+before[i])
			i++
		default:
			lines = append(lines, "+ "+after[j])
			j++
		}
	}
	return lines
}
