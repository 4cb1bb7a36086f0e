package api

import (
	"encoding/json"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"go.yaml.in/yaml/v4"

	"sluice.dev/sluice/api/v1alpha1"
)

// fieldReader reads YAML nodes into Go values by their json tags, strictly, and
// remembers the line of each field.
type fieldReader struct {
	*decoder
	lines     map[string]int
	snakeCase bool // use_egress_proxy is read as useEgressProxy
}

// read reads a node into what target points to. A node that is absent or null
// leaves it as it is.
func (f *fieldReader) read(node *yaml.Node, path string, target any) {
	if node == nil {
		return
	}
	f.value(node, path, reflect.ValueOf(target).Elem(), 1)
}

// metadata reads the metadata of an object. managedFields and selfLink, which a
// server writes and no user means, are passed over, so that what `get` or
// kubectl printed can be read again.
func (f *fieldReader) metadata(node *yaml.Node, meta *Meta) {
	if node == nil {
		return
	}
	if node = f.resolve(node, "metadata", 1); node == nil || isNull(node) {
		return
	}
	kept := *node
	if node.Kind == yaml.MappingNode {
		kept.Content = nil
		for i := 0; i+1 < len(node.Content); i += 2 {
			if name := node.Content[i].Value; name == "managedFields" || name == "selfLink" {
				continue
			}
			kept.Content = append(kept.Content, node.Content[i], node.Content[i+1])
		}
	}
	f.value(&kept, "metadata", reflect.ValueOf(meta).Elem(), 1)
}

// unsupportedFields is the fields that the design names and this version refuses.
var unsupportedFields = map[reflect.Type][]string{
	reflect.TypeFor[v1alpha1.EgressTLS]():         {"subjectAltNames", "ech", "verifyPassthrough"},
	reflect.TypeFor[v1alpha1.ClientCertificate](): {"secretName"},
	reflect.TypeFor[v1alpha1.EgressPolicySpec]():  {"dns"},
	reflect.TypeFor[v1alpha1.HTTPMatch]():         {"credential"},
	reflect.TypeFor[v1alpha1.MeshConfigSpec]():    {"egressCeiling"},
}

var timeType = reflect.TypeFor[time.Time]()

// value reads a node into a settable Go value.
func (f *fieldReader) value(node *yaml.Node, path string, into reflect.Value, depth int) {
	if node = f.resolve(node, path, depth); node == nil || isNull(node) {
		return
	}
	if into.Type() == timeType {
		f.time(node, path, into)
		return
	}
	switch into.Kind() {
	case reflect.Pointer:
		into.Set(reflect.New(into.Type().Elem()))
		f.value(node, path, into.Elem(), depth)
	case reflect.Struct:
		f.structure(node, path, into, depth)
	case reflect.Map:
		f.table(node, path, into, depth)
	case reflect.Slice:
		f.sequence(node, path, into, depth)
	case reflect.String:
		f.text(node, path, into)
	case reflect.Bool:
		var b bool
		if node.Kind != yaml.ScalarNode || node.ShortTag() != "!!bool" || node.Decode(&b) != nil {
			f.fail(node, path, "must be true or false")
			return
		}
		into.SetBool(b)
	case reflect.Int32, reflect.Int64:
		var n int64
		if node.Kind != yaml.ScalarNode || node.ShortTag() != "!!int" || node.Decode(&n) != nil || into.OverflowInt(n) {
			hint := ""
			if _, err := strconv.ParseInt(node.Value, 10, into.Type().Bits()); err == nil && node.ShortTag() == "!!str" {
				hint = ": write " + node.Value + " without quotes"
			}
			f.fail(node, path, "must be a whole number of %d bits%s", into.Type().Bits(), hint)
			return
		}
		into.SetInt(n)
	case reflect.Float32, reflect.Float64:
		var n float64
		tag := node.ShortTag()
		if node.Kind != yaml.ScalarNode || (tag != "!!float" && tag != "!!int") || node.Decode(&n) != nil || math.IsNaN(n) || math.IsInf(n, 0) {
			f.fail(node, path, "must be a number")
			return
		}
		into.SetFloat(n)
	default:
		panic("api: no reading of " + into.Type().String())
	}
}

// text reads a string. A number or a date without quotes is refused: what YAML
// makes of 1.10 or 0o17 is not what was written.
func (f *fieldReader) text(node *yaml.Node, path string, into reflect.Value) {
	switch {
	case node.Kind != yaml.ScalarNode:
		f.fail(node, path, "must be a string")
	case node.ShortTag() != "!!str":
		f.fail(node, path, "must be a string: write %q in quotes", node.Value)
	default:
		into.SetString(node.Value)
	}
}

// time reads a point in time of RFC 3339.
func (f *fieldReader) time(node *yaml.Node, path string, into reflect.Value) {
	t, err := time.Parse(time.RFC3339Nano, node.Value)
	if node.Kind != yaml.ScalarNode || err != nil {
		f.fail(node, path, "must be a time such as 2018-02-02T00:00:00Z")
		return
	}
	into.Set(reflect.ValueOf(t))
}

