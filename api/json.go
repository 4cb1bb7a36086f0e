package api

import (
	"bytes"
	"encoding/json"
	"fmt"

	"go.yaml.in/yaml/v4"
)

// jsonDocument reads data as one JSON value into a node with lines, if it is one.
// YAML is said to hold JSON, but its parser refuses the surrogate pairs in which
// JSON writes characters beyond U+FFFF.
func jsonDocument(data []byte) (*yaml.Node, error) {
	r := &jsonReader{data: data, line: 1, tokens: json.NewDecoder(bytes.NewReader(data))}
	r.tokens.UseNumber()
	return r.value(0)
}

// jsonReader turns tokens into nodes and counts lines on the way.
type jsonReader struct {
	data   []byte
	tokens *json.Decoder
	offset int64 // up to which lines were counted
	line   int
}

// next returns a token and the line on which it ends, which for JSON is the line
// on which it stands.
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
