package cli

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// What to write in the place of commands that people know from elsewhere.
const (
	seeFlows     = "sluice flows shows who went where"
	seeStatus    = "sluice status shows workloads, and which rules each of them runs"
	useDelete    = "sluice delete TYPE NAME deletes objects"
	useApply     = "sluice apply -f FILE creates or replaces objects"
	useRun       = "sluice run -- COMMAND runs a command in a sandbox"
	useValidate  = "sluice validate -f FILE checks files"
	useBackup    = "sluice backup FILE writes every object to a file"
	usePublish   = "sluice run --publish PORT opens a port of a command outside"
	seeExplain   = "sluice explain TYPE says what a type is; the types are those of sluice get"
	noContainers = "workloads are processes of this machine here: " + seeStatus
	useRoutes    = "sluice create -f FILE with a RouteRule says which version gets how many calls"
	useKube      = "sluice kubeconfig writes a file of its own for a server elsewhere, and --kubeconfig FILE or --server ADDR says which one is meant"
)

// others are commands of kubectl, istioctl, docker and shells that we do not have.
var others = map[string]string{
	"logs": seeFlows, "log": seeFlows, "events": seeFlows, "tail": seeFlows,
	"rm": useDelete, "remove": useDelete,
	"ls": "sluice get TYPE lists objects, sluice status workloads", "list": "sluice get TYPE lists objects, sluice status workloads",
	"show": "sluice get TYPE lists objects, sluice describe TYPE NAME shows one", "inspect": "sluice describe TYPE NAME shows an object",
	"ps": seeStatus, "top-workloads": seeStatus, "proxy-status": seeStatus,
	"dump": useBackup, "export": useBackup, "save": useBackup, "import": "sluice restore FILE brings a backup back", "load": "sluice restore FILE brings a backup back",
	"exec": useRun, "start": useRun, "debug": useRun, "sh": useRun, "shell": useRun,
	"attach": noContainers, "cp": noContainers, "rollout": noContainers, "scale": noContainers, "autoscale": noContainers,
	"cordon": noContainers, "uncordon": noContainers, "drain": noContainers, "taint": noContainers, "kill": noContainers, "stop": noContainers,
	"port-forward": usePublish, "expose": usePublish, "proxy": "sluice-server --api-listen opens the API to kubectl: sluice kubeconfig --help",
	"config": useKube, "context": useKube, "cluster-info": "sluice status shows the server, sluice doctor this machine", "login": useKube,
	"auth": "sluice kubeconfig --role reader or editor says what the bearer of the file may do", "certificate": "sluice kubeconfig writes a certificate of a client",
	"api-resources": seeExplain, "api-versions": seeExplain, "kustomize": useApply, "alpha": "no command is experimental here: sluice --help lists all",
	"options": "sluice --help shows the flags of all commands", "kuberc": "no file of preferences is read: flags and variables are all there is, sluice --help shows them",
	"plugin": "sluice is a plugin of kubectl: kubectl sluice COMMAND",
	"lint":   useValidate, "check": useValidate, "analyze": useValidate,
	"add": useApply, "update": useApply, "set": useApply, "put": useApply, "upgrade": "make install replaces the programs: the guide's page Operate says how",
	// istioctl.
	"proxy-config": "sluice describe shows a rule and who runs it", "pc": "sluice describe shows a rule and who runs it",
	"register": "sluice run --service NAME --listen PORT -- COMMAND joins the mesh", "deregister": "a workload leaves the mesh when its command ends",
	"gen-deploy": "sluice install brings Sluice into a Kubernetes cluster, make install onto a machine", "context-create": useKube,
	"experimental": "no command is experimental here: sluice --help lists all", "x": "no command is experimental here: sluice --help lists all",
	"shift": useRoutes, "dashboard": "sluice flows and sluice status show it here; --metrics of sluice-proxy and sluice-server is for Prometheus",
	"allow": "sluice run --allow HOST lets a command reach a host; sluice create -f FILE stores a rule",
	"deny":  "what no rule allows is denied; sluice delete TYPE NAME takes a rule back",
	"test":  "sluice why URL says whether a workload may go there", "curl": "sluice why URL says whether a workload may go there", "ping": "sluice why URL says whether a workload may go there",
}

