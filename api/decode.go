package api

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"unicode"
	"unicode/utf8"

	"go.yaml.in/yaml/v4"
	"go.yaml.in/yaml/v4/plugin/loaderlimits"

	"sluice.dev/sluice/api/networking"
)

// Bounds of what Decode reads. Past one of them the whole input is refused. How many
// objects a file holds has no bound of its own.
const (
	MaxFileBytes = 1 << 20 // of one file or of standard input
	maxDepth     = 64      // of mappings and sequences within one another
	maxValues    = 240_000 // in one JSON file; of YAML, what its structure weighs (see weigh)
	maxVisited   = 500_000 // values and keys, aliases followed: what a "billion laughs" meets
	bytesVisited = 32      // of a text that count as one more
	objectVisits = 26      // that an object counts as, beside its values
	maxEntries   = 4096    // of a mapping whose keys the user chooses, such as labels
	maxKey       = 512     // bytes of a key
	maxProblems  = 100     // reported; what is found after them is not
)

// Decode reads a stream of YAML documents, or JSON, and returns its objects.
// Every document is read before it returns, and where anything is wrong (syntax,
// an unknown kind or field, a duplicate key, a value of the wrong type)
// it returns no object and Problems that name file, line and field. It does not
// validate values: see ValidateAll.
//
// Both spellings of a field of the config.istio.io resources are read (useEgressProxy and
// use_egress_proxy). A kind List of v1 is read as its items. Empty documents are
// skipped. file is a name for messages.
func Decode(file string, r io.Reader) ([]Object, error) {
	data, err := io.ReadAll(io.LimitReader(r, MaxFileBytes+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", file, err)
	}
	d := &decoder{file: file}
	switch {
	case len(data) > MaxFileBytes:
		d.fail(nil, "", "more than %d bytes: split the file", MaxFileBytes)
	case bytes.HasPrefix(data, []byte("\xff\xfe")), bytes.HasPrefix(data, []byte("\xfe\xff")):
		d.fail(nil, "", "UTF-16 is not supported: save the file as UTF-8")
	case json.Valid(data):
		d.json(data)
	default:
		d.stream(data)
	}
	if len(d.problems) > 0 {
		return nil, d.problems
	}
	return d.objects, nil
}

// decoder turns the documents of one file into objects. It goes on after a
// problem, so that a user sees all of them at once.
type decoder struct {
	file     string
	objects  []Object
	problems Problems
	visited  int // so far, against maxVisited
	full     bool
	indexes  map[reflect.Type]map[string]int // of the structs read so far, by the names of their fields
}

// fail notes a problem at a node.
func (d *decoder) fail(node *yaml.Node, path, format string, arguments ...any) {
	if len(d.problems) >= maxProblems {
		d.full = true
		return
	}
	line := 0
	if node != nil {
		line = node.Line
	}
	d.problems = append(d.problems, Problem{File: d.file, FieldError: newFieldError(path, line, format, arguments...)})
}

// json reads one JSON value.
func (d *decoder) json(data []byte) {
	document, line, err := jsonDocument(data)
	if err != nil {
		d.fail(&yaml.Node{Line: line}, "", "%v", err)
		return
	}
	d.document(document)
}

// stream reads document after document.
func (d *decoder) stream(data []byte) {
	meter := newMeter(data)
	loader, err := yaml.NewLoader(meter, yaml.WithPlugin(loaderlimits.New(loaderlimits.DepthValue(maxDepth))))
	if err != nil {
		d.fail(nil, "", "%v", err)
		return
	}
	meter.held = func() int { return held(loader) }
	for !d.full {
		var document yaml.Node
		err := loader.Load(&document)
		if errors.Is(err, io.EOF) {
			return
		}
		if meter.fault != "" {
			d.fail(&yaml.Node{Line: meter.line}, "", "%s", meter.fault)
			return
		}
		if err != nil {
			d.syntax(err, data)
			return
		}
		d.document(&document)
	}
}

// syntax notes an error of the YAML parser under its line.
func (d *decoder) syntax(err error, data []byte) {
	var one *yaml.LoadError
	var many *yaml.LoadErrors
	if errors.As(err, &many) && len(many.Errors) > 0 {
		one = many.Errors[0]
	}
	if one == nil && !errors.As(err, &one) {
		d.fail(nil, "", "not YAML: %v", err)
		return
	}
	line, hint := one.Mark.Line, ""
	if line == 0 { // the parser names none for bytes that are not text
		line = lineOfBadByte(data)
	}
	if indentedByTab(data, line) {
		hint = ": a tab cannot indent, write spaces"
	}
	if wildcard := unquotedWildcard(data, line); wildcard != "" {
		d.fail(&yaml.Node{Line: line}, "", "not YAML: a value that begins with * must be quoted: write %q", wildcard)
		return
	}
	d.fail(&yaml.Node{Line: line}, "", "not YAML: %s%s", one.Message, hint)
}

// wildcard is a host such as *.example.com where a value begins: YAML takes it for a
// reference to an anchor.
var wildcard = lazily(`(?:^|[\s\[,])(\*[-.A-Za-z0-9]*\.[-.A-Za-z0-9]+)`)

// unquotedWildcard returns the first such host on a line, "" where there is none.
func unquotedWildcard(data []byte, line int) string {
	for text := range bytes.SplitSeq(data, []byte("\n")) {
		if line--; line == 0 {
			if found := wildcard().FindSubmatch(text); found != nil {
				return string(found[1])
			}
			return ""
		}
	}
	return ""
}

// lineOfBadByte returns the line of the first byte that is not UTF-8 or a control
// character, 0 where there is none.
func lineOfBadByte(data []byte) int {
	line := 1
	for len(data) > 0 {
		r, size := utf8.DecodeRune(data)
		switch {
		case r == utf8.RuneError && size == 1, unicode.IsControl(r) && r != '\n' && r != '\r' && r != '\t':
			return line
		case r == '\n':
			line++
		}
		data = data[size:]
	}
	return 0
}

// indentedByTab reports whether the indentation of a line holds a tab.
func indentedByTab(data []byte, line int) bool {
	for n := 1; n < line; n++ {
		_, rest, more := bytes.Cut(data, []byte("\n"))
		if !more {
			return false
		}
		data = rest
	}
	return bytes.HasPrefix(bytes.TrimLeft(data, " "), []byte("\t"))
}

// document reads one document, which holds an object, a List, or nothing.
func (d *decoder) document(document *yaml.Node) {
	root := document
	if root.Kind == yaml.DocumentNode {
		if len(root.Content) == 0 {
			return
		}
		root = root.Content[0]
	}
	if isNull(root) {
		return
	}
	if d.isList(root) {
		d.list(root)
		return
	}
	d.object(root)
}

// isList reports whether a node is a List of v1, the form in which several
// objects are printed as one JSON value.
func (d *decoder) isList(root *yaml.Node) bool {
	apiVersion, kind := scalarOf(root, "apiVersion"), scalarOf(root, "kind")
	return apiVersion != nil && apiVersion.Value == "v1" && kind != nil && kind.Value == "List"
}

// list reads each item of a List.
func (d *decoder) list(root *yaml.Node) {
	var items *yaml.Node
	d.mapping(root, "", 0, func(key *yaml.Node, value *yaml.Node) {
		switch key.Value {
		case "apiVersion", "kind", "metadata":
		case "items":
			items = value
		default:
			d.fail(key, key.Value, "unknown field")
		}
	})
	if items == nil {
		return
	}
	if items = d.resolve(items, "items", 1); items == nil {
		return
	}
	if items.Kind != yaml.SequenceNode {
		d.fail(items, "items", "must be a list")
		return
	}
	for _, item := range items.Content {
		d.object(item)
		if d.full {
			return
		}
	}
}

// object reads one object.
func (d *decoder) object(root *yaml.Node) {
	if d.visited += objectVisits; !d.visit(root, "") {
		return
	}
	before := len(d.problems)
	o := Object{Origin: Origin{File: d.file, Line: root.Line, lines: map[string]int{}}}
	var apiVersion, kindName, metadata, spec, status *yaml.Node
	ok := d.mapping(root, "", 0, func(key, value *yaml.Node) {
		switch key.Value {
		case "apiVersion":
			apiVersion = value
		case "kind":
			kindName = value
		case "metadata":
			metadata = value
		case "spec":
			spec = value
		case "status":
			status = value
		default:
			d.fail(key, key.Value, "unknown field")
			return
		}
		o.Origin.lines[key.Value] = key.Line
	})
	if !ok {
		return
	}
	into := &fieldReader{decoder: d, lines: o.Origin.lines}
	into.read(apiVersion, "apiVersion", &o.APIVersion)
	into.read(kindName, "kind", &o.Kind)
	if o.Kind == "" {
		d.fail(root, "kind", "is missing")
		return
	}
	if olderIngress(o.APIVersion, o.Kind) {
		spec, o.Origin.upgraded = upgradeIngress(o.APIVersion, spec)
		o.APIVersion = networking.Group + "/" + networking.Version
	}
	kind, err := KindOf(o.APIVersion, o.Kind)
	if err != nil {
		d.fail(kindName, "", "%v", err)
		if !d.full {
			d.problems[len(d.problems)-1].kind = true
		}
		return
	}
	// What the store holds, and what messages say, is the version that is served.
	o.APIVersion = kind.APIVersion()
	into.metadata(metadata, &o.Metadata)
	o.Spec = kind.NewSpec()
	into.snakeCase = kind.IsIstio()
	into.read(spec, "spec", o.Spec)
	if status != nil {
		o.Status = into.raw(status, "status")
	}
	if len(d.problems) == before {
		d.objects = append(d.objects, o)
	}
}

// DecodeJSON reads one object in the form in which the API serves it. Fields of
// metadata that Meta does not hold, and fields of a spec that this version does
// not know, are left out: a newer server may send them.
func DecodeJSON(data []byte) (Object, error) {
	var head struct {
		Object
		Spec json.RawMessage `json:"spec"`
	}
	if err := json.Unmarshal(data, &head); err != nil {
		return Object{}, fmt.Errorf("decode object: %w", err)
	}
	kind, err := KindOf(head.APIVersion, head.Kind)
	if err != nil {
		return Object{}, err
	}
	o := head.Object
	o.APIVersion = kind.APIVersion()
	o.Spec = kind.NewSpec()
	if len(head.Spec) > 0 {
		if err := json.Unmarshal(head.Spec, o.Spec); err != nil {
			return Object{}, fmt.Errorf("decode spec of %s: %w", o.ID(), err)
		}
	}
	return o, nil
}

// DecodeJSONList reads the items of a list in the form in which the API serves
// it, and the list's own resource version. Items that do not name their kind
// have the kind given.
func DecodeJSONList(data []byte, kind *Kind) (objects []Object, resourceVersion string, err error) {
	var list struct {
		Metadata struct {
			ResourceVersion string `json:"resourceVersion"`
		} `json:"metadata"`
		Items []struct {
			Object
			Spec json.RawMessage `json:"spec"`
		} `json:"items"`
	}
	if err := json.Unmarshal(data, &list); err != nil {
		return nil, "", fmt.Errorf("decode list of %s: %w", kind.Plural, err)
	}
	objects = make([]Object, 0, len(list.Items))
	for _, item := range list.Items {
		o := item.Object
		o.APIVersion, o.Kind = kind.APIVersion(), kind.Name
		o.Spec = kind.NewSpec()
		if len(item.Spec) > 0 {
			if err := json.Unmarshal(item.Spec, o.Spec); err != nil {
				return nil, "", fmt.Errorf("decode spec of %s: %w", o.ID(), err)
			}
		}
		objects = append(objects, o)
	}
	return objects, list.Metadata.ResourceVersion, nil
}
