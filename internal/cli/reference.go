package cli

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"sluice.dev/sluice/api"
)

// reference names an object, or with no name every object of its kind.
type reference = api.Reference

// parseReferences reads the arguments of a command that takes objects: TYPE [NAME...],
// TYPE/NAME..., or the names that Sluice prints. TYPE may be several, with commas. Each
// reference has the namespace in which it is to be looked for; "" is that of an object
// without one.
func parseReferences(cmd *cobra.Command, args []string) ([]reference, error) {
	var refs []reference
	var err error
	if len(args) > 0 && !strings.Contains(args[0], "/") {
		refs, err = typesAndNames(args[0], args[1:])
	} else {
		refs, err = slashed(args)
	}
	if err != nil {
		return nil, err
	}
	namespace, given := namespaceFor(cmd)
	var kinds []*api.Kind
	for i := range refs {
		ref := &refs[i]
		kinds = append(kinds, ref.Kind)
		switch {
		case !ref.Kind.Namespaced:
		case ref.Namespace == "":
			ref.Namespace = namespace
		case given && ref.Namespace != namespace:
			return nil, fmt.Errorf("%s/%s/%s is in the namespace %s, and --namespace says %s: leave it out", ref.Kind.Kebab, ref.Namespace, ref.Name, ref.Namespace, namespace)
		}
	}
	if given {
		if err := api.CheckNamespaced(kinds...); err != nil {
			return nil, err
		}
	}
	return refs, nil
}

func typesAndNames(types string, names []string) (refs []reference, err error) {
	for word := range strings.SplitSeq(types, ",") {
		kind, err := lookup(word)
		if err != nil {
			return nil, err
		}
		if len(names) == 0 {
			refs = append(refs, reference{Kind: kind, Word: word})
		}
		for _, name := range names {
			refs = append(refs, reference{Kind: kind, Word: word, Name: name})
		}
	}
	return refs, nil
}

func slashed(args []string) (refs []reference, err error) {
	for _, arg := range args {
		word, _, found := strings.Cut(arg, "/")
		if !found {
			return nil, fmt.Errorf("%q between objects in the form TYPE/NAME: write them all so, or one TYPE and its names", arg)
		}
		ref, err := api.ParseReference(arg)
		if errors.Is(err, api.ErrNoReference) { // because of its type
			if _, err := lookup(word); err != nil {
				return nil, err
			}
		}
		if err != nil {
			return nil, err
		}
		refs = append(refs, ref)
	}
	return refs, nil
}
