// Package istiov1alpha2 wraps the config.istio.io/v1alpha2 resources as objects of
// Kubernetes' API machinery, for the store and for whoever watches it. The specs
// are those of api/istio; the CRDs under deploy/crds are generated from here.
// Nothing that a proxy or the command line links may import it.
//
// +groupName=config.istio.io
// +versionName=v1alpha2
// +kubebuilder:object:generate=true
// +kubebuilder:validation:Optional
package istiov1alpha2

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"sluice.dev/sluice/api/istio"
	"sluice.dev/sluice/api/v1alpha1"
)

// GroupVersion is what the kinds of this package are served under.
var GroupVersion = schema.GroupVersion{Group: istio.Group, Version: istio.Version}

// AddToScheme makes the kinds of this package known to a scheme.
func AddToScheme(scheme *runtime.Scheme) error {
	scheme.AddKnownTypes(GroupVersion, &EgressRule{}, &EgressRuleList{}, &RouteRule{}, &RouteRuleList{}, &DestinationPolicy{}, &DestinationPolicyList{},
		&IngressRule{}, &IngressRuleList{})
	metav1.AddToGroupVersion(scheme, GroupVersion)
	return nil
}

// EgressRule lets workloads reach an external service, in the form of Istio 0.5.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:path=egressrules,singular=egressrule,shortName=er,categories=sluice
// +kubebuilder:printcolumn:name=Service,type=string,JSONPath=`.spec.destination.service`
// +kubebuilder:printcolumn:name=Ports,type=string,JSONPath=`.spec.ports`
// +kubebuilder:printcolumn:name=Accepted,type=string,JSONPath=`.status.conditions[?(@.type=="Accepted")].status`
// +kubebuilder:printcolumn:name=Programmed,type=string,JSONPath=`.status.conditions[?(@.type=="Programmed")].status`
// +kubebuilder:printcolumn:name=Age,type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:printcolumn:name=Message,type=string,priority=1,JSONPath=`.status.conditions[?(@.type=="Programmed")].message`
type EgressRule struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec   istio.EgressRuleSpec `json:"spec,omitempty"`
	Status v1alpha1.Status      `json:"status,omitempty"`
}

// EgressRuleList is a list of them.
//
// +kubebuilder:object:root=true
type EgressRuleList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`

	Items []EgressRule `json:"items"`
}

// RouteRule routes the requests of a service, in the form of Istio 0.5.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:path=routerules,singular=routerule,shortName=rr,categories=sluice
// +kubebuilder:printcolumn:name=Destination,type=string,JSONPath=`.spec.destination.name`
// +kubebuilder:printcolumn:name=Precedence,type=integer,JSONPath=`.spec.precedence`
// +kubebuilder:printcolumn:name=Accepted,type=string,JSONPath=`.status.conditions[?(@.type=="Accepted")].status`
// +kubebuilder:printcolumn:name=Programmed,type=string,JSONPath=`.status.conditions[?(@.type=="Programmed")].status`
// +kubebuilder:printcolumn:name=Age,type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:printcolumn:name=Message,type=string,priority=1,JSONPath=`.status.conditions[?(@.type=="Programmed")].message`
type RouteRule struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec   istio.RouteRuleSpec `json:"spec,omitempty"`
	Status v1alpha1.Status     `json:"status,omitempty"`
}

// RouteRuleList is a list of them.
//
// +kubebuilder:object:root=true
type RouteRuleList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`

	Items []RouteRule `json:"items"`
}

// DestinationPolicy says how the calls to a service are spread over its instances, in the form
// of Istio 0.5.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:path=destinationpolicies,singular=destinationpolicy,shortName=dp,categories=sluice
// +kubebuilder:printcolumn:name=Destination,type=string,JSONPath=`.spec.destination.name`
// +kubebuilder:printcolumn:name=Balancing,type=string,JSONPath=`.spec.loadBalancing.name`
// +kubebuilder:printcolumn:name=Accepted,type=string,JSONPath=`.status.conditions[?(@.type=="Accepted")].status`
// +kubebuilder:printcolumn:name=Programmed,type=string,JSONPath=`.status.conditions[?(@.type=="Programmed")].status`
// +kubebuilder:printcolumn:name=Age,type=date,JSONPath=`.metadata.creationTimestamp`
type DestinationPolicy struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec   istio.DestinationPolicySpec `json:"spec,omitempty"`
	Status v1alpha1.Status             `json:"status,omitempty"`
}

// DestinationPolicyList is a list of them.
//
// +kubebuilder:object:root=true
type DestinationPolicyList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`

	Items []DestinationPolicy `json:"items"`
}

// IngressRule leads requests from outside the mesh to a service, in the form of Istio 0.5.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:path=ingressrules,singular=ingressrule,shortName=ir,categories=sluice
// +kubebuilder:printcolumn:name=Destination,type=string,JSONPath=`.spec.destination.name`
// +kubebuilder:printcolumn:name=Precedence,type=integer,JSONPath=`.spec.precedence`
// +kubebuilder:printcolumn:name=Accepted,type=string,JSONPath=`.status.conditions[?(@.type=="Accepted")].status`
// +kubebuilder:printcolumn:name=Programmed,type=string,JSONPath=`.status.conditions[?(@.type=="Programmed")].status`
// +kubebuilder:printcolumn:name=Age,type=date,JSONPath=`.metadata.creationTimestamp`
type IngressRule struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec   istio.IngressRuleSpec `json:"spec,omitempty"`
	Status v1alpha1.Status       `json:"status,omitempty"`
}

// IngressRuleList is a list of them.
//
// +kubebuilder:object:root=true
type IngressRuleList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`

	Items []IngressRule `json:"items"`
}
