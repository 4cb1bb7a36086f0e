package asking

import "strings"

// line is an answer that is being typed. Only what a person types counts: a line with a
// control byte in it, as those with which a terminal answers a program, is none at all.
type line struct {
	echo func(string)
	text []byte
	void bool
	done chan string // the lines; "" for one that does not count
}

func newLine(echo func(string)) *line { return &line{echo: echo, done: make(chan string, 1)} }

// take takes bytes of the terminal.
func (l *line) take(typed []byte) {
	for _, b := range typed {
		switch {
		case b == '\r' || b == '\n':
			l.end()
		case b == 0x03 || b == 0x04: // ^C, ^D
			l.text, l.void = append(l.text[:0], "no"...), false
			l.end()
		case b == 0x7f || b == 0x08: // backspace
			if len(l.text) > 0 && !l.void {
				l.text = l.text[:len(l.text)-1]
				l.echo("\b \b")
			}
		case b == 0x15 && !l.void: // ^U
			l.echo(strings.Repeat("\b \b", len(l.text)))
			l.text = l.text[:0]
		case b < ' ' || b > '~' || len(l.text) == maxAnswer:
			l.void = true
		case !l.void:
			l.text = append(l.text, b)
			l.echo(string(rune(b)))
		}
	}
}

// end hands a line over, unless the last one was not looked at.
func (l *line) end() {
	text := strings.ToLower(strings.TrimSpace(string(l.text)))
	if l.void {
		text = ""
	}
	l.text, l.void = l.text[:0], false
	select {
	case l.done <- text:
	default:
	}
}
