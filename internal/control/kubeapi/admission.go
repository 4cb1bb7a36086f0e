package kubeapi

import (
	"context"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apiserver/pkg/admission"
	"k8s.io/apiserver/pkg/warning"

	"sluice.dev/sluice/api"
	judge "sluice.dev/sluice/internal/kube/admission"
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
	object, faults := judge.Judge(known, judge.MetaOf(item, attributes.GetNamespace()), item.Object["spec"])
	if len(faults) > 0 {
		return &apierrors.StatusError{ErrStatus: judge.Invalid(object, faults)}
	}
	for _, text := range judge.Warnings(object, v.warn) {
		warning.AddWarning(ctx, "", text)
	}
	return nil
}
