package cli

import (
	"context"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"sluice.dev/sluice/api"
	"sluice.dev/sluice/internal/rest"
)

// allTypes is the word for every kind.
const allTypes = "all"

func newGetCommand() *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use:   "get TYPE [NAME]",
		Short: "Show rules and configuration",
		Long:  "Shows the objects of a type in a namespace (default, unless -n says another), or one of them. Types: " + strings.Join(api.TypeWords(), ", ") + ", or all.",
		Example: `  sluice get egressrules
  sluice get egressrule googleapis -o yaml
  sluice get all -n books`,
		ValidArgsFunction: completeTypes,
		RunE: func(cmd *cobra.Command, args []string) error {
			switch {
			case len(args) == 0:
				return usageError(cmd, "specify the type of resource to get. Types are "+strings.Join(api.TypeWords(), ", ")+", all")
			case len(args) > 2:
				return usageError(cmd, "get takes a type and at most one name")
			}
			write, known := outputs[output]
			if !known {
				return fmt.Errorf("unknown output format %v. Types are json|yaml|short", output)
			}
			kinds := api.Kinds()
			if args[0] != allTypes {
				kind, err := lookup(args[0])
				if err != nil {
					return err
				}
				kinds = []*api.Kind{kind}
			} else if len(args) == 2 {
				return usageError(cmd, "get all takes no name")
			}
			client, err := clientFor(cmd)
			if err != nil {
				return err
			}
			defer client.Close()
			namespace, _ := namespaceFor(cmd)
			var objects []api.Object
			if len(args) == 2 {
				objects, err = getOne(cmd.Context(), client, kinds[0], namespace, args[1])
			} else {
				objects, err = getAll(cmd.Context(), client, kinds, namespace)
			}
			if err != nil {
				return err
			}
			return write(cmd.OutOrStdout(), objects, len(args) < 2)
		},
	}
	cmd.Flags().StringVarP(&output, "output", "o", "short", "output format: json|yaml|short")
	_ = cmd.RegisterFlagCompletionFunc("output", cobra.FixedCompletions([]string{"json", "yaml", "short"}, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

// getOne returns the named object, or none where it is not there.
func getOne(ctx context.Context, client *rest.Client, kind *api.Kind, namespace, name string) ([]api.Object, error) {
	o, err := client.Get(ctx, kind, namespace, name)
	switch {
	case rest.IsNotFound(err):
		return nil, nil
	case err != nil:
		return nil, err
	}
	return []api.Object{o}, nil
}

func getAll(ctx context.Context, client *rest.Client, kinds []*api.Kind, namespace string) ([]api.Object, error) {
	var objects []api.Object
	for _, kind := range kinds {
		listed, err := client.List(ctx, kind, namespace)
		if err != nil {
			return nil, err
		}
		objects = append(objects, listed...)
	}
	return objects, nil
}

// outputs writes objects in each format of -o; list is false where one object was
// asked for by name.
var outputs = map[string]func(w io.Writer, objects []api.Object, list bool) error{
	"short": func(w io.Writer, objects []api.Object, _ bool) error { return writeShort(w, objects) },
	"yaml": func(w io.Writer, objects []api.Object, _ bool) error {
		if len(objects) == 0 {
			return writeNone(w)
		}
		return api.WriteYAML(w, objects)
	},
	// A program reads it, so none is an empty List.
	"json": api.WriteJSON,
}

func writeNone(w io.Writer) error {
	_, err := fmt.Fprintln(w, "No resources found.")
	return err
}

// writeShort writes the table of Istio 0.5. A padding of 1 keeps columns apart whose
// text fills whole tabs, which ran into one another then.
func writeShort(w io.Writer, objects []api.Object) error {
	if len(objects) == 0 {
		return writeNone(w)
	}
	table := tabwriter.NewWriter(w, 0, 8, 1, '\t', 0)
	fmt.Fprintln(table, "NAME\tKIND\tNAMESPACE")
	for i := range objects {
		o := &objects[i]
		fmt.Fprintf(table, "%s\t%s\t%s\n", o.Metadata.Name, o.TypeOf().FullName(), o.Metadata.Namespace)
	}
	return table.Flush()
}
