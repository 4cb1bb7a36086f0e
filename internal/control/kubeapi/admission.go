package kubeapi

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apiserver/pkg/admission"
	"k8s.io/apiserver/pkg/warning"

	"sluice.dev/sluice/api"
)

// validator answers with the texts of api.Validate, so that whoever writes over
// the API reads what the command line says. It runs where mutating plugins run,
// for that is before the schema is checked: else the schema's texts would hide
// ours. It changes nothing. Of a valid object it sends what warn returns as the
// warnings of the answer, which kubectl prints.
type validator struct {
	warn func(*api.Object) []string // nil: nothing
}

var _ admission.MutationInterface = validator{}

// Handles implements admission.Interface.
func (validator) Handles(operation admission.Operation) bool {
	return operation == admission.Create || operation == admission.Update
}

// Admit refuses an object that api.Validate finds fault with.
func (v validator) Admit(ctx context.Context, attributes admission.Attributes, _ admission.ObjectInterfaces) error {
	if attributes.GetSubresource() != "" || attributes.GetObject() == nil {
		return nil // status is ours to write; it holds no spec
	}
	kind := attributes.GetKind()
	known, err := api.KindOf(kind.GroupVersion().String(), kind.Kind)
	if err != nil || known.Group != kind.Group {
		return nil // a CRD, not one of our objects
	}
	item, ok := attributes.GetObject().(*unstructured.Unstructured)
	if !ok {
		return apierrors.NewInternalError(fmt.Errorf("validate %s %s: it came as %T", known.Name, attributes.GetName(), attributes.GetObject()))
	}
	object := api.Object{APIVersion: known.APIVersion(), Kind: known.Name, Metadata: api.Meta{
		Name: item.GetName(), Namespace: cmp.Or(item.GetNamespace(), attributes.GetNamespace()), Labels: item.GetLabels(),
	}}
	spec, faults := api.ReadSpec(known, item.Object["spec"])
	if object.Spec = spec; len(faults) == 0 {
		faults = api.Validate(&object)
	}
	if len(faults) > 0 {
		return invalid(&object, faults)
	}
	if v.warn != nil {
		for _, text := range v.warn(&object) {
			warning.AddWarning(ctx, "", object.ID()+" "+text)
		}
	}
	return nil
}

// invalid is the answer 422 with a cause for each fault; `kubectl` prints them
// one a line with their paths. (Kubernetes' own constructor would put "Invalid
// value" and the value before each text.)
func invalid(object *api.Object, faults []api.FieldError) error {
	causes := make([]metav1.StatusCause, len(faults))
	texts := make([]string, len(faults))
	for i, fault := range faults {
		causes[i] = metav1.StatusCause{Type: metav1.CauseTypeFieldValueInvalid, Field: fault.Path, Message: fault.Message}
		texts[i] = fault.Error()
	}
	kind := object.TypeOf()
	return &apierrors.StatusError{ErrStatus: metav1.Status{
		Status:  metav1.StatusFailure,
		Code:    http.StatusUnprocessableEntity,
		Reason:  metav1.StatusReasonInvalid,
		Message: fmt.Sprintf("%s %q is invalid: %s", kind.Resource(), object.Metadata.Name, strings.Join(texts, "; ")),
		Details: &metav1.StatusDetails{Name: object.Metadata.Name, Group: kind.Group, Kind: kind.Name, Causes: causes},
	}}
}
