// Package sluicev1alpha1 wraps our own kinds, sluice.dev/v1alpha1, as objects of
// Kubernetes' API machinery, for the store and for whoever watches it. The specs
// are those of api/v1alpha1; the CRDs under deploy/crds are generated from here.
// Nothing that a proxy or the command line links may import it.
//
// +groupName=sluice.dev
// +versionName=v1alpha1
// +kubebuilder:object:generate=true
// +kubebuilder:validation:Optional
package sluicev1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"sluice.dev/sluice/api/v1alpha1"
)

// GroupVersion is what the kinds of this package are served under.
var GroupVersion = schema.GroupVersion{Group: v1alpha1.Group, Version: v1alpha1.Version}

// AddToScheme makes the kinds of this package known to a scheme.
func AddToScheme(scheme *runtime.Scheme) error {
	scheme.AddKnownTypes(GroupVersion, &EgressPolicy{}, &EgressPolicyList{},
		&MeshService{}, &MeshServiceList{}, &MeshConfig{}, &MeshConfigList{})
	metav1.AddToGroupVersion(scheme, GroupVersion)
	return nil
}

// EgressPolicy says which workloads may reach which external destinations, on
// which ports and protocols, and how TLS is done.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:path=egresspolicies,singular=egresspolicy,shortName=egp,categories=sluice
// +kubebuilder:printcolumn:name=Hosts,type=string,JSONPath=`.spec.to.hosts`
// +kubebuilder:printcolumn:name=CIDRs,type=string,JSONPath=`.spec.to.cidrs`
// +kubebuilder:printcolumn:name=Ports,type=string,JSONPath=`.spec.to.ports`
// +kubebuilder:printcolumn:name=Accepted,type=string,JSONPath=`.status.conditions[?(@.type=="Accepted")].status`
// +kubebuilder:printcolumn:name=Programmed,type=string,JSONPath=`.status.conditions[?(@.type=="Programmed")].status`
// +kubebuilder:printcolumn:name=Age,type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:printcolumn:name=From,type=string,priority=1,JSONPath=`.spec.from.labels`
// +kubebuilder:printcolumn:name=Accounts,type=string,priority=1,JSONPath=`.spec.from.serviceAccounts`
// +kubebuilder:printcolumn:name=Message,type=string,priority=1,JSONPath=`.status.conditions[?(@.type=="Programmed")].message`
type EgressPolicy struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec   v1alpha1.EgressPolicySpec `json:"spec,omitempty"`
	Status v1alpha1.Status           `json:"status,omitempty"`
}

// EgressPolicyList is a list of them.
//
// +kubebuilder:object:root=true
type EgressPolicyList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`

	Items []EgressPolicy `json:"items"`
}

// MeshService is a service and its ports, for a mesh without Kubernetes.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:path=meshservices,singular=meshservice,shortName=ms,categories=sluice
// +kubebuilder:validation:XValidation:rule="self.metadata.name.matches('^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$')",messageExpression="'\"' + self.metadata.name + '\" is not a DNS label (lower-case letters, digits and inner hyphens, at most 63): a service\\'s name is part of its host name'"
// +kubebuilder:printcolumn:name=Ports,type=string,JSONPath=`.spec.ports`
// +kubebuilder:printcolumn:name=Accepted,type=string,JSONPath=`.status.conditions[?(@.type=="Accepted")].status`
// +kubebuilder:printcolumn:name=Programmed,type=string,JSONPath=`.status.conditions[?(@.type=="Programmed")].status`
// +kubebuilder:printcolumn:name=Age,type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:printcolumn:name=Selector,type=string,priority=1,JSONPath=`.spec.selector`
// +kubebuilder:printcolumn:name=Message,type=string,priority=1,JSONPath=`.status.conditions[?(@.type=="Programmed")].message`
type MeshService struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec   v1alpha1.MeshServiceSpec `json:"spec,omitempty"`
	Status v1alpha1.Status          `json:"status,omitempty"`
}

// MeshServiceList is a list of them.
//
// +kubebuilder:object:root=true
type MeshServiceList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`

	Items []MeshService `json:"items"`
}

// MeshConfig is the settings of the mesh; there is one, named default.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:path=meshconfigs,singular=meshconfig,shortName=mc,categories=sluice,scope=Cluster
// +kubebuilder:validation:XValidation:rule="self.metadata.name == 'default'",message="must be default: there is one MeshConfig"
// +kubebuilder:printcolumn:name=Outbound,type=string,JSONPath=`.spec.outboundDefault`
// +kubebuilder:printcolumn:name=Accepted,type=string,JSONPath=`.status.conditions[?(@.type=="Accepted")].status`
// +kubebuilder:printcolumn:name=Programmed,type=string,JSONPath=`.status.conditions[?(@.type=="Programmed")].status`
// +kubebuilder:printcolumn:name=Age,type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:printcolumn:name=Message,type=string,priority=1,JSONPath=`.status.conditions[?(@.type=="Programmed")].message`
type MeshConfig struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec   v1alpha1.MeshConfigSpec `json:"spec,omitempty"`
	Status v1alpha1.Status         `json:"status,omitempty"`
}

// MeshConfigList is a list of them.
//
// +kubebuilder:object:root=true
type MeshConfigList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`

	Items []MeshConfig `json:"items"`
}
