package api

import (
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
)

// FieldError is one thing that is wrong with an object.
type FieldError struct {
	Path    string // "spec.ports[0].port"; empty where the object as a whole is meant
	Line    int    // in Origin.File; 0 where unknown
	Message string // Istio 0.5's own for its resources
}

// Bounds of a FieldError, in bytes; what is longer is cut.
const (
	maxPathText    = 1 << 10
	maxMessageText = 4 << 10
)

// newFieldError returns a FieldError that is fit to be printed: keys and values
// come from whoever wrote the file, and a terminal obeys control characters.
func newFieldError(path string, line int, format string, arguments ...any) FieldError {
	return FieldError{
		Path: printable(path, maxPathText), Line: line,
		Message: printable(fmt.Sprintf(format, arguments...), maxMessageText),
	}
}

// printable returns a text in which what does not print is escaped, cut to a bound.
func printable(text string, bound int) string {
	cut := len(text) > bound
	if cut {
		text = text[:bound]
	}
	if strings.ContainsFunc(text, func(r rune) bool { return r == utf8.RuneError || !strconv.IsPrint(r) }) {
		var b strings.Builder
		for _, r := range text {
			if strconv.IsPrint(r) {
				b.WriteRune(r)
				continue
			}
			b.WriteString(strings.Trim(strconv.QuoteRune(r), "'"))
		}
		text = b.String()
	}
	if cut {
		text += "..."
	}
	return text
}

// Error returns the path and the message.
func (e FieldError) Error() string {
	if e.Path == "" {
		return e.Message
	}
	return e.Path + ": " + e.Message
}

// Problem is a FieldError together with the file that it is in.
type Problem struct {
	File string // "" where the object was not read from a file
	FieldError

	kind bool // it is the kind itself that is refused
}

// Error returns "FILE:7: spec.ports[0].port: message".
func (p Problem) Error() string {
	switch {
	case p.File == "":
		return p.FieldError.Error()
	case p.Line == 0:
		return p.File + ": " + p.FieldError.Error()
	}
	return fmt.Sprintf("%s:%d: %s", p.File, p.Line, p.FieldError.Error())
}

// Problems is everything that is wrong with what was read, in the order in which
// it was found. As an error it has the form of Istio 0.5's lists.
type Problems []Problem

// Error returns "2 errors occurred:", an empty line, and a line with "* " for each.
func (p Problems) Error() string {
	lines := make([]string, len(p))
	for i, problem := range p {
		lines[i] = problem.Error()
	}
	return ErrorList(lines)
}

// OnlyKinds reports whether all that is wrong is kinds that are not known or not
// built yet.
func (p Problems) OnlyKinds() bool {
	for _, problem := range p {
		if !problem.kind {
			return false
		}
	}
	return true
}

// ErrorList joins messages in the form in which the command line of Istio 0.5 lists
// errors.
func ErrorList(messages []string) string {
	var b strings.Builder
	if len(messages) == 1 {
		b.WriteString("1 error occurred:\n")
	} else {
		fmt.Fprintf(&b, "%d errors occurred:\n", len(messages))
	}
	for _, message := range messages {
		b.WriteString("\n* " + message)
	}
	return b.String()
}

// ValidateAll validates every object and refuses two of one name among them. The
// error, if any, is Problems.
func ValidateAll(objects []Object) error {
	var problems Problems
	seen := make(map[string]Origin, len(objects))
	for i := range objects {
		o := &objects[i]
		if len(problems) >= maxProblems {
			break // as Decode does
		}
		for _, e := range Validate(o) {
			problems = append(problems, Problem{File: o.Origin.File, FieldError: e})
		}
		id := o.ID()
		if first, twice := seen[id]; twice {
			problems = append(problems, Problem{File: o.Origin.File, FieldError: FieldError{
				Path: "metadata.name", Line: o.Origin.LineOf("metadata.name"),
				Message: fmt.Sprintf("%s is a duplicate, first on line %d", id, first.Line),
			}})
			continue
		}
		seen[id] = o.Origin
	}
	if len(problems) == 0 {
		return nil
	}
	return problems
}
