package api

import (
	"encoding/json"
	"fmt"
	"math"
	"reflect"
	"slices"
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
			f.fail(node, path, "must be a whole number of %d bits", into.Type().Bits())
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

// resolve follows an alias and counts the visit. It returns nil, having noted
// the problem once, where a bound is passed.
func (d *decoder) resolve(node *yaml.Node, path string, depth int) *yaml.Node {
	if d.full {
		return nil
	}
	if !d.visit(node, path) {
		return nil
	}
	if depth > maxDepth {
		d.fail(node, path, "more than %d levels deep, aliases followed", maxDepth)
		d.full = true
		return nil
	}
	for node.Kind == yaml.AliasNode {
		if node.Alias == nil || node.Alias == node {
			d.fail(node, path, "alias *%s leads nowhere", node.Value)
			return nil
		}
		node = node.Alias
		if !d.visit(node, path) {
			return nil
		}
	}
	return node
}

// visit counts a value or a key, and the longer ones for more.
func (d *decoder) visit(node *yaml.Node, path string) bool {
	d.visited += 1 + len(node.Value)/bytesVisited
	if d.visited > maxVisited {
		d.fail(node, path, "more values than %d, or as much text, aliases followed", maxVisited)
		d.full = true
		return false
	}
	return true
}

// mapping calls each for the keys of a mapping, in their order, and refuses what
// is not a mapping, keys that are not strings, duplicate keys, and merge keys.
// It reports whether the node was a mapping.
func (d *decoder) mapping(node *yaml.Node, path string, depth int, each func(key, value *yaml.Node)) bool {
	if node = d.resolve(node, path, depth); node == nil {
		return false
	}
	if node.Kind != yaml.MappingNode {
		d.fail(node, path, "must be a mapping of names to values")
		return false
	}
	var seen map[string]int // the line of each key, where they are more than a few
	if len(node.Content) > 2*fewKeys {
		seen = make(map[string]int, len(node.Content)/2)
	}
	for i := 0; i+1 < len(node.Content); i += 2 {
		if d.full {
			return true
		}
		key, value := node.Content[i], node.Content[i+1]
		switch {
		case key.Kind == yaml.ScalarNode && len(key.Value) > maxKey:
			d.fail(key, path, "a key of %d bytes: at most %d are supported", len(key.Value), maxKey)
			continue
		case key.Kind == yaml.ScalarNode && key.ShortTag() == "!!merge":
			d.fail(key, join(path, "<<"), "merge keys are not supported: write the fields out")
			continue
		case key.Kind != yaml.ScalarNode || key.ShortTag() != "!!str":
			d.fail(key, path, "a key must be a string")
			continue
		}
		if !d.visit(key, path) {
			return true
		}
		if line, twice := seenBefore(node.Content[:i], key, seen); twice {
			d.fail(key, join(path, key.Value), "duplicate, first on line %d", line)
			continue
		}
		each(key, value)
	}
	return true
}

// fewKeys is up to how many keys of a mapping are compared one by one.
const fewKeys = 8

// seenBefore returns the line of the same key among those before it, and notes it in
// seen, if that is made.
func seenBefore(before []*yaml.Node, key *yaml.Node, seen map[string]int) (line int, twice bool) {
	if seen != nil {
		line, twice = seen[key.Value]
		if !twice {
			seen[key.Value] = key.Line
		}
		return line, twice
	}
	for i := 0; i < len(before); i += 2 {
		if before[i].Kind == yaml.ScalarNode && before[i].Value == key.Value {
			return before[i].Line, true
		}
	}
	return 0, false
}

// scalarOf returns the scalar under a key of a mapping, or nil.
func scalarOf(node *yaml.Node, name string) *yaml.Node {
	if node.Kind != yaml.MappingNode {
		return nil
	}
	for i := 0; i+1 < len(node.Content); i += 2 {
		if node.Content[i].Value == name && node.Content[i+1].Kind == yaml.ScalarNode {
			return node.Content[i+1]
		}
	}
	return nil
}

func isNull(node *yaml.Node) bool {
	return node.Kind == yaml.ScalarNode && node.ShortTag() == "!!null"
}

func join(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}

// fieldIndex returns the fields of a struct by the names of their json tags. No
// struct has more than 64.
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
