package registry

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"sluice.dev/sluice/internal/wire"
)

// AmbiguousError says that a name can mean several workloads.
type AmbiguousError struct {
	Name  string
	Meant []string // namespace and service-version, sorted
}

func (e *AmbiguousError) Error() string {
	return fmt.Sprintf("%s can mean %s: say more of it, or its namespace", e.Name, strings.Join(e.Meant, ", "))
}

// Find returns the workload that name means, in namespace or, where that is empty,
// in any: an instance, a service-version (then its first instance, for all of one
// run the same rules), or the beginning of one that only one service-version has.
// The error is an *AmbiguousError.
func (m *Moment) Find(name, namespace string) (found wire.Workload, ok bool, err error) {
	var matches []wire.Workload
	for _, fits := range []func(w *wire.Workload) bool{
		func(w *wire.Workload) bool { return w.Instance == name },
		func(w *wire.Workload) bool { return baseOf(w) == name },
		func(w *wire.Workload) bool { return strings.HasPrefix(w.Instance, name) },
	} {
		for i := range m.Workloads {
			w := &m.Workloads[i]
			if (namespace == "" || w.Namespace == namespace) && fits(w) {
				matches = append(matches, *w)
			}
		}
		if len(matches) > 0 {
			break
		}
	}
	if len(matches) == 0 {
		return wire.Workload{}, false, nil
	}
	var meant []string
	for i := range matches {
		if name := matches[i].Namespace + "/" + baseOf(&matches[i]); !slices.Contains(meant, name) {
			meant = append(meant, name)
		}
	}
	if len(meant) > 1 {
		slices.Sort(meant)
		return wire.Workload{}, false, &AmbiguousError{Name: name, Meant: meant}
	}
	return slices.MinFunc(matches, func(a, b wire.Workload) int { return cmp.Compare(a.Instance, b.Instance) }), true, nil
}

// baseOf is the instance without its number.
func baseOf(w *wire.Workload) string {
	base, _, _ := strings.Cut(w.Instance, "/")
	return base
}
