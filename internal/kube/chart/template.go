package chart

import (
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"
	"text/template/parse"

	"go.yaml.in/yaml/v4"
)

// A template of the chart is read by the parser of text/template and executed here: that
// package calls methods by their name, for which the linker keeps every exported method of
// every type, 2 MB of sluice. Executed is what the chart says; the test holds it
// against text/template, and hack/chart against Helm.

// execute executes one template.
func execute(name, text, version string, values map[string]any) (string, error) {
	name = path.Base(name)
	known := make(map[string]any, len(words))
	for name := range words {
		known[name] = name // for the parser; it refuses others
	}
	trees, err := parse.Parse(name, text, "", "", known)
	if err != nil {
		return "", err
	}
	tree := trees[name]
	if len(trees) != 1 || tree == nil {
		return "", fmt.Errorf("%s: a template within a template is not supported", name)
	}
	all := dot(version, values)
	e := execution{tree: tree, variables: map[string]any{"$": all}}
	err = e.list(all, tree.Root)
	return e.out.String(), err
}

// dot is what a template is given.
func dot(version string, values map[string]any) map[string]any {
	return map[string]any{
		"Values":  values,
		"Chart":   map[string]any{"AppVersion": version},
		"Release": map[string]any{"Namespace": Namespace},
		"Files":   files{},
	}
}

// execution is one execution of one template.
type execution struct {
	tree      *parse.Tree
	variables map[string]any // of the chart's ranges, and $
	out       strings.Builder
}

// at is an error with where in the template it is.
func (e *execution) at(node parse.Node, err error) error {
	where, what := e.tree.ErrorContext(node)
	return fmt.Errorf("%s: %s: %w", where, what, err)
}

func (e *execution) list(dot any, list *parse.ListNode) error {
	if list == nil {
		return nil
	}
	for _, node := range list.Nodes {
		if err := e.node(dot, node); err != nil {
			return err
		}
	}
	return nil
}

func (e *execution) node(dot any, node parse.Node) error {
	switch n := node.(type) {
	case *parse.TextNode:
		e.out.Write(n.Text)
		return nil
	case *parse.ActionNode:
		value, err := e.undeclared(dot, n.Pipe)
		if err != nil {
			return e.at(n, err)
		}
		e.out.WriteString(printed(value))
		return nil
	case *parse.IfNode:
		value, err := e.undeclared(dot, n.Pipe)
		if err != nil {
			return e.at(n, err)
		}
		if isTrue(value) {
			return e.list(dot, n.List)
		}
		return e.list(dot, n.ElseList)
	case *parse.RangeNode:
		return e.each(dot, n)
	}
	return e.at(node, errors.New("only text, values, if and range are supported"))
}

// each executes a range over the files of a folder, with a variable for the path and one for
// the text.
func (e *execution) each(dot any, n *parse.RangeNode) error {
	value, err := e.pipe(dot, n.Pipe)
	if err != nil {
		return e.at(n, err)
	}
	found, ok := value.(map[string]string)
	if !ok || len(n.Pipe.Decl) != 2 || n.Pipe.IsAssign {
		return e.at(n, errors.New("only range $PATH, $TEXT := .Files.Glob is supported"))
	}
	if len(found) == 0 {
		return e.list(dot, n.ElseList)
	}
	around := maps.Clone(e.variables)
	defer func() { e.variables = around }()
	for _, name := range slices.Sorted(maps.Keys(found)) {
		e.variables[n.Pipe.Decl[0].Ident[0]], e.variables[n.Pipe.Decl[1].Ident[0]] = name, found[name]
		if err := e.list(found[name], n.List); err != nil {
			return err
		}
	}
	return nil
}

// undeclared is pipe for where no variable may be declared.
func (e *execution) undeclared(dot any, pipe *parse.PipeNode) (any, error) {
	if len(pipe.Decl) > 0 {
		return nil, errors.New("a variable outside range is not supported")
	}
	return e.pipe(dot, pipe)
}

// pipe returns what a pipeline gives: the value of each command is the last argument of the
// next.
func (e *execution) pipe(dot any, pipe *parse.PipeNode) (any, error) {
	var last []any
	for _, command := range pipe.Cmds {
		value, err := e.command(dot, command, last)
		if err != nil {
			return nil, err
		}
		last = []any{value}
	}
	return last[0], nil
}

