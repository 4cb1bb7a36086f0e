// Package word gives the values of an enumeration the words with which they stand
// in JSON and in output, and reads those back. It knows no enumeration itself.
package word

import (
	"fmt"
	"slices"
	"strings"
)

// List is the words of an enumeration, by value from 0. The word "" is of a value
// that is left out.
type List []string

// Of returns the word of a value, or its number where it has none.
func (l List) Of(value uint8) string {
	if int(value) < len(l) {
		return l[value]
	}
	return fmt.Sprintf("unknown(%d)", value)
}

// Marshal returns the word of a value for encoding.TextMarshaler. It fails on one
// that has none.
func (l List) Marshal(value uint8) ([]byte, error) {
	if int(value) >= len(l) {
		return nil, fmt.Errorf("%d has no word among %s", value, l)
	}
	return []byte(l[value]), nil
}

// String lists the words.
func (l List) String() string { return strings.Trim(strings.Join(l, ", "), ", ") }

// Unmarshal reads a word of the list into the value, for
// encoding.TextUnmarshaler. what names the enumeration in the error.
func Unmarshal[T ~uint8](l List, what string, text []byte, into *T) error {
	value := slices.Index(l, string(text))
	if value < 0 {
		return fmt.Errorf("%q is not a valid %s (%s)", text, what, l)
	}
	*into = T(value)
	return nil
}
