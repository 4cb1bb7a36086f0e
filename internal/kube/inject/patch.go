package inject

import (
	"bytes"
	"slices"
	"strings"

	"go.yaml.in/yaml/v4"
)

// Patch puts the sidecar into a Pod that is being created, given as JSON, and returns what
// changes as a JSON Patch (RFC 6902); it is empty where nothing does. An error is of the
// type Problems.
func Patch(pod []byte, o Options) (patch []byte, notes []Problem, err error) {
	w, root, err := reading(pod, o)
	if err != nil {
		return nil, nil, err
	}
	before := copied(root)
	w.pod(root)
	if err := w.refused(); err != nil {
		return nil, nil, err
	}
	var out bytes.Buffer
	difference(&out, "", before, root)
	if out.Len() == 0 {
		return nil, w.notes, nil
	}
	return append(append([]byte("["), out.Bytes()...), ']'), w.notes, nil
}

// Added judges the ephemeral containers of a Pod, given as JSON, that has the sidecar: who
// adds one may not get around it either. A Pod without it may have any. An error is of the
// type Problems.
func Added(pod []byte, o Options) (notes []Problem, err error) {
	w, root, err := reading(pod, o)
	if err != nil {
		return nil, err
	}
	spec := get(root, "spec")
	if !slices.ContainsFunc(list(get(spec, "initContainers")), func(c *yaml.Node) bool { return text(c, "name") == ProxyName }) {
		return nil, nil
	}
	remove(spec, "initContainers") // which were judged when the Pod was created, as the rest of it
	remove(spec, "containers")
	var s settings
	w.fit(spec, &s)
	if len(s.bypassed) > 0 && !w.options.AllowBypass {
		w.fail(spec, "%s would bypass the sidecar: the MeshConfig does not allow it (spec.allowBypass)", strings.Join(s.bypassed, "; "))
	}
	return w.notes, w.refused()
}

// reading reads a Pod in JSON.
func reading(pod []byte, o Options) (*worker, *yaml.Node, error) {
	w := &worker{options: o}
	if err := w.options.validate(); err != nil {
		return nil, nil, Problems{{Text: err.Error()}}
	}
	root, err := parseJSON(pod)
	if err == nil {
		err = checkKeys(root)
	}
	if err != nil {
		return nil, nil, Problems{{Text: "the Pod cannot be read: " + err.Error()}}
	}
	if spec := get(root, "spec"); spec == nil || spec.Kind != yaml.MappingNode {
		return nil, nil, Problems{{Text: "the Pod has no spec"}}
	}
	return w, root, nil
}

// refused is what is wrong with a Pod in JSON, nil where that is nothing.
func (w *worker) refused() error {
	if len(w.problems) == 0 {
		return nil
	}
	for i := range w.problems {
		w.problems[i].Line = 0 // of the JSON, which nobody wrote
	}
	return w.problems
}

// difference writes the operations that make one mapping another. What is not a mapping is
// replaced whole.
func difference(out *bytes.Buffer, path string, from, to *yaml.Node) {
	for i := 0; i+1 < len(from.Content); i += 2 {
		if name := from.Content[i].Value; indexOf(to, name) < 0 {
			operation(out, "remove", path+"/"+pointer(name), nil)
		}
	}
	for i := 0; i+1 < len(to.Content); i += 2 {
		name, value := to.Content[i].Value, to.Content[i+1]
		at := path + "/" + pointer(name)
		switch j := indexOf(from, name); {
		case j < 0:
			operation(out, "add", at, value)
		case same(from.Content[j+1], value):
		case from.Content[j+1].Kind == yaml.MappingNode && value.Kind == yaml.MappingNode:
			difference(out, at, from.Content[j+1], value)
		default:
			operation(out, "replace", at, value)
		}
	}
}

func operation(out *bytes.Buffer, name, path string, value *yaml.Node) {
	if out.Len() > 0 {
		out.WriteByte(',')
	}
	pairs := []any{"op", name, "path", path}
	if value != nil {
		pairs = append(pairs, "value", value)
	}
	writeJSON(out, mapping(pairs...))
}

// pointer writes a key as a part of a JSON Pointer (RFC 6901).
func pointer(name string) string {
	return strings.NewReplacer("~", "~0", "/", "~1").Replace(name)
}
