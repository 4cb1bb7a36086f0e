package main

import (
	"bytes"
	"strings"

	"sluice.dev/sluice/rules"
)

func writeHidden(b *bytes.Buffer, _ sources) error {
	b.WriteString(`# Hidden files

What ` + "`sluice run`" + ` hides from a command, below the home folder of its user, unless ` + "`--show`" + ` names it. It is
the list of [rules/hidden.yaml](../../rules/hidden.yaml). A ` + "`*`" + ` stands within one name, and for files alone. A file
with a condition is hidden where its first 64 KiB match it, where it is longer, and where it cannot be read.

`)
	list := rules.HiddenFiles()
	var rows [][]string
	for _, p := range list.Paths {
		path := code("~/" + p.Path)
		if len(p.Except) > 0 {
			var names []string
			for _, name := range p.Except {
				names = append(names, code(name))
			}
			path += " but " + strings.Join(names, ", ")
		}
		rows = append(rows, []string{path, cell(p.What), code(p.Holds), "[source](" + p.Source + ")"})
	}
	table(b, []string{"path", "holds", "hidden where it matches", ""}, rows)
	b.WriteString("\nA variable puts a folder elsewhere; what is hidden in it is hidden there too, and in its usual place:\n\n")
	rows = nil
	for _, m := range list.Moved {
		rows = append(rows, []string{code("~/" + m.Folder), code(m.Variable)})
	}
	table(b, []string{"folder", "variable"}, rows)
	b.WriteString("\nA variable names a file in the place of one of the list; it is hidden as that one is, which stays hidden too:\n\n")
	rows = nil
	for _, f := range list.Files {
		rows = append(rows, []string{code("~/" + f.Path), code(f.Variable)})
	}
	table(b, []string{"file", "variable"}, rows)
	return nil
}
