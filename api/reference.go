package api

import (
	"errors"
	"fmt"
	"strings"
)

// Reference names one object as people write it.
type Reference struct {
	Kind      *Kind
	Word      string // for the kind, as it was written
	Namespace string // "" where none was said
	Name      string
}

// ErrNoReference is wrapped by the error of a text that does not begin as the name of an
// object does: it may be something else, such as a host with a path.
var ErrNoReference = errors.New("is not the name of an object: those look like egress-rule/NAMESPACE/NAME")

// ParseReference reads what names one object: in the form that everything that Sluice prints
// has (egress-rule/books/googleapis, mesh-config/default), or in that of kubectl
// (egressrule/googleapis, er/googleapis, egressrule.config.istio.io/googleapis), which takes
// a namespace in the middle too.
func ParseReference(text string) (Reference, error) {
	parts := strings.Split(text, "/")
	for _, kind := range kinds {
		if parts[0] != kind.Kebab {
			continue
		}
		switch {
		case kind.Namespaced && len(parts) == 3 && IsNamespace(parts[1]) && parts[2] != "":
			return Reference{kind, parts[0], parts[1], parts[2]}, nil
		case !kind.Namespaced && len(parts) == 2 && parts[1] != "":
			return Reference{kind, parts[0], "", parts[1]}, nil
		case kind.Namespaced:
			return Reference{}, fmt.Errorf("%q must look like %s/NAMESPACE/NAME, or write %s/NAME", text, kind.Kebab, kind.Singular)
		}
		return Reference{}, fmt.Errorf("%q must look like %s/NAME", text, kind.Kebab)
	}
	kind, err := Lookup(parts[0])
	if err != nil || len(parts) == 1 {
		return Reference{}, fmt.Errorf("%q %w", text, ErrNoReference)
	}
	switch {
	case len(parts) == 2 && parts[1] != "":
		return Reference{kind, parts[0], "", parts[1]}, nil
	case kind.Namespaced && len(parts) == 3 && IsNamespace(parts[1]) && parts[2] != "":
		return Reference{kind, parts[0], parts[1], parts[2]}, nil
	case kind.Namespaced:
		return Reference{}, fmt.Errorf("%q must look like %s/NAME or %s/NAMESPACE/NAME", text, parts[0], parts[0])
	}
	return Reference{}, fmt.Errorf("%q must look like %s/NAME", text, parts[0])
}
