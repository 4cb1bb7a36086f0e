package chart

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"sluice.dev/sluice/deploy/helm"
)

// schema is what values.schema.json uses of JSON Schema; another keyword in it is an error.
type schema struct {
	Dialect     string             `json:"$schema"`
	Title       string             `json:"title"`
	Description string             `json:"description"`
	Type        string             `json:"type"`
	Additional  *bool              `json:"additionalProperties"`
	Properties  map[string]*schema `json:"properties"`
	Required    []string           `json:"required"`
	Items       *schema            `json:"items"`
	MaxItems    *int               `json:"maxItems"`
	Enum        []string           `json:"enum"`
	Pattern     string             `json:"pattern"`
	MinLength   *int               `json:"minLength"`
	MaxLength   *int               `json:"maxLength"`
	Minimum     *float64           `json:"minimum"`
	Maximum     *float64           `json:"maximum"`
}

func readSchema() (*schema, error) {
	data, err := helm.Files.ReadFile("values.schema.json")
	if err != nil {
		return nil, err
	}
	read := new(schema)
	decoder := json.NewDecoder(strings.NewReader(string(data)))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(read); err != nil {
		return nil, fmt.Errorf("values.schema.json: %w", err)
	}
	return read, nil
}

// validate holds values against values.schema.json, and says all that is wrong with them.
func validate(values map[string]any) error {
	schema, err := readSchema()
	if err != nil {
		return err
	}
	return errors.Join(schema.check("", values)...)
}

// check returns what is wrong with a value, which is called name.
func (s *schema) check(name string, value any) (wrong []error) {
	say := func(format string, arguments ...any) {
		wrong = append(wrong, fmt.Errorf("value %s: %s", name, fmt.Sprintf(format, arguments...)))
	}
	if is := typeOf(value); is != s.Type && !(s.Type == "integer" && is == "number" && value == float64(int64(value.(float64)))) {
		say("must be of type %s, not %s", s.Type, is)
		return wrong
	}
	switch v := value.(type) {
	case map[string]any:
		for _, key := range s.Required {
			if _, there := v[key]; !there {
				wrong = append(wrong, fmt.Errorf("value %s is missing", strings.TrimPrefix(name+"."+key, ".")))
			}
		}
		for _, key := range slices.Sorted(maps.Keys(v)) {
			full := strings.TrimPrefix(name+"."+key, ".")
			if inner := s.Properties[key]; inner != nil {
				wrong = append(wrong, inner.check(full, v[key])...)
			} else if s.Additional != nil && !*s.Additional {
				wrong = append(wrong, fmt.Errorf("value %s is not known; known are %s", full, strings.Join(slices.Sorted(maps.Keys(s.Properties)), ", ")))
			}
		}
	case []any:
		if s.MaxItems != nil && len(v) > *s.MaxItems {
			say("has %d items; at most %d are allowed", len(v), *s.MaxItems)
		}
		for i, item := range v {
			if s.Items != nil {
				wrong = append(wrong, s.Items.check(name+"["+strconv.Itoa(i)+"]", item)...)
			}
		}
	case string:
		switch n := utf8.RuneCountInString(v); {
		case len(s.Enum) > 0 && !slices.Contains(s.Enum, v):
			say("%q must be one of %s", v, strings.Join(s.Enum, ", "))
		case s.MinLength != nil && n < *s.MinLength:
			say("must have %d characters or more", *s.MinLength)
		case s.MaxLength != nil && n > *s.MaxLength:
			say("has %d characters; at most %d are allowed", n, *s.MaxLength)
		case s.Pattern != "":
			pattern, err := regexp.Compile(s.Pattern)
			if err != nil {
				say("%v", err)
			} else if !pattern.MatchString(v) {
				say("%q does not match %s", v, s.Pattern)
			}
		}
	case float64:
		if s.Minimum != nil && v < *s.Minimum || s.Maximum != nil && v > *s.Maximum {
			say("%v must be from %v to %v", v, *s.Minimum, *s.Maximum)
		}
	}
	return wrong
}

// typeOf is the type of a value in the words of JSON Schema.
func typeOf(value any) string {
	switch value.(type) {
	case map[string]any:
		return "object"
	case []any:
		return "array"
	case string:
		return "string"
	case float64:
		return "number"
	case bool:
		return "boolean"
	case nil:
		return "null"
	}
	return fmt.Sprintf("%T", value)
}
