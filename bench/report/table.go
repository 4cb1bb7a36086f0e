// Package report holds what a section of bench found, and prints it as Markdown
// for people or as JSON for programs. It never computes.
package report

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"strings"
)

// Section is one subject's result.
type Section struct {
	Name    string   `json:"name"`
	Title   string   `json:"title"`
	Skipped string   `json:"skipped,omitempty"` // why nothing, or not all, was measured
	Tables  []Table  `json:"tables,omitempty"`
	Notes   []string `json:"notes,omitempty"`
	// Samples is everything that was measured, by series, in the order of the
	// rounds.
	Samples map[string][]float64 `json:"samples,omitempty"`
}

// Table is rows under columns; the first column names the row.
type Table struct {
	Columns []string   `json:"columns"`
	Rows    [][]string `json:"rows"`
}

// Add appends a row.
func (t *Table) Add(cells ...string) { t.Rows = append(t.Rows, cells) }

// Number prints a figure with digits behind the point, "–" where there is none.
func Number(v float64, digits int) string {
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return "–"
	}
	return fmt.Sprintf("%.*f", digits, v)
}

// Markdown prints sections.
func Markdown(w io.Writer, sections []Section) error {
	var b strings.Builder
	for _, s := range sections {
		fmt.Fprintf(&b, "## %s\n\n", s.Title)
		if s.Skipped != "" {
			fmt.Fprintf(&b, "skipped: %s\n\n", s.Skipped)
		}
		for _, t := range s.Tables {
			writeRow(&b, t.Columns)
			rule := make([]string, len(t.Columns))
			for i := range rule {
				rule[i] = "---:"
			}
			if len(rule) > 0 {
				rule[0] = "---"
			}
			writeRow(&b, rule)
			for _, row := range t.Rows {
				writeRow(&b, row)
			}
			b.WriteByte('\n')
		}
		for _, note := range s.Notes {
			fmt.Fprintf(&b, "- %s\n", note)
		}
		if len(s.Notes) > 0 {
			b.WriteByte('\n')
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func writeRow(b *strings.Builder, cells []string) {
	for _, cell := range cells {
		b.WriteString("| " + strings.ReplaceAll(cell, "|", "\\|") + " ")
	}
	b.WriteString("|\n")
}

// JSON prints sections as one indented value.
func JSON(w io.Writer, sections []Section) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(sections)
}
