package cli

import (
	"github.com/spf13/cobra"

	"sluice.dev/sluice/api"
	"sluice.dev/sluice/internal/rest"
)

// Names of the flags that every command that speaks to the server has.
const (
	flagServer    = "server"
	flagNamespace = "namespace"
)

// clientFor returns a client of the server that --server or SLUICE_SERVER names.
func clientFor(cmd *cobra.Command) (*rest.Client, error) { return newClient(cmd, rest.Config{}) }

// newClient is clientFor with a configuration, whose server is that of the flags.
func newClient(cmd *cobra.Command, config rest.Config) (client *rest.Client, err error) {
	if config.Server, err = cmd.Flags().GetString(flagServer); err != nil {
		return nil, err
	}
	return rest.New(config)
}

// namespaceFor returns the namespace of --namespace, and whether it was given;
// else the default one.
func namespaceFor(cmd *cobra.Command) (namespace string, given bool) {
	namespace, err := cmd.Flags().GetString(flagNamespace)
	if err != nil || namespace == "" {
		return api.DefaultNamespace, false
	}
	return namespace, true
}
