package cli

import (
	"github.com/spf13/cobra"

	"sluice.dev/sluice/internal/doctor"
)

func newDoctorCommand() *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Say what this machine gives Sluice, and what to do for more",
		Long: `Looks at the kernel, its namespaces, Landlock, seccomp and cgroups, at the resolver, the folders,
the server and the versions, and makes a sandbox that runs true: what can be tried is tried. It says
at which level commands run here, what of it does not hold, and what to change.

With -o json it writes the same for a bug report. That holds no value of a variable, no path that
was chosen here, no rule, and of users their numbers alone.

Exit status: 0 where a sandbox can be made, else 1.`,
		Example: `  sluice doctor
  sluice doctor -o json`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := checkOutput(output, "text", "json"); err != nil {
				return err
			}
			server, err := serverFor(cmd)
			if err != nil {
				return err
			}
			report := doctor.Examine(cmd.Context(), doctor.Config{Server: server})
			write := report.WriteText
			if output == "json" {
				write = report.WriteJSON
			}
			if err := write(cmd.OutOrStdout()); err != nil {
				return err
			}
			if !report.Sandbox.Available {
				return &ExitError{Code: 1} // the report says why
			}
			return nil
		},
	}
	addOutputFlag(cmd, &output, "text", "json")
	return cmd
}