// structure reads a mapping into a struct whose fields are all known.
func (f *fieldReader) structure(node *yaml.Node, path string, into reflect.Value, depth int) {
	index := f.fieldIndex(into.Type())
	var written uint64 // which fields
	f.mapping(node, path, depth, func(key, value *yaml.Node) {
		name := key.Value
		i, known := index[name]
		if !known && f.snakeCase {
			name = camelCase(name)
			i, known = index[name]
			known = known && snakeCase(name) == key.Value
		}
		here := join(path, name)
		if !known {
			if slices.Contains(unsupportedFields[into.Type()], key.Value) {
				f.fail(key, join(path, key.Value), "%s is not supported yet", key.Value)
				return
			}
			f.fail(key, join(path, key.Value), "unknown field%s", closest(key.Value, index))
			return
		}
		if written&(1<<i) != 0 { // in its other spelling, for mapping refuses the same one
			before := name
			if before == key.Value {
				before = snakeCase(name)
			}
			f.fail(key, here, "duplicate: written as %s and as %s", before, key.Value)
			return
		}
		written |= 1 << i
		f.lines[here] = key.Line
		f.value(value, here, into.Field(i), depth+1)
	})
}

// table reads a mapping into a Go map with string keys.
func (f *fieldReader) table(node *yaml.Node, path string, into reflect.Value, depth int) {
	if n := len(node.Content) / 2; node.Kind == yaml.MappingNode && n > maxEntries {
		f.fail(node, path, "more than %d entries", maxEntries)
		return
	}
	into.Set(reflect.MakeMap(into.Type()))
	f.mapping(node, path, depth, func(key, value *yaml.Node) {
		here := path + "[" + key.Value + "]"
		f.lines[here] = key.Line
		element := reflect.New(into.Type().Elem()).Elem()
		if isNull(value) {
			f.fail(key, here, "has no value")
			return
		}
		f.value(value, here, element, depth+1)
		into.SetMapIndex(reflect.ValueOf(key.Value), element)
	})
}

// sequence reads a list.
func (f *fieldReader) sequence(node *yaml.Node, path string, into reflect.Value, depth int) {
	if node.Kind != yaml.SequenceNode {
		f.fail(node, path, "must be a list")
		return
	}
	into.Set(reflect.MakeSlice(into.Type(), len(node.Content), len(node.Content)))
	for i, item := range node.Content {
		here := fmt.Sprintf("%s[%d]", path, i)
		f.lines[here] = item.Line
		if isNull(item) {
			f.fail(item, here, "has no value")
			continue
		}
		f.value(item, here, into.Index(i), depth+1)
	}
}

// raw turns a node of any shape into JSON, for a status, which only a server
// writes.
func (f *fieldReader) raw(node *yaml.Node, path string) json.RawMessage {
	plain := f.plain(node, path, 1)
	if f.full {
		return nil
	}
	data, err := json.Marshal(plain)
	if err != nil {
		f.fail(node, path, "cannot be said in JSON: %v", err)
		return nil
	}
	return data
}

// plain turns a node of any shape into maps, slices and scalars. What is at fault in
// it is reported at path: one of its own for each value could cost more than the value.
func (f *fieldReader) plain(node *yaml.Node, path string, depth int) any {
	if node = f.resolve(node, path, depth); node == nil || isNull(node) {
		return nil
	}
	switch node.Kind {
	case yaml.MappingNode:
		m := map[string]any{}
		f.mapping(node, path, depth, func(key, value *yaml.Node) {
			m[key.Value] = f.plain(value, path, depth+1)
		})
		return m
	case yaml.SequenceNode:
		s := make([]any, 0, len(node.Content))
		for _, item := range node.Content {
			s = append(s, f.plain(item, path, depth+1))
		}
		return s
	}
	switch node.ShortTag() {
	case "!!bool":
		var b bool
		if node.Decode(&b) == nil {
			return b
		}
	case "!!int":
		var n int64
		if node.Decode(&n) == nil {
			return n
		}
	case "!!float":
		var n float64
		if node.Decode(&n) == nil && !math.IsNaN(n) && !math.IsInf(n, 0) {
			return n
		}
	}
	return node.Value
}

// fieldIndex returns the fields of a struct by the names of their json tags. No
// struct has more than 64: a test holds it.
func (d *decoder) fieldIndex(t reflect.Type) map[string]int {
	if index, known := d.indexes[t]; known {
		return index
	}
	index := make(map[string]int, t.NumField())
	for i := range t.NumField() {
		name, _, _ := strings.Cut(t.Field(i).Tag.Get("json"), ",")
		if name != "" && name != "-" {
			index[name] = i
		}
	}
	if d.indexes == nil {
		d.indexes = map[reflect.Type]map[string]int{}
	}
	d.indexes[t] = index
	return index
}

// closest returns a hint at a known field that differs from a name only in case
// or in its plural, or "".
func closest(name string, index map[string]int) string {
	var known []string
	for candidate := range index {
		if strings.EqualFold(candidate, name) || strings.EqualFold(candidate, camelCase(name)) ||
			strings.EqualFold(candidate, name+"s") || strings.EqualFold(candidate+"s", name) {
			known = append(known, candidate)
		}
	}
	if len(known) == 0 {
		return ""
	}
	slices.Sort(known)
	return ": do you mean " + known[0] + "?"
}

// camelCase turns use_egress_proxy into useEgressProxy.
func camelCase(name string) string {
	var b strings.Builder
	upper := false
	for _, r := range name {
		switch {
		case r == '_':
			upper = b.Len() > 0
		case upper:
			b.WriteRune(unicode.ToUpper(r))
			upper = false
		default:
			b.WriteRune(r)
		}
	}
	return b.String()
}

// snakeCase turns useEgressProxy into use_egress_proxy.
func snakeCase(name string) string {
	var b strings.Builder
	for _, r := range name {
		if unicode.IsUpper(r) {
			b.WriteByte('_')
			r = unicode.ToLower(r)
		}
		b.WriteRune(r)
	}
	return b.String()
}
