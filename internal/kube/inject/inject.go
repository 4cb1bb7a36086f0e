// Package inject puts Sluice's sidecar into Pods: into the templates of workloads in YAML,
// with comments and order kept, and into a Pod that is being created. The command
// kube-inject calls File, and package injector, the server's webhook, Patch and Added; both
// give the same Pod. It never talks to a cluster, links no Kubernetes, and never leaves a
// Pod out without saying so.
package inject

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"go.yaml.in/yaml/v4"
	"go.yaml.in/yaml/v4/plugin/loaderlimits"
)

// Bounds of what is read. Past one of them the whole input is refused.
const (
	MaxBytes    = 4 << 20 // of one file
	maxDepth    = 64      // of mappings and sequences within one another
	maxProblems = 50      // reported; what is found after them is not
)

// Problem is what is wrong with one document, or what to know of it.
type Problem struct {
	File string
	Line int // 0 where none is known
	Text string
}

func (p Problem) String() string {
	switch {
	case p.File == "":
		return p.Text
	case p.Line == 0:
		return p.File + ": " + p.Text
	}
	return fmt.Sprintf("%s:%d: %s", p.File, p.Line, p.Text)
}

// Problems is everything that is wrong with a file: nothing of it is written.
type Problems []Problem

func (p Problems) Error() string {
	lines := make([]string, 0, len(p))
	for _, one := range p {
		lines = append(lines, one.String())
	}
	return strings.Join(lines, "\n")
}

// Result is what became of a file.
type Result struct {
	Data     []byte
	Injected int       // templates of Pods that have the sidecar now
	Notes    []Problem // what was changed beside it, and what to know
}

// File puts the sidecar into every workload of a stream of documents, YAML or JSON, and
// upgrades what only old API servers took. Documents that need no change are returned as
// they are, byte for byte. An error is of the type Problems.
func File(name string, data []byte, o Options) (Result, error) {
	w := &worker{file: name, options: o}
	switch {
	case len(data) > MaxBytes:
		w.fail(nil, "more than %d bytes: split the file", MaxBytes)
	case bytes.HasPrefix(data, []byte("\xff\xfe")), bytes.HasPrefix(data, []byte("\xfe\xff")):
		w.fail(nil, "UTF-16 is not supported: save the file as UTF-8")
	}
	if err := w.options.validate(); err != nil {
		w.problems = append(w.problems, Problem{Text: err.Error()})
	}
	var out bytes.Buffer
	if len(w.problems) == 0 {
		for _, d := range split(data) {
			out.Write(w.document(d))
		}
	}
	if len(w.problems) > 0 {
		return Result{}, w.problems
	}
	return Result{Data: out.Bytes(), Injected: w.injected, Notes: w.notes}, nil
}

// worker goes through the documents of one file. It goes on after a problem, so that a user
// sees all of them at once.
type worker struct {
	file     string
	options  Options
	first    int    // line of the file on which the present document begins, less one
	object   string // that the present problem is about: "Deployment default/web"
	problems Problems
	notes    []Problem
	injected int
}

// fail notes what is wrong at a node.
func (w *worker) fail(at *yaml.Node, format string, arguments ...any) {
	if len(w.problems) < maxProblems {
		w.problems = append(w.problems, w.problem(at, format, arguments...))
	}
}

// note says what to know of a node.
func (w *worker) note(at *yaml.Node, format string, arguments ...any) {
	w.notes = append(w.notes, w.problem(at, format, arguments...))
}

func (w *worker) problem(at *yaml.Node, format string, arguments ...any) Problem {
	p := Problem{File: w.file, Text: fmt.Sprintf(format, arguments...)}
	if w.object != "" {
		p.Text = w.object + ": " + p.Text
	}
	if at != nil && at.Line > 0 {
		p.Line = w.first + at.Line
	}
	return p
}

// document returns what a document becomes.
func (w *worker) document(d document) []byte {
	w.first, w.object = d.line-1, ""
	root, err := parse(d.body)
	if err != nil {
		line, text := syntax(err)
		w.fail(&yaml.Node{Line: line}, "cannot be read: %s", text)
		return nil
	}
	if root == nil {
		return d.raw()
	}
	before, problems := copied(root), len(w.problems)
	w.resource(content(root), 0)
	if len(w.problems) > problems || same(root, before) {
		return d.raw()
	}
	body, err := d.write(root)
	if err != nil {
		w.fail(nil, "write: %v", err)
	}
	return append(bytes.Clone(d.marker), body...)
}

// parse reads one document; it returns nil where that holds nothing.
func parse(body []byte) (root *yaml.Node, err error) {
	switch {
	case len(bytes.TrimSpace(stripComments(body))) == 0:
		return nil, nil
	case json.Valid(body):
		root, err = parseJSON(body)
	default:
		root, err = parseYAML(body)
	}
	if err != nil || content(root) == nil || isNull(content(root)) {
		return nil, err
	}
	if err := expand(root); err != nil {
		return nil, err
	}
	return root, checkKeys(root)
}

func parseYAML(body []byte) (*yaml.Node, error) {
	loader, err := yaml.NewLoader(bytes.NewReader(body), yaml.WithPlugin(loaderlimits.New(loaderlimits.DepthValue(maxDepth))))
	if err != nil {
		return nil, err
	}
	root := new(yaml.Node)
	return root, loader.Load(root)
}

func syntax(err error) (line int, text string) {
	var many *yaml.LoadErrors
	var one *yaml.LoadError
	var ours *lineError
	if errors.As(err, &ours) {
		return ours.line, ours.text
	}
	if errors.As(err, &many) && len(many.Errors) > 0 {
		one = many.Errors[0]
	}
	if one != nil || errors.As(err, &one) {
		return one.Mark.Line, one.Message
	}
	return 0, err.Error()
}
