package cli

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"sluice.dev/sluice/api"
	"sluice.dev/sluice/internal/control/inspect"
	"sluice.dev/sluice/internal/rest"
)

// lookup finds the kind of a word; of one that is not known it says which word is
// near.
func lookup(word string) (*api.Kind, error) {
	kind, err := api.Lookup(word)
	if err != nil && !strings.Contains(word, "-") { // those have a hint already
		if near := nearest(strings.ToLower(word)); near != "" {
			err = fmt.Errorf("%w. Did you mean %s?", err, near)
		}
	}
	return kind, err
}

// nearest is the word for a type that is at most two letters away, or "".
func nearest(word string) string {
	best, found := 3, ""
	for _, kind := range api.Kinds() {
		for _, known := range []string{kind.Singular, kind.Plural} {
			if d := api.Distance(word, known); d < best {
				best, found = d, known
			}
		}
	}
	return found
}

// completionTime bounds how long a shell waits for words that the server knows.
const completionTime = 2 * time.Second

// completeTypes offers the words for types as the first argument, and behind it the
// names that the server has.
func completeTypes(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	const none = cobra.ShellCompDirectiveNoFileComp
	if len(args) == 0 {
		words := api.TypeWords()
		if cmd.Name() == "get" {
			words = append(words, allTypes)
		}
		return words, none
	}
	kind, err := api.Lookup(args[0])
	if err != nil || cmd.Name() == "get" && len(args) > 1 {
		return nil, none
	}
	client, err := completionClient(cmd)
	if err != nil {
		return nil, none
	}
	defer client.Close()
	namespace, _ := namespaceFor(cmd)
	objects, err := client.List(cmd.Context(), kind, namespace)
	if err != nil {
		return nil, none
	}
	var names []string
	for i := range objects {
		if name := objects[i].Metadata.Name; !slices.Contains(args[1:], name) {
			names = append(names, name)
		}
	}
	return names, none
}

// completeWorkloads offers the instances that have joined.
func completeWorkloads(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
	const none = cobra.ShellCompDirectiveNoFileComp
	client, err := completionClient(cmd)
	if err != nil {
		return nil, none
	}
	defer client.Close()
	var status inspect.Status
	if err := client.Sluice(cmd.Context(), inspect.StatusPath, nil, &status); err != nil {
		return nil, none
	}
	names := make([]string, 0, len(status.Workloads))
	for i := range status.Workloads {
		names = append(names, status.Workloads[i].Instance)
	}
	return names, none
}

func completionClient(cmd *cobra.Command) (*rest.Client, error) {
	return newClient(cmd, rest.Config{Timeout: completionTime})
}
