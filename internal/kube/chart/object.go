package chart

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"go.yaml.in/yaml/v4"
)

// Object is one object of the chart.
type Object struct {
	APIVersion, Kind, Namespace, Name string
	Text                              string // its YAML, with its comments
}

// order is in which order kinds are applied: what others need is there before them, and no
// webhook asks before there is somebody to ask.
var order = []string{
	"Namespace", "CustomResourceDefinition", "ServiceAccount", "ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding",
	"ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding",
	"Service", "PodDisruptionBudget", "Deployment", "ValidatingWebhookConfiguration", "MutatingWebhookConfiguration",
}

func (o *Object) rank() int {
	if i := slices.Index(order, o.Kind); i >= 0 {
		return i
	}
	return len(order)
}

// split reads the documents of a rendered template; what holds comments alone is left out.
func split(text string) (objects []Object, err error) {
	for document := range strings.SplitSeq("\n"+text, "\n---") {
		var read struct {
			APIVersion string `yaml:"apiVersion"`
			Kind       string
			Metadata   struct{ Name, Namespace string }
		}
		var any map[string]any
		if err := yaml.Unmarshal([]byte(document), &any); err != nil {
			return nil, fmt.Errorf("%w in:\n%s", err, document)
		}
		if len(any) == 0 {
			continue
		}
		if err := yaml.Unmarshal([]byte(document), &read); err != nil {
			return nil, err
		}
		if read.APIVersion == "" || read.Kind == "" || read.Metadata.Name == "" {
			return nil, errors.New("an object has no apiVersion, kind or name:\n" + document)
		}
		objects = append(objects, Object{read.APIVersion, read.Kind, read.Metadata.Namespace, read.Metadata.Name, strings.TrimSpace(document) + "\n"})
	}
	return objects, nil
}

// Text is objects as one file.
func Text(objects []Object) string {
	var all strings.Builder
	for i, object := range objects {
		if i > 0 {
			all.WriteString("---\n")
		}
		all.WriteString(object.Text)
	}
	return all.String()
}
