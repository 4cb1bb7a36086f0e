package api

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"sluice.dev/sluice/api/istio"
	"sluice.dev/sluice/api/networking"
	"sluice.dev/sluice/api/v1alpha1"
)

// Kind is one kind of object: its names, where it is served, and its spec.
type Kind struct {
	Name       string   // "EgressRule"
	Plural     string   // "egressrules"; no two kinds share one
	Singular   string   // "egressrule"
	ShortNames []string // "er"
	Aliases    []string // what the command line takes too, and a cluster has for another kind
	Kebab      string   // "egress-rule"
	Group      string   // "config.istio.io"
	Version    string   // "v1alpha2"
	Namespaced bool
	// OfKubernetes says that a cluster has the kind itself: ours is served where there is none.
	OfKubernetes bool

	newSpec func() any
}

// kinds is every kind that can be stored, in the order in which help lists it.
var kinds = []*Kind{
	{
		Name: "EgressRule", Plural: "egressrules", Singular: "egressrule", ShortNames: []string{"er"}, Kebab: "egress-rule",
		Group: istio.Group, Version: istio.Version, Namespaced: true,
		newSpec: func() any { return new(istio.EgressRuleSpec) },
	},
	{
		Name: "RouteRule", Plural: "routerules", Singular: "routerule", ShortNames: []string{"rr"}, Kebab: "route-rule",
		Group: istio.Group, Version: istio.Version, Namespaced: true,
		newSpec: func() any { return new(istio.RouteRuleSpec) },
	},
	{
		Name: "DestinationPolicy", Plural: "destinationpolicies", Singular: "destinationpolicy", ShortNames: []string{"dp"}, Kebab: "destination-policy",
		Group: istio.Group, Version: istio.Version, Namespaced: true,
		newSpec: func() any { return new(istio.DestinationPolicySpec) },
	},
	{
		Name: "IngressRule", Plural: "ingressrules", Singular: "ingressrule", ShortNames: []string{"ir"}, Kebab: "ingress-rule",
		Group: istio.Group, Version: istio.Version, Namespaced: true,
		newSpec: func() any { return new(istio.IngressRuleSpec) },
	},
	{
		Name: "Ingress", Plural: "ingresses", Singular: "ingress", ShortNames: []string{"ing"}, Kebab: "ingress",
		Group: networking.Group, Version: networking.Version, Namespaced: true, OfKubernetes: true,
		newSpec: func() any { return new(networking.IngressSpec) },
	},
	{
		Name: "EgressPolicy", Plural: "egresspolicies", Singular: "egresspolicy", ShortNames: []string{"egp"}, Aliases: []string{"ep"}, Kebab: "egress-policy",
		Group: v1alpha1.Group, Version: v1alpha1.Version, Namespaced: true,
		newSpec: func() any { return new(v1alpha1.EgressPolicySpec) },
	},
	{
		Name: "MeshService", Plural: "meshservices", Singular: "meshservice", ShortNames: []string{"ms"}, Kebab: "mesh-service",
		Group: v1alpha1.Group, Version: v1alpha1.Version, Namespaced: true,
		newSpec: func() any { return new(v1alpha1.MeshServiceSpec) },
	},
	{
		Name: "MeshConfig", Plural: "meshconfigs", Singular: "meshconfig", ShortNames: []string{"mc"}, Kebab: "mesh-config",
		Group: v1alpha1.Group, Version: v1alpha1.Version,
		newSpec: func() any { return new(v1alpha1.MeshConfigSpec) },
	},
}

// unsupported is the kinds that the design names and this version refuses, by
// group; each kind with its plural.
var unsupported = map[string]map[string]string{
	istio.Group: {
		"rule":             "rules",
		"denier":           "deniers",
		"listchecker":      "listcheckers",
		"memquota":         "memquotas",
		"checknothing":     "checknothings",
		"listentry":        "listentries",
		"quota":            "quotas",
		"QuotaSpec":        "quotaspecs",
		"QuotaSpecBinding": "quotaspecbindings",
	},
	v1alpha1.Group: {
		"AccessPolicy": "accesspolicies",
		"MeshWorkload": "meshworkloads",
	},
}

// Kinds returns every kind that can be stored.
func Kinds() []*Kind { return slices.Clone(kinds) }

// OnCluster returns the kinds whose objects a server of a cluster follows: those that are not
// Kubernetes' own.
func OnCluster() []*Kind {
	return slices.DeleteFunc(Kinds(), func(k *Kind) bool { return k.OfKubernetes })
}

// APIVersion returns the group and version: "config.istio.io/v1alpha2".
func (k *Kind) APIVersion() string { return k.Group + "/" + k.Version }

