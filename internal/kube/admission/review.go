package admission

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"

	admissionv1 "k8s.io/api/admission/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	utiljson "k8s.io/apimachinery/pkg/util/json"

	"sluice.dev/sluice/api"
)

// Rules judges the objects that a cluster's API server asks about.
type Rules struct {
	// Warn returns what a user should know of a valid object; nil: nothing.
	Warn func(*api.Object) []string
}

// reviewed is what is read of an object; the rest of its metadata is not decoded.
type reviewed struct {
	Metadata struct {
		Name              string            `json:"name"`
		Namespace         string            `json:"namespace"`
		Labels            map[string]string `json:"labels"`
		DeletionTimestamp *string           `json:"deletionTimestamp"`
	} `json:"metadata"`
	Spec json.RawMessage `json:"spec"`
}

// Review answers one request. What is no object of ours is refused: the webhook is asked
// about nothing else, unless its configuration is wrong.
func (r Rules) Review(_ context.Context, request *admissionv1.AdmissionRequest) *admissionv1.AdmissionResponse {
	if request.Operation != admissionv1.Create && request.Operation != admissionv1.Update || request.SubResource != "" {
		return refuse(http.StatusBadRequest, metav1.StatusReasonBadRequest,
			fmt.Sprintf("operation %s on %s/%s is not one that this webhook judges: CREATE and UPDATE of the objects themselves", request.Operation, request.Resource.Resource, request.SubResource))
	}
	kind, err := api.KindOf(request.Kind.Group+"/"+request.Kind.Version, request.Kind.Kind)
	if err != nil || kind.Group != request.Kind.Group {
		return refuse(http.StatusBadRequest, metav1.StatusReasonBadRequest,
			fmt.Sprintf("kind %s of %s/%s is not one that this webhook judges", request.Kind.Kind, request.Kind.Group, request.Kind.Version))
	}
	var object reviewed
	if err := utiljson.Unmarshal(request.Object.Raw, &object); err != nil { // "Spec" is not spec
		return refuse(http.StatusBadRequest, metav1.StatusReasonBadRequest, "read the object: "+err.Error())
	}
	if object.Metadata.DeletionTimestamp != nil {
		// It is going. Whoever takes its finalizers off must not be held up by a spec that
		// was stored before it was judged.
		return &admissionv1.AdmissionResponse{Allowed: true}
	}
	var spec any
	if len(object.Spec) > 0 {
		if api.ObjectWeight(object.Spec) > api.MaxObjectWeight {
			return refuse(http.StatusRequestEntityTooLarge, metav1.StatusReasonRequestEntityTooLarge, "too many values for one object")
		}
		if err := utiljson.Unmarshal(object.Spec, &spec); err != nil { // whole numbers stay whole
			return refuse(http.StatusBadRequest, metav1.StatusReasonBadRequest, "read the spec: "+err.Error())
		}
	}
	judged, faults := Judge(kind, MetaOf(&metav1.ObjectMeta{
		Name: object.Metadata.Name, Namespace: object.Metadata.Namespace, Labels: object.Metadata.Labels,
	}, request.Namespace), spec)
	if len(faults) > 0 {
		status := Invalid(judged, faults)
		return &admissionv1.AdmissionResponse{Result: &status}
	}
	return &admissionv1.AdmissionResponse{Allowed: true, Warnings: Warnings(judged, r.Warn)}
}

func refuse(code int32, reason metav1.StatusReason, message string) *admissionv1.AdmissionResponse {
	return &admissionv1.AdmissionResponse{Result: &metav1.Status{Status: metav1.StatusFailure, Code: code, Reason: reason, Message: message}}
}
