// Command kubectl-sluice is kubectl's own verbs on the rules of a sluice-server:
// annotate, diff, edit, explain, get, label, patch, wait. `sluice` calls it for these,
// and kubectl finds it as its plugin (`kubectl sluice get …`), which is about the cluster that
// kubectl speaks to: then it asks all of that cluster's servers. It links Kubernetes'
// client, which `sluice` does not, so that `sluice` starts at once.
package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/go-logr/logr"
	"github.com/spf13/cobra"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	"k8s.io/client-go/rest"
	"k8s.io/klog/v2"
	"k8s.io/kubectl/pkg/cmd/annotate"
	"k8s.io/kubectl/pkg/cmd/apiresources"
	"k8s.io/kubectl/pkg/cmd/diff"
	"k8s.io/kubectl/pkg/cmd/edit"
	"k8s.io/kubectl/pkg/cmd/explain"
	"k8s.io/kubectl/pkg/cmd/get"
	"k8s.io/kubectl/pkg/cmd/label"
	"k8s.io/kubectl/pkg/cmd/patch"
	cmdutil "k8s.io/kubectl/pkg/cmd/util"
	"k8s.io/kubectl/pkg/cmd/wait"

	"sluice.dev/sluice/internal/paths"
	"sluice.dev/sluice/internal/stdout"
	"sluice.dev/sluice/internal/version"
)

// parent is how the commands are called in the examples of their help.
const parent = "sluice"

func main() {
	klog.SetLogger(logr.Discard()) // of what failed, the command says what matters
	cmdutil.BehaviorOnFatal(fatal)
	out := &stdout.Writer{To: os.Stdout}
	name := filepath.Base(os.Args[0])
	root := newRootCommand(name, genericiooptions.IOStreams{In: os.Stdin, Out: out, ErrOut: os.Stderr})
	if args := os.Args[1:]; len(args) > 0 && isOther(root, args[0]) {
		status, err := other(name != parent, args)
		if err != nil {
			fmt.Fprintln(os.Stderr, "error:", err)
			status = 1
		}
		os.Exit(status)
	}
	cmdutil.CheckErr(out.Outcome(root.Execute(), false))
}

// fatal ends a command as kubectl does. Where no server answered it says so as every other
// command of sluice does.
func fatal(message string, code int) {
	if text, found := strings.CutPrefix(message, "Unable to connect to the server: "); found {
		message = "error: " + text
	}
	if message != "" {
		fmt.Fprintln(os.Stderr, strings.TrimSuffix(message, "\n"))
	}
	os.Exit(code)
}

// newRootCommand returns the commands; name is how they were called: sluice where that goes
// on as this program.
func newRootCommand(name string, streams genericiooptions.IOStreams) *cobra.Command {
	server := &server{plugin: name != parent}
	if server.plugin {
		name = "kubectl-sluice"
	}
	root := &cobra.Command{
		Use:   name,
		Short: "The verbs of kubectl on the rules of a sluice-server",
		Long: `The verbs of kubectl on the rules of a sluice-server. As a plugin of kubectl it takes every command
of sluice: kubectl sluice get, kubectl sluice run, and so on. It is then about the cluster of kubectl's
current context, where there is one: status, flows, why, trace and top ask all servers of Sluice there.
--server, SLUICE_SERVER or a file of sluice kubeconfig name a sluice-server of one machine in its place.`,
		Version:       version.String(),
		SilenceUsage:  true,
		SilenceErrors: true,
		PersistentPreRunE: func(cmd *cobra.Command, args []string) error {
			rest.SetDefaultWarningHandler(rest.NewWarningWriter(streams.ErrOut, rest.WarningWriterOptions{Deduplicate: true}))
			return server.kubectlForm(cmd, args)
		},
	}
	server.addFlags(root.PersistentFlags())
	root.Flags().Bool("version", false, "version of kubectl-sluice")
	factory := cmdutil.NewFactory(server)
	root.AddCommand(
		annotate.NewCmdAnnotate(parent, factory, streams),
		apiresources.NewCmdAPIResources(factory, streams),
		diff.NewCmdDiff(factory, streams),
		edit.NewCmdEdit(factory, streams),
		explain.NewCmdExplain(parent, factory, streams),
		get.NewCmdGet(parent, factory, streams),
		label.NewCmdLabel(factory, streams),
		newPatchCommand(factory, streams),
		wait.NewCmdWait(server, streams),
	)
	return root
}

// newPatchCommand is kubectl's, with a merge patch where no type is said: the strategic one,
// which is kubectl's default, works for kinds of Kubernetes alone.
func newPatchCommand(factory cmdutil.Factory, streams genericiooptions.IOStreams) *cobra.Command {
	cmd := patch.NewCmdPatch(factory, streams)
	kind := cmd.Flags().Lookup("type")
	kind.DefValue = "merge"
	if err := kind.Value.Set(kind.DefValue); err != nil {
		panic(err) // kubectl's patch has another --type
	}
	return cmd
}

// isOther says whether a word is a command of sluice alone.
func isOther(root *cobra.Command, word string) bool {
	if word == "" || word[0] == '-' || slices.Contains([]string{"help", "completion", cobra.ShellCompRequestCmd, cobra.ShellCompNoDescRequestCmd}, word) {
		return false
	}
	return !slices.ContainsFunc(root.Commands(), func(c *cobra.Command) bool { return c.Name() == word })
}

// other runs a command of sluice alone.
func other(plugin bool, args []string) (status int, err error) {
	if !slices.Contains(slices.Concat(asking, kubectls, machines), args[0]) {
		return 0, becomeSluice(args) // it is about no cluster
	}
	flags, err := flagsOf(args)
	if err != nil {
		return 0, err
	}
	about, err := targetOf(plugin, flags)
	if err != nil {
		return 0, err
	}
	if !about.cluster {
		return 0, becomeSluice(args)
	}
	if err := refusal(args[0]); err != nil {
		return 0, err
	}
	return onCluster(about, flags.rest)
}

// becomeSluice goes on as the sluice beside this binary, or that of PATH.
func becomeSluice(args []string) error {
	path, err := paths.Program("sluice")
	if err != nil {
		return fmt.Errorf("%s is a command of sluice, which is neither beside kubectl-sluice nor in PATH", args[0])
	}
	return syscall.Exec(path, append([]string{"sluice"}, args...), os.Environ())
}