// FullName returns the kind as the table of `get` shows it:
// "EgressRule.v1alpha2.config.istio.io".
func (k *Kind) FullName() string { return k.Name + "." + k.Version + "." + k.Group }

// Resource returns the plural with its group: "egressrules.config.istio.io".
func (k *Kind) Resource() string { return k.Plural + "." + k.Group }

// ID names an object of the kind among all, as Object.ID does.
func (k *Kind) ID(namespace, name string) string {
	if namespace == "" {
		return k.Kebab + "/" + name
	}
	return k.Kebab + "/" + namespace + "/" + name
}

// NewSpec returns a pointer to an empty spec of the kind.
func (k *Kind) NewSpec() any { return k.newSpec() }

// IsIstio reports whether the kind is one of Istio 0.5's.
func (k *Kind) IsIstio() bool { return k.Group == istio.Group }

// KindOf returns the kind that an object names by apiVersion and kind. A missing
// apiVersion, or any version of config.istio.io, means the resources of Istio 0.5, as
// it did there. The error is for people.
func KindOf(apiVersion, kind string) (*Kind, error) {
	group, version, _ := strings.Cut(apiVersion, "/")
	switch {
	case apiVersion == "":
		group = istio.Group
	case group == istio.Group:
	case group == networking.Group && version == networking.Version:
	case group == networking.Group && kind == "Ingress":
		return nil, fmt.Errorf("kind %s is not known: apiVersion %s is not served, use %s/%s", kind, apiVersion, networking.Group, networking.Version)
	case group == v1alpha1.Group && version != v1alpha1.Version:
		return nil, fmt.Errorf("kind %s is not known: apiVersion %s is not served, use %s/%s", kind, apiVersion, v1alpha1.Group, v1alpha1.Version)
	case group != v1alpha1.Group:
		return nil, unknownKind(kind, fmt.Sprintf(": apiVersion %s is neither %s/%s nor %s/%s", apiVersion, istio.Group, istio.Version, v1alpha1.Group, v1alpha1.Version))
	}
	var elsewhere *Kind
	for _, k := range kinds {
		if k.Name != kind {
			continue
		}
		if k.Group == group {
			return k, nil
		}
		elsewhere = k
	}
	if _, ok := unsupported[group][kind]; ok {
		return nil, errors.New("kind " + kind + " is not supported yet" + colon(insteadOf(kind)))
	}
	if elsewhere != nil {
		return nil, fmt.Errorf("kind %s is not known in %s: write apiVersion: %s", kind, group, elsewhere.APIVersion())
	}
	return nil, unknownKind(kind, "")
}

// colon puts a colon before a text, where there is one.
func colon(text string) string {
	if text == "" {
		return ""
	}
	return ": " + text
}

// Lookup returns the kind that a word of the command line means: its singular,
// plural, short name or alias in any case, alone or with its group. The error is for
// people.
func Lookup(word string) (*Kind, error) {
	lower := strings.ToLower(word)
	name, group, qualified := strings.Cut(lower, ".")
	for _, k := range kinds {
		if qualified && group != k.Group {
			continue
		}
		if name == k.Singular || name == k.Plural || slices.Contains(k.ShortNames, name) || slices.Contains(k.Aliases, name) {
			return k, nil
		}
		if name == k.Kebab || name == strings.TrimSuffix(k.Kebab, "y")+"ies" || name == k.Kebab+"s" {
			return nil, fmt.Errorf("%q not recognized. Please use non-hyphenated resource name %q", word, k.Singular)
		}
	}
	for _, group := range unsupported {
		for kind, plural := range group {
			if name == strings.ToLower(kind) || name == plural {
				return nil, fmt.Errorf("configuration type %s is not supported yet, the types are %v%s", word, TypeWords(), colon(insteadOf(kind)))
			}
		}
	}
	if instead := insteadOf(name); instead != "" {
		return nil, errors.New((&UnknownTypeError{word}).Error() + colon(instead))
	}
	return nil, &UnknownTypeError{word}
}

// UnknownTypeError is the error of a word of which nothing is known; that of a word of others
// says what to write instead.
type UnknownTypeError struct{ Word string }

// Error implements error, in the words of Istio 0.5.
func (e *UnknownTypeError) Error() string {
	return fmt.Sprintf("configuration type %s not found, the types are %v", e.Word, TypeWords())
}

// TypeWords returns the singular of every kind, as errors and help list them.
func TypeWords() []string {
	words := make([]string, len(kinds))
	for i, k := range kinds {
		words[i] = k.Singular
	}
	return words
}
