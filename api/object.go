// Package api is what users write: the kinds, their defaults and validation, and
// YAML with line numbers. It links no Kubernetes, so that the command line stays
// small; api/kube wraps the same specs for the store. It never talks to a server.
package api

import (
	"encoding/json"
	"time"
)

// Object is one object as a user wrote it or as the store holds it.
type Object struct {
	APIVersion string          `json:"apiVersion"`
	Kind       string          `json:"kind"`
	Metadata   Meta            `json:"metadata"`
	Spec       any             `json:"spec,omitempty"` // a pointer to the kind's spec, e.g. *istio.EgressRuleSpec
	Status     json.RawMessage `json:"status,omitempty"`

	Origin Origin `json:"-"` // where it was read from; zero for the store
}

// Meta is the part of Kubernetes' ObjectMeta that Sluice reads; the store keeps
// the rest.
type Meta struct {
	Name              string            `json:"name"`
	Namespace         string            `json:"namespace,omitempty"`
	Labels            map[string]string `json:"labels,omitempty"`
	Annotations       map[string]string `json:"annotations,omitempty"`
	ResourceVersion   string            `json:"resourceVersion,omitempty"`
	UID               string            `json:"uid,omitempty"`
	Generation        int64             `json:"generation,omitempty"`
	CreationTimestamp time.Time         `json:"creationTimestamp,omitzero"`
}

// Origin is the place of an object in a file.
type Origin struct {
	File string
	Line int // of the document's first line, from 1

	lines    map[string]int // by field path; nil for the store
	upgraded string         // what was changed so that it is of a version that is served
}

// LineOf returns the line of the field at path, or, where it was
// not written, the line of the closest field around it. It is 0 for an object
// of the store.
func (o Origin) LineOf(path string) int {
	for path != "" {
		if line, ok := o.lines[path]; ok {
			return line
		}
		path = parentPath(path)
	}
	return o.Line
}

// parentPath cuts the last element off a field path: "a.b[c.d]" has the parent
// "a.b", and that has the parent "a".
func parentPath(path string) string {
	depth := 0
	for i := len(path) - 1; i >= 0; i-- {
		switch path[i] {
		case ']':
			depth++
		case '[':
			depth--
			if depth <= 0 {
				return path[:i]
			}
		case '.':
			if depth == 0 {
				return path[:i]
			}
		}
	}
	return ""
}

// TypeOf returns the kind of the object. It is nil for an object that Decode or
// DecodeJSON did not make and whose kind is not known.
func (o *Object) TypeOf() *Kind {
	kind, _ := KindOf(o.APIVersion, o.Kind)
	return kind
}

// DefaultNamespace is the namespace of a namespaced object that names none.
const DefaultNamespace = "default"

// SetNamespace gives a namespaced object that says no namespace the one given.
func (o *Object) SetNamespace(namespace string) {
	if kind := o.TypeOf(); kind != nil && kind.Namespaced && o.Metadata.Namespace == "" {
		o.Metadata.Namespace = namespace
	}
}

// ID names the object among all: "egress-rule/default/googleapis", and for a
// cluster-scoped one "mesh-config/default".
func (o *Object) ID() string {
	kind := o.TypeOf()
	if kind == nil {
		kind = &Kind{Kebab: o.Kind}
	}
	return kind.ID(o.Metadata.Namespace, o.Metadata.Name)
}
