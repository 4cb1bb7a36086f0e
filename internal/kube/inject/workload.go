package inject

import (
	"slices"
	"strings"

	"go.yaml.in/yaml/v4"
)

// templates is where the kinds of Kubernetes that make Pods hold the Pod's template, by
// group and kind.
var templates = map[string][]string{
	"apps/Deployment":        {"spec", "template"},
	"apps/DaemonSet":         {"spec", "template"},
	"apps/ReplicaSet":        {"spec", "template"},
	"apps/StatefulSet":       {"spec", "template"},
	"/ReplicationController": {"spec", "template"},
	"/PodTemplate":           {"template"},
	"/Pod":                   {},
	"batch/Job":              {"spec", "template"},
	"batch/CronJob":          {"spec", "jobTemplate", "spec", "template"},
}

// maxLists bounds the lists within one another.
const maxLists = 4

// resource goes through one object, or the items of a list.
func (w *worker) resource(node *yaml.Node, lists int) {
	w.object = ""
	if node.Kind != yaml.MappingNode {
		w.fail(node, "an object of Kubernetes must be a mapping of names to values")
		return
	}
	kind := get(node, "kind")
	if kind == nil || kind.Kind != yaml.ScalarNode {
		w.fail(node, "kind is missing")
		return
	}
	if items := get(node, "items"); strings.HasSuffix(kind.Value, "List") && items != nil {
		switch {
		case items.Kind != yaml.SequenceNode:
			w.fail(items, "items must be a list")
		case lists == maxLists:
			w.fail(items, "more than %d lists within one another", maxLists)
		default:
			w.items(node, items, strings.TrimSuffix(kind.Value, "List"), lists)
		}
		return
	}
	w.object = nameOf(node)
	w.upgrade(node)
	group, _, versioned := strings.Cut(text(node, "apiVersion"), "/")
	if !versioned {
		group = ""
	}
	path, known := templates[group+"/"+kind.Value]
	if !known {
		return
	}
	template := get(node, path...)
	if template == nil || get(template, "spec") == nil {
		w.fail(node, "%s is missing", strings.Join(append(slices.Clone(path), "spec"), "."))
		return
	}
	if w.pod(template) {
		w.injected++
	}
}

// items goes through a list. Those of a DeploymentList and its like may leave out their kind,
// which is that of the list.
func (w *worker) items(list, items *yaml.Node, kind string, lists int) {
	old := text(list, "apiVersion")
	upgraded, known := upgrades[old+" "+kind]
	for _, item := range items.Content {
		if known && item.Kind == yaml.MappingNode && get(item, "kind") == nil {
			item.Content = append([]*yaml.Node{scalar("apiVersion"), scalar(old), scalar("kind"), scalar(kind)}, item.Content...)
		}
		w.resource(item, lists+1)
	}
	w.object = ""
	if known {
		setText(get(list, "apiVersion"), upgraded.to)
	}
}

// nameOf is what messages call an object.
func nameOf(node *yaml.Node) string {
	name := text(node, "metadata", "name")
	if name == "" {
		if name = text(node, "metadata", "generateName"); name != "" {
			name += "…"
		}
	}
	if namespace := text(node, "metadata", "namespace"); namespace != "" {
		name = namespace + "/" + name
	}
	return strings.TrimSpace(text(node, "kind") + " " + name)
}
