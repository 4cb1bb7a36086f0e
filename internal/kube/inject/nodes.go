package inject

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"

	"go.yaml.in/yaml/v4"
)

// maxExpanded bounds the values of a document once its aliases are followed: what a
// "billion laughs" meets.
const maxExpanded = 200_000

// content is what a document holds.
func content(node *yaml.Node) *yaml.Node {
	if node != nil && node.Kind == yaml.DocumentNode {
		if len(node.Content) == 0 {
			return nil
		}
		return node.Content[0]
	}
	return node
}

func isNull(node *yaml.Node) bool {
	return node.Kind == yaml.ScalarNode && node.ShortTag() == "!!null"
}

// expand replaces aliases by copies of what they stand for, so that a change to one place
// is not one to another.
func expand(root *yaml.Node) error {
	if !hasAlias(root) {
		return nil
	}
	count := 0
	var walk func(node *yaml.Node, depth int) error
	walk = func(node *yaml.Node, depth int) error {
		if count++; count > maxExpanded {
			return fmt.Errorf("more than %d values, aliases followed", maxExpanded)
		}
		if depth > maxDepth {
			return fmt.Errorf("more than %d levels deep, aliases followed", maxDepth)
		}
		for i, child := range node.Content {
			if child.Kind == yaml.AliasNode {
				if child.Alias == nil || holds(child.Alias, node) {
					return &lineError{child.Line, "alias *" + child.Value + " leads to itself"}
				}
				child = copied(child.Alias)
				node.Content[i] = child
			}
			if err := walk(child, depth+1); err != nil {
				return err
			}
			child.Anchor = ""
		}
		return nil
	}
	return walk(root, 0)
}

func hasAlias(node *yaml.Node) bool {
	return node.Kind == yaml.AliasNode || slices.ContainsFunc(node.Content, hasAlias)
}

// lineError is what is wrong on a line of a document.
type lineError struct {
	line int
	text string
}

func (e *lineError) Error() string { return e.text }

// checkKeys refuses keys of which readers of YAML make different things: those that are not
// strings, merge keys, and duplicates.
func checkKeys(node *yaml.Node) error {
	seen := make(map[string]bool)
	for i, child := range node.Content {
		if node.Kind == yaml.MappingNode && i%2 == 0 {
			switch {
			case child.Kind != yaml.ScalarNode:
				return &lineError{child.Line, "a key must be a string"}
			case child.ShortTag() == "!!merge":
				return &lineError{child.Line, "merge keys are not supported: write the fields out"}
			case seen[child.Value]:
				return &lineError{child.Line, "duplicate key " + child.Value}
			}
			seen[child.Value] = true
		}
		if err := checkKeys(child); err != nil {
			return err
		}
	}
	return nil
}

// holds reports whether a node is within another.
func holds(outer, inner *yaml.Node) bool {
	return outer == inner || slices.ContainsFunc(outer.Content, func(child *yaml.Node) bool { return holds(child, inner) })
}

// copied is a copy of a node with all that is in it.
func copied(node *yaml.Node) *yaml.Node {
	c := *node
	c.Content = make([]*yaml.Node, len(node.Content))
	for i, child := range node.Content {
		c.Content[i] = copied(child)
	}
	return &c
}

// same reports whether two nodes say the same, whatever their style and the order of keys.
func same(a, b *yaml.Node) bool {
	if a.Kind != b.Kind || len(a.Content) != len(b.Content) {
		return false
	}
	switch a.Kind {
	case yaml.ScalarNode:
		return a.Value == b.Value && a.ShortTag() == b.ShortTag()
	case yaml.MappingNode:
		for i := 0; i+1 < len(a.Content); i += 2 {
			j := indexOf(b, a.Content[i].Value)
			if j < 0 || !same(a.Content[i+1], b.Content[j+1]) {
				return false
			}
		}
		return true
	}
	for i := range a.Content {
		if !same(a.Content[i], b.Content[i]) {
			return false
		}
	}
	return true
}

// get returns the value of a key of a mapping, nil where there is none or it is null.
func get(node *yaml.Node, path ...string) *yaml.Node {
	for _, name := range path {
		if node == nil || node.Kind != yaml.MappingNode {
			return nil
		}
		i := indexOf(node, name)
		if i < 0 || isNull(node.Content[i+1]) {
			return nil
		}
		node = node.Content[i+1]
	}
	return node
}