func (e *execution) command(dot any, command *parse.CommandNode, last []any) (any, error) {
	var arguments []any
	for _, argument := range command.Args[1:] {
		value, err := e.value(dot, argument)
		if err != nil {
			return nil, err
		}
		arguments = append(arguments, value)
	}
	arguments = append(arguments, last...)
	if word, ok := command.Args[0].(*parse.IdentifierNode); ok {
		return call(word.Ident, arguments)
	}
	value, err := e.value(dot, command.Args[0])
	if err != nil {
		return nil, err
	}
	if function, ok := value.(func(string) (any, error)); ok {
		if len(arguments) == 1 {
			if text, ok := arguments[0].(string); ok {
				return function(text)
			}
		}
		return nil, fmt.Errorf("%s takes one text", command.Args[0])
	}
	if len(arguments) > 0 {
		return nil, fmt.Errorf("%s takes no arguments", command.Args[0])
	}
	return value, nil
}

// value returns what one word of a command is.
func (e *execution) value(dot any, node parse.Node) (any, error) {
	switch n := node.(type) {
	case *parse.StringNode:
		return n.Text, nil
	case *parse.NumberNode:
		if n.IsInt {
			return int(n.Int64), nil
		}
	case *parse.DotNode:
		return dot, nil
	case *parse.FieldNode:
		return field(dot, n.Ident)
	case *parse.VariableNode:
		return field(e.variables[n.Ident[0]], n.Ident[1:])
	case *parse.PipeNode:
		return e.undeclared(dot, n)
	}
	return nil, fmt.Errorf("%s is not supported here", node)
}

// field follows the names behind a value. What is not there is nil.
func field(value any, names []string) (any, error) {
	for _, name := range names {
		switch v := value.(type) {
		case map[string]any:
			value = v[name]
		case files:
			switch name {
			case "Glob":
				value = func(pattern string) (any, error) { return v.Glob(pattern) }
			case "Get":
				value = func(name string) (any, error) { return v.Get(name) }
			default:
				return nil, fmt.Errorf(".Files has no %s here", name)
			}
		default:
			return nil, fmt.Errorf("it has no field %s", name)
		}
	}
	return value, nil
}

// isTrue says whether if takes a value for true.
func isTrue(value any) bool {
	switch v := value.(type) {
	case bool:
		return v
	case string:
		return v != ""
	case int:
		return v != 0
	case float64:
		return v != 0
	case []any:
		return len(v) > 0
	case map[string]any:
		return len(v) > 0
	}
	return false
}

// printed is a value as text.
func printed(value any) string {
	if value == nil {
		return "<no value>" // as text/template has it
	}
	return fmt.Sprint(value)
}

// word is a function of the templates.
type word struct {
	takes string // a letter for each argument: t text, n a number, a anything; + for any number of further ones
	gives func(arguments []any) (any, error)
}

// words are the functions that the chart's templates use, of Go and of Helm.
var words = map[string]word{
	"default": {"aa", func(a []any) (any, error) {
		if isTrue(a[1]) {
			return a[1], nil
		}
		return a[0], nil
	}},
	"fail": {"t", func(a []any) (any, error) { return nil, errors.New(a[0].(string)) }},
	"ne":   {"tt", func(a []any) (any, error) { return a[0] != a[1], nil }},
	"nindent": {"nt", func(a []any) (any, error) {
		pad := "\n" + strings.Repeat(" ", a[0].(int))
		return pad + strings.ReplaceAll(a[1].(string), "\n", pad), nil
	}},
	"printf": {"t+", func(a []any) (any, error) { return fmt.Sprintf(a[0].(string), a[1:]...), nil }},
	"quote":  {"a", func(a []any) (any, error) { return strconv.Quote(fmt.Sprint(a[0])), nil }},
	"replace": {"ttt", func(a []any) (any, error) {
		return strings.ReplaceAll(a[2].(string), a[0].(string), a[1].(string)), nil
	}},
	"toYaml": {"a", func(a []any) (any, error) {
		out, err := yaml.Marshal(a[0])
		return strings.TrimSuffix(string(out), "\n"), err
	}},
}

// call calls a function.
func call(name string, arguments []any) (any, error) {
	called := words[name]
	takes, more := strings.CutSuffix(called.takes, "+")
	if len(arguments) < len(takes) || len(arguments) > len(takes) && !more {
		return nil, fmt.Errorf("function %s takes %d arguments, not %d", name, len(takes), len(arguments))
	}
	for i, kind := range takes {
		isText, isNumber := false, false
		switch v := arguments[i].(type) {
		case string:
			isText = true
		case int:
			isNumber = v >= 0
		}
		if kind == 't' && !isText || kind == 'n' && !isNumber {
			return nil, fmt.Errorf("argument %d of function %s is of the wrong type: %v", i+1, name, arguments[i])
		}
	}
	return called.gives(arguments)
}
