// Package kube joins the two shapes of an object: the typed one of Kubernetes'
// API machinery, which the store and its watchers hold, and the plain one of
// package api, which is validated and compiled. The control plane calls it;
// nothing that a proxy or the command line links may import it.
package kube

import (
	"encoding/json"
	"fmt"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"sluice.dev/sluice/api"
	"sluice.dev/sluice/api/kube/istiov1alpha2"
	"sluice.dev/sluice/api/kube/networkingv1"
	"sluice.dev/sluice/api/kube/sluicev1alpha1"
	"sluice.dev/sluice/api/v1alpha1"
)

// Typed is any of the kinds as Kubernetes' API machinery knows it.
type Typed interface {
	runtime.Object
	metav1.Object
}

// AddToScheme makes all kinds known to a scheme.
func AddToScheme(scheme *runtime.Scheme) error {
	if err := istiov1alpha2.AddToScheme(scheme); err != nil {
		return err
	}
	if err := networkingv1.AddToScheme(scheme); err != nil {
		return err
	}
	return sluicev1alpha1.AddToScheme(scheme)
}

// New returns an empty object of a kind, and an empty list of them.
func New(kind *api.Kind) (Typed, runtime.Object, error) {
	switch kind.Name {
	case "EgressRule":
		return new(istiov1alpha2.EgressRule), new(istiov1alpha2.EgressRuleList), nil
	case "RouteRule":
		return new(istiov1alpha2.RouteRule), new(istiov1alpha2.RouteRuleList), nil
	case "DestinationPolicy":
		return new(istiov1alpha2.DestinationPolicy), new(istiov1alpha2.DestinationPolicyList), nil
	case "IngressRule":
		return new(istiov1alpha2.IngressRule), new(istiov1alpha2.IngressRuleList), nil
	case "Ingress":
		return new(networkingv1.Ingress), new(networkingv1.IngressList), nil
	case "EgressPolicy":
		return new(sluicev1alpha1.EgressPolicy), new(sluicev1alpha1.EgressPolicyList), nil
	case "MeshService":
		return new(sluicev1alpha1.MeshService), new(sluicev1alpha1.MeshServiceList), nil
	case "MeshConfig":
		return new(sluicev1alpha1.MeshConfig), new(sluicev1alpha1.MeshConfigList), nil
	}
	return nil, nil, fmt.Errorf("kind %s has no type in the store", kind.Name)
}

// Plain returns the plain form of a typed object. The spec is shared with it, not
// copied: what a cache handed out must not be changed through either.
func Plain(typed Typed) (api.Object, error) {
	var kind string
	var spec any
	var status *v1alpha1.Status
	switch typed := typed.(type) {
	case *istiov1alpha2.EgressRule:
		kind, spec, status = "EgressRule", &typed.Spec, &typed.Status
	case *istiov1alpha2.RouteRule:
		kind, spec, status = "RouteRule", &typed.Spec, &typed.Status
	case *istiov1alpha2.DestinationPolicy:
		kind, spec, status = "DestinationPolicy", &typed.Spec, &typed.Status
	case *istiov1alpha2.IngressRule:
		kind, spec, status = "IngressRule", &typed.Spec, &typed.Status
	case *networkingv1.Ingress:
		kind, spec, status = "Ingress", &typed.Spec, &typed.Status
	case *sluicev1alpha1.EgressPolicy:
		kind, spec, status = "EgressPolicy", &typed.Spec, &typed.Status
	case *sluicev1alpha1.MeshService:
		kind, spec, status = "MeshService", &typed.Spec, &typed.Status
	case *sluicev1alpha1.MeshConfig:
		kind, spec, status = "MeshConfig", &typed.Spec, &typed.Status
	default:
		return api.Object{}, fmt.Errorf("%T is not a kind of the store", typed)
	}
	o := api.Object{Kind: kind, Spec: spec, Metadata: api.Meta{
		Name: typed.GetName(), Namespace: typed.GetNamespace(),
		Labels: typed.GetLabels(), Annotations: typed.GetAnnotations(),
		ResourceVersion: typed.GetResourceVersion(), UID: string(typed.GetUID()), Generation: typed.GetGeneration(),
		CreationTimestamp: created(typed),
	}}
	for _, known := range api.Kinds() {
		if known.Name == kind {
			o.APIVersion = known.APIVersion()
		}
	}
	if status.ObservedGeneration != 0 || len(status.Conditions) > 0 {
		data, err := json.Marshal(status)
		if err != nil {
			return api.Object{}, fmt.Errorf("status of %s: %w", o.ID(), err)
		}
		o.Status = data
	}
	return o, nil
}

// created returns the time of creation in UTC, zero where none is set.
func created(typed Typed) time.Time {
	at := typed.GetCreationTimestamp()
	if at.IsZero() {
		return time.Time{}
	}
	return at.UTC()
}
