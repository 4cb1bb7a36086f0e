package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// manual are the programs that have pages, each with its section. The commands below
// sluice have pages of their own; those of kubectl-sluice are kubectl's and are
// described by it.
var manual = []struct {
	program, section string
	below            bool
}{
	{"sluice", "1", true},
	{"kubectl-sluice", "1", false},
	{"sluice-server", "8", false},
	{"sluice-proxy", "8", false},
}

// writeManual writes a page for each command into a folder, which is emptied of
// earlier ones first. No page holds a date: a page changes with its command alone.
func writeManual(s sources, folder string) error {
	pages := map[string]string{}
	for _, m := range manual {
		// Each is asked where the others are not: sluice has kubectl-sluice describe some
		// of its commands where it finds it, in the words of pods and nodes.
		alone, err := os.MkdirTemp("", "manual")
		if err != nil {
			return err
		}
		defer os.RemoveAll(alone)
		if err := copyProgram(filepath.Join(s.binaries, m.program), alone); err != nil {
			return err
		}
		s := sources{root: s.root, binaries: alone}
		if err := manualOf(s, []string{m.program}, "", m.section, m.below, pages); err != nil {
			return err
		}
	}
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return err
	}
	before, err := filepath.Glob(filepath.Join(folder, "*.[18]"))
	if err != nil {
		return err
	}
	for _, file := range before {
		if err := os.Remove(file); err != nil {
			return err
		}
	}
	for file, text := range pages {
		if err := os.WriteFile(filepath.Join(folder, file), []byte(text), 0o644); err != nil {
			return err
		}
	}
	return nil
}

func copyProgram(program, folder string) error {
	content, err := os.ReadFile(program)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(folder, filepath.Base(program)), content, 0o755)
}

// manualOf adds the page of one command, and of those below it. summary is what the command
// above says of it.
func manualOf(s sources, words []string, summary, section string, below bool, pages map[string]string) error {
	text, err := helpOf(s, words)
	if err != nil {
		return err
	}
	h := parseHelp(text)
	name := strings.Join(words, "-")
	var commands []string
	for _, c := range h.commands {
		if c != "help" && c != "completion" { // cobra's own
			commands = append(commands, c)
		}
	}
	h.commands = commands
	pages[name+"."+section] = manualPage(h, words, summary, section, below)
	if !below {
		return nil
	}
	for _, c := range h.commands {
		if err := manualOf(s, append(words[:len(words):len(words)], c), h.summaries[c], section, below, pages); err != nil {
			return err
		}
	}
	return nil
}

// manualPage is a page in the macros of man(7). Its line of NAME, which apropos(1) shows, is
// the summary, of a program the first sentence.
func manualPage(h help, words []string, summary, section string, below bool) string {
	var b bytes.Buffer
	name := strings.Join(words, "-")
	if summary == "" {
		first, _, _ := strings.Cut(h.about, "\n\n")
		summary = strings.Join(strings.Fields(first), " ")
		for _, end := range []string{". ", ": "} {
			summary, _, _ = strings.Cut(summary, end)
		}
	}
	fmt.Fprintf(&b, ".\\\" Written from --help by hack/man.sh; do not edit.\n.TH %s %s \"\" Sluice \"Sluice Manual\"\n", strings.ToUpper(roff(name)), section)
	fmt.Fprintf(&b, ".SH NAME\n%s \\- %s\n", roff(name), roff(strings.TrimRight(summary, ".:")))
	literal := func(title string, lines []string) {
		if len(lines) == 0 {
			return
		}
		fmt.Fprintf(&b, ".SH %s\n.nf\n", title)
		for _, line := range lines {
			fmt.Fprintf(&b, "%s\n", roff(line))
		}
		b.WriteString(".fi\n")
	}
	literal("SYNOPSIS", h.usage)
	b.WriteString(".SH DESCRIPTION\n")
	for _, line := range strings.Split(h.about, "\n") {
		switch {
		case line == "":
			b.WriteString(".PP\n")
		case strings.HasPrefix(line, " "): // a list keeps its lines
			fmt.Fprintf(&b, ".br\n%s\n", roff(line))
		default:
			fmt.Fprintf(&b, "%s\n", roff(line))
		}
	}
	if len(h.flags) > 0 {
		b.WriteString(".SH OPTIONS\n")
		for _, f := range h.flags {
			fmt.Fprintf(&b, ".TP\n\\fB%s\\fR\n%s\n", roff(f.name), roff(f.text))
		}
	}
	if len(words) > 1 {
		fmt.Fprintf(&b, ".PP\nThe options of every command are described in %s(%s).\n", roff(words[0]), section)
	}
	literal("EXAMPLES", h.examples)
	var also []string
	if len(words) > 1 {
		also = append(also, words[0]+"("+section+")")
	}
	if below {
		for _, c := range h.commands {
			also = append(also, name+"-"+c+"("+section+")")
		}
	}
	for _, m := range manual {
		if len(words) == 1 && m.program != words[0] {
			also = append(also, m.program+"("+m.section+")")
		}
	}
	fmt.Fprintf(&b, ".SH SEE ALSO\n%s\n", roff(strings.Join(also, ", ")))
	return b.String()
}

// roff is text as it may stand on a line: nothing in it is a request or an escape.
func roff(text string) string {
	text = strings.NewReplacer(`\`, `\e`, "-", `\-`).Replace(text)
	if strings.HasPrefix(text, ".") || strings.HasPrefix(text, "'") {
		text = `\&` + text
	}
	return text
}
