package api

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"

	"go.yaml.in/yaml/v4"
)

// jsonDocument reads data as one JSON value into a node with lines, if it is one,
// and returns the line to which it came.
// YAML is said to hold JSON, but its parser refuses the surrogate pairs in which
// JSON writes characters beyond U+FFFF.
func jsonDocument(data []byte) (*yaml.Node, int, error) {
	r := &jsonReader{data: data, line: 1, tokens: json.NewDecoder(bytes.NewReader(data))}
	r.tokens.UseNumber()
	document, err := r.value(0)
	return document, r.line, err
}

// jsonReader turns tokens into nodes and counts lines on the way.
type jsonReader struct {
	data   []byte
	tokens *json.Decoder
	offset int64 // up to which lines were counted
	line   int
	values int
}

// next returns a token and the line on which it ends, which for JSON is the line
// that it is on.
func (r *jsonReader) next() (json.Token, int, error) {
	token, err := r.tokens.Token()
	if err != nil {
		return nil, 0, err
	}
	end := r.tokens.InputOffset()
	r.line += bytes.Count(r.data[r.offset:end], []byte("\n"))
	r.offset = end
	return token, r.line, nil
}

func (r *jsonReader) value(depth int) (*yaml.Node, error) {
	token, line, err := r.next()
	if err != nil {
		return nil, err
	}
	if r.values++; r.values > maxValues {
		return nil, fmt.Errorf("more than %d values for one file: split it", maxValues)
	}
	scalar := func(tag, value string) (*yaml.Node, error) {
		return &yaml.Node{Kind: yaml.ScalarNode, Tag: tag, Value: value, Line: line}, nil
	}
	switch token := token.(type) {
	case nil:
		return scalar("!!null", "null")
	case bool:
		return scalar("!!bool", fmt.Sprint(token))
	case string:
		return scalar("!!str", token)
	case json.Number:
		if _, err := token.Int64(); err == nil {
			return scalar("!!int", token.String())
		}
		return scalar("!!float", token.String())
	}
	node := &yaml.Node{Kind: yaml.SequenceNode, Tag: "!!seq", Line: line}
	if token == json.Delim('{') {
		node.Kind, node.Tag = yaml.MappingNode, "!!map"
	}
	if depth >= maxDepth {
		return nil, fmt.Errorf("exceeded max depth of %d", maxDepth)
	}
	for r.tokens.More() {
		// Keys and values alike: a mapping's nodes alternate, and Token sees to
		// it that keys are strings.
		child, err := r.value(depth + 1)
		if err != nil {
			return nil, err
		}
		node.Content = append(node.Content, child)
	}
	_, _, err = r.next() // the closing bracket
	return node, err
}

// ReadSpec reads the spec of an object of a kind in the shape into which JSON is
// decoded (maps, slices, strings, numbers, booleans, nil), as strictly and in the
// words in which Decode reads a file. Where it finds fault it returns no spec. The
// rule API reads what is written to it so.
func ReadSpec(kind *Kind, plain any) (any, []FieldError) {
	d := &decoder{}
	spec := kind.NewSpec()
	(&fieldReader{decoder: d, lines: map[string]int{}}).read(plainNode(plain, 0), "spec", spec)
	if len(d.problems) == 0 {
		return spec, nil
	}
	faults := make([]FieldError, len(d.problems))
	for i, problem := range d.problems {
		faults[i] = problem.FieldError
	}
	return nil, faults
}

// plainNode turns a value of ReadSpec's shape into a node. What is deeper than
// Decode reads is cut to a node that it refuses for its depth.
func plainNode(value any, depth int) *yaml.Node {
	if depth > maxDepth+1 {
		value = nil
	}
	switch value := value.(type) {
	case nil:
		return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!null", Value: "null"}
	case bool:
		return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!bool", Value: strconv.FormatBool(value)}
	case string:
		return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: value}
	case int64:
		return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!int", Value: strconv.FormatInt(value, 10)}
	case float64:
		return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!float", Value: strconv.FormatFloat(value, 'g', -1, 64)}
	case []any:
		node := &yaml.Node{Kind: yaml.SequenceNode, Tag: "!!seq", Content: make([]*yaml.Node, 0, len(value))}
		for _, item := range value {
			node.Content = append(node.Content, plainNode(item, depth+1))
		}
		return node
	case map[string]any:
		node := &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map", Content: make([]*yaml.Node, 0, 2*len(value))}
		for _, key := range sortedKeys(value) {
			node.Content = append(node.Content, plainNode(key, depth+1), plainNode(value[key], depth+1))
		}
		return node
	}
	// No decoder of JSON makes it: no field takes it either.
	return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!unknown", Value: fmt.Sprint(value)}
}
