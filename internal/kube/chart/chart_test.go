package chart

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v4"

	"sluice.dev/sluice/deploy/helm"
	"sluice.dev/sluice/deploy/kubernetes"
	"sluice.dev/sluice/internal/control/compile"
)

func TestObjectsAreInTheOrderInWhichOneNeedsTheOther(t *testing.T) {
	objects, err := Render("1.0", Values{"createNamespace": true})
	if err != nil {
		t.Fatal(err)
	}
	if len(objects) < 15 || objects[0].Kind != "Namespace" || objects[0].Name != Namespace {
		t.Fatalf("%d objects, first %+v", len(objects), objects[0])
	}
	for i, object := range objects {
		if object.rank() == len(order) {
			t.Errorf("%s %s has no place in the order", object.Kind, object.Name)
		}
		if i > 0 && object.rank() < objects[i-1].rank() {
			t.Errorf("%s is behind %s", object.Kind, objects[i-1].Kind)
		}
		if object.Namespace != "" && object.Namespace != Namespace {
			t.Errorf("%s %s is in %s", object.Kind, object.Name, object.Namespace)
		}
	}
	if Namespace != compile.RootNamespace {
		t.Errorf("it is installed into %s, and rules for all namespaces are in %s", Namespace, compile.RootNamespace)
	}
}

func TestTheRightsAreThoseThatTheServerIsTriedWith(t *testing.T) {
	// deploy/kubernetes is what test/kube applies and counts, verb by verb.
	objects, err := Render("1.0")
	if err != nil {
		t.Fatal(err)
	}
	text, err := kubernetes.Files.ReadFile("rbac.yaml")
	if err != nil {
		t.Fatal(err)
	}
	tried, err := split(string(text))
	if err != nil || len(tried) < 5 {
		t.Fatalf("%d objects, %v", len(tried), err)
	}
	for _, right := range tried {
		if !slices.Contains(objects, right) {
			t.Errorf("%s %s is not in the chart as it is in deploy/kubernetes", right.Kind, right.Name)
		}
	}
}

func TestEachValueIsExplainedInBothFiles(t *testing.T) {
	text, err := helm.Files.ReadFile("values.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var document yaml.Node
	if err := yaml.Unmarshal(text, &document); err != nil {
		t.Fatal(err)
	}
	read, err := readSchema()
	if err != nil {
		t.Fatal(err)
	}
	var explained func(path string, node *yaml.Node, of *schema)
	explained = func(path string, node *yaml.Node, of *schema) {
		for i := 0; i+1 < len(node.Content); i += 2 {
			key, value := node.Content[i], node.Content[i+1]
			name := strings.TrimPrefix(path+"."+key.Value, ".")
			below := of.Properties[key.Value]
			if below == nil || below.Description == "" {
				t.Errorf("%s has no description in values.schema.json", name)
				continue
			}
			if len(below.Properties) > 0 {
				explained(name, value, below)
			} else if !strings.HasPrefix(key.HeadComment, "# ") {
				t.Errorf("%s has no comment in values.yaml", name)
			}
		}
		for name := range of.Properties {
			if name != "global" && !slices.ContainsFunc(node.Content, func(n *yaml.Node) bool { return n.Value == name }) {
				t.Errorf("%s.%s is not in values.yaml", path, name)
			}
		}
	}
	explained("", document.Content[0], read)
}

func TestEveryWrongValueIsSaidByName(t *testing.T) {
	for text, want := range map[string]string{
		"replicas: 0":                    "value replicas: 0 must be from 1 to 100",
		"replicas: 2.5":                  "value replicas: must be of type integer, not number",
		"replica: 3":                     "value replica is not known; known are affinity, ",
		"crds: {kept: true}":             "value crds.kept is not known; known are install, keep",
		"tag: 1.0":                       "value tag: must be of type string, not number",
		"tag: a b":                       `value tag: "a b" does not match `,
		"logLevel: loud":                 `value logLevel: "loud" must be one of debug, info, warn, error`,
		"imagePullSecrets: [{name: ''}]": "value imagePullSecrets[0].name: must have 1 characters or more",
		"imagePullSecrets: [{}]":         "value imagePullSecrets[0].name is missing",
		"priorityClassName: " + strings.Repeat("a", 254):   "value priorityClassName: has 254 characters; at most 253 are allowed",
		"tolerations: [" + strings.Repeat("{},", 65) + "]": "value tolerations: has 65 items; at most 64 are allowed",
		"hub: null\nreplicas: 0":                           "value hub is missing\nvalue replicas: 0 must be",
	} {
		values, err := ReadValues("values", []byte(text))
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if _, err := Render("1.0", values); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v; want %s", text, err, want)
		}
	}
}

func TestValuesLieOverOneAnother(t *testing.T) {
	under := Values{"crds": map[string]any{"keep": true}, "nodeSelector": map[string]any{"a": "1"}, "resources": nil}
	objects, err := Render("1.0", under, Values{"crds": map[string]any{"keep": false}, "nodeSelector": map[string]any{"b": "2"}})
	if err != nil {
		t.Fatal(err)
	}
	text := Text(objects)
	for part, want := range map[string]bool{"a: \"1\"": true, "b: \"2\"": true, "resource-policy": false, "memory: 512Mi": false, "kind: CustomResourceDefinition": true} {
		if strings.Contains(text, part) != want {
			t.Errorf("%s is there: %t", part, !want)
		}
	}
	if !bytes.Contains([]byte(text), []byte(`sluice.dev/sluice-server:1.0"`)) {
		t.Error("the version is not the tag of the image")
	}
}

func TestATemplateWithAWordThatIsNotKnownIsAnError(t *testing.T) {
	for _, text := range []string{"{{ include \"a\" . }}", "{{ .Values.a | b64enc }}", `{{ .Files.Get "files/secret/a" }}`, `{{ .Files.Glob "*" }}`, `{{ fail "never" }}`} {
		if out, err := execute("test.yaml", text, "1.0", map[string]any{"a": "b"}); err == nil {
			t.Errorf("%s gives %q", text, out)
		}
	}
}
