package inject

import (
	"bytes"
	"strings"

	"go.yaml.in/yaml/v4"
)

// Patch puts the sidecar into a Pod that is being created, given as JSON, and returns what
// changes as a JSON Patch (RFC 6902); it is empty where nothing does. An error is of the
// type Problems.
func Patch(pod []byte, o Options) (patch []byte, notes []Problem, err error) {
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
	before := copied(root)
	if get(root, "spec") == nil {
		return nil, nil, Problems{{Text: "the Pod has no spec"}}
	}
	w.pod(root)
	if len(w.problems) > 0 {
		for i := range w.problems {
			w.problems[i].Line = 0 // of the JSON, which nobody wrote
		}
		return nil, nil, w.problems
	}
	var out bytes.Buffer
	difference(&out, "", before, root)
	if out.Len() == 0 {
		return nil, w.notes, nil
	}
	return append(append([]byte("["), out.Bytes()...), ']'), w.notes, nil
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
