package top

import (
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"

	"sluice.dev/sluice/internal/record"
)

// tab is one of the lists.
type tab int

const (
	workloads tab = iota
	destinations
	denials
	tabs
)

func (t tab) String() string {
	return [...]string{"Workloads", "Destinations", "Denials"}[t]
}

// screen is what is to be drawn beside the picture.
type screen struct {
	width, height int
	colour        bool
	tab           tab
	selected      int // of the rows of the tab
	title         string
	detail        []string // of what was opened; nil: nothing is
	from          int      // the first line of detail that is shown
}

// Styles, which are empty without colour: then the selected row has a mark alone.
const (
	bold    = "\x1b[1m"
	red     = "\x1b[31m"
	reverse = "\x1b[7m"
	plain   = "\x1b[0m"
)

func (s *screen) style(code, text string) string {
	if !s.colour || text == "" {
		return text
	}
	return code + text + plain
}

// draw returns the lines of a screen: never more or longer ones than fit, and no byte in them
// that a terminal obeys but those of style.
func (s *screen) draw(p *picture) []string {
	var lines []string
	add := func(code, text string) { lines = append(lines, s.style(code, fit(text, s.width))) }
	head := fmt.Sprintf("sluice top  %s  %d of %d workloads connected  %s flows/s  %s denied/s", p.at.Format("15:04:05"), p.connected, p.joined, number(p.all.flows), number(p.all.denied))
	if !p.known && p.failed == "" {
		head = "sluice top  asking the server"
	}
	add(bold, head)
	if p.failed != "" {
		add(red, p.failed)
	}
	keys := "tab 1 2 3 lists  up down select  enter why  r rule  q quit"
	if s.detail != nil {
		add(bold, s.title)
		room := max(0, s.height-len(lines)-1)
		last := min(len(s.detail), s.from+room)
		for _, text := range s.detail[min(s.from, last):last] {
			add("", text)
		}
		keys = "esc back  up down scroll  q quit"
	} else {
		s.list(p, add)
	}
	if s.height > len(lines) { // on a terminal that has no space, the list matters more
		add(bold, keys)
	}
	return lines[:min(len(lines), max(s.height, 0))]
}

// list adds the tabs, the headings and the rows around the one that is selected.
func (s *screen) list(p *picture, add func(code, text string)) {
	var names []string
	for t := range tabs {
		name := fmt.Sprintf(" %d %s ", t+1, t)
		if t == s.tab {
			name = fmt.Sprintf("[%d %s]", t+1, t)
		}
		names = append(names, name)
	}
	add("", strings.Join(names, " "))
	above := 3
	if p.failed != "" {
		above++
	}
	room := max(1, s.height-above-1)
	n := s.rows(p)
	first := max(0, min(s.selected-room/2, n-room))
	row := func(i int, text, code string) {
		mark := "  "
		if i == s.selected {
			mark, code = "> ", reverse
		}
		add(code, mark+text)
	}
	if s.tab == denials {
		layout := record.Plain().Within(max(s.width-2, 1))
		add(bold, "  "+one(layout.AppendHeader(nil)))
		for i := first; i < min(n, first+room); i++ {
			row(i, one(layout.AppendText(nil, &p.denials[i])), "")
		}
		if n == 0 {
			add("", "  nothing was denied since sluice top began")
		}
		return
	}
	all, heading := p.workloads, "WORKLOAD"
	if s.tab == destinations {
		all, heading = p.destinations, "DESTINATION"
	}
	width := max(12, min(44, s.width-64))
	add(bold, fmt.Sprintf("  %-*s %8s %8s %8s %9s %9s %9s %s", width, heading, "FLOWS/s", "DENIED/s", "ERRORS/s", "SENT/s", "RECV/s", "DENIED", "STATE"))
	for i := first; i < min(n, first+room); i++ {
		of, code := &all[i], ""
		if of.denied > 0 {
			code = red
		}
		row(i, fmt.Sprintf("%-*s %8s %8s %8s %9s %9s %9d %s", width, fit(of.name, width), number(of.flows), number(of.denied), number(of.failed),
			record.AppendSize(nil, int64(of.out)), record.AppendSize(nil, int64(of.in)), of.deniedEver, of.state), code)
	}
	if n == 0 {
		add("", "  nothing yet")
	}
}

// rows is how many rows the tab has.
func (s *screen) rows(p *picture) int {
	return [...]int{len(p.workloads), len(p.destinations), len(p.denials)}[s.tab]
}

// one is a line without its end.
func one(b []byte) string { return strings.TrimRight(string(b), " \n") }

// number is a rate.
func number(n float64) string {
	if n >= 100 || n == 0 {
		return strconv.FormatFloat(n, 'f', 0, 64)
	}
	return strconv.FormatFloat(n, 'f', 1, 64)
}

// fit is a text in ASCII, where each character has one cell, and in at most width of them.
// What is not, is escaped: a terminal obeys no name, and what is wide or joins with others
// moves nothing.
func fit(text string, width int) string {
	b := make([]byte, 0, len(text))
	for i := 0; i < len(text) && len(b) <= width; {
		r, size := utf8.DecodeRuneInString(text[i:])
		switch {
		case r == '…':
			b = append(b, "..."...)
		case r == utf8.RuneError && size == 1:
			b = fmt.Appendf(b, `\x%02x`, text[i])
		case ' ' <= r && r <= '~':
			b = append(b, byte(r))
		default:
			quoted := strconv.AppendQuoteRuneToASCII(nil, r)
			b = append(b, quoted[1:len(quoted)-1]...)
		}
		i += size
	}
	if len(b) > max(width, 0) {
		b = b[:max(width, 0)]
		if width > 3 {
			copy(b[width-1:], "~")
		}
	}
	return string(b)
}
