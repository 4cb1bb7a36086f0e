package cli

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"sluice.dev/sluice/api"
)

// reference is an object as the command line names it.
type reference struct {
	kind      *api.Kind
	word      string // for the kind, as it was written
	namespace string // "" where none was said
	name      string // "" means every object of the kind
}

// parseObjectID reads the name by which everything that Sluice prints calls an object:
// egress-rule/books/googleapis, and mesh-config/default for one without a namespace.
func parseObjectID(text string) (reference, error) {
	parts := strings.Split(text, "/")
	for _, kind := range api.Kinds() {
		if parts[0] != kind.Kebab {
			continue
		}
		switch {
		case kind.Namespaced && len(parts) == 3 && api.IsNamespace(parts[1]) && parts[2] != "":
			return reference{kind, parts[0], parts[1], parts[2]}, nil
		case !kind.Namespaced && len(parts) == 2 && parts[1] != "":
			return reference{kind, parts[0], "", parts[1]}, nil
		case kind.Namespaced:
			return reference{}, fmt.Errorf("%q must look like %s/NAMESPACE/NAME, or write %s/NAME", text, kind.Kebab, kind.Singular)
		}
		return reference{}, fmt.Errorf("%q must look like %s/NAME", text, kind.Kebab)
	}
	return reference{}, fmt.Errorf("%q is not the name of an object: those look like egress-rule/NAMESPACE/NAME", text)
}

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
	for i := range refs {
		ref := &refs[i]
		switch {
		case !ref.kind.Namespaced:
		case ref.namespace == "":
			ref.namespace = namespace
		case given && ref.namespace != namespace:
			return nil, fmt.Errorf("%s/%s is in the namespace %s, and --namespace says %s: leave it out", ref.kind.Kebab, ref.name, ref.namespace, namespace)
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
			refs = append(refs, reference{kind: kind, word: word})
		}
		for _, name := range names {
			refs = append(refs, reference{kind: kind, word: word, name: name})
		}
	}
	return refs, nil
}

func slashed(args []string) (refs []reference, err error) {
	for _, arg := range args {
		word, name, found := strings.Cut(arg, "/")
		if !found {
			return nil, fmt.Errorf("%q between objects in the form TYPE/NAME: write them all so, or one TYPE and its names", arg)
		}
		if strings.Contains(word, "-") { // a name that was printed
			ref, err := parseObjectID(arg)
			if err != nil {
				return nil, err
			}
			refs = append(refs, ref)
			continue
		}
		kind, err := lookup(word)
		if err != nil {
			return nil, err
		}
		if name == "" || strings.Contains(name, "/") {
			return nil, fmt.Errorf("%q must look like %s/NAME", arg, word)
		}
		refs = append(refs, reference{kind: kind, word: word, name: name})
	}
	return refs, nil
}
