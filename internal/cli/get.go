package cli

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"sluice.dev/sluice/api"
	"sluice.dev/sluice/internal/rest"
)

// allTypes is the word for every kind.
const allTypes = "all"

func newGetCommand() *cobra.Command {
	var output string
	var everywhere bool
	cmd := &cobra.Command{
		Use:   "get (TYPE [NAME...] | TYPE/NAME...)",
		Short: "Show rules and configuration",
		Long: `Shows the objects of a type in a namespace (default, unless -n says another; -A: in every one), or
those that are named. Types: ` + strings.Join(api.TypeWords(), ", ") + `, or all; several with commas
between. With -w, -l, -o wide, jsonpath, go-template, custom-columns or name, and with the flags for
sorting and selecting, kubectl's own get answers.`,
		Example: `  sluice get egressrules
  sluice get egressrule googleapis -o yaml
  sluice get egress-rule/default/googleapis
  sluice get all -A`,
		ValidArgsFunction: completeTypes,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usageError(cmd, "specify the type of resource to get. Types are "+strings.Join(api.TypeWords(), ", ")+", all")
			}
			if getsByKubectl(cmd, output) {
				return getByKubectl(cmd, args)
			}
			write, known := outputs[output]
			if !known {
				return fmt.Errorf("unknown output format %v. Types are json|yaml|short|%s", output, strings.Join(kubectlOutputs, "|"))
			}
			if _, given := namespaceFor(cmd); given && everywhere {
				return errors.New("--namespace and --all-namespaces exclude each other")
			}
			objects, missing, named, err := getObjects(cmd, args, everywhere)
			if err != nil {
				return err
			}
			if len(missing) == 0 || len(objects) > 0 {
				if err := write(cmd.OutOrStdout(), objects, shown{list: !named, everywhere: everywhere}); err != nil {
					return err
				}
			}
			if len(missing) == 1 {
				return errors.New(missing[0])
			}
			return listOf(missing)
		},
	}
	f := cmd.Flags()
	f.StringVarP(&output, "output", "o", "short", "output format: json|yaml|short|"+strings.Join(kubectlOutputs, "|"))
	f.BoolVarP(&everywhere, "all-namespaces", "A", false, "the objects of every namespace")
	addKubectlGetFlags(f)
	_ = cmd.RegisterFlagCompletionFunc("output", cobra.FixedCompletions(append([]string{"json", "yaml", "short"}, kubectlOutputs...), cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

// getObjects fetches what the arguments of get name. named says that each was named: then
// missing says of those that do not exist that they do not.
func getObjects(cmd *cobra.Command, args []string, everywhere bool) (objects []api.Object, missing []string, named bool, err error) {
	refs, err := getReferences(cmd, args)
	if err != nil {
		return nil, nil, false, err
	}
	if refs[0].Name != "" && everywhere {
		return nil, nil, false, errors.New("an object is named in one namespace: leave --all-namespaces out")
	}
	client, err := clientFor(cmd)
	if err != nil {
		return nil, nil, false, err
	}
	defer client.Close()
	for _, ref := range refs {
		if ref.Name != "" {
			named = true
			o, err := client.Get(cmd.Context(), ref.Kind, ref.Namespace, ref.Name)
			if rest.IsNotFound(err) {
				missing = append(missing, err.Error())
				continue
			}
			if err != nil {
				return nil, nil, true, err
			}
			objects = append(objects, o)
			continue
		}
		namespace := ref.Namespace
		if everywhere {
			namespace = rest.AllNamespaces
		}
		listed, err := client.List(cmd.Context(), ref.Kind, namespace)
		if err != nil {
			return nil, nil, false, err
		}
		objects = append(objects, listed...)
	}
	return objects, missing, named, nil
}

func getReferences(cmd *cobra.Command, args []string) ([]reference, error) {
	if args[0] != allTypes {
		return parseReferences(cmd, args)
	}
	if len(args) > 1 {
		return nil, usageError(cmd, "get all takes no name")
	}
	namespace, _ := namespaceFor(cmd)
	var refs []reference
	for _, kind := range api.Kinds() {
		refs = append(refs, reference{Kind: kind, Namespace: namespace})
	}
	return refs, nil
}

// shown is what was asked for: a list and not objects by name, of every namespace.
type shown struct{ list, everywhere bool }

// outputs writes objects in each format of -o.
var outputs = map[string]func(w io.Writer, objects []api.Object, what shown) error{
	"short": func(w io.Writer, objects []api.Object, what shown) error {
		return writeTables(w, objects, what.everywhere, time.Now())
	},
	"yaml": func(w io.Writer, objects []api.Object, _ shown) error {
		if len(objects) == 0 {
			return writeNone(w)
		}
		return api.WriteYAML(w, objects)
	},
	// A program reads it, so none is an empty List.
	"json": func(w io.Writer, objects []api.Object, what shown) error {
		return api.WriteJSON(w, objects, what.list || len(objects) > 1)
	},
}

func writeNone(w io.Writer) error {
	_, err := fmt.Fprintln(w, "No resources found.")
	return err
}
