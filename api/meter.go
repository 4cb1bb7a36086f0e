package api

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"reflect"

	"go.yaml.in/yaml/v4"
)

// Bounds of what the YAML parser is given to read, with maxValues, so that a file costs
// at most 64 MiB: the parser makes some 240 bytes of a character or two of structure,
// and far more of a comment or a document.
const (
	maxTokens = 16_000 // that the parser holds at once

	weightOfPair      = 2
	weightOfDocument  = 8
	weightOfComment   = 5
	weightOfDirective = 1000 // each is compared with each before it
)

// errTooMuch ends what the parser reads; meter.fault says why.
var errTooMuch = errors.New("too much to read")

// meter hands a file to the parser piece by piece, weighs what could become values
// in it on the way, and ends the reading where that passes a bound. It never
// underrates: inside of strings and comments it counts the same marks.
type meter struct {
	rest   []byte
	line   int // of what was handed out last
	weight int
	held   func() int // tokens in the parser
	fault  string

	last, lastButOne byte // before the byte that is weighed
	dashes           byte // that end there; 3 is 3 or more
	beforeDashes     byte
	commentLine      bool // this line is nothing but a comment
	commentBefore    bool // so is the one before
	blankSoFar       bool // this line holds blanks alone
}

func newMeter(data []byte) *meter {
	return &meter{rest: data, line: 1, last: '\n', blankSoFar: true}
}

// Read implements io.Reader for the parser, which asks for 512 bytes at a time.
func (m *meter) Read(into []byte) (int, error) {
	if len(m.rest) == 0 {
		return 0, io.EOF
	}
	if m.held() > maxTokens {
		m.fault = fmt.Sprintf("more than %d marks and values in one [ ] or { }, or on one line: write them in block style, with a line for each, or the file as JSON", maxTokens)
		return 0, errTooMuch
	}
	n := copy(into, m.rest)
	for _, b := range m.rest[:n] {
		if m.weigh(b); m.weight > maxValues {
			m.fault = "too many values, documents and comments for one file: split it"
			return 0, errTooMuch
		}
	}
	m.rest = m.rest[n:]
	return n, nil
}

// held returns for how many tokens the parser has made place that it has not yet used.
// It keeps all of them from where a mapping's key may have begun, which go.yaml.in/yaml/v4
// 4.0.0 lets happen for a whole file: its forerunners gave up after 1,024 bytes. Nothing
// but its own queue tells. A release that names the queue otherwise reads no file.
func held(loader *yaml.Loader) int {
	value := reflect.ValueOf(loader)
	for _, name := range []string{"loader", "composer", "Parser", "tokens"} {
		for value.Kind() == reflect.Pointer {
			value = value.Elem()
		}
		if value.Kind() != reflect.Struct {
			return math.MaxInt
		}
		value = value.FieldByName(name)
	}
	if value.Kind() != reflect.Slice {
		return math.MaxInt
	}
	return value.Cap()
}

// weigh counts one byte.
func (m *meter) weigh(b byte) {
	switch b {
	case '[', '{':
		m.weight++
	case ',', '?':
		m.weight += weightOfPair
	case '#':
		if !plain(m.last) && (!m.blankSoFar || !m.commentBefore) {
			m.weight += weightOfComment
		}
		m.commentLine = m.commentLine || m.blankSoFar
	case '%':
		if m.blankSoFar {
			m.weight += weightOfDirective
		}
	}
	if m.last == ':' && (!plain(b) || !plain(m.lastButOne)) {
		m.weight += weightOfPair
	}
	m.dash(b)
	switch {
	case b == '\n':
		m.line++
		m.endLine()
	case b == '\r', b >= 0x80: // some of these end lines too
		m.endLine()
	case b != ' ' && b != '\t':
		m.blankSoFar = false
	}
	m.lastButOne, m.last = m.last, b
}

// endLine counts the end of a line.
func (m *meter) endLine() {
	m.commentBefore = m.commentLine
	m.commentLine, m.blankSoFar = false, true
}

// dash weighs dashes by what stands beside them: an entry of a list, or the mark
// between two documents.
func (m *meter) dash(b byte) {
	if b == '-' {
		if m.dashes == 0 {
			m.beforeDashes = m.last
		}
		m.dashes = min(m.dashes+1, 3)
		return
	}
	if !plain(b) && !plain(m.beforeDashes) {
		switch m.dashes {
		case 1:
			m.weight++
		case 3:
			m.weight += weightOfDocument
		}
	}
	m.dashes = 0
}

// MaxObjectWeight is how much structure one object that is written to the rule API may
// have: it is one of the many of a file, and is read by other parsers than Decode's.
const MaxObjectWeight = 48_000

// ObjectWeight returns what is compared with MaxObjectWeight: about how many values are
// in the text of an object, YAML or JSON, and never less.
func ObjectWeight(data []byte) int {
	m := newMeter(data)
	for _, b := range data {
		m.weigh(b)
	}
	return m.weight
}

// plain reports whether a byte can be nothing but a part of a plain scalar: neither
// a mark nor a blank, nor a part of one.
func plain(b byte) bool {
	return b > ' ' && b < 0x7f && !bytes.ContainsRune([]byte(`,[]{}"'#:`), rune(b))
}
