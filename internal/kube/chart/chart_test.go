package chart

import (
	"bytes"
	"io/fs"
	"path"
	"slices"
	"strings"
	"testing"
	"text/template"

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

// byGo executes a template by text/template, with our functions.
func byGo(t *testing.T, name, text string, values map[string]any) string {
	t.Helper()
	functions := make(template.FuncMap)
	for name := range words {
		functions[name] = func(arguments ...any) (any, error) { return call(name, arguments) }
	}
	parsed, err := template.New(name).Option("missingkey=zero").Funcs(functions).Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := parsed.Execute(&out, dot("1.0", values)); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

func TestTemplatesAreExecutedAsTextTemplateDoes(t *testing.T) {
	defaults, err := helm.Files.ReadFile("values.yaml")
	if err != nil {
		t.Fatal(err)
	}
	texts := map[string]string{
		"values": `{{ .Values.replicas }} {{ .Values.nothing }} {{ .Values.crds.keep }} {{ .Values.resources }}`,
		"else":   `{{ if .Values.nothing }}a{{ else if .Values.tolerations }}b{{ else }}c{{ end }}{{ if .Values.hub }}d{{ end }}{{ if .Values.replicas }}e{{ end }}`,
		"none":   `{{ range $path, $text := .Files.Glob "files/crds/*.txt" }}a{{ else }}{{ .Values.hub }}{{ end }}`,
		"some":   `{{ range $path, $text := .Files.Glob "files/kubernetes/*.yaml" }}{{ $path }}: {{ . }}{{ $text }}{{ $.Values.hub }}{{ end }}`,
		"nested": `{{ range $path, $text := .Files.Glob "files/kubernetes/*.yaml" }}{{ range $path, $text := $.Files.Glob "files/crds/*.yaml" }}{{ $path }}{{ end }}{{ $path }}{{ end }}`,
		"words":  `{{ printf "%s-%d" (.Values.hub | replace "s" "t" | quote) 3 }}{{ if ne .Values.hub "a" }}a{{ end }}{{ "a\nb" | nindent 2 }}`,
		"number": `{{ if 0 }}a{{ end }}{{ if 1 }}b{{ end }}`,
		"text":   "{{- /* a comment */ -}}\n a {{- \"b\" -}} c \n",
		"empty":  "",
	}
	files, err := fs.Glob(helm.Files, "templates/*.yaml")
	if err != nil || len(files) < 5 {
		t.Fatal(files, err)
	}
	for _, file := range files {
		text, err := helm.Files.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		texts[path.Base(file)] = string(text)
	}
	for _, given := range []string{
		"{}",
		`{createNamespace: true, tag: "1", crds: {keep: true}, podAnnotations: {a: "b: c"}, nodeSelector: {d: e}, tolerations: [{key: f}], affinity: {g: [{h: i}]}, priorityClassName: j, imagePullSecrets: [{name: k}], replicas: 3}`,
		`{crds: {install: false}, resources: null, replicas: 0}`,
	} {
		under, err := ReadValues("values.yaml", defaults)
		if err != nil {
			t.Fatal(err)
		}
		over, err := ReadValues("given", []byte(given))
		if err != nil {
			t.Fatal(err)
		}
		values := merge(under, over)
		for name, text := range texts {
			got, err := execute(name, text, "1.0", values)
			if want := byGo(t, name, text, values); err != nil || got != want {
				t.Errorf("%s with %s: %v\n%s\nand by text/template\n%s", name, given, err, got, want)
			}
		}
	}
}

func TestATemplateWithWhatIsNotSupportedIsAnError(t *testing.T) {
	for text, want := range map[string]string{
		`{{ include "a" . }}`:               `function "include" not defined`,
		`{{ .Values.a | b64enc }}`:          `function "b64enc" not defined`,
		`{{ len .Values.a }}`:               `function "len" not defined`,
		`{{ .Files.Get "files/secret/a" }}`: "test.yaml:1:3: {{.Files.Get \"files/secret/a\"}}: the chart has no folder files/secret",
		`{{ .Files.Glob "*" }}`:             "the chart has no folder",
		`{{ .Files.Lines "a" }}`:            ".Files has no Lines here",
		`{{ .Files.Get }}`:                  ".Files.Get takes one text",
		`{{ .Values.a "b" }}`:               ".Values.a takes no arguments",
		`{{ .Values.a.b }}`:                 "it has no field b",
		`{{ fail "never" }}`:                "never",
		`{{ nindent "a" "b" }}`:             "argument 1 of function nindent is of the wrong type: a",
		`{{ nindent -1 "b" }}`:              "argument 1 of function nindent is of the wrong type: -1",
		`{{ ne .Values.nothing "b" }}`:      "argument 1 of function ne is of the wrong type: <nil>",
		`{{ quote }}`:                       "function quote takes 1 arguments, not 0",
		`{{ quote "a" "b" }}`:               "function quote takes 1 arguments, not 2",
		`{{ with .Values.a }}{{ end }}`:     "only text, values, if and range are supported",
		`{{ range .Values.b }}{{ end }}`:    "only range $PATH, $TEXT := .Files.Glob is supported",
		`{{ $a := .Values.a }}`:             "a variable outside range is not supported",
		`{{ if $a := .Values.a }}{{ end }}`: "a variable outside range is not supported",
		`{{ 1.5 }}`:                         "1.5 is not supported here",
		`{{ define "b" }}{{ end }}`:         "a template within a template is not supported",
		`{{ .Values.nothing.below }}`:       "it has no field below",
		`{{ template "a" }}`:                "only text, values, if and range are supported",
		`{{ if .Values.a }}`:                "unexpected EOF",
	} {
		out, err := execute("test.yaml", text, "1.0", map[string]any{"a": "b", "b": []any{"c"}})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s gives %q, %v; want %s", text, out, err, want)
		}
	}
}
