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
	var output string
	cmd := &cobra.Command{
		Use:   "version",
		Short: "Say which version this is",
		Args:  noArguments,
		Example: `  sluice version
  sluice version -o json`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := checkOutput(output, "text", "json"); err != nil {
				return err
			}
			if short && output == "text" {
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
			if output == "json" {
				return printJSON(cmd.OutOrStdout(), map[string]string{
					"version": version.String(), "revision": revision, "go": runtime.Version(), "build": status,
				})
			}
			fmt.Fprintf(cmd.OutOrStdout(), "Version: %s\nGitRevision: %s\nGolangVersion: %s\nBuildStatus: %s\n",
				version.String(), revision, runtime.Version(), status)
			return nil
		},
	}
	addOutputFlag(cmd, &output, "text", "json")
	cmd.Flags().BoolVarP(&short, "short", "s", false, "the version alone")
	return cmd
}