// text is the scalar under a path, "" where there is none.
func text(node *yaml.Node, path ...string) string {
	if found := get(node, path...); found != nil && found.Kind == yaml.ScalarNode {
		return found.Value
	}
	return ""
}

func indexOf(node *yaml.Node, name string) int {
	for i := 0; i+1 < len(node.Content); i += 2 {
		if node.Content[i].Value == name {
			return i
		}
	}
	return -1
}

// set gives a key of a mapping a value, behind the others where it is new.
func set(node *yaml.Node, name string, value *yaml.Node) {
	if i := indexOf(node, name); i >= 0 {
		keepComments(node.Content[i+1], value)
		node.Content[i+1] = value
		return
	}
	node.Content = append(node.Content, scalar(name), value)
}

// setBefore is set, where a new key goes before another one.
func setBefore(node *yaml.Node, before, name string, value *yaml.Node) {
	i := indexOf(node, before)
	if i < 0 || indexOf(node, name) >= 0 {
		set(node, name, value)
		return
	}
	node.Content = append(node.Content[:i], append([]*yaml.Node{scalar(name), value}, node.Content[i:]...)...)
}

// setText changes a scalar and keeps its comments and its style.
func setText(node *yaml.Node, value string) {
	node.Value, node.Tag = value, "!!str"
}

func keepComments(old, new *yaml.Node) {
	if new.HeadComment == "" && new.LineComment == "" && new.FootComment == "" {
		new.HeadComment, new.LineComment, new.FootComment = old.HeadComment, old.LineComment, old.FootComment
	}
}

func remove(node *yaml.Node, name string) {
	if i := indexOf(node, name); i >= 0 {
		node.Content = append(node.Content[:i], node.Content[i+2:]...)
	}
}

// scalar is a node for a string.
func scalar(value string) *yaml.Node {
	return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: value}
}

// mapping is a node for keys and values in turn. A value is a string, an int, a bool, a
// []string or a node; a nil node leaves its key out.
func mapping(pairs ...any) *yaml.Node {
	node := &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map"}
	for i := 0; i+1 < len(pairs); i += 2 {
		if value := nodeOf(pairs[i+1]); value != nil {
			node.Content = append(node.Content, scalar(pairs[i].(string)), value)
		}
	}
	return node
}

func nodeOf(value any) *yaml.Node {
	switch value := value.(type) {
	case string:
		return scalar(value)
	case int:
		return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!int", Value: strconv.Itoa(value)}
	case bool:
		return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!bool", Value: strconv.FormatBool(value)}
	case []string:
		list := sequence()
		for _, one := range value {
			list.Content = append(list.Content, scalar(one))
		}
		return list
	}
	return value.(*yaml.Node)
}

func sequence(items ...*yaml.Node) *yaml.Node {
	return &yaml.Node{Kind: yaml.SequenceNode, Tag: "!!seq", Content: items}
}

// writeJSON writes a node as JSON, keys in their order.
func writeJSON(out *bytes.Buffer, node *yaml.Node) {
	switch node.Kind {
	case yaml.MappingNode:
		out.WriteByte('{')
		for i := 0; i+1 < len(node.Content); i += 2 {
			if i > 0 {
				out.WriteByte(',')
			}
			out.Write(quoted(node.Content[i].Value))
			out.WriteByte(':')
			writeJSON(out, node.Content[i+1])
		}
		out.WriteByte('}')
	case yaml.SequenceNode:
		out.WriteByte('[')
		for i, item := range node.Content {
			if i > 0 {
				out.WriteByte(',')
			}
			writeJSON(out, item)
		}
		out.WriteByte(']')
	default:
		switch node.ShortTag() {
		case "!!null":
			out.WriteString("null")
		case "!!int", "!!float", "!!bool":
			if json.Valid([]byte(node.Value)) {
				out.WriteString(node.Value)
				return
			}
			var value any
			if node.Decode(&value) == nil {
				if data, err := json.Marshal(value); err == nil {
					out.Write(data)
					return
				}
			}
			out.Write(quoted(node.Value))
		default:
			out.Write(quoted(node.Value))
		}
	}
}

func quoted(text string) []byte {
	var out bytes.Buffer
	encoder := json.NewEncoder(&out)
	encoder.SetEscapeHTML(false)
	_ = encoder.Encode(text) // a string has always a form in JSON
	return bytes.TrimRight(out.Bytes(), "\n")
}
