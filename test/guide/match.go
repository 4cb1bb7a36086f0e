package guide

import (
	"regexp"
	"strings"
)

// Matches reports whether a command printed what its page shows. "…" stands for
// any text within a line, and a line of it alone for any number of lines. Runs of
// blanks are one blank, for columns are as wide as what stands in them.
func Matches(wants []string, printed string) bool {
	var b strings.Builder
	b.WriteString(`\A`)
	for _, want := range normalize(wants) {
		if want == "…" {
			b.WriteString(`(?:.*\n)*?`)
			continue
		}
		b.WriteString(strings.ReplaceAll(regexp.QuoteMeta(want), "…", ".*") + `\n`)
	}
	b.WriteString(`\z`)
	var got strings.Builder
	for _, line := range normalize(strings.Split(printed, "\n")) {
		got.WriteString(line + "\n")
	}
	return regexp.MustCompile(b.String()).MatchString(got.String())
}

// normalize makes each run of blanks one, and drops empty lines at the end.
func normalize(lines []string) []string {
	list := make([]string, 0, len(lines))
	for _, line := range lines {
		list = append(list, strings.Join(strings.Fields(line), " "))
	}
	for len(list) > 0 && list[len(list)-1] == "" {
		list = list[:len(list)-1]
	}
	return list
}
