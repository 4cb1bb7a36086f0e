package history

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"

	"sluice.dev/sluice/internal/format"
)

// maxFile bounds what is read of a file, in bytes: rewrite keeps it below.
const maxFile = 2*MaxBytes + 4<<20

// read reads the file. Its last line may be cut, where the process was killed; any other
// that cannot be read is passed over and said. It sets closed where the file is not for
// this build to write.
func (b *Book) read() (entries []Entry) {
	file, err := os.Open(b.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		b.log.Warn("the history of changes cannot be read, and none is kept", "error", err)
		b.closed = true
		return nil
	}
	defer file.Close()
	scanner := bufio.NewScanner(io.LimitReader(file, maxFile))
	scanner.Buffer(nil, 2*MaxEntryBytes)
	if !scanner.Scan() {
		if scanner.Err() != nil {
			b.keepBeside(scanner.Err())
		}
		return nil
	}
	if err := files.CheckJSON(scanner.Bytes()); err != nil {
		var unknown *format.UnknownError
		if errors.As(err, &unknown) && unknown.Newer() {
			b.log.Warn("the history of changes is left as it is, and none is kept", "file", b.path, "error", err)
			b.closed = true
			return nil
		}
		b.keepBeside(err)
		return nil
	}
	unread := 0
	for scanner.Scan() {
		entry, err := parse(scanner.Bytes())
		if err != nil {
			unread++
			continue
		}
		entries = append(entries, entry)
	}
	if scanner.Err() != nil {
		unread++
	}
	if unread > 0 {
		b.log.Warn("lines of the history of changes cannot be read: they are dropped", "file", b.path, "lines", unread)
	}
	return entries
}

// parse reads one line.
func parse(text []byte) (Entry, error) {
	if len(text) >= 2*MaxEntryBytes {
		return Entry{}, errors.New("the line is too long")
	}
	var entry Entry
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&entry); err != nil {
		return Entry{}, err
	}
	if decoder.More() || entry.Resource == "" || entry.Name == "" || entry.Verb == "" {
		return Entry{}, errors.New("the line is not one change")
	}
	return entry, nil
}

// keepBeside moves a file that cannot be read out of the way.
func (b *Book) keepBeside(why error) {
	beside := b.path + ".unread"
	b.log.Warn("the history of changes cannot be read: it is kept beside, and another begins", "file", beside, "error", why)
	if err := os.Rename(b.path, beside); err != nil {
		b.log.Warn("the history of changes is not kept", "error", err)
		b.closed = true
	}
}

// append writes a line behind the file. It does not wait for the disk: the file outlives
// the process; of a machine that lost power it may lack the last changes, which the next
// one of the same object then finds (see Found). The lock is held.
func (b *Book) append(raw []byte) {
	if b.file == nil {
		return
	}
	n, err := b.file.Write(raw)
	b.written += n
	if err != nil {
		b.log.Warn("a change is not in the history on disk", "file", b.path, "error", err)
		if n > 0 { // a line that was cut would take the next one with it
			b.rewrite()
		}
	}
}

// rewrite replaces the file by what is kept, whole or not at all. The lock is held, or
// the book is not in use yet.
func (b *Book) rewrite() {
	next := b.path + ".new"
	file, err := os.OpenFile(next, os.O_WRONLY|os.O_CREATE|os.O_TRUNC|os.O_APPEND, 0o600)
	if err == nil {
		w := bufio.NewWriter(file)
		head, _ := json.Marshal(format.Version{Format: Format}) // a number
		_, _ = w.Write(append(head, '\n'))                      // Flush returns the error
		for _, l := range b.ordered() {
			_, _ = w.Write(l.raw)
		}
		if err = w.Flush(); err == nil {
			err = os.Rename(next, b.path)
		}
		if err != nil {
			_ = file.Close()
			_ = os.Remove(next)
		}
	}
	if err != nil {
		b.log.Warn("the history of changes cannot be written", "file", b.path, "error", err)
		return
	}
	if b.file != nil {
		_ = b.file.Close()
	}
	b.file = file
	b.written = b.bytes
}
