package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
)

// programs are described in this order.
var programs = []string{"sluice", "sluice-server", "sluice-proxy"}

func writeCommands(b *bytes.Buffer, s sources) error {
	b.WriteString("# Commands\n\nWhat each command says of itself with `--help`.\n")
	for _, p := range programs {
		if err := describe(b, s, []string{p}); err != nil {
			return err
		}
	}
	return nil
}

// describe writes one command and those below it.
func describe(b *bytes.Buffer, s sources, words []string) error {
	text, err := helpOf(s, words)
	if err != nil {
		return err
	}
	h := parseHelp(text)
	fmt.Fprintf(b, "\n%s %s\n\n", strings.Repeat("#", len(words)+1), strings.Join(words, " "))
	fmt.Fprintf(b, "%s\n", strings.NewReplacer("<", "&lt;", "*", `\*`).Replace(h.about))
	fenced := func(title string, lines []string) {
		if len(lines) > 0 {
			fmt.Fprintf(b, "\n%s\n\n```\n%s\n```\n", title, strings.Join(lines, "\n"))
		}
	}
	fenced("Usage:", h.usage)
	fenced("Examples:", h.examples)
	flags := func(title string, list []flagHelp) {
		if len(list) == 0 {
			return
		}
		fmt.Fprintf(b, "\n")
		var rows [][]string
		for _, f := range list {
			rows = append(rows, []string{code(f.name), cell(f.text)})
		}
		table(b, []string{title, ""}, rows)
	}
	if len(words) == 1 && len(h.commands) > 0 {
		flags("flag of every command", h.flags) // those below repeat them
	} else {
		flags("flag", h.flags)
	}
	for _, name := range h.commands {
		if name == "help" || name == "completion" { // cobra's own
			continue
		}
		if err := describe(b, s, append(words[:len(words):len(words)], name)); err != nil {
			return err
		}
	}
	return nil
}

// helpOf is what a command prints with --help, without what this machine, this
// user or this folder puts in.
func helpOf(s sources, words []string) (string, error) {
	dir, err := filepath.Abs(s.binaries)
	if err != nil {
		return "", err
	}
	cmd := exec.Command(filepath.Join(dir, words[0]), append(words[1:len(words):len(words)], "--help")...)
	cmd.Dir = "/"
	cmd.Env = []string{"HOME=/home/user", "PATH=/usr/bin:/bin"} // none of SLUICE_*
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("%s --help: %w", strings.Join(words, " "), err)
	}
	text := string(out)
	if host, err := os.Hostname(); err == nil {
		text = strings.ReplaceAll(text, fmt.Sprintf("(default %q)", host), "(default: the machine's name)")
	}
	own := []string{dir, strings.TrimPrefix(dir, "/")}
	for _, folder := range own {
		text = strings.ReplaceAll(text, fmt.Sprintf("(default %q)", folder), "(default: the folder of this program)")
	}
	if strings.Contains(text, dir) {
		return "", fmt.Errorf("%s --help holds the folder of the build", strings.Join(words, " "))
	}
	return text, nil
}

// help is the parts of a command's help.
type help struct {
	about           string
	usage, examples []string
	commands        []string
	summaries       map[string]string // of commands
	flags           []flagHelp
}

type flagHelp struct{ name, text string }

var (
	section  = regexp.MustCompile(`^(Usage|Aliases|Examples|Available Commands|Flags|Global Flags):$`)
	flagLine = regexp.MustCompile(`^ +((?:-\w, )?--[\w-]+(?: \S+)?) {2,}(\S.*)$`)
)

func parseHelp(text string) help {
	parts := map[string][]string{}
	at := ""
	for _, line := range strings.Split(strings.TrimRight(text, "\n"), "\n") {
		if m := section.FindStringSubmatch(line); m != nil {
			at = m[1]
			continue
		}
		if strings.HasPrefix(line, `Use "`) {
			at = "the rest"
		}
		parts[at] = append(parts[at], strings.TrimRight(line, " "))
	}
	h := help{about: strings.TrimSpace(strings.Join(parts[""], "\n")), usage: indented(parts["Usage"]), examples: indented(parts["Examples"])}
	h.summaries = map[string]string{}
	for _, line := range parts["Available Commands"] {
		if words := strings.Fields(line); len(words) > 0 {
			h.commands = append(h.commands, words[0])
			h.summaries[words[0]] = strings.Join(words[1:], " ")
		}
	}
	h.flags = parseFlags(parts["Flags"])
	return h
}

// indented is lines without the two spaces before them, and without empty ones.
func indented(lines []string) []string {
	var kept []string
	for _, line := range lines {
		if line != "" {
			kept = append(kept, strings.TrimPrefix(line, "  "))
		}
	}
	return kept
}

func parseFlags(lines []string) []flagHelp {
	var flags []flagHelp
	for _, line := range lines {
		m := flagLine.FindStringSubmatch(line)
		if m == nil || strings.HasPrefix(m[1], "-h, --help") {
			continue
		}
		flags = append(flags, flagHelp{m[1], m[2]})
	}
	return flags
}
