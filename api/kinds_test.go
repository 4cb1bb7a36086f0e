package api

import (
	"reflect"
	"strings"
	"testing"
)

func TestKindsHaveNamesOfTheirOwn(t *testing.T) {
	seen := map[string]string{}
	for _, k := range Kinds() {
		for _, word := range append([]string{k.Plural, k.Singular}, k.ShortNames...) {
			if other, taken := seen[word]; taken {
				t.Errorf("%s means both %s and %s", word, other, k.Name)
			}
			seen[word] = k.Name
		}
	}
	for group, refused := range unsupported {
		for kind, plural := range refused {
			if other, taken := seen[plural]; taken {
				t.Errorf("plural %s of %s (%s), not supported yet, is taken by %s", plural, kind, group, other)
			}
		}
	}
}

func TestLookupReadsTheWordsOfTheCommandLine(t *testing.T) {
	for word, want := range map[string]string{
		"egressrule":                  "EgressRule",
		"egressrules":                 "EgressRule",
		"EgressRules":                 "EgressRule",
		"er":                          "EgressRule",
		"egressrules.config.istio.io": "EgressRule",
		"routerule":                   "RouteRule",
		"rr":                          "RouteRule",
		"dp":                          "DestinationPolicy",
		"destinationpolicies":         "DestinationPolicy",
		"egresspolicies":              "EgressPolicy",
		"egresspolicies.sluice.dev":   "EgressPolicy",
		"egp":                         "EgressPolicy",
		"ep":                          "EgressPolicy",
		"meshservices":                "MeshService",
		"mc":                          "MeshConfig",
		"egressrules.sluice.dev":      "configuration type egressrules.sluice.dev not found, the types are [egressrule routerule destinationpolicy ingressrule ingress egresspolicy meshservice meshconfig]",
		"egressruless":                "configuration type egressruless not found, the types are [egressrule routerule destinationpolicy ingressrule ingress egresspolicy meshservice meshconfig]",
		"route-rule":                  `"route-rule" not recognized. Please use non-hyphenated resource name "routerule"`,
		"route-rules":                 `"route-rules" not recognized. Please use non-hyphenated resource name "routerule"`,
		"egress-policies":             `"egress-policies" not recognized. Please use non-hyphenated resource name "egresspolicy"`,
		"ingressrules":                "IngressRule",
		"ing":                         "Ingress",
		"ingresses.networking.k8s.io": "Ingress",
		"denier":                      "configuration type denier is not supported yet, the types are [egressrule routerule destinationpolicy ingressrule ingress egresspolicy meshservice meshconfig]: " + insteadOf("denier"),
		"accesspolicy":                "configuration type accesspolicy is not supported yet, the types are [egressrule routerule destinationpolicy ingressrule ingress egresspolicy meshservice meshconfig]",
		"":                            "configuration type  not found, the types are [egressrule routerule destinationpolicy ingressrule ingress egresspolicy meshservice meshconfig]",
	} {
		kind, err := Lookup(word)
		got := ""
		if err != nil {
			got = err.Error()
		} else {
			got = kind.Name
		}
		if got != want {
			t.Errorf("Lookup(%q):\n got %s\nwant %s", word, got, want)
		}
	}
}

func TestKindOfRefusesByName(t *testing.T) {
	for _, c := range []struct{ apiVersion, kind, want string }{
		{"", "EgressRule", "EgressRule.v1alpha2.config.istio.io"},
		{"config.istio.io/v1alpha2", "RouteRule", "RouteRule.v1alpha2.config.istio.io"},
		{"config.istio.io/v1beta1", "RouteRule", "RouteRule.v1alpha2.config.istio.io"},
		{"sluice.dev/v1alpha1", "EgressPolicy", "EgressPolicy.v1alpha1.sluice.dev"},
		{"", "IngressRule", "IngressRule.v1alpha2.config.istio.io"},
		{"", "denier", "kind denier is not supported yet: " + insteadOf("denier")},
		{"networking.k8s.io/v1", "Ingress", "Ingress.v1.networking.k8s.io"},
		{"networking.k8s.io/v2", "Ingress", "kind Ingress is not known: apiVersion networking.k8s.io/v2 is not served, use networking.k8s.io/v1"},
		{"networking.k8s.io/v1", "NetworkPolicy", "kind NetworkPolicy is not known: " + writeEgressPolicy},
		{"networking.k8s.io/v1", "IngressClass", "kind IngressClass is not known: " + startIngress},
		{"config.istio.io/v1alpha2", "memquota", "kind memquota is not supported yet: " + laterQuota},
		{"config.istio.io/v1alpha2", "rule", "kind rule is not supported yet: " + laterPolicy + seeAll},
		{"sluice.dev/v1alpha1", "AccessPolicy", "kind AccessPolicy is not supported yet"},
		{"config.istio.io/v1alpha2", "EndUserAuthenticationPolicySpec", "kind EndUserAuthenticationPolicySpec is not known: " + laterAccess},
		{"config.istio.io/v1alpha2", "stdio", "kind stdio is not known: " + seeLogs},
		{"", "EgressPolicy", "kind EgressPolicy is not known in config.istio.io: write apiVersion: sluice.dev/v1alpha1"},
		{"sluice.dev/v1alpha1", "EgressRule", "kind EgressRule is not known in sluice.dev: write apiVersion: config.istio.io/v1alpha2"},
		{"sluice.dev/v1", "EgressPolicy", "kind EgressPolicy is not known: apiVersion sluice.dev/v1 is not served, use sluice.dev/v1alpha1"},
		{"v1", "Service", "kind Service is not known: " + writeMeshService},
		{"networking.istio.io/v1alpha3", "ServiceEntry", "kind ServiceEntry is not known: " + writeEgressPolicy},
	} {
		kind, err := KindOf(c.apiVersion, c.kind)
		got := ""
		if err != nil {
			got = err.Error()
		} else {
			got = kind.FullName()
		}
		if got != c.want {
			t.Errorf("KindOf(%q, %q):\n got %s\nwant %s", c.apiVersion, c.kind, got, c.want)
		}
	}
}

func TestFullNamesAndIDs(t *testing.T) {
	objects, err := Decode("f", strings.NewReader(istioEgressRule+"\n---\napiVersion: sluice.dev/v1alpha1\nkind: MeshConfig\nmetadata: {name: default}\n"))
	if err != nil {
		t.Fatal(err)
	}
	if got := objects[0].ID(); got != "egress-rule/default/googleapis" {
		t.Error(got)
	}
	if got := objects[1].ID(); got != "mesh-config/default" {
		t.Error(got)
	}
	if got := objects[0].TypeOf().Resource(); got != "egressrules.config.istio.io" {
		t.Error(got)
	}
}

// What was written of a struct is 64 bits: see structure.
func TestNoStructOfAKindHasMoreThan64Fields(t *testing.T) {
	seen := map[reflect.Type]bool{}
	var walk func(of reflect.Type)
	walk = func(of reflect.Type) {
		switch of.Kind() {
		case reflect.Pointer, reflect.Slice, reflect.Map:
			walk(of.Elem())
		case reflect.Struct:
			if seen[of] || of == timeType {
				return
			}
			seen[of] = true
			if n := of.NumField(); n > 64 {
				t.Errorf("%s has %d fields", of, n)
			}
			for i := range of.NumField() {
				walk(of.Field(i).Type)
			}
		}
	}
	walk(reflect.TypeFor[Meta]())
	for _, k := range Kinds() {
		walk(reflect.TypeOf(k.NewSpec()))
	}
	if len(seen) < 2*len(kinds) {
		t.Errorf("only %d structs were looked at", len(seen))
	}
}
