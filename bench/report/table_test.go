package report

import (
	"encoding/json"
	"math"
	"strings"
	"testing"
)

func sections() []Section {
	table := Table{Columns: []string{"proxy", "µs"}}
	table.Add("sluice", Number(13.449, 1))
	table.Add("a|b", Number(math.NaN(), 1))
	return []Section{
		{Name: "egress", Title: "Egress", Tables: []Table{table}, Notes: []string{"medians of 5 rounds"}, Samples: map[string][]float64{"sluice": {13.4}}},
		{Name: "size", Title: "Size", Skipped: "bin/ is empty (make build)"},
	}
}

func TestMarkdownIsATableWithItsNotes(t *testing.T) {
	var b strings.Builder
	if err := Markdown(&b, sections()); err != nil {
		t.Fatal(err)
	}
	want := "## Egress\n\n| proxy | µs |\n| --- | ---: |\n| sluice | 13.4 |\n| a\\|b | – |\n\n- medians of 5 rounds\n\n" +
		"## Size\n\nskipped: bin/ is empty (make build)\n\n"
	if b.String() != want {
		t.Errorf("got:\n%s\nwant:\n%s", b.String(), want)
	}
}

func TestJSONComesBack(t *testing.T) {
	var b strings.Builder
	if err := JSON(&b, sections()); err != nil {
		t.Fatal(err)
	}
	var got []Section
	if err := json.Unmarshal([]byte(b.String()), &got); err != nil {
		t.Fatal(err)
	}
	if len(got) != 2 || got[0].Samples["sluice"][0] != 13.4 || got[1].Skipped == "" {
		t.Errorf("got %+v", got)
	}
}
