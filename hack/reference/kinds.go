package main

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"go.yaml.in/yaml/v4"
)

// definition is what a CRD says that a reader wants to know.
type definition struct {
	Spec struct {
		Group string `yaml:"group"`
		Scope string `yaml:"scope"`
		Names struct {
			Kind       string   `yaml:"kind"`
			Plural     string   `yaml:"plural"`
			Singular   string   `yaml:"singular"`
			ShortNames []string `yaml:"shortNames"`
		} `yaml:"names"`
		Versions []struct {
			Name   string `yaml:"name"`
			Schema struct {
				OpenAPI schema `yaml:"openAPIV3Schema"`
			} `yaml:"schema"`
		} `yaml:"versions"`
	} `yaml:"spec"`
}

type schema struct {
	Type        string            `yaml:"type"`
	Format      string            `yaml:"format"`
	Description string            `yaml:"description"`
	Default     any               `yaml:"default"`
	Properties  map[string]schema `yaml:"properties"`
	Items       *schema           `yaml:"items"`
	Values      *schema           `yaml:"additionalProperties"`
	IntOrString bool              `yaml:"x-kubernetes-int-or-string"`
	Preserve    bool              `yaml:"x-kubernetes-preserve-unknown-fields"`
}

func writeKinds(b *bytes.Buffer, s sources) error {
	files, err := filepath.Glob(filepath.Join(s.root, "deploy/crds/*.yaml"))
	if err != nil {
		return err
	}
	alone, err := filepath.Glob(filepath.Join(s.root, "deploy/crds/alone/*.yaml"))
	if err != nil {
		return err
	}
	files = append(files, alone...)
	if len(files) == 0 {
		return fmt.Errorf("deploy/crds holds no definition")
	}
	slices.SortFunc(files, func(a, b string) int { // ours first
		if x, y := strings.Contains(a, "/sluice.dev_"), strings.Contains(b, "/sluice.dev_"); x != y {
			if x {
				return -1
			}
			return 1
		}
		return strings.Compare(a, b)
	})
	b.WriteString(`# Kinds

Every kind that can be created, from its definition under ` + "`deploy/crds`" + `. Each object also has
` + "`apiVersion`, `kind` and `metadata`" + ` (` + "`name`, `namespace`, `labels`, `annotations`" + `). A field that is
not listed here is refused. What must be there, and which values fit, is checked when the object is
created; all errors are told at once, with file and line.
`)
	var status schema
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		var d definition
		if err := yaml.Unmarshal(text, &d); err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
		if len(d.Spec.Versions) != 1 {
			return fmt.Errorf("%s: %d versions; this page knows how to write one", file, len(d.Spec.Versions))
		}
		writeKind(b, &d)
		if s, ok := d.Spec.Versions[0].Schema.OpenAPI.Properties["status"]; ok {
			status = s
		}
	}
	b.WriteString("\n## Status\n\nWhat the control plane writes into every object:\n\n")
	table(b, []string{"field", "type", ""}, fieldRows("status", status))
	return nil
}

func writeKind(b *bytes.Buffer, d *definition) {
	names, version := d.Spec.Names, d.Spec.Versions[0]
	top := version.Schema.OpenAPI
	words := append([]string{names.Singular, names.Plural}, names.ShortNames...)
	for i := range words {
		words[i] = code(words[i])
	}
	fmt.Fprintf(b, "\n## %s\n\n%s\n\n", names.Kind, strings.TrimSpace(top.Description))
	fmt.Fprintf(b, "apiVersion `%s/%s`; %s; on the command line %s.\n", d.Spec.Group, version.Name,
		map[string]string{"Namespaced": "in a namespace", "Cluster": "of the whole mesh, in no namespace"}[d.Spec.Scope], strings.Join(words, ", "))
	spec := top.Properties["spec"]
	if about := strings.TrimSpace(spec.Description); about != "" {
		fmt.Fprintf(b, "\n%s\n", about)
	}
	b.WriteByte('\n')
	table(b, []string{"field", "type", ""}, fieldRows("spec", spec))
}

// fieldRows are the fields below one, depth first, in alphabetical order.
func fieldRows(path string, s schema) [][]string {
	var rows [][]string
	for _, name := range slices.Sorted(maps.Keys(s.Properties)) {
		field := s.Properties[name]
		at := path + "." + name
		about := field.Description
		if field.Default != nil {
			about += fmt.Sprintf(" Default: %v.", field.Default)
		}
		rows = append(rows, []string{code(at), typeOf(field), cell(about)})
		for {
			switch {
			case field.Items != nil:
				at, field = at+"[]", *field.Items
				continue
			case field.Values != nil:
				at, field = at+".KEY", *field.Values
				continue
			}
			break
		}
		rows = append(rows, fieldRows(at, field)...)
	}
	return rows
}

func typeOf(s schema) string {
	switch {
	case s.Items != nil:
		return "list of " + typeOf(*s.Items)
	case s.Values != nil:
		return "map of " + typeOf(*s.Values)
	case s.Preserve && s.Type == "":
		return "any"
	case s.IntOrString:
		return "integer or string"
	}
	return s.Type
}
