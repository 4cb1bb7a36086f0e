package main

import (
	"bytes"
	"fmt"
	"go/ast"
	"reflect"
	"strconv"
	"strings"

	"sluice.dev/sluice/internal/report"
)

func writeReports(b *bytes.Buffer, s sources) error {
	fmt.Fprintf(b, `# Reports

What `+"`sluice run --report FILE`"+` writes: one JSON object a line, in UTF-8. The first has kind `+"`start`"+`, the
last `+"`end`"+`; between them each connection, and each HTTP request, has a line of kind `+"`flow`"+` once it has
ended, and each hidden file that was opened one of kind `+"`hidden`"+`. Each line is written whole, so that a report of a run that was broken off is whole lines too;
it has no `+"`end`"+`.

This is format %d. A change after which a reader of this format would be wrong makes it another number;
new fields alone do not, so a reader ignores those that it does not know. A field that says nothing of
a flow is absent where its column says so.
`, report.Format)
	source, err := newReader(s.root).load("internal/report")
	if err != nil {
		return err
	}
	for _, kind := range []string{"Start", "Flow", "Hidden", "End"} {
		rows, err := source.fields(kind)
		if err != nil {
			return err
		}
		fmt.Fprintf(b, "\n## %s\n\n", strings.ToLower(kind))
		table(b, []string{"field", "type", "", ""}, rows)
	}
	b.WriteString("\n## Outcomes\n\n")
	var rows [][]string
	for _, c := range ofType(source, "Outcome") {
		value, err := strconv.Atoi(c.object.Val().String())
		if err != nil {
			return err
		}
		rows = append(rows, []string{code(report.Outcome(value).String()), cell(c.comment)})
	}
	table(b, []string{"outcome", "means"}, rows)
	return nil
}

// fields are the fields of a struct as they stand in JSON, with what their comments
// say; those of an embedded struct among them.
func (s *source) fields(name string) ([][]string, error) {
	object := s.types.Scope().Lookup(name)
	if object == nil {
		return nil, fmt.Errorf("%s has no type %s: mend the reference", s.path, name)
	}
	var rows [][]string
	for _, file := range s.files {
		for _, d := range file.Decls {
			decl, ok := d.(*ast.GenDecl)
			if !ok {
				continue
			}
			for _, each := range decl.Specs {
				spec, ok := each.(*ast.TypeSpec)
				if !ok || spec.Name.Name != name {
					continue
				}
				for _, field := range spec.Type.(*ast.StructType).Fields.List {
					if len(field.Names) == 0 {
						below, err := s.fields(last(field.Type))
						if err != nil {
							return nil, err
						}
						rows = append(rows, below...)
						continue
					}
					tag, err := strconv.Unquote(field.Tag.Value)
					if err != nil {
						return nil, err
					}
					key, options, _ := strings.Cut(reflect.StructTag(tag).Get("json"), ",")
					absent := ""
					if options != "" {
						absent = "may be absent"
					}
					comment := words(field.Comment)
					if comment == "" {
						return nil, fmt.Errorf("%s.%s has no comment: the reference needs one", name, key)
					}
					rows = append(rows, []string{code(key), jsonType(field.Type), absent, cell(comment)})
				}
			}
		}
	}
	return rows, nil
}

// jsonType is the type of a field in JSON.
func jsonType(e ast.Expr) string {
	if list, ok := e.(*ast.ArrayType); ok {
		return "list of " + jsonType(list.Elt)
	}
	switch last(e) {
	case "int", "int64", "uint16", "uint64", "Duration":
		return "number"
	case "Time":
		return "string, RFC 3339"
	}
	return "string"
}
