package main

import (
	"bytes"

	"sluice.dev/sluice/internal/refusal"
	"sluice.dev/sluice/internal/telemetry/attribute"
)

// writeAttributes is the table out of which logs and metrics take what they show.
func writeAttributes(b *bytes.Buffer, _ sources) error {
	b.WriteString(`# Attributes

What is known of a connection or request, under one name wherever it is shown: a field of the access log, a
label of a metric. Names are those of Istio 0.5 where it had one. A *few* values are a list of the program, *mesh* are as
many as there are rules and workloads; *unbounded* is what strangers choose, and never a label.

`)
	var rows [][]string
	for _, a := range attribute.All() {
		rows = append(rows, []string{code(a.Name), a.Type.String(), a.Known.String(), a.Cardinality.String(), cell(a.Meaning)})
	}
	table(b, []string{"name", "type", "known", "values", "meaning"}, rows)
	b.WriteString("\n## Flags\n\nThe values of `check.flags`, and the [reasons](reasons.md) that have them.\n\n")
	rows = nil
	at := map[string]int{}
	for _, r := range refusal.All() {
		flag := r.Flag()
		i, ok := at[flag]
		if !ok {
			i = len(rows)
			at[flag] = i
			rows = append(rows, []string{code(flag), ""})
		} else {
			rows[i][1] += ", "
		}
		rows[i][1] += code(string(r))
	}
	table(b, []string{"flag", "reasons"}, rows)
	return nil
}
