// Package backup is the file that `sluice backup` writes and `sluice restore` reads:
// every object of a server at one revision, one a line, between a line that says
// what it is and one that proves it whole. It never talks to a server.
package backup

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"sluice.dev/sluice/api"
	"sluice.dev/sluice/internal/format"
)

// Format is the one that is written.
const Format = 1

var files = format.Kind{Name: "the backup", Oldest: 1, Newest: Format}

// kind tells a backup from any other file of JSON.
const kind = "sluice-backup"

// Bounds of a file that is read.
const (
	MaxLine    = 2 << 20   // bytes of one object; the server takes less
	MaxBytes   = 512 << 20 // of the file: what the server's store can hold
	MaxObjects = 1 << 17   // of the file
)

// Head is the first line.
type Head struct {
	Format   int       `json:"format"`
	Kind     string    `json:"kind"`
	Taken    time.Time `json:"taken"`
	By       string    `json:"by"`       // version of the program that wrote it
	Revision string    `json:"revision"` // of the store, at which the objects were so
}

// tail is the last line: a file without it was cut off.
type tail struct {
	Objects *int   `json:"objects"`
	SHA256  string `json:"sha256"` // of every byte before this line
}

// Write writes a backup. What a server gives an object (its version, its times, its
// status) is left out, for another server gives its own.
func Write(to io.Writer, head Head, objects []api.Object) error {
	head.Format, head.Kind = Format, kind
	sum := sha256.New()
	buffered := bufio.NewWriter(to)
	lines := json.NewEncoder(io.MultiWriter(buffered, sum))
	lines.SetEscapeHTML(false)
	if err := lines.Encode(head); err != nil {
		return err
	}
	for i := range objects {
		if err := lines.Encode(Plain(&objects[i])); err != nil {
			return fmt.Errorf("encode %s: %w", objects[i].ID(), err)
		}
	}
	count := len(objects)
	end := tail{&count, hex.EncodeToString(sum.Sum(nil))}
	if err := lines.Encode(end); err != nil {
		return err
	}
	return buffered.Flush()
}

// Plain is an object as a backup holds it.
func Plain(o *api.Object) api.Object {
	return api.Object{
		APIVersion: o.APIVersion, Kind: o.Kind, Spec: o.Spec,
		Metadata: api.Meta{Name: o.Metadata.Name, Namespace: o.Metadata.Namespace, Labels: o.Metadata.Labels, Annotations: o.Metadata.Annotations},
	}
}

// Read reads a backup and returns its objects, each valid. name is the file's, for
// errors. Nothing of a file is returned that is not whole, was changed, or is of a
// later format.
func Read(name string, from io.Reader) (Head, []api.Object, error) {
	var head Head
	lines := bufio.NewReader(io.LimitReader(from, MaxBytes+1))
	sum, read := sha256.New(), 0
	next := func() ([]byte, error) { // a line with its end
		line, err := readLine(lines)
		if read += len(line); read > MaxBytes {
			return nil, fmt.Errorf("it is larger than %d bytes", MaxBytes)
		}
		return line, err
	}
	refused := func(line int, err error) (Head, []api.Object, error) {
		return Head{}, nil, fmt.Errorf("%s:%d: %w", name, line, err)
	}

	first, err := next()
	switch {
	case errors.Is(err, io.EOF):
		return refused(1, errors.New("it is not a backup of Sluice: it is empty or has no whole line"))
	case err != nil:
		return refused(1, err)
	}
	var is struct {
		Kind string `json:"kind"`
	}
	if json.Unmarshal(first, &is) != nil || is.Kind != kind {
		return refused(1, errors.New(`it is not a backup of Sluice: its first line is not an object whose kind is "`+kind+`"; files of rules are for sluice apply -f`))
	}
	if err := files.CheckJSON(first); err != nil {
		return refused(1, err)
	}
	if err := json.Unmarshal(first, &head); err != nil {
		return refused(1, fmt.Errorf("its first line: %w", err))
	}
	sum.Write(first)

	var objects []api.Object
	seen := map[string]int{}
	for at := 2; ; at++ {
		line, err := next()
		if errors.Is(err, io.EOF) {
			return refused(at, errors.New("it is not whole: its last line is missing; take another backup"))
		}
		if err != nil {
			return refused(at, err)
		}
		if end, ok := tailOf(line); ok {
			if _, err := next(); !errors.Is(err, io.EOF) {
				return refused(at+1, errors.New("something follows its last line"))
			}
			if got := hex.EncodeToString(sum.Sum(nil)); got != end.SHA256 || len(objects) != *end.Objects {
				return refused(at, fmt.Errorf("it was changed since it was written: %d objects with the checksum %.12s…, its last line says %d with %.12s…", len(objects), got, *end.Objects, end.SHA256))
			}
			return head, objects, api.ValidateAll(objects)
		}
		sum.Write(line)
		if len(objects) == MaxObjects {
			return refused(at, fmt.Errorf("it has more than %d objects", MaxObjects))
		}
		decoded, err := api.Decode(fmt.Sprintf("%s, object %d", name, at-1), bytes.NewReader(line))
		if err != nil {
			return refused(at, err)
		}
		if len(decoded) != 1 {
			return refused(at, fmt.Errorf("%d objects in one line, want one", len(decoded)))
		}
		id := decoded[0].ID()
		if before, twice := seen[id]; twice {
			return refused(at, fmt.Errorf("%s is in line %d too", id, before))
		}
		seen[id] = at
		objects = append(objects, decoded[0])
	}
}

// tailOf reads a last line; an object has neither of its fields.
func tailOf(line []byte) (end tail, ok bool) {
	err := json.Unmarshal(line, &end)
	return end, err == nil && end.Objects != nil && end.SHA256 != ""
}

// readLine reads a line of at most MaxLine bytes. What has no end is not a line.
func readLine(from *bufio.Reader) ([]byte, error) {
	var line []byte
	for {
		part, err := from.ReadSlice('\n')
		if line = append(line, part...); len(line) > MaxLine {
			return nil, fmt.Errorf("a line is longer than %d bytes", MaxLine)
		}
		if !errors.Is(err, bufio.ErrBufferFull) {
			return line, err
		}
	}
}
