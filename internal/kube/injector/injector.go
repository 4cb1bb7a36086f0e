// Package injector answers the API server of a cluster, which asks about each Pod that is
// created: it puts the sidecar in, or refuses the Pod. The server's webhook calls it. It gives
// the Pod that sluice kube-inject gives, and never lets one through that it could not read.
package injector

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	admissionv1 "k8s.io/api/admission/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"sluice.dev/sluice/internal/kube/inject"
)

// Bounds of what is said beside an answer: clients print each warning, and the API server cuts
// what is too long.
const (
	maxWarnings = 8
	maxWarning  = 256 // bytes
)

// Pods reviews Pods that are created.
type Pods struct {
	// Options is what holds for every Pod now; the MeshConfig may change it.
	Options func() inject.Options
}

// Review answers one request. What the webhook's configuration does not ask about is let
// through as it is.
func (p Pods) Review(_ context.Context, request *admissionv1.AdmissionRequest) *admissionv1.AdmissionResponse {
	if request.Resource != podResource {
		return &admissionv1.AdmissionResponse{Allowed: true}
	}
	switch {
	case request.Operation == admissionv1.Create && request.SubResource == "":
		patch, notes, err := inject.Patch(request.Object.Raw, p.Options())
		if err != nil {
			return refused(request, "gets no sidecar, and is not started without one", err)
		}
		answer := allowed(notes)
		if patch != nil {
			answer.Patch, answer.PatchType = patch, new(admissionv1.PatchTypeJSONPatch)
		}
		return answer
	case request.SubResource == ephemeral:
		notes, err := inject.Added(request.Object.Raw, p.Options())
		if err != nil {
			return refused(request, "gets no further container", err)
		}
		return allowed(notes)
	}
	return &admissionv1.AdmissionResponse{Allowed: true}
}

// ephemeral is the subresource by which containers are added to a Pod that runs.
const ephemeral = "ephemeralcontainers"

func allowed(notes []inject.Problem) *admissionv1.AdmissionResponse {
	answer := &admissionv1.AdmissionResponse{Allowed: true}
	for _, note := range notes[:min(len(notes), maxWarnings)] {
		text := "sluice: " + note.Text
		answer.Warnings = append(answer.Warnings, strings.ToValidUTF8(text[:min(len(text), maxWarning)], ""))
	}
	return answer
}

var podResource = metav1.GroupVersionResource{Version: "v1", Resource: string(corev1.ResourcePods)}

// refused says why a Pod is not as somebody wants it. Whoever made its workload reads it in
// the events of that.
func refused(request *admissionv1.AdmissionRequest, what string, err error) *admissionv1.AdmissionResponse {
	said := err.Error()
	var problems inject.Problems
	if errors.As(err, &problems) && len(problems) > 1 {
		said = fmt.Sprintf("%s (and %d more)", problems[0].Text, len(problems)-1)
	}
	name := request.Name
	if name == "" {
		name = "the Pod"
	}
	return &admissionv1.AdmissionResponse{Result: &metav1.Status{
		Status: metav1.StatusFailure, Code: http.StatusForbidden, Reason: metav1.StatusReasonForbidden,
		Message: fmt.Sprintf("%s %s: %s", name, what, said),
	}}
}
