package cli

import (
	"fmt"

	"github.com/spf13/cobra"
)

func newValidateCommand() *cobra.Command {
	var files []string
	cmd := &cobra.Command{
		Use:   "validate -f FILE",
		Short: "Check rules and configuration, without a server",
		Long: `Reads every object of the files and says what is wrong with them and what to know of them, as create
and apply would. It speaks to no server, so it does not say what exists there already.

Exit status: 0 where all of them are valid, else 1.`,
		Example: `  sluice validate -f rules.yaml
  sluice validate -f rules/ -f 'more/*.yaml'`,
		Args: filesByFlag,
		RunE: func(cmd *cobra.Command, _ []string) error {
			objects, err := validated(cmd, files, "validate", warnOnce(cmd))
			if err != nil {
				return err
			}
			for i := range objects {
				fmt.Fprintf(cmd.OutOrStdout(), "Valid config %s\n", objects[i].ID())
			}
			return nil
		},
	}
	addFileFlag(cmd, &files)
	return cmd
}
