// Package cli is the command line: it reads flags, speaks to the server by its
// API, and prints. It links neither etcd nor the API server nor Kubernetes, and it
// decides nothing.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	"github.com/spf13/cobra"

	"sluice.dev/sluice/api"
	"sluice.dev/sluice/internal/stdout"
	"sluice.dev/sluice/internal/version"
)

// Execute runs the command line and returns its exit status.
func Execute(ctx context.Context) int {
	return execute(ctx, os.Args[1:], os.Stdout, os.Stderr)
}

func execute(ctx context.Context, args []string, to, stderr io.Writer) int {
	root, out := newRootCommand(), &stdout.Writer{To: to}
	if err := otherCommand(root, args); err != nil {
		fmt.Fprintln(stderr, "Error:", err)
		return 1
	}
	root.SetArgs(args)
	root.SetOut(out)
	root.SetErr(stderr)
	refuseUnknownShell(root) // behind SetOut: it notes where the scripts go
	ran, err := root.ExecuteContextC(ctx)
	var exit *ExitError
	if err != nil && ran.Name() == runName && !errors.As(err, &exit) {
		err = &ExitError{Code: exitNotRun, Err: err} // no status of the command
	}
	err, exit = out.Outcome(err, errors.As(err, &exit) && exit.Err == nil), nil
	switch {
	case err == nil:
		return 0
	case errors.As(err, &exit):
		if err.Error() != "" {
			fmt.Fprintln(stderr, "Error:", err)
		}
		return exit.Code
	}
	fmt.Fprintln(stderr, "Error:", err)
	return 1
}

func newRootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:   "sluice",
		Short: "Say where workloads may go, and see where they went",
		Long: `Sluice lets every workload reach exactly what a rule allows, over a channel that was verified,
and shows it. sluice run keeps one command in, without a server; sluice demo shows the rest.`,
		Example: `  sluice run --allow '*.googleapis.com:443' -- curl https://www.googleapis.com/
  sluice demo
  sluice create -f samples/bookinfo/kube/egress-rule-google-apis.yaml
  sluice why --from details-v2 https://www.googleapis.com/`,
		Version:       version.String(),
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.Flags().Bool("version", false, "version of sluice") // -v means more words, where there is one
	flags := root.PersistentFlags()
	flags.String(flagServer, os.Getenv("SLUICE_SERVER"), "`ADDR` of sluice-server: its socket, its runtime folder, or a file of sluice kubeconfig (SLUICE_SERVER; default: api.sock in the runtime folder)")
	flags.String(flagKubeconfig, "", "`FILE` of sluice kubeconfig: speak to the server that it names, over TLS")
	flags.StringP(flagNamespace, "n", "", "namespace (default \"default\")")
	complete(root, flagNamespace, completeNamespaces())
	root.PersistentPreRunE = checkServerFlags
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return fmt.Errorf("%w; see %s --help", plainFlagError(err), cmd.CommandPath())
	})
	root.SetHelpCommand(newHelpCommand())

	// What a user writes, then what runs, then what is asked.
	root.AddCommand(
		newCreateCommand(), newReplaceCommand(), newApplyCommand(), newGetCommand(), newDescribeCommand(), newDeleteCommand(), newValidateCommand(),
		newBackupCommand(), newRestoreCommand(),
		newRunCommand(), newKubeInjectCommand(), newInstallCommand(), newUninstallCommand(), newDemoCommand(),
		newWhyCommand(), newStatusCommand(), newFlowsCommand(), newTopCommand(), newTraceCommand(), newHistoryCommand(),
		newKubeconfigCommand(),
		newVersionCommand(), newDoctorCommand(),
	)
	root.AddCommand(newKubectlCommands()...)
	return root
}

// checkServerFlags refuses the flags of all commands that speak to the server
// where a command does not: a flag that is read and ignored misleads. A command
// with a flag of its own by that name is not meant. A namespace must be one that can
// be, for nothing would be found in any other.
func checkServerFlags(cmd *cobra.Command, _ []string) error {
	for _, name := range []string{flagServer, flagKubeconfig, flagNamespace} {
		flag := cmd.InheritedFlags().Lookup(name)
		if flag == nil || !flag.Changed {
			continue
		}
		no := name == flagNamespace && slices.Contains([]string{"backup", "restore", "doctor"}, cmd.Name()) // they are of no one namespace
		no = no || cmd.HasParent() && cmd.Parent().Name() == "completion"
		if no || slices.Contains([]string{"demo", "version", "kube-inject", "install", "uninstall"}, cmd.Name()) || name != flagNamespace && cmd.Name() == "validate" || name == flagKubeconfig && cmd.Name() == "run" {
			return usageError(cmd, cmd.Name()+" takes no --"+name)
		}
	}
	if kubeconfig, server := cmd.Flags().Lookup(flagKubeconfig), cmd.Flags().Lookup(flagServer); kubeconfig != nil && server != nil && kubeconfig.Changed && server.Changed {
		return usageError(cmd, "--server and --kubeconfig name a server each: give one")
	}
	if namespace, given := namespaceFor(cmd); given {
		return api.CheckNamespace(namespace)
	}
	return nil
}
