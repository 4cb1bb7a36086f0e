package inject

import (
	"strings"

	"go.yaml.in/yaml/v4"
)

// upgrade of an API version that no API server of today serves. rewrite makes of the object
// what the new version takes, and says what it changed.
type upgrade struct {
	to      string
	rewrite func(w *worker, object *yaml.Node) (changes []string)
}

var upgrades = map[string]upgrade{
	"extensions/v1beta1 Deployment":                        {"apps/v1", selector},
	"extensions/v1beta1 DaemonSet":                         {"apps/v1", selector},
	"extensions/v1beta1 ReplicaSet":                        {"apps/v1", selector},
	"apps/v1beta1 Deployment":                              {"apps/v1", selector},
	"apps/v1beta1 StatefulSet":                             {"apps/v1", selector},
	"apps/v1beta2 Deployment":                              {"apps/v1", selector},
	"apps/v1beta2 DaemonSet":                               {"apps/v1", selector},
	"apps/v1beta2 ReplicaSet":                              {"apps/v1", selector},
	"apps/v1beta2 StatefulSet":                             {"apps/v1", selector},
	"batch/v2alpha1 CronJob":                               {"batch/v1", nil},
	"batch/v1beta1 CronJob":                                {"batch/v1", nil},
	"extensions/v1beta1 Ingress":                           {"networking.k8s.io/v1", ingress},
	"networking.k8s.io/v1beta1 Ingress":                    {"networking.k8s.io/v1", ingress},
	"extensions/v1beta1 NetworkPolicy":                     {"networking.k8s.io/v1", nil},
	"policy/v1beta1 PodDisruptionBudget":                   {"policy/v1", nil},
	"rbac.authorization.k8s.io/v1beta1 Role":               {"rbac.authorization.k8s.io/v1", nil},
	"rbac.authorization.k8s.io/v1beta1 RoleBinding":        {"rbac.authorization.k8s.io/v1", nil},
	"rbac.authorization.k8s.io/v1beta1 ClusterRole":        {"rbac.authorization.k8s.io/v1", nil},
	"rbac.authorization.k8s.io/v1beta1 ClusterRoleBinding": {"rbac.authorization.k8s.io/v1", nil},
	"storage.k8s.io/v1beta1 StorageClass":                  {"storage.k8s.io/v1", nil},
}

// upgrade brings an object to an API version that is served, and says so.
func (w *worker) upgrade(node *yaml.Node) {
	version := get(node, "apiVersion")
	if version == nil || version.Kind != yaml.ScalarNode {
		return
	}
	old := version.Value
	u, known := upgrades[old+" "+text(node, "kind")]
	if !known {
		return
	}
	setText(version, u.to)
	said := "apiVersion " + old + " is not served any more: upgraded to " + u.to
	if u.rewrite != nil {
		if changes := u.rewrite(w, node); len(changes) > 0 {
			said += ", " + strings.Join(changes, ", ")
		}
	}
	w.note(version, "%s", said)
}

// selector gives a workload the selector that old versions made of its labels, and takes out
// what apps/v1 does not have.
func selector(w *worker, object *yaml.Node) (changes []string) {
	spec := get(object, "spec")
	if spec == nil || spec.Kind != yaml.MappingNode {
		return nil // refused for want of its template
	}
	for _, field := range []string{"rollbackTo", "templateGeneration"} {
		if indexOf(spec, field) >= 0 {
			remove(spec, field)
			changes = append(changes, "spec."+field+" left out")
		}
	}
	if get(spec, "selector") != nil {
		return changes
	}
	labels := get(spec, "template", "metadata", "labels")
	if labels == nil || labels.Kind != yaml.MappingNode || len(labels.Content) == 0 {
		w.fail(spec, "spec.selector is missing, and its Pods have no labels to make it of: apps/v1 requires both")
		return changes
	}
	of := copied(labels)
	bare(of)
	remove(spec, "selector")
	setBefore(spec, "template", "selector", mapping("matchLabels", of))
	return append(changes, "spec.selector made of the labels of its Pods")
}

// bare takes the comments from a node and all that is in it.
func bare(node *yaml.Node) {
	node.HeadComment, node.LineComment, node.FootComment = "", "", ""
	for _, child := range node.Content {
		bare(child)
	}
}

// ingress writes the backends of an Ingress as networking.k8s.io/v1 has them. Its paths keep
// the meaning that the ingress controller gives them, as they had before.
func ingress(w *worker, object *yaml.Node) (changes []string) {
	spec := get(object, "spec")
	if old := get(spec, "backend"); old != nil {
		spec.Content[indexOf(spec, "backend")].Value = "defaultBackend"
		set(spec, "defaultBackend", w.backend(old))
		changes = append(changes, "spec.backend renamed to spec.defaultBackend")
	}
	typed := false
	for _, rule := range list(get(spec, "rules")) {
		for _, path := range list(get(rule, "http", "paths")) {
			if old := get(path, "backend"); old != nil {
				set(path, "backend", w.backend(old))
			}
			if get(path, "pathType") == nil {
				setBefore(path, "backend", "pathType", scalar("ImplementationSpecific"))
				typed = true
			}
		}
	}
	if typed {
		changes = append(changes, "paths of the type ImplementationSpecific")
	}
	return changes
}

// backend is serviceName and servicePort as service.name and service.port.
func (w *worker) backend(old *yaml.Node) *yaml.Node {
	name, port := get(old, "serviceName"), get(old, "servicePort")
	if name == nil || port == nil {
		return old // it is written as today, or refers to another resource
	}
	of := "name"
	if port.ShortTag() == "!!int" {
		of = "number"
	}
	return mapping("service", mapping("name", name, "port", mapping(of, port)))
}

// list is the mappings in a sequence.
func list(node *yaml.Node) (items []*yaml.Node) {
	if node == nil || node.Kind != yaml.SequenceNode {
		return nil
	}
	for _, item := range node.Content {
		if item.Kind == yaml.MappingNode {
			items = append(items, item)
		}
	}
	return items
}
