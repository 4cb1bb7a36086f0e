// Package format says which formats of a message or file this build reads, and
// refuses others with the reason. Whatever reads what another process wrote, or
// another release left on disk, asks it first. It decodes nothing but the number,
// and touches no file.
package format

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
)

// Kind is one kind of message or file, and the formats of it that this build
// reads. What says no format is of format 1: it was written before formats were.
type Kind struct {
	Name           string // "the hello of a sandbox"
	Oldest, Newest int
	// Reader is the program that reads it, where the error may be read elsewhere;
	// "" is "this Sluice".
	Reader string
}

// Version is the member of a JSON object that says its format.
type Version struct {
	Format int `json:"format"`
}

// UnknownError says that a message or file is of a format that this build does not
// read.
type UnknownError struct {
	Kind  Kind
	Found int
}

func (e *UnknownError) Error() string {
	reads := fmt.Sprintf("format %d", e.Kind.Newest)
	if e.Kind.Oldest != e.Kind.Newest {
		reads = fmt.Sprintf("formats %d to %d", e.Kind.Oldest, e.Kind.Newest)
	}
	reader := cmp.Or(e.Kind.Reader, "this Sluice")
	remedy := "upgrade " + reader
	switch {
	case e.Found < 1:
		remedy = "it is damaged"
	case e.Found < e.Kind.Oldest:
		remedy = "upgrade the Sluice that wrote it"
	}
	return fmt.Sprintf("%s has format %d; %s reads %s: %s", e.Kind.Name, e.Found, reader, reads, remedy)
}

// Newer reports whether a later release wrote it: then it is not for this build to
// change or remove.
func (e *UnknownError) Newer() bool { return e.Found > e.Kind.Newest }

// Check refuses a format that this build does not read, with an *UnknownError.
// Absent, 0, is 1.
func (k Kind) Check(found int) error {
	if found == 0 {
		found = 1
	}
	if found < k.Oldest || found > k.Newest {
		return &UnknownError{Kind: k, Found: found}
	}
	return nil
}

// CheckJSON checks the member "format" of a JSON object, whatever else the object
// holds: a later format may hold anything. What is not a JSON object is an error.
func (k Kind) CheckJSON(b []byte) error {
	var version Version
	if err := json.Unmarshal(b, &version); err != nil {
		var syntax *json.SyntaxError
		if errors.As(err, &syntax) {
			return fmt.Errorf("%s is not valid JSON: %w", k.Name, err)
		}
		return fmt.Errorf("%s is not a valid object with a whole number as its format", k.Name)
	}
	return k.Check(version.Format)
}
