// Package shape keeps a format and what is written in it together: a test compares
// the members of a type's JSON with a list that is checked in, and fails where they
// changed and the format did not. Tests alone import it; it never encodes a value.
package shape

import (
	"encoding"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

// update writes the lists anew: go test PACKAGE -run Shape -args -update-shape
var update = flag.Bool("update-shape", false, "write the lists of members anew")

// Check compares what the values' types hold with testdata/NAME.txt, whose first line
// is the format.
func Check(t *testing.T, name string, format int, values ...any) {
	t.Helper()
	var b strings.Builder
	fmt.Fprintf(&b, "format %d\n", format)
	for _, value := range values {
		of := reflect.TypeOf(value)
		list(&b, of.Name(), of, nil)
	}
	path := filepath.Join("testdata", name+".txt")
	if *update {
		if err := os.WriteFile(path, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	held, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if string(held) == b.String() {
		return
	}
	t.Errorf("what is written is not what %s lists. Where an earlier build would read less of it than is meant, raise the format; "+
		"then run: go test . -run %s -args -update-shape\n%s", path, t.Name(), difference(string(held), b.String()))
}

var (
	jsonMarshaler = reflect.TypeFor[json.Marshaler]()
	textMarshaler = reflect.TypeFor[encoding.TextMarshaler]()
)

// list writes a line for each member below a type, with where it is and what it is.
func list(b *strings.Builder, at string, of reflect.Type, above []reflect.Type) {
	for _, one := range above {
		if one == of {
			fmt.Fprintf(b, "%s %s again\n", at, of)
			return
		}
	}
	asText := of.Implements(jsonMarshaler) || of.Implements(textMarshaler) ||
		reflect.PointerTo(of).Implements(jsonMarshaler) || reflect.PointerTo(of).Implements(textMarshaler)
	switch {
	case asText:
		fmt.Fprintf(b, "%s %s\n", at, of)
	case of.Kind() == reflect.Pointer:
		list(b, at, of.Elem(), above)
	case of.Kind() == reflect.Slice, of.Kind() == reflect.Array:
		list(b, at+"[]", of.Elem(), above)
	case of.Kind() == reflect.Map:
		list(b, at+"{}", of.Elem(), above)
	case of.Kind() == reflect.Struct:
		above = append(above[:len(above):len(above)], of)
		for i := range of.NumField() {
			field := of.Field(i)
			name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
			switch {
			case name == "-" || !field.IsExported() && !field.Anonymous:
			case field.Anonymous && name == "":
				list(b, at, field.Type, above)
			case name == "":
				list(b, at+"."+field.Name, field.Type, above)
			default:
				list(b, at+"."+name, field.Type, above)
			}
		}
	default:
		fmt.Fprintf(b, "%s %s\n", at, of)
	}
}

// difference lists the lines that only one of two texts has.
func difference(before, after string) string {
	var b strings.Builder
	only := func(sign, these, those string) {
		there := make(map[string]bool)
		for line := range strings.Lines(those) {
			there[line] = true
		}
		for line := range strings.Lines(these) {
			if !there[line] {
				b.WriteString(sign + line)
			}
		}
	}
	only("- ", before, after)
	only("+ ", after, before)
	return b.String()
}
