package inject

import (
	"bytes"
	"encoding/json"

	"go.yaml.in/yaml/v4"
)

// document is one document of a stream, as it was written.
type document struct {
	marker []byte // the line that begins it, "---"; empty for the first
	body   []byte
	line   int // of the file, on which body begins
}

// raw is the document as it was written.
func (d *document) raw() []byte { return append(bytes.Clone(d.marker), d.body...) }

// split cuts a stream at the lines that begin with ---: no scalar of YAML may hold one, so
// that nothing within a document is taken for it.
func split(data []byte) (all []document) {
	current, line := document{line: 1}, 0
	for text := range bytes.Lines(data) {
		line++
		if !isMarker(text) {
			current.body = append(current.body, text...)
			continue
		}
		all = append(all, current)
		current = document{line: line + 1}
		if rest := bytes.TrimLeft(text[len("---"):], " \t"); len(bytes.TrimSpace(stripComments(rest))) == 0 {
			current.marker = bytes.Clone(text)
		} else { // the document begins on the line of its marker
			current.marker, current.line = bytes.Clone(text[:len(text)-len(rest)]), line
			current.body = append(current.body, rest...)
		}
	}
	return append(all, current)
}

func isMarker(line []byte) bool {
	rest, found := bytes.CutPrefix(line, []byte("---"))
	return found && (len(rest) == 0 || bytes.IndexByte([]byte(" \t\r\n"), rest[0]) >= 0)
}

// stripComments leaves out the lines that are comments, directives or ends of documents.
func stripComments(body []byte) (rest []byte) {
	for line := range bytes.Lines(body) {
		text := bytes.TrimSpace(line)
		if len(text) == 0 || text[0] == '#' || text[0] == '%' || bytes.Equal(text, []byte("...")) {
			continue
		}
		rest = append(rest, line...)
	}
	return rest
}

// write writes a document as it was written: JSON as JSON, YAML with its indentation.
func (d *document) write(root *yaml.Node) ([]byte, error) {
	if json.Valid(d.body) {
		var out bytes.Buffer
		writeJSON(&out, content(root))
		var pretty bytes.Buffer
		if err := json.Indent(&pretty, out.Bytes(), "", "  "); err != nil {
			return nil, err
		}
		pretty.WriteByte('\n')
		return pretty.Bytes(), nil
	}
	indent, compact := layout(content(root))
	var out bytes.Buffer
	dumper, err := yaml.NewDumper(&out, yaml.WithIndent(indent), yaml.WithCompactSeqIndent(compact), yaml.WithLineWidth(-1))
	if err != nil {
		return nil, err
	}
	if err := dumper.Dump(root); err != nil {
		return nil, err
	}
	if err := dumper.Close(); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

// layout finds how far a document indents mappings, and whether the dashes of its lists
// stand below the key.
func layout(root *yaml.Node) (indent int, compact bool) {
	indent, compact = 0, true
	seen := false
	var visit func(node *yaml.Node, column int)
	visit = func(node *yaml.Node, column int) {
		if node.Style&yaml.FlowStyle != 0 || node.Line == 0 {
			return
		}
		switch node.Kind {
		case yaml.MappingNode:
			for i := 0; i+1 < len(node.Content); i += 2 {
				key, value := node.Content[i], node.Content[i+1]
				if key.Line == 0 || value.Line <= key.Line {
					continue
				}
				if value.Kind == yaml.MappingNode && value.Style&yaml.FlowStyle == 0 && indent == 0 {
					indent = value.Column - key.Column
				}
				if value.Kind == yaml.SequenceNode && value.Style&yaml.FlowStyle == 0 && !seen {
					seen, compact = true, value.Column <= key.Column
				}
				visit(value, key.Column)
			}
		case yaml.SequenceNode:
			for _, item := range node.Content {
				visit(item, node.Column)
			}
		}
	}
	visit(root, 0)
	if indent < 2 || indent > 9 {
		indent = 2
	}
	return indent, compact
}
