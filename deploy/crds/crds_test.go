package crds

import (
	"io/fs"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v4"

	"sluice.dev/sluice/api"
)

// definition is what these tests read of a CustomResourceDefinition.
type definition struct {
	Metadata struct{ Name string }
	Spec     struct {
		Group, Scope string
		Names        struct {
			Kind, ListKind, Plural, Singular string
			ShortNames                       []string `yaml:"shortNames"`
			Categories                       []string
		}
		Versions []struct {
			Name            string
			Served, Storage bool
			Subresources    map[string]any
			Columns         []map[string]any `yaml:"additionalPrinterColumns"`
			Schema          struct {
				OpenAPIV3Schema map[string]any `yaml:"openAPIV3Schema"`
			}
		}
	}
}

func TestEveryKindHasADefinitionThatSaysTheSame(t *testing.T) {
	files, err := fs.Glob(Files, "*.yaml")
	alone, _ := fs.Glob(Files, "alone/*.yaml")
	if files = append(files, alone...); err != nil || len(files) != len(api.Kinds()) {
		t.Fatalf("%d files for %d kinds, %v", len(files), len(api.Kinds()), err)
	}
	for _, kind := range api.Kinds() {
		data, err := Files.ReadFile(fileOf(kind))
		if err != nil {
			t.Error(err)
			continue
		}
		var d definition
		if err := yaml.Unmarshal(data, &d); err != nil {
			t.Fatal(err)
		}
		scope := "Cluster"
		if kind.Namespaced {
			scope = "Namespaced"
		}
		names := d.Spec.Names
		if d.Metadata.Name != kind.Resource() || d.Spec.Group != kind.Group || d.Spec.Scope != scope || names.Kind != kind.Name ||
			names.Plural != kind.Plural || names.Singular != kind.Singular || !slices.Equal(names.ShortNames, kind.ShortNames) ||
			!slices.Equal(names.Categories, []string{"sluice"}) {
			t.Errorf("%s: %+v", kind.Name, d.Spec)
		}
		if len(d.Spec.Versions) != 1 {
			t.Fatalf("%s has %d versions", kind.Name, len(d.Spec.Versions))
		}
		version := d.Spec.Versions[0]
		if _, status := version.Subresources["status"]; version.Name != kind.Version || !version.Served || !version.Storage || !status || len(version.Columns) < 2 {
			t.Errorf("%s: %+v", kind.Name, version)
		}
		if strings.Contains(string(data), "preserve-unknown-fields") {
			t.Errorf("%s keeps unknown fields", kind.Name)
		}
		sameFields(t, "spec", reflect.TypeOf(kind.NewSpec()).Elem(), version.Schema.OpenAPIV3Schema["properties"].(map[string]any)["spec"].(map[string]any))
		// What must be there, and which words a field takes, is said by
		// api.Validate alone, so that kubectl shows the same texts.
		walk(version.Schema.OpenAPIV3Schema["properties"].(map[string]any)["spec"].(map[string]any), func(node map[string]any) {
			for _, word := range []string{"required", "enum", "minimum", "maximum", "pattern", "minItems"} {
				if _, there := node[word]; there {
					t.Errorf("the spec of %s has %q in its schema: %v", kind.Name, word, node)
				}
			}
		})
	}
}

// fileOf is where the definition of a kind is: never where what a cluster gets is, where the
// cluster has the kind itself.
func fileOf(kind *api.Kind) string {
	file := kind.Group + "_" + kind.Plural + ".yaml"
	if kind.OfKubernetes {
		return "alone/" + file
	}
	return file
}

func TestEveryFieldSaysWhatItIs(t *testing.T) {
	for _, kind := range api.Kinds() {
		data, err := Files.ReadFile(fileOf(kind))
		if err != nil {
			t.Fatal(err)
		}
		var d definition
		if err := yaml.Unmarshal(data, &d); err != nil {
			t.Fatal(err)
		}
		var described func(path string, schema map[string]any)
		described = func(path string, schema map[string]any) {
			properties, _ := schema["properties"].(map[string]any)
			for name, inner := range properties {
				inner := inner.(map[string]any)
				text, _ := inner["description"].(string)
				switch {
				case text == "" && path+"."+name != ".metadata":
					t.Errorf("%s: %s.%s has no description", kind.Name, path, name)
				case strings.HasSuffix(text, "..."):
					t.Errorf("%s: the description of %s.%s is cut: %s", kind.Name, path, name, text)
				}
				described(path+"."+name, inner)
			}
			for _, word := range []string{"items", "additionalProperties"} {
				if inner, ok := schema[word].(map[string]any); ok {
					described(path+"[]", inner)
				}
			}
		}
		described("", d.Spec.Versions[0].Schema.OpenAPIV3Schema)
	}
}

// sameFields asserts that a schema has the fields of a Go type and no others: a
// change of the types without hack/generate.sh shows here.
func sameFields(t *testing.T, path string, of reflect.Type, schema map[string]any) {
	t.Helper()
	switch of.Kind() {
	case reflect.Pointer:
		sameFields(t, path, of.Elem(), schema)
	case reflect.Slice:
		sameFields(t, path+"[]", of.Elem(), schema["items"].(map[string]any))
	case reflect.Map:
		sameFields(t, path+"[]", of.Elem(), schema["additionalProperties"].(map[string]any))
	case reflect.Struct:
		properties, _ := schema["properties"].(map[string]any)
		left := maps.Clone(properties)
		for i := range of.NumField() {
			name, _, _ := strings.Cut(of.Field(i).Tag.Get("json"), ",")
			property, there := properties[name].(map[string]any)
			if !there {
				t.Errorf("%s.%s is not in the schema: run hack/generate.sh", path, name)
				continue
			}
			delete(left, name)
			sameFields(t, path+"."+name, of.Field(i).Type, property)
		}
		for name := range left {
			t.Errorf("%s.%s is in the schema alone: run hack/generate.sh", path, name)
		}
	default:
		want := map[reflect.Kind]string{
			reflect.String: "string", reflect.Bool: "boolean", reflect.Int32: "integer", reflect.Int64: "integer",
			reflect.Float32: "number", reflect.Float64: "number",
		}[of.Kind()]
		if schema["type"] != want {
			t.Errorf("%s is %v in the schema, want %s: run hack/generate.sh", path, schema["type"], want)
		}
	}
}

// walk calls visit for a schema and those within it.
func walk(schema map[string]any, visit func(map[string]any)) {
	visit(schema)
	for _, word := range []string{"items", "additionalProperties"} {
		if inner, ok := schema[word].(map[string]any); ok {
			walk(inner, visit)
		}
	}
	properties, _ := schema["properties"].(map[string]any)
	for _, inner := range properties {
		if inner, ok := inner.(map[string]any); ok {
			walk(inner, visit)
		}
	}
}
