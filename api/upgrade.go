package api

import (
	"strings"

	"go.yaml.in/yaml/v4"

	"sluice.dev/sluice/api/networking"
)

// olderIngress reports whether an Ingress is of a version that called its fields otherwise and
// that no API server of today serves.
func olderIngress(apiVersion, kind string) bool {
	return kind == "Ingress" && (apiVersion == "extensions/v1beta1" || apiVersion == networking.Group+"/v1beta1")
}

// upgradeIngress returns the spec of such an Ingress as networking.k8s.io/v1 has it, and what
// to say of it. Paths without a type keep the meaning that they had: the controller's own.
// What it cannot read stays, and is refused as what it is.
func upgradeIngress(apiVersion string, spec *yaml.Node) (upgraded *yaml.Node, said string) {
	u := new(upgrade)
	upgraded = u.mapping(spec, func(key string, value *yaml.Node) (string, *yaml.Node) {
		switch key {
		case "backend":
			u.did("spec.backend renamed to spec.defaultBackend")
			return "defaultBackend", u.backend(value)
		case "rules":
			return key, u.each(value, u.rule)
		}
		return key, value
	})
	said = "has the apiVersion " + apiVersion + ", which is not served any more: upgraded to " + networking.Group + "/" + networking.Version
	if len(u.changes) > 0 {
		said += ", " + strings.Join(u.changes, ", ")
	}
	return upgraded, said
}

// upgrade is what was changed of one object.
type upgrade struct{ changes []string }

func (u *upgrade) did(change string) {
	for _, known := range u.changes {
		if known == change {
			return
		}
	}
	u.changes = append(u.changes, change)
}

func (u *upgrade) rule(rule *yaml.Node) *yaml.Node {
	return u.mapping(rule, func(key string, value *yaml.Node) (string, *yaml.Node) {
		if key != "http" {
			return key, value
		}
		return key, u.mapping(value, func(key string, value *yaml.Node) (string, *yaml.Node) {
			if key != "paths" {
				return key, value
			}
			return key, u.each(value, u.path)
		})
	})
}

func (u *upgrade) path(path *yaml.Node) *yaml.Node {
	typed := false
	out := u.mapping(path, func(key string, value *yaml.Node) (string, *yaml.Node) {
		typed = typed || key == "pathType"
		if key == "backend" {
			return key, u.backend(value)
		}
		return key, value
	})
	if out.Kind == yaml.MappingNode && !typed {
		out.Content = append(out.Content, textNode("pathType", path.Line), textNode(networking.ImplementationSpecific, path.Line))
		u.did("paths of the type ImplementationSpecific")
	}
	return out
}

// backend is serviceName and servicePort as service.name and service.port.
func (u *upgrade) backend(old *yaml.Node) *yaml.Node {
	name, port := scalarOf(old, "serviceName"), scalarOf(old, "servicePort")
	if name == nil || port == nil || len(old.Content) != 4 {
		return old // it is written as today, or is something else
	}
	kind := "name"
	if port.ShortTag() == "!!int" {
		kind = "number"
	}
	of := func(line int, pairs ...*yaml.Node) *yaml.Node {
		return &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map", Line: line, Content: pairs}
	}
	return of(old.Line, textNode("service", old.Line), of(old.Line,
		textNode("name", name.Line), name,
		textNode("port", port.Line), of(port.Line, textNode(kind, port.Line), port)))
}

// mapping returns a mapping with each of its pairs as change has it; anything else as it is.
func (u *upgrade) mapping(node *yaml.Node, change func(key string, value *yaml.Node) (string, *yaml.Node)) *yaml.Node {
	if node == nil || node.Kind != yaml.MappingNode {
		return node
	}
	out := *node
	out.Content = make([]*yaml.Node, 0, len(node.Content)+2)
	for i := 0; i+1 < len(node.Content); i += 2 {
		key := *node.Content[i]
		var value *yaml.Node
		key.Value, value = change(key.Value, node.Content[i+1])
		out.Content = append(out.Content, &key, value)
	}
	return &out
}

// each returns a list with each of its items as change has it.
func (u *upgrade) each(node *yaml.Node, change func(*yaml.Node) *yaml.Node) *yaml.Node {
	if node.Kind != yaml.SequenceNode {
		return node
	}
	out := *node
	out.Content = make([]*yaml.Node, len(node.Content))
	for i, item := range node.Content {
		out.Content[i] = change(item)
	}
	return &out
}

func textNode(text string, line int) *yaml.Node {
	return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: text, Line: line}
}
