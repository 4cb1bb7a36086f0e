// Package cli is the command line: it reads flags, speaks to the server by its
// API, and prints. It links neither etcd nor the API server nor Kubernetes, and it
// decides nothing.
package cli

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"sluice.dev/sluice/internal/version"
)

// Execute runs the command line and returns its exit status.
func Execute(ctx context.Context) int {
	err := newRootCommand().ExecuteContext(ctx)
	var exit *ExitError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &exit):
		if exit.Err != nil {
			fmt.Fprintln(os.Stderr, "Error:", exit.Err)
		}
		return exit.Code
	}
	fmt.Fprintln(os.Stderr, "Error:", err)
	return 1
}

func newRootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:           "sluice",
		Short:         "Say where workloads may go, and see where they went",
		Version:       version.String(),
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.AddCommand(newRunCommand(), newDemoCommand())
	return root
}
