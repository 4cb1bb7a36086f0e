package api

import "go.yaml.in/yaml/v4"

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
