package record

import (
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// column is one column of the text form: a heading, and a width that longer values exceed
// rather than lose a character where the line has room for them.
type column struct {
	heading string
	width   int
	right   bool
	spare   bool // left out where there is no room for all
	value   func(b []byte, f *Record) []byte
}

// The columns of `sluice flows`. The widths are fixed, because a line is printed
// before the next flow is known.
var columns = []column{
	{"TIME", 12, false, false, func(b []byte, f *Record) []byte { return f.Start.AppendFormat(b, "15:04:05.000") }},
	{"WORKLOAD", 18, false, false, func(b []byte, f *Record) []byte { return appendPlain(b, f.Workload) }},
	{"DESTINATION", 34, false, false, appendDestination},
	{"VERDICT", 7, false, false, func(b []byte, f *Record) []byte { return appendPlain(b, f.Verdict.String()) }},
	{"HOW", 11, false, true, func(b []byte, f *Record) []byte { return appendPlain(b, f.Treatment.String()) }},
	{"STATUS", 6, true, true, appendStatus},
	{"SENT", 8, true, true, func(b []byte, f *Record) []byte { return appendBytes(b, f.Sent) }},
	{"RECEIVED", 8, true, true, func(b []byte, f *Record) []byte { return appendBytes(b, f.Received) }},
	{"DURATION", 9, true, true, func(b []byte, f *Record) []byte { return appendDuration(b, f.Duration) }},
	{"ID", 16, false, false, func(b []byte, f *Record) []byte { return f.ID.Append(b) }},
	{"WHY", 0, false, false, AppendWhy},
}

// request is the column that the wide form has before the last.
var request = column{"REQUEST", 28, false, false, func(b []byte, f *Record) []byte {
	if f.Method == "" {
		return b
	}
	b = append(appendPlain(b, f.Method), ' ')
	return appendEscaped(b, f.Path, false)
}}

// Layout is the columns of a list of flows.
type Layout struct {
	columns []column
	width   int // of a terminal, which no line exceeds; 0: of nothing
}

// Plain is the columns that a list of flows has anywhere.
func Plain() Layout { return Layout{columns: columns} }

// Wide is Plain with the method and the path of each request.
func Wide() Layout {
	return Layout{columns: slices.Insert(slices.Clone(columns), len(columns)-1, request)}
}

// What a line keeps of a terminal for its last column, and the widths of columns where not
// even those that matter most fit. Narrower than minWidth no line gets.
const (
	lastWidth = 30
	minWidth  = 60
)

// narrow are the widths of columns on a terminal that has no room for more, and in which
// order columns are left out where these do not fit either.
var (
	narrow  = map[string]int{"TIME": 8, "WORKLOAD": 16, "DESTINATION": 24}
	leftOut = []string{"TIME", "WORKLOAD"}
)

// Within is the columns for a terminal of so many characters: those that matter least are
// left out, from the right, and the others get narrower. A line that is longer still is cut,
// column by column: Wide has all of it.
func (l Layout) Within(width int) Layout {
	width = max(width, minWidth)
	fits := Layout{slices.Clone(l.columns), width}
	for i := len(fits.columns) - 1; i >= 0 && fits.sum() > width-lastWidth; i-- {
		if fits.columns[i].spare {
			fits.columns = slices.Delete(fits.columns, i, i+1)
		}
	}
	if fits.sum() <= width-lastWidth {
		return fits
	}
	const least = len("no-rule")
	for i := range fits.columns {
		c := &fits.columns[i]
		if less, found := narrow[c.heading]; found && fits.sum() > width-lastWidth {
			c.width = max(less, c.width-(fits.sum()-(width-lastWidth)))
		}
		if c.heading == "TIME" && c.width < len("15:04:05.000") {
			c.width, c.value = len("15:04:05"), func(b []byte, f *Record) []byte { return f.Start.AppendFormat(b, "15:04:05") }
		}
	}
	for _, heading := range leftOut {
		if fits.sum() > width-least {
			fits.columns = slices.DeleteFunc(fits.columns, func(c column) bool { return c.heading == heading })
		}
	}
	return fits
}

func (l Layout) sum() (sum int) {
	for _, c := range l.columns[:len(l.columns)-1] {
		sum += c.width + gap
	}
	return sum
}

// AppendHeader appends the line of headings, with its newline, to b.
func (l Layout) AppendHeader(b []byte) []byte {
	return l.appendLine(b, func(b []byte, c *column) []byte { return append(b, c.heading...) })
}

// AppendText appends f as one line of text for people, with its newline, to b.
// What a stranger chose is escaped, so that it cannot steer a terminal or forge
// a line or a column.
func (l Layout) AppendText(b []byte, f *Record) []byte {
	return l.appendLine(b, func(b []byte, c *column) []byte {
		start := len(b)
		if b = c.value(b, f); len(b) == start {
			b = append(b, '-')
		}
		return b
	})
}

// appendLine appends a line of a value for each column, cut where it exceeds the terminal.
func (l Layout) appendLine(b []byte, value func(b []byte, c *column) []byte) []byte {
	start := len(b)
	for _, cut := range []bool{false, true} {
		b = b[:start]
		for i := range l.columns {
			c := &l.columns[i]
			limit := 0
			if cut {
				if limit = c.width; limit == 0 {
					limit = max(1, l.width-gap-utf8.RuneCount(b[start:]))
				}
			}
			b = appendColumn(b, i, c, limit, value)
		}
		if l.width == 0 || utf8.RuneCount(b[start:]) <= l.width {
			break
		}
	}
	return append(b, '\n')
}

// AppendHeader appends that of Plain.
func AppendHeader(b []byte) []byte { return Plain().AppendHeader(b) }

// AppendText appends that of Plain.
func AppendText(b []byte, f *Record) []byte { return Plain().AppendText(b, f) }

// AppendJSON appends f as one line of JSON, with its newline, to b.
func AppendJSON(b []byte, f *Record) []byte {
	line, err := json.Marshal(f)
	if err != nil {
		// A Flow holds strings, numbers and a time: only a year past 9999 fails.
		line = strconv.AppendQuote([]byte(`{"error":`), err.Error())
		line = append(line, '}')
	}
	return append(append(b, line...), '\n')
}

// gap is how many spaces are between columns.
const gap = 2

// appendColumn appends the value of a column, of limit characters at most (0: all).
func appendColumn(b []byte, index int, c *column, limit int, value func([]byte, *column) []byte) []byte {
	if index > 0 {
		b = append(b, "  "[:gap]...)
	}
	start := len(b)
	b = value(b, c)
	if limit > 0 {
		b = append(b[:start], shortened(b[start:], limit)...)
	}
	pad := c.width - utf8.RuneCount(b[start:])
	for range max(pad, 0) {
		b = append(b, ' ')
	}
	if c.right && pad > 0 {
		copy(b[start+pad:], b[start:len(b)-pad])
		for i := range pad {
			b[start+i] = ' '
		}
	}
	return b
}

// shortened is a text of limit characters at most, with an ellipsis where some are missing.
func shortened(text []byte, limit int) []byte {
	if utf8.RuneCount(text) <= limit {
		return text
	}
	runes := []rune(string(text))
	return append([]byte(string(runes[:limit-1])), "…"...)
}

// AppendDestination appends where a record went, with its port, as one printable word.
func AppendDestination(b []byte, f *Record) []byte { return appendDestination(b, f) }

// appendDestination is where the workload wanted to go: what it called the place
// itself (Host, then SNI), else what it dialled.
func appendDestination(b []byte, f *Record) []byte {
	name := f.SNI
	if name == "" {
		name = f.Dialled
	}
	if f.Host != "" {
		name = f.Host
	}
	if f.Port == 0 || endsInPort(name) {
		return appendPlain(b, name)
	}
	if strings.Contains(name, ":") && name[0] != '[' {
		b = append(b, '[')
		b = append(appendPlain(b, name), ']')
	} else {
		b = appendPlain(b, name)
	}
	b = append(b, ':')
	return strconv.AppendUint(b, uint64(f.Port), 10)
}

// endsInPort reports whether an authority already tells its port: "name:443",
// "[::1]:443", but not "::1".
func endsInPort(s string) bool {
	i := len(s) - 1
	for i >= 0 && s[i] >= '0' && s[i] <= '9' {
		i--
	}
	if i < 0 || i == len(s)-1 || s[i] != ':' {
		return false
	}
	for j := range i {
		if s[j] == ':' {
			return s[i-1] == ']'
		}
	}
	return true
}

func appendStatus(b []byte, f *Record) []byte {
	if f.Status == 0 {
		return b
	}
	return strconv.AppendInt(b, int64(f.Status), 10)
}

// AppendStep appends f as one step of a trace: who asked whom for what, and what came of it
// and when, since the trace began.
func AppendStep(b []byte, f *Record, began time.Time) []byte {
	b = append(appendPlain(b, f.Workload), " -> "...)
	b = appendDestination(b, f)
	if f.Method != "" {
		b = request.value(append(b, "  "...), f)
	}
	b = append(b, "  "...)
	b = appendPlain(b, f.Verdict.String())
	if f.Status != 0 {
		b = appendStatus(append(b, ' '), f)
	}
	b = append(b, "  at "...)
	b = appendDuration(b, max(0, f.Start.Sub(began)))
	b = append(b, " for "...)
	b = appendDuration(b, f.Duration)
	b = f.ID.Append(append(b, "  "...))
	if f.Reason != "" {
		b = AppendWhy(append(b, "  "...), f)
	}
	return b
}

// AppendWhy appends the reason of a denial or failure, else the rule that allowed, and the
// number of attempts where there were several.
func AppendWhy(b []byte, f *Record) []byte {
	if f.Attempts > 1 {
		b = appendWhy(b, f)
		b = append(b, " ("...)
		b = strconv.AppendInt(b, int64(f.Attempts), 10)
		return append(b, " attempts)"...)
	}
	return appendWhy(b, f)
}

func appendWhy(b []byte, f *Record) []byte {
	switch {
	case f.Reason != "" && f.Detail != "":
		b = appendPlain(b, string(f.Reason))
		b = append(b, ": "...)
		return appendEscaped(b, f.Detail, false)
	case f.Reason != "":
		return appendPlain(b, string(f.Reason))
	default:
		return appendPlain(b, f.Rule)
	}
}

// appendBytes appends a size in bytes, with a unit of 1,000 above 9,999.
func appendBytes(b []byte, n int64) []byte {
	if n < 10_000 {
		return strconv.AppendInt(b, n, 10)
	}
	value, units := float64(n), "kMGTPE"
	for i := range len(units) {
		value /= 1000
		if value < 1000 || i == len(units)-1 {
			b = strconv.AppendFloat(b, value, 'f', 1, 64)
			return append(b, units[i])
		}
	}
	return b
}

func appendDuration(b []byte, d time.Duration) []byte {
	switch {
	case d < time.Millisecond:
		d = d.Round(time.Microsecond)
	case d < time.Second:
		d = d.Round(100 * time.Microsecond)
	case d < time.Hour:
		d = d.Round(100 * time.Millisecond)
	default:
		d = d.Round(time.Second)
	}
	return append(b, d.String()...)
}

// AppendWord appends a name that a stranger may have chosen as one printable word of at most
// MaxText bytes.
func AppendWord(b []byte, s string) []byte { return appendPlain(b, s) }

// AppendSize appends a number of bytes, with a unit.
func AppendSize(b []byte, n int64) []byte { return appendBytes(b, n) }

// appendPlain appends s as one word: escaped, without spaces.
func appendPlain(b []byte, s string) []byte { return appendEscaped(b, s, true) }

// appendEscaped appends s with everything but printable characters, and with
// oneWord spaces too, written as \xNN or \uNNNN. It bounds s by MaxText.
func appendEscaped(b []byte, s string, oneWord bool) []byte {
	s = Text(s)
	for i := 0; i < len(s); {
		r, size := utf8.DecodeRuneInString(s[i:])
		switch {
		case r == utf8.RuneError && size == 1:
			b = append(b, `\x`...)
			b = append(b, "0123456789abcdef"[s[i]>>4], "0123456789abcdef"[s[i]&15])
		case r == ' ' && oneWord:
			b = append(b, `\x20`...)
		case r == ' ' || unicode.IsPrint(r):
			b = append(b, s[i:i+size]...)
		default:
			quoted := strconv.AppendQuoteRuneToASCII(nil, r)
			b = append(b, quoted[1:len(quoted)-1]...)
		}
		i += size
	}
	return b
}
