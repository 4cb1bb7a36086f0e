package cli

import (
	"fmt"

	"github.com/spf13/cobra"

	"sluice.dev/sluice/internal/paths"
)

// topProgram is a binary of its own: linked here, a terminal library would be in the start
// and in the memory of each sandbox.
const topProgram = "sluice-top"

func newTopCommand() *cobra.Command {
	var from string
	cmd := &cobra.Command{
		Use:   "top",
		Short: "Show workloads, destinations and denials live, in a terminal",
		Long: `Shows which workloads and destinations have traffic, how much a second, and what is denied, as it
happens. Rates are over the last 10 seconds, of flows that have closed. Keys: tab or 1, 2, 3 change
the list, arrows select, enter says why the selected denial was made, r shows its rule, q ends.

Without colour where NO_COLOR is set. It needs a terminal; sluice flows --follow prints lines.`,
		Example: `  sluice top
  sluice top --from details-v2`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			server, err := serverFor(cmd)
			if err != nil {
				return err
			}
			path, err := paths.Program(topProgram)
			if err != nil {
				return fmt.Errorf("%s is neither beside sluice nor in PATH: make build builds it beside sluice", topProgram)
			}
			return become(path, []string{topProgram, "--server=" + server, "--from=" + from})
		},
	}
	cmd.Flags().StringVarP(&from, "from", "w", "", "only what this workload does, or all workloads of a service: details-v2/1, details-v2 or details")
	complete(cmd, "from", completeWorkloads())
	return cmd
}
