//go:build !linux

package cli

import (
	"fmt"

	"github.com/spf13/cobra"

	"sluice.dev/sluice/internal/doctor"
)

// exitUnsupported is the status of `sluice run` where no sandbox can be made, as it
// is on Linux.
const exitUnsupported = 125

func newRunCommand() *cobra.Command {
	return linuxOnly("run", "Run a command that can only go where rules let it", exitUnsupported)
}

func newDemoCommand() *cobra.Command {
	return linuxOnly("demo", "Run Bookinfo behind Sluice, with a small internet", 1)
}

// linuxOnly is a command that needs namespaces. Its flags are not read: whatever
// they say, the answer is the same.
func linuxOnly(name, short string, status int) *cobra.Command {
	return &cobra.Command{
		Use:                name,
		Short:              short + " (Linux only)",
		FParseErrWhitelist: cobra.FParseErrWhitelist{UnknownFlags: true},
		Args:               cobra.ArbitraryArgs,
		RunE: func(*cobra.Command, []string) error {
			return &ExitError{Code: status, Err: fmt.Errorf("sluice %s is supported on Linux only: %s", name, doctor.NoNamespaces("it"))}
		},
	}
}
