// Command hidden writes rules/hidden_list.go, which is rules/hidden.yaml as the
// commands have it. hack/generate.sh calls it; it never changes the list.
package main

import (
	"bytes"
	"flag"
	"fmt"
	"go/format"
	"os"

	"go.yaml.in/yaml/v4"

	"sluice.dev/sluice/rules"
)

func main() {
	from := flag.String("from", "rules/"+rules.HiddenFile, "the list")
	to := flag.String("to", "rules/hidden_list.go", "the file to write")
	flag.Parse()
	if err := write(*from, *to); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func write(from, to string) error {
	source, err := generate(from)
	if err != nil {
		return err
	}
	return os.WriteFile(to, source, 0o644)
}

// generate returns the Go source of the list in a file.
func generate(from string) ([]byte, error) {
	text, err := os.ReadFile(from)
	if err != nil {
		return nil, err
	}
	var list rules.Hidden
	decoder := yaml.NewDecoder(bytes.NewReader(text))
	decoder.KnownFields(true)
	if err := decoder.Decode(&list); err != nil {
		return nil, fmt.Errorf("%s: %w", from, err)
	}
	var b bytes.Buffer
	b.WriteString("// Written by `make generate` from hidden.yaml; do not edit.\n\npackage rules\n\n" +
		"// HiddenFiles returns the list of hidden.yaml.\nfunc HiddenFiles() Hidden {\nreturn Hidden{\nMoved: []MovedFolder{\n")
	for _, m := range list.Moved {
		fmt.Fprintf(&b, "{Folder: %q, Variable: %q},\n", m.Folder, m.Variable)
	}
	b.WriteString("},\nFiles: []MovedFile{\n")
	for _, f := range list.Files {
		fmt.Fprintf(&b, "{Path: %q, Variable: %q", f.Path, f.Variable)
		if f.Separated {
			b.WriteString(", Separated: true")
		}
		b.WriteString("},\n")
	}
	b.WriteString("},\nPaths: []HiddenPath{\n")
	for _, p := range list.Paths {
		fmt.Fprintf(&b, "{Path: %q, What: %q", p.Path, p.What)
		for _, field := range []struct{ name, value string }{{"Holds", p.Holds}, {"Empty", p.Empty}, {"Instead", p.Instead}} {
			if field.value != "" {
				fmt.Fprintf(&b, ", %s: %q", field.name, field.value)
			}
		}
		if len(p.Except) > 0 {
			fmt.Fprintf(&b, ", Except: %#v", p.Except)
		}
		if len(p.With) > 0 {
			fmt.Fprintf(&b, ", With: %#v", p.With)
		}
		fmt.Fprintf(&b, ", Source: %q},\n", p.Source)
	}
	b.WriteString("},\n}\n}\n")
	return format.Source(b.Bytes())
}
