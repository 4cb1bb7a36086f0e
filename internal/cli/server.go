package cli

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"sluice.dev/sluice/api"
	"sluice.dev/sluice/internal/rest"
)

// Names of the flags that every command that speaks to the server has.
const (
	flagServer    = "server"
	flagNamespace = "namespace"
	// flagKubeconfig is the word of kubectl for a server by file.
	flagKubeconfig = "kubeconfig"
)

// serverFor returns the address that --kubeconfig or --server says, or SLUICE_SERVER.
func serverFor(cmd *cobra.Command) (string, error) {
	file, err := cmd.Flags().GetString(flagKubeconfig)
	if err != nil {
		return "", err
	}
	if file == "" {
		return cmd.Flags().GetString(flagServer)
	}
	if !rest.IsFile(file) { // else it could be a socket or a folder
		if _, err := os.Stat(file); err != nil {
			return "", fmt.Errorf("--kubeconfig: %w", err)
		}
		return "", fmt.Errorf("--kubeconfig %s: it is not a regular file", file)
	}
	return rest.FileAddress(file)
}

// clientFor returns a client of the server that --server or SLUICE_SERVER names.
func clientFor(cmd *cobra.Command) (*rest.Client, error) { return newClient(cmd, rest.Config{}) }

// newClient is clientFor with a configuration, whose server is that of the flags.
func newClient(cmd *cobra.Command, config rest.Config) (client *rest.Client, err error) {
	if config.Server, err = serverFor(cmd); err != nil {
		return nil, err
	}
	return rest.New(config)
}

// namespaceFor returns the namespace of --namespace, and whether it was given;
// else the one of a kubeconfig, or the default.
func namespaceFor(cmd *cobra.Command) (namespace string, given bool) {
	namespace, err := cmd.Flags().GetString(flagNamespace)
	if err != nil || namespace == "" {
		if server, err := serverFor(cmd); err == nil {
			return rest.Namespace(server), false
		}
		return api.DefaultNamespace, false
	}
	return namespace, true
}
