package inject

import (
	"bytes"
	"encoding/json"
	"fmt"

	"go.yaml.in/yaml/v4"
)

// parseJSON reads JSON into a node. YAML is said to hold JSON, but its parser refuses the
// surrogate pairs in which JSON writes characters beyond U+FFFF.
func parseJSON(data []byte) (*yaml.Node, error) {
	tokens := json.NewDecoder(bytes.NewReader(data))
	tokens.UseNumber()
	line, counted := 1, int64(0)
	var value func(depth int) (*yaml.Node, error)
	next := func() (json.Token, error) {
		token, err := tokens.Token()
		end := tokens.InputOffset()
		line += bytes.Count(data[counted:end], []byte("\n"))
		counted = end
		return token, err
	}
	value = func(depth int) (*yaml.Node, error) {
		token, err := next()
		if err != nil {
			return nil, &lineError{line, err.Error()}
		}
		if depth > maxDepth {
			return nil, &lineError{line, fmt.Sprintf("more than %d levels deep", maxDepth)}
		}
		node := &yaml.Node{Kind: yaml.ScalarNode, Line: line}
		switch token := token.(type) {
		case nil:
			node.Tag, node.Value = "!!null", "null"
		case bool:
			node.Tag, node.Value = "!!bool", fmt.Sprint(token)
		case json.Number:
			node.Tag, node.Value = "!!float", token.String()
			if _, err := token.Int64(); err == nil {
				node.Tag = "!!int"
			}
		case string:
			node.Tag, node.Value = "!!str", token
		case json.Delim:
			node.Kind, node.Tag = yaml.MappingNode, "!!map"
			if token == '[' {
				node.Kind, node.Tag = yaml.SequenceNode, "!!seq"
			}
			for tokens.More() { // of an object: a key, then its value
				child, err := value(depth + 1)
				if err != nil {
					return nil, err
				}
				node.Content = append(node.Content, child)
			}
			if _, err := next(); err != nil {
				return nil, &lineError{line, err.Error()}
			}
		}
		return node, nil
	}
	return value(0)
}
