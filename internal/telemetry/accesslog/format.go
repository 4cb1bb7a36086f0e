package accesslog

import (
	"fmt"
	"strings"

	"sluice.dev/sluice/internal/record"
	"sluice.dev/sluice/internal/telemetry/attribute"
)

// MaxTemplate bounds a template, in bytes.
const MaxTemplate = 4 << 10

// JSON is the format that shows every attribute that has a value.
const JSON = "json"

// Format turns a record into a line.
type Format struct {
	parts []part
	json  bool
}

// part is a text, and then the value of an attribute unless there is none.
type part struct {
	text string
	of   attribute.Attribute
}

// ParseFormat reads "json", or a template: attributes in braces amid any text, and {{ and }}
// for the braces themselves.
func ParseFormat(text string) (*Format, error) {
	f := new(Format)
	if text == JSON {
		f.json = true
		for _, a := range attribute.All() {
			f.parts = append(f.parts, part{`,"` + a.Name + `":`, a})
		}
		return f, nil
	}
	switch {
	case len(text) > MaxTemplate:
		return nil, fmt.Errorf("a template of %d bytes is longer than %d", len(text), MaxTemplate)
	case strings.ContainsAny(text, "\n\r\x00"):
		return nil, fmt.Errorf("the template has more than one line")
	}
	var plain strings.Builder
	for at := 0; at < len(text); {
		switch rest := text[at:]; {
		case strings.HasPrefix(rest, "{{"), strings.HasPrefix(rest, "}}"):
			plain.WriteByte(rest[0])
			at += 2
		case rest[0] == '}':
			return nil, fmt.Errorf("a } at byte %d of the template closes nothing; write }} for the brace itself", at+1)
		case rest[0] == '{':
			name, _, found := strings.Cut(rest[1:], "}")
			if !found {
				return nil, fmt.Errorf("the { at byte %d of the template is not closed; write {{ for the brace itself", at+1)
			}
			a, known := attribute.Find(name)
			if !known {
				return nil, fmt.Errorf("%q of the template is not an attribute; docs/reference/attributes.md lists them, as {request.host}", name)
			}
			f.parts = append(f.parts, part{plain.String(), a})
			plain.Reset()
			at += len(name) + 2
		default:
			plain.WriteByte(rest[0])
			at++
		}
	}
	if len(f.parts) == 0 {
		return nil, fmt.Errorf("the template %q names no attribute, as {request.host}; or write %s", text, JSON)
	}
	f.parts = append(f.parts, part{text: plain.String()})
	return f, nil
}

// Append appends the line of a record, with its newline.
func (f *Format) Append(b []byte, r *record.Record) []byte {
	if f.json {
		b = append(b, '{')
		comma := 1
		for i := range f.parts {
			v := value(&f.parts[i].of, r)
			if v.Type == attribute.None {
				continue
			}
			b = v.AppendJSON(append(b, f.parts[i].text[comma:]...))
			comma = 0
		}
		return append(b, '}', '\n')
	}
	for i := range f.parts {
		b = append(b, f.parts[i].text...)
		if f.parts[i].of.Of == nil {
			continue
		}
		if v := value(&f.parts[i].of, r); v.Type == attribute.None {
			b = append(b, '-')
		} else {
			b = v.AppendEscaped(b)
		}
	}
	return append(b, '\n')
}

func value(a *attribute.Attribute, r *record.Record) attribute.Value {
	v := a.Of(r)
	if a.Secret() {
		return v.Redacted()
	}
	return v
}
