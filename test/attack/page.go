package attack

import (
	_ "embed"
	"fmt"
	"strings"
)

//go:embed page.md
var pageBegins string

// Page is the page of the guide: what is tried, what happens, and as whom.
func Page() string {
	var b strings.Builder
	b.WriteString(pageBegins)
	kind := ""
	for _, row := range Table() {
		if row.Kind != kind {
			kind = row.Kind
			fmt.Fprintf(&b, "\n## %s\n\n| tried | what happens | root | user | `--run-as` | `su` |\n|---|---|---|---|---|---|\n", kind)
		}
		fmt.Fprintf(&b, "| %s (`%s`) | %s |", row.Tried, row.ID, row.Right)
		for _, as := range names {
			fmt.Fprintf(&b, " %s |", row.word(as.who))
		}
		b.WriteString("\n")
	}
	return b.String()
}

func (r *Row) word(who Who) string {
	switch {
	case !r.triedBy(who):
		return "–"
	case r.Works:
		return "works"
	case r.Bare&who != 0:
		return "held*"
	}
	return "held"
}
