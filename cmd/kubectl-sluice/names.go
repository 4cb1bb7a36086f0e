package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"sluice.dev/sluice/api"
)

// category is what the definitions of our kinds call all of them; allTypes is our word.
const (
	category = "sluice"
	allTypes = "all"
)

// kubectlForm gives the arguments of a verb the form of kubectl, in their place: names as
// Sluice prints them (egress-rule/books/googleapis, whose namespace the server takes), and
// the words for types that mean another kind to kubectl. A type of others is answered with
// what to write here.
func (s *server) kubectlForm(verb *cobra.Command, args []string) error {
	if s.namespace != "" {
		if err := api.CheckNamespace(s.namespace); err != nil {
			return err
		}
	}
	if len(args) == 0 {
		return nil
	}
	if verb.Name() == "explain" {
		return explained(args)
	}
	if !strings.Contains(args[0], "/") {
		return s.typed(args)
	}
	first, kinds := "", []*api.Kind(nil)
	for i, arg := range args {
		ref, err := api.ParseReference(arg)
		if errors.Is(err, api.ErrNoReference) {
			word, _, slash := strings.Cut(arg, "/")
			if !slash || strings.ContainsAny(arg, "=.") {
				continue // a label, or what kubectl knows
			}
			if err := foreign(word); err != nil {
				return err
			}
			continue
		}
		if err != nil {
			return err
		}
		kinds = append(kinds, ref.Kind)
		if args[i] = ref.Kind.Resource() + "/" + ref.Name; ref.Namespace == "" {
			continue
		}
		switch {
		case first != "" && s.namespace != ref.Namespace:
			return fmt.Errorf("%s is in another namespace than %s: name each in a command of its own", arg, first)
		case s.namespace != "" && s.namespace != ref.Namespace:
			return fmt.Errorf("%s is in the namespace %s, and --namespace says %s: leave it out", arg, ref.Namespace, s.namespace)
		}
		first, s.namespace = arg, ref.Namespace
	}
	if s.namespace != "" {
		return api.CheckNamespaced(kinds...)
	}
	return nil
}

// typed translates TYPE[,TYPE...].
func (s *server) typed(args []string) error {
	var kinds []*api.Kind
	words := strings.Split(args[0], ",")
	for i, word := range words {
		if strings.EqualFold(word, allTypes) {
			words[i] = category
			kinds = append(kinds, api.Kinds()...)
			continue
		}
		kind, err := api.Lookup(word)
		if err == nil {
			words[i] = kind.Resource()
			kinds = append(kinds, kind)
		} else if err := foreign(word); err != nil {
			return err
		}
	}
	args[0] = strings.Join(words, ",")
	if s.namespace != "" && len(kinds) == len(words) { // the server knows the others
		return api.CheckNamespaced(kinds...)
	}
	return nil
}

// explained translates TYPE[.FIELD...].
func explained(args []string) error {
	if kind, err := api.Lookup(args[0]); err == nil {
		args[0] = kind.Plural
		return nil
	}
	word, fields, _ := strings.Cut(args[0], ".")
	kind, err := api.Lookup(word)
	if err != nil {
		return foreign(word)
	}
	args[0] = kind.Plural
	if fields != "" {
		args[0] += "." + fields
	}
	return nil
}

// foreign says of a word for a type of others what to write here; nil where nothing is
// known of it, and the server may know it.
func foreign(word string) error {
	_, err := api.Lookup(word)
	var unknown *api.UnknownTypeError
	if errors.As(err, &unknown) {
		return nil
	}
	return err
}
