package cli

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"sluice.dev/sluice/internal/paths"
)

// kubectlProgram has the verbs of kubectl. They are Kubernetes' own, in a binary of
// their own: linked here, they would take several times as long to start as the rest.
const kubectlProgram = "kubectl-sluice"

// newKubectlCommands returns the verbs that kubectlProgram has and we have not.
func newKubectlCommands() []*cobra.Command {
	return []*cobra.Command{
		kubectlCommand("edit", "(TYPE NAME | TYPE/NAME | -f FILE)", "Edit rules and configuration in an editor",
			"Opens objects in the editor of KUBE_EDITOR or EDITOR, and stores what was changed when it ends.",
			"  sluice edit egressrule googleapis"),
		kubectlCommand("diff", "-f FILE", "Show what apply would change",
			"Shows what the objects of a file would change, by the diff of KUBECTL_EXTERNAL_DIFF or diff(1).\nExit status: 0 where they change nothing, 1 where they change something.",
			"  sluice diff -f rules.yaml"),
		kubectlCommand("explain", "TYPE[.FIELD...]", "Say what a type is, and each of its fields",
			"Says of a type or a field what it is and which fields are below it.",
			"  sluice explain egresspolicy.spec.to"),
		kubectlCommand("wait", "(TYPE NAME | TYPE/NAME) --for=CONDITION", "Wait until objects are in a state",
			"Waits until objects have a condition (Accepted: compiled, in effect; Programmed: every connected\nproxy runs it), or are gone.",
			"  sluice wait --for=condition=Programmed egressrule/googleapis --timeout=30s\n  sluice wait --for=delete egressrule/googleapis"),
		kubectlCommand("label", "(TYPE NAME | TYPE/NAME) KEY=VALUE...", "Set, change or remove labels", "Sets labels of objects; KEY- removes one.",
			"  sluice label egressrule googleapis team=books"),
		kubectlCommand("annotate", "(TYPE NAME | TYPE/NAME) KEY=VALUE...", "Set, change or remove annotations", "Sets annotations of objects; KEY- removes one.",
			"  sluice annotate egressrule googleapis ticket=42"),
		kubectlCommand("patch", "(TYPE NAME | TYPE/NAME) --type=merge -p PATCH", "Change fields of an object",
			"Changes fields of an object by a merge patch (RFC 7396) or a JSON patch (RFC 6902).",
			`  sluice patch egressrule googleapis --type=merge -p '{"spec":{"ports":[{"port":443,"protocol":"https"}]}}'`),
	}
}

func kubectlCommand(verb, arguments, short, long, example string) *cobra.Command {
	return &cobra.Command{
		Use: verb + " " + arguments, Short: short, Example: example,
		Long:               long + "\n\nIt is kubectl's own command; sluice " + verb + " --help lists all of its flags.",
		DisableFlagParsing: true, // they are its own
		ValidArgsFunction:  completeTypes,
		RunE: func(cmd *cobra.Command, args []string) error {
			err := becomeKubectl(cmd, verb, args)
			if errors.Is(err, errNoKubectl) && isHelp(args) {
				return cmd.Help()
			}
			return err
		},
	}
}

// errNoKubectl is wrapped by the error of a machine without kubectlProgram.
var errNoKubectl = errors.New(kubectlProgram + " is neither beside sluice nor in PATH")

// becomeKubectl goes on as the kubectlProgram beside this binary, or that of PATH, under
// our name, by which it calls itself. It returns only where there is none.
func becomeKubectl(cmd *cobra.Command, verb string, args []string) error {
	path, err := paths.Program(kubectlProgram)
	if err != nil {
		return fmt.Errorf("%s is kubectl's own here, and %w: make build builds it beside sluice", cmd.CommandPath(), errNoKubectl)
	}
	return become(path, append([]string{cmd.Root().Name(), verb}, args...))
}

func isHelp(args []string) bool {
	return slices.ContainsFunc(args, func(arg string) bool { return arg == "-h" || arg == "--help" })
}

// addKubectlGetFlags adds the flags of get that kubectl's own reads, and marks each.
func addKubectlGetFlags(to *pflag.FlagSet) {
	f := pflag.NewFlagSet("", pflag.ContinueOnError)
	f.BoolP("watch", "w", false, "go on with each change until ^C")
	f.StringP("selector", "l", "", "only objects with these labels, as in app=books,env!=test")
	f.String("field-selector", "", "only objects with these fields, as in metadata.name=googleapis")
	f.String("sort-by", "", "field to sort by, as in .metadata.creationTimestamp")
	f.String("template", "", "template of -o go-template or jsonpath")
	f.Bool("show-labels", false, "a column of labels")
	f.Bool("no-headers", false, "no line of headers")
	f.Bool("ignore-not-found", false, "nothing, and exit status 0, where the object does not exist")
	f.VisitAll(func(flag *pflag.Flag) {
		flag.Annotations = map[string][]string{byKubectl: nil}
		to.AddFlag(flag)
	})
}

// byKubectl is the annotation of a flag that kubectl's own get reads.
const byKubectl = "by-kubectl"

// kubectlOutputs are the formats of get that kubectl's own prints; jsonpath and the
// templates take theirs behind "=".
var kubectlOutputs = []string{"wide", "name", "jsonpath", "jsonpath-as-json", "jsonpath-file", "go-template", "go-template-file", "custom-columns", "custom-columns-file"}

// getsByKubectl says whether a get asks for what kubectl's own does.
func getsByKubectl(cmd *cobra.Command, output string) bool {
	format, _, _ := strings.Cut(output, "=")
	found := slices.Contains(kubectlOutputs, format)
	cmd.Flags().Visit(func(flag *pflag.Flag) { // those that were given
		_, its := flag.Annotations[byKubectl]
		found = found || its
	})
	return found
}

// getByKubectl goes on as kubectl's own get, with the flags and arguments that were given.
func getByKubectl(cmd *cobra.Command, args []string) error {
	var given []string
	cmd.Flags().Visit(func(flag *pflag.Flag) {
		if flag.Name == "output" && flag.Value.String() == "short" {
			return // kubectl's own default
		}
		given = append(given, "--"+flag.Name+"="+flag.Value.String())
	})
	return becomeKubectl(cmd, "get", append(given, args...))
}
