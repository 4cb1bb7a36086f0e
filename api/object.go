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
}

// FieldError is one thing that is wrong with an object.
type FieldError struct {
	Path    string // "spec.ports[0].port"
	Line    int    // in Origin.File; 0 where unknown
	Message string // the text of facts 1.2 and 2.2 for the forms of 2018
}
