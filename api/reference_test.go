package api

import (
	"errors"
	"testing"
)

func TestAnObjectIsNamedInTheFormsOfSluiceAndOfKubectl(t *testing.T) {
	for text, want := range map[string]string{
		"egress-rule/books/googleapis":          "egress-rule/books/googleapis",
		"mesh-config/default":                   "mesh-config/default",
		"er/googleapis":                         "egress-rule//googleapis",
		"ep/books":                              "egress-policy//books",
		"EgressPolicy/books":                    "egress-policy//books",
		"egressrule.config.istio.io/googleapis": "egress-rule//googleapis",
		"egresspolicies.sluice.dev/books":       "egress-policy//books",
		"ep/team/books":                         "egress-policy/team/books",
		"EgressPolicy/team/books":               "egress-policy/team/books",
		"mc/default":                            "mesh-config/default",
		"egress-rule/a":                         `"egress-rule/a" must look like egress-rule/NAMESPACE/NAME, or write egressrule/NAME`,
		"egress-rule/a/b/c":                     `"egress-rule/a/b/c" must look like egress-rule/NAMESPACE/NAME, or write egressrule/NAME`,
		"egress-rule/Not_one/b":                 `"egress-rule/Not_one/b" must look like egress-rule/NAMESPACE/NAME, or write egressrule/NAME`,
		"er/":                                   `"er/" must look like er/NAME or er/NAMESPACE/NAME`,
		"er/a/":                                 `"er/a/" must look like er/NAME or er/NAMESPACE/NAME`,
		"er/a/b/c":                              `"er/a/b/c" must look like er/NAME or er/NAMESPACE/NAME`,
		"mc/a/b":                                `"mc/a/b" must look like mc/NAME`,
		"mesh-config/a/b":                       `"mesh-config/a/b" must look like mesh-config/NAME`,
		"er":                                    `"er" is not the name of an object: those look like egress-rule/NAMESPACE/NAME`,
		"www.example.com/er":                    `"www.example.com/er" is not the name of an object: those look like egress-rule/NAMESPACE/NAME`,
		"https://er/x":                          `"https://er/x" is not the name of an object: those look like egress-rule/NAMESPACE/NAME`,
		"":                                      `"" is not the name of an object: those look like egress-rule/NAMESPACE/NAME`,
	} {
		ref, err := ParseReference(text)
		got := ""
		switch {
		case err != nil:
			got = err.Error()
		case ref.Kind.Namespaced && ref.Namespace == "":
			got = ref.Kind.Kebab + "//" + ref.Name
		default:
			got = ref.Kind.ID(ref.Namespace, ref.Name)
		}
		if got != want {
			t.Errorf("%q:\n got %s\nwant %s", text, got, want)
		}
	}
	if _, err := ParseReference("www.example.com/x"); !errors.Is(err, ErrNoReference) {
		t.Errorf("a host with a path is taken for a name with a fault: %v", err)
	}
}
