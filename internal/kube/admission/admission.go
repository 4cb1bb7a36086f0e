// Package admission judges an object that is about to be stored, in the sentences of
// "sluice create": the rule API of one machine asks it in its own process, the API server
// of a cluster by a webhook. It must never change an object, and never say other words
// than api.Validate and api.Warnings do.
package admission

import (
	"cmp"
	"fmt"
	"net/http"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"sluice.dev/sluice/api"
)

// Judge reads the spec of an object, in the shape into which JSON is decoded, and returns
// the object with all that is wrong with it. With faults it may have no spec.
func Judge(kind *api.Kind, meta api.Meta, spec any) (*api.Object, []api.FieldError) {
	object := &api.Object{APIVersion: kind.APIVersion(), Kind: kind.Name, Metadata: meta}
	read, faults := api.ReadSpec(kind, spec)
	if object.Spec = read; len(faults) == 0 {
		faults = api.Validate(object)
	}
	return object, faults
}

// Warnings returns what a user should know of a valid object, as kubectl prints it: each
// sentence begins with the name of the object.
func Warnings(object *api.Object, warn func(*api.Object) []string) []string {
	if warn == nil {
		return nil
	}
	texts := warn(object)
	for i, text := range texts {
		texts[i] = object.ID() + " " + text
	}
	return texts
}

// Invalid is the answer 422 with a cause for each fault; kubectl prints them one a line
// with their paths. (Kubernetes' own constructor would put "Invalid value" and the value
// before each text.)
func Invalid(object *api.Object, faults []api.FieldError) metav1.Status {
	causes := make([]metav1.StatusCause, len(faults))
	texts := make([]string, len(faults))
	for i, fault := range faults {
		causes[i] = metav1.StatusCause{Type: metav1.CauseTypeFieldValueInvalid, Field: fault.Path, Message: fault.Message}
		texts[i] = fault.Error()
	}
	kind := object.TypeOf()
	return metav1.Status{
		Status:  metav1.StatusFailure,
		Code:    http.StatusUnprocessableEntity,
		Reason:  metav1.StatusReasonInvalid,
		Message: fmt.Sprintf("%s %q is invalid: %s", kind.Resource(), object.Metadata.Name, strings.Join(texts, "; ")),
		Details: &metav1.StatusDetails{Name: object.Metadata.Name, Group: kind.Group, Kind: kind.Name, Causes: causes},
	}
}

// MetaOf returns the part of an object's metadata that Judge looks at; namespace is that
// of the request, for an object that names none.
func MetaOf(object metav1.Object, namespace string) api.Meta {
	return api.Meta{Name: object.GetName(), Namespace: cmp.Or(object.GetNamespace(), namespace), Labels: object.GetLabels()}
}
