package kubeapi

import (
	"bytes"
	"encoding/json"
	"maps"
	"net/http"
	"slices"
	"strings"

	"k8s.io/apiserver/pkg/endpoints/responsewriter"

	"sluice.dev/sluice/api"
)

// readableTables wraps the handlers that answer kubectl's get with a table. A column of a
// definition can only show a list or a map as JSON: here cells say them as those of
// Kubernetes' own kinds do (443/https, a.example.com,b.example.com, app=details). What is
// no table passes as it is.
func readableTables(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet || !isCustomResource(r.URL.Path) || !strings.Contains(r.Header.Get("Accept"), "as=Table") {
			next.ServeHTTP(w, r)
			return
		}
		query := r.URL.Query()
		query.Set("pretty", "false") // one line for each table, or event of a watch
		r = r.Clone(r.Context())
		r.URL.RawQuery = query.Encode()
		r.Header.Del("Accept-Encoding") // the answer is read here
		tables := &tableWriter{ResponseWriter: w}
		next.ServeHTTP(responsewriter.WrapForHTTP1Or2(tables), r)
		tables.finish()
	})
}

// tableWriter writes each line of an answer once it is whole.
type tableWriter struct {
	http.ResponseWriter
	begun, json bool
	line        []byte // the begin of a line; no longer than the answer, which the handler holds whole
}

var _ responsewriter.UserProvidedDecorator = (*tableWriter)(nil)

// Unwrap implements responsewriter.UserProvidedDecorator.
func (t *tableWriter) Unwrap() http.ResponseWriter { return t.ResponseWriter }

// WriteHeader implements http.ResponseWriter.
func (t *tableWriter) WriteHeader(code int) {
	t.begun = true
	if t.json = strings.HasPrefix(t.Header().Get("Content-Type"), "application/json"); t.json {
		t.Header().Del("Content-Length")
	}
	t.ResponseWriter.WriteHeader(code)
}

// Write implements http.ResponseWriter.
func (t *tableWriter) Write(p []byte) (int, error) {
	if !t.begun {
		t.WriteHeader(http.StatusOK)
	}
	if !t.json {
		return t.ResponseWriter.Write(p)
	}
	for rest := p; len(rest) > 0; {
		end := bytes.IndexByte(rest, '\n') + 1
		if end == 0 {
			t.line = append(t.line, rest...)
			break
		}
		t.line = append(t.line, rest[:end]...)
		rest = rest[end:]
		if err := t.send(); err != nil {
			return 0, err
		}
	}
	return len(p), nil
}

func (t *tableWriter) send() error {
	_, err := t.ResponseWriter.Write(readable(t.line))
	t.line = t.line[:0]
	return err
}

// finish writes what came without the end of a line.
func (t *tableWriter) finish() {
	if len(t.line) > 0 {
		_ = t.send() // the client is gone
	}
}

// readable is a table, or an event of a watch that holds one, with cells for people.
// Anything else, an error that the server answers among them, is returned as it is.
func readable(line []byte) []byte {
	var answer map[string]json.RawMessage
	if json.Unmarshal(line, &answer) != nil {
		return line
	}
	if event, ok := answer["object"]; ok {
		if answer["object"] = readableTable(event); answer["object"] == nil {
			return line
		}
		return append(remade(answer), '\n')
	}
	if table := readableTable(line); table != nil {
		return append(table, '\n')
	}
	return line
}

// readableTable returns nil for what is no table.
func readableTable(text []byte) []byte {
	var table map[string]json.RawMessage
	var rows []map[string]json.RawMessage
	if json.Unmarshal(text, &table) != nil || string(table["kind"]) != `"Table"` || json.Unmarshal(table["rows"], &rows) != nil {
		return nil
	}
	for _, row := range rows {
		var cells []any // as they are but for their texts
		decoder := json.NewDecoder(bytes.NewReader(row["cells"]))
		decoder.UseNumber()
		if decoder.Decode(&cells) != nil {
			return nil
		}
		for i := range cells {
			if text, ok := cells[i].(string); ok {
				cells[i] = readableCell(text)
			}
		}
		row["cells"] = remade(cells)
	}
	table["rows"] = remade(rows)
	return remade(table)
}

// readableCell says what a cell holds that is a list or a map in JSON.
func readableCell(text string) string {
	if text == "" || text[0] != '[' && text[0] != '{' {
		return text
	}
	var value any
	if json.Unmarshal([]byte(text), &value) != nil {
		return text // a text that begins so
	}
	switch value := value.(type) {
	case []any:
		texts := make([]string, len(value))
		for i, item := range value {
			texts[i] = readableItem(item)
		}
		return api.ShortList(texts)
	case map[string]any: // labels, as kubectl shows them
		var pairs []string
		for _, key := range slices.Sorted(maps.Keys(value)) {
			pairs = append(pairs, key+"="+readableItem(value[key]))
		}
		return api.ShortList(pairs)
	}
	return text
}

// readableItem says one of a list: a word as it is, a port as 443/https.
func readableItem(item any) string {
	switch item := item.(type) {
	case string:
		return item
	case map[string]any:
		port, ok := item["port"].(float64)
		if protocol, _ := item["protocol"].(string); ok {
			return api.PortText(int32(port), protocol)
		}
	}
	return string(remade(item))
}

// remade is JSON of what was read from JSON.
func remade(value any) []byte {
	text, err := json.Marshal(value)
	if err != nil {
		panic(err) // no value that was read from JSON lacks one
	}
	return text
}
