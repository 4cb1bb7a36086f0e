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
func clientFor(cmd *cobra.Command) (*rest.Client, error) { return warningClient(cmd, nil) }

// warningClient is clientFor with somebody to read the server's warnings.
func warningClient(cmd *cobra.Command, warn func(text string)) (*rest.Client, error) {
	server, err := cmd.Flags().GetString(flagServer)
	if err != nil {
		return nil, err
	}
	return rest.New(rest.Config{Server: server, Warn: warn})
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
