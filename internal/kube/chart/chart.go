// Package chart renders the chart of deploy/helm without Helm, for sluice install and
// uninstall, so that both ways of installing are made of the same files. It knows the few
// words that the chart's templates use, and refuses others; it must never speak to a cluster.
package chart

import (
	"fmt"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"

	"go.yaml.in/yaml/v4"

	"sluice.dev/sluice/deploy/crds"
	"sluice.dev/sluice/deploy/helm"
	"sluice.dev/sluice/deploy/kubernetes"
	"sluice.dev/sluice/deploy/webhook"
)

// Namespace is the one that Sluice is installed into.
const Namespace = "sluice-system"

// Values are what a user sets of the chart, by name, as in values.yaml.
type Values map[string]any

// ReadValues reads a file of values.
func ReadValues(name string, data []byte) (Values, error) {
	values := make(map[string]any) // maps in it are of the same type
	if err := yaml.Unmarshal(data, &values); err != nil {
		return nil, fmt.Errorf("%s: not the YAML of values: %w", name, err)
	}
	return plain(values).(map[string]any), nil
}

// plain makes numbers and maps those of JSON, which Helm's values are.
func plain(value any) any {
	switch v := value.(type) {
	case map[string]any:
		made := make(map[string]any, len(v))
		for key, inner := range v {
			made[key] = plain(inner)
		}
		return made
	case []any:
		made := make([]any, len(v))
		for i, inner := range v {
			made[i] = plain(inner)
		}
		return made
	case int:
		return float64(v)
	case int64:
		return float64(v)
	case uint64:
		return float64(v)
	}
	return value
}

// merge lays values over others as Helm does: maps are merged, everything else replaces, and
// null takes away.
func merge(under, over map[string]any) map[string]any {
	merged := maps.Clone(under)
	for key, value := range over {
		below, isMap := merged[key].(map[string]any)
		above, both := value.(map[string]any)
		switch {
		case value == nil:
			delete(merged, key)
		case isMap && both:
			merged[key] = merge(below, above)
		default:
			merged[key] = value
		}
	}
	return merged
}

// Render returns the objects of the chart for a version of Sluice, in the order in which
// they are applied. Each of given lies over the ones before, and all over values.yaml.
func Render(version string, given ...Values) ([]Object, error) {
	defaults, err := helm.Files.ReadFile("values.yaml")
	if err != nil {
		return nil, err
	}
	values, err := ReadValues("values.yaml", defaults)
	if err != nil {
		return nil, err
	}
	all := map[string]any(values)
	for _, over := range given {
		all = merge(all, over)
	}
	if err := validate(all); err != nil {
		return nil, err
	}
	var objects []Object
	templates, err := fs.Glob(helm.Files, "templates/*.yaml")
	if err != nil {
		return nil, err
	}
	for _, name := range templates {
		text, err := helm.Files.ReadFile(name)
		if err != nil {
			return nil, err
		}
		rendered, err := execute(name, string(text), version, all)
		if err != nil {
			return nil, err
		}
		found, err := split(rendered)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		objects = append(objects, found...)
	}
	slices.SortStableFunc(objects, func(a, b Object) int { return a.rank() - b.rank() })
	return objects, nil
}

// files is .Files of the templates: what the links in deploy/helm/files lead to.
type files struct{}

// folder returns what a folder of the chart's files is.
func folder(name string) (fs.FS, error) {
	switch name {
	case "files/crds":
		return crds.Files, nil
	case "files/kubernetes":
		return kubernetes.Files, nil
	case "files/webhook":
		return webhook.Files, nil
	}
	return nil, fmt.Errorf("the chart has no folder %s", name)
}

// Glob returns the files of a folder by path.
func (files) Glob(pattern string) (map[string]string, error) {
	dir, name := path.Split(pattern)
	in, err := folder(strings.TrimSuffix(dir, "/"))
	if err != nil {
		return nil, err
	}
	found, err := fs.Glob(in, name)
	if err != nil {
		return nil, err
	}
	all := make(map[string]string, len(found))
	for _, name := range found {
		data, err := fs.ReadFile(in, name)
		if err != nil {
			return nil, err
		}
		all[dir+name] = string(data)
	}
	return all, nil
}

// Get returns a file.
func (files) Get(name string) (string, error) {
	in, err := folder(path.Dir(name))
	if err != nil {
		return "", err
	}
	data, err := fs.ReadFile(in, path.Base(name))
	return string(data), err
}
