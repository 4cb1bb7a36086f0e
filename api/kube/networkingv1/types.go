// Package networkingv1 wraps the Ingress of Kubernetes as an object of its API machinery, for
// the store of a server that is no cluster's. The spec is that of api/networking; the CRD under
// deploy/crds/alone is generated from here and is never installed on a cluster, which has the
// kind itself. Nothing that a proxy or the command line links may import it.
//
// +groupName=networking.k8s.io
// +versionName=v1
// +kubebuilder:object:generate=true
// +kubebuilder:validation:Optional
package networkingv1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"sluice.dev/sluice/api/networking"
	"sluice.dev/sluice/api/v1alpha1"
)

// GroupVersion is what the kinds of this package are served under.
var GroupVersion = schema.GroupVersion{Group: networking.Group, Version: networking.Version}

// AddToScheme makes the kinds of this package known to a scheme.
func AddToScheme(scheme *runtime.Scheme) error {
	scheme.AddKnownTypes(GroupVersion, &Ingress{}, &IngressList{})
	metav1.AddToGroupVersion(scheme, GroupVersion)
	return nil
}

// Ingress leads requests from outside the mesh to services, by host and path.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:metadata:annotations="api-approved.kubernetes.io=unapproved, served by Sluice's own server alone and never installed on a cluster"
// +kubebuilder:resource:path=ingresses,singular=ingress,shortName=ing,categories=sluice
// +kubebuilder:printcolumn:name=Class,type=string,JSONPath=`.spec.ingressClassName`
// +kubebuilder:printcolumn:name=Accepted,type=string,JSONPath=`.status.conditions[?(@.type=="Accepted")].status`
// +kubebuilder:printcolumn:name=Programmed,type=string,JSONPath=`.status.conditions[?(@.type=="Programmed")].status`
// +kubebuilder:printcolumn:name=Age,type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:printcolumn:name=Message,type=string,priority=1,JSONPath=`.status.conditions[?(@.type=="Programmed")].message`
type Ingress struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec   networking.IngressSpec `json:"spec,omitempty"`
	Status v1alpha1.Status        `json:"status,omitempty"`
}

// IngressList is a list of them.
//
// +kubebuilder:object:root=true
type IngressList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`

	Items []Ingress `json:"items"`
}
