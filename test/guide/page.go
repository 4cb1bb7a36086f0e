// Package guide reads the pages of docs/guide and README.md as scripts: the
// commands in them, what they print, and what must be there before. The tests run
// them as a reader would. It never runs anything but what stands in a page.
package guide

import (
	"fmt"
	"regexp"
	"strings"
)

// Page is one Markdown file.
//
// A fence of language console is run: a line that begins with "$ " is a command,
// "> " continues it, and the lines below are what it prints (see Matches). A
// comment on the line before a fence, with at most empty lines between, changes
// that:
//
//	<!-- setup: demo -->        the fence is how a reader does what the test set up
//	<!-- file: rules.yaml -->   the fence is written to a file of that name
//	<!-- not run: REASON -->    the fence is not run
//
// Without a fence behind it, a setup comment says what the page needs.
type Page struct {
	Setup  string   // "", or "demo": make demo runs in another terminal
	Before []string // the lines of the fence that says how a reader does it
	Steps  []Step
	NotRun []string // the reasons of fences that are not run
}

// Step is a fence: commands, or a file.
type Step struct {
	Line     int // of the fence
	File     string
	Text     string // of the file
	Commands []Command
}

// Command is what is typed, and what it prints.
type Command struct {
	Line  int
	Text  string
	Wants []string // nil: whatever it prints is well
}

var comment = regexp.MustCompile(`^<!-- (setup|file|not run): (.+?) -->$`)

// languages of fences that are to be read, not run.
var shown = map[string]bool{"yaml": true, "json": true, "text": true}

// Parse reads a page. A fence that is neither run, marked nor plainly something
// to be read is an error: it would be a command that nobody tries.
func Parse(text string) (*Page, error) {
	p := &Page{}
	lines := strings.Split(text, "\n")
	mark, value := "", ""
	for i := 0; i < len(lines); i++ {
		line := lines[i]
		if m := comment.FindStringSubmatch(line); m != nil {
			mark, value = m[1], m[2]
			if mark == "setup" {
				if p.Setup != "" && p.Setup != value {
					return nil, fmt.Errorf("line %d: a page has one setup", i+1)
				}
				p.Setup = value
			}
			continue
		}
		language, fence := strings.CutPrefix(line, "```")
		if !fence {
			if strings.TrimSpace(line) != "" {
				mark, value = "", ""
			}
			continue
		}
		start := i + 1
		for i++; i < len(lines) && lines[i] != "```"; i++ {
		}
		if i == len(lines) {
			return nil, fmt.Errorf("line %d: the fence is not closed", start)
		}
		body := lines[start:i]
		switch {
		case mark == "file":
			p.Steps = append(p.Steps, Step{Line: start, File: value, Text: strings.Join(body, "\n") + "\n"})
		case mark == "not run":
			p.NotRun = append(p.NotRun, value)
		case mark == "setup":
			p.Before = append(p.Before, body...) // done already, but where test/newcomer does it
		case language == "console":
			commands, err := parseCommands(body, start+1)
			if err != nil {
				return nil, err
			}
			p.Steps = append(p.Steps, Step{Line: start, Commands: commands})
		case !shown[language]:
			return nil, fmt.Errorf("line %d: a fence of language %q is neither run nor marked: use console, yaml, json or text, or say why it is not run", start, language)
		}
		mark, value = "", ""
	}
	return p, nil
}

func parseCommands(lines []string, first int) ([]Command, error) {
	var list []Command
	for i, line := range lines {
		if text, ok := strings.CutPrefix(line, "$ "); ok {
			list = append(list, Command{Line: first + i, Text: text})
			continue
		}
		if len(list) == 0 {
			return nil, fmt.Errorf("line %d: the fence begins with no command", first+i)
		}
		c := &list[len(list)-1]
		if more, ok := strings.CutPrefix(line, "> "); ok && c.Wants == nil {
			c.Text += "\n" + more
			continue
		}
		c.Wants = append(c.Wants, line)
	}
	return list, nil
}
