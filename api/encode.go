package api

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"

	"go.yaml.in/yaml/v4"
)

// Encode returns an object in the form in which the API takes it.
func Encode(o *Object) ([]byte, error) {
	data, err := json.Marshal(o)
	if err != nil {
		return nil, fmt.Errorf("encode %s: %w", o.ID(), err)
	}
	return data, nil
}

// WriteYAML writes each object as YAML with sorted keys, followed by a line
// "---", as the command line of Istio 0.5 did.
func WriteYAML(w io.Writer, objects []Object) error {
	for i := range objects {
		plain, err := plainOf(&objects[i])
		if err != nil {
			return err
		}
		data, err := yaml.Dump(plain, yaml.WithIndent(2), yaml.WithLineWidth(-1))
		if err != nil {
			return fmt.Errorf("encode %s: %w", objects[i].ID(), err)
		}
		if _, err := fmt.Fprintf(w, "%s---\n", data); err != nil {
			return err
		}
	}
	return nil
}

// WriteJSON writes one object as it is, and none or several as a List of v1,
// indented, with sorted keys. Decode reads both.
func WriteJSON(w io.Writer, objects []Object, list bool) error {
	items := make([]any, 0, len(objects))
	for i := range objects {
		plain, err := plainOf(&objects[i])
		if err != nil {
			return err
		}
		items = append(items, plain)
	}
	var value any = map[string]any{"apiVersion": "v1", "kind": "List", "items": items}
	if !list && len(items) == 1 {
		value = items[0]
	}
	encoder := json.NewEncoder(w)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	return encoder.Encode(value)
}

// plainOf returns an object as maps, slices and scalars, whose encoders sort by
// key.
func plainOf(o *Object) (map[string]any, error) {
	data, err := Encode(o)
	if err != nil {
		return nil, err
	}
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.UseNumber()
	plain := map[string]any{}
	if err := decoder.Decode(&plain); err != nil {
		return nil, fmt.Errorf("encode %s: %w", o.ID(), err)
	}
	return numbers(plain).(map[string]any), nil
}

// numbers turns each json.Number into an int64, or a float64 where it is none:
// YAML would print a json.Number in quotes, and a float64 as 1e+06.
func numbers(value any) any {
	switch value := value.(type) {
	case map[string]any:
		for k, v := range value {
			value[k] = numbers(v)
		}
	case []any:
		for i, v := range value {
			value[i] = numbers(v)
		}
	case json.Number:
		if n, err := value.Int64(); err == nil {
			return n
		}
		if n, err := value.Float64(); err == nil {
			return n
		}
		return value.String()
	}
	return value
}
