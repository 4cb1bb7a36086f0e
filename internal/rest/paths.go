package rest

import (
	"errors"
	"fmt"
	"strings"

	"sluice.dev/sluice/api"
)

// AllNamespaces in the place of a namespace means the objects of every one.
const AllNamespaces = "*"

// collection is the path of the objects of a kind, and member that of one of them.
func collection(kind *api.Kind, namespace string) (string, error) {
	path := "/apis/" + kind.APIVersion()
	if kind.Namespaced && namespace != AllNamespaces {
		if err := segment("namespace", namespace); err != nil {
			return "", err
		}
		path += "/namespaces/" + namespace
	}
	return path + "/" + kind.Plural, nil
}

func member(kind *api.Kind, namespace, name string) (string, error) {
	if namespace == AllNamespaces {
		return "", errors.New("an object has one namespace")
	}
	path, err := collection(kind, namespace)
	if err != nil {
		return "", err
	}
	if err := segment("name", name); err != nil {
		return "", err
	}
	return path + "/" + name, nil
}

// segment refuses what would lead to another path than the one meant.
func segment(what, s string) error {
	if s == "" || s == "." || s == ".." || strings.ContainsAny(s, "/%?#\\") {
		return fmt.Errorf("%q is not a %s", s, what)
	}
	return nil
}
