package cli

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"

	"sluice.dev/sluice/internal/version"
)

func newVersionCommand() *cobra.Command {
	var short bool
	cmd := &cobra.Command{
		Use:   "version",
		Short: "Say which version this is",
		Args:  noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if short {
				fmt.Fprintln(cmd.OutOrStdout(), version.String())
				return nil
			}
			revision, status := "unknown", "unknown"
			if info, ok := debug.ReadBuildInfo(); ok {
				for _, setting := range info.Settings {
					switch setting.Key {
					case "vcs.revision":
						revision = setting.Value
					case "vcs.modified":
						status = map[string]string{"true": "Modified", "false": "Clean"}[setting.Value]
					}
				}
			}
			fmt.Fprintf(cmd.OutOrStdout(), "Version: %s\nGitRevision: %s\nGolangVersion: %s\nBuildStatus: %s\n",
				version.String(), revision, runtime.Version(), status)
			return nil
		},
	}
	cmd.Flags().BoolVarP(&short, "short", "s", false, "the version alone")
	return cmd
}
