package edge

import (
	"errors"
	"fmt"
	"strings"

	"sluice.dev/sluice/internal/httppath"
	"sluice.dev/sluice/internal/names"
)

// CheckHost says why a host cannot be one of a rule: it is compared in its canonical form.
func CheckHost(host string) error {
	name, err := names.Parse(host)
	switch {
	case err != nil:
		return fmt.Errorf("%q is not a host name: %w", host, err)
	case name.String() != host:
		return fmt.Errorf("%q is compared as %s: write that", host, name)
	}
	return nil
}

// CheckHostPattern is CheckHost for a host that may begin with "*.".
func CheckHostPattern(host string) error {
	rest, wild := strings.CutPrefix(host, "*.")
	switch {
	case wild && !strings.Contains(rest, "*"):
		return CheckHost(rest)
	case strings.Contains(host, "*"):
		return fmt.Errorf("%q: a star stands for the whole first label alone, as in *.example.com", host)
	}
	return CheckHost(host)
}

// CheckPath says why a path cannot be one of a rule.
func CheckPath(path string) error {
	switch {
	case path == "":
		return errors.New("is missing: write a path, as in /")
	case path[0] != '/':
		return fmt.Errorf("%q must begin with /", path)
	case len(path) > maxPath:
		return fmt.Errorf("longer than %d bytes", maxPath)
	case !httppath.IsNormal(path):
		return fmt.Errorf("%q can be read in more than one way: no request is led by it (no //, . or .. between slashes, %%2F, ;, ? or #)", path)
	}
	return nil
}

// CheckIstioPath is CheckPath for a path as Istio 0.5 read it: empty is every one, and ".*" at
// its end makes it a prefix by characters.
func CheckIstioPath(path string) error {
	prefix, wild := strings.CutSuffix(path, ".*")
	switch {
	case path == "" || wild && prefix == "/":
		return nil
	case strings.ContainsAny(prefix, "*+[](){}|^$"):
		return fmt.Errorf("%q is a regular expression: the ingress takes an exact path, or a prefix that ends in .*", path)
	}
	return CheckPath(prefix)
}

// SetPath fills how a rule compares the path from a path that one of the checks let pass: kind
// is Exact, Characters or Elements.
func (r *Rule) SetPath(kind Kind, path string) {
	switch {
	case path == "/" && kind != Exact:
		r.Kind, r.Path = Any, ""
		return
	case kind == Elements:
		path = strings.TrimSuffix(path, "/")
	}
	r.Kind, r.Path = kind, path
}

// SetIstioPath is SetPath for a path of CheckIstioPath.
func (r *Rule) SetIstioPath(path string) {
	prefix, wild := strings.CutSuffix(path, ".*")
	switch {
	case path == "":
		r.SetPath(Characters, "/")
	case wild:
		r.SetPath(Characters, prefix)
	default:
		r.SetPath(Exact, path)
	}
}