// otherCommand says what is wrong with a first word that is no command of ours: what to
// write in its place, or that a flag is not known before any command is.
func otherCommand(root *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	if instead, known := others[args[0]]; known {
		return fmt.Errorf("unknown command %q for %q: %s", args[0], root.Name(), instead)
	}
	// cobra takes the word behind a flag that it does not know for its value, and would
	// then complain about the next one.
	if word := args[0]; len(word) > 1 && word[0] == '-' && word != "--" {
		known := pflag.NewFlagSet("", pflag.ContinueOnError)
		known.AddFlagSet(root.PersistentFlags())
		known.AddFlagSet(root.Flags())
		name, _, _ := strings.Cut(strings.TrimLeft(word, "-"), "=")
		if name == "help" || name == "h" {
			return nil
		}
		if strings.HasPrefix(word, "--") && known.Lookup(name) == nil {
			return usageError(root, "unknown flag: --"+name)
		}
		if !strings.HasPrefix(word, "--") && known.ShorthandLookup(word[1:2]) == nil {
			return usageError(root, fmt.Sprintf("unknown shorthand flag: %q in %s", word[1], word))
		}
	}
	return nil
}

// newHelpCommand is cobra's, with an error where it has nothing to say.
func newHelpCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "help [COMMAND]",
		Short: "Help about any command",
		Long:  "Says of a command what it does, as COMMAND --help does.",
		ValidArgsFunction: func(cmd *cobra.Command, args []string, _ string) (words []string, _ cobra.ShellCompDirective) {
			if found, _, err := cmd.Root().Find(args); err == nil {
				for _, each := range found.Commands() {
					if each.IsAvailableCommand() {
						words = append(words, each.Name()+"\t"+each.Short)
					}
				}
			}
			return words, cobra.ShellCompDirectiveNoFileComp
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := otherCommand(cmd.Root(), args); err != nil {
				return err
			}
			found, rest, err := cmd.Root().Find(args)
			if err != nil {
				return err
			}
			if len(rest) > 0 && found.HasAvailableSubCommands() {
				return fmt.Errorf("unknown command %q for %q", rest[0], found.CommandPath())
			}
			found.InitDefaultHelpFlag()
			return found.Help()
		},
	}
}

// plainFlagError words what Go's parsers of numbers and times say of a flag's value.
func plainFlagError(err error) error {
	text := err.Error()
	for _, c := range []struct{ theirs, ours string }{
		{"strconv.ParseBool: ", "it takes true or false"},
		{"strconv.ParseInt: ", "it takes a whole number"},
		{"strconv.ParseUint: ", "it takes a whole number from 0"},
		{"strconv.Atoi: ", "it takes a whole number"},
		{"strconv.ParseFloat: ", "it takes a number"},
		{"time: ", "it takes a duration, such as 30s, 10m or 2h30m"},
	} {
		if at := strings.Index(text, c.theirs); at >= 0 {
			return errors.New(text[:at] + c.ours)
		}
	}
	return err
}

// refuseUnknownShell has cobra's command of the shells refuse one that it does not know, in
// place of its help.
func refuseUnknownShell(root *cobra.Command) {
	root.InitDefaultCompletionCmd()
	for _, c := range root.Commands() {
		if c.Name() == "completion" {
			c.Args = cobra.ArbitraryArgs
			c.RunE = func(cmd *cobra.Command, args []string) error {
				if len(args) > 0 {
					return usageError(cmd, fmt.Sprintf("completion is for bash, zsh, fish and powershell, and not for %q", args[0]))
				}
				return cmd.Help()
			}
		}
	}
}

// dryRun is a flag that is given or not, and takes kubectl's words for how far a change is
// tried: the server always tries it.
type dryRun bool

// String implements pflag.Value.
func (d *dryRun) String() string { return fmt.Sprint(bool(*d)) }

// Type implements pflag.Value.
func (d *dryRun) Type() string { return "string" }

// Set implements pflag.Value.
func (d *dryRun) Set(text string) error {
	switch text {
	case "true", "server", "client":
		*d = true
	case "false", "none":
		*d = false
	default:
		return errors.New("it takes no value, or kubectl's server, client or none")
	}
	return nil
}
