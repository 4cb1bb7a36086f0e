package dnsserver

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"strconv"

	"golang.org/x/sys/unix"

	"sluice.dev/sluice/internal/atomicfile"
	"sluice.dev/sluice/internal/format"
	"sluice.dev/sluice/internal/names"
)

// A table's file: fileWord, its format and a line feed; for each name its index (2 bytes), the time of its
// last use (8 bytes, Unix seconds), its class (1 byte), the length of the name
// (1 byte) and the name; the CRC-32C of all before it (4 bytes). Integers are
// big endian.
const (
	fileWord    = "sluice-names-"
	fileFormat  = 2 // 1 had the classes unruled, and spelled for all others
	recordSize  = 2 + 8 + 1 + 1
	maxFileSize = int64(len(fileWord) + maxDigits + 1 + MaxNames*(recordSize+253) + 4)
	// skipAfterLoad indexes are not given out again at once after a load: names
	// that were told after the last Save may still be held by an application.
	skipAfterLoad = 2 * NewNamesBurst
	maxDigits     = 10 // digits of a format
)

// fileMagic is the first line of a file that this build writes.
var fileMagic = fileWord + strconv.Itoa(fileFormat) + "\n"

var tableFiles = format.Kind{Name: "the table of synthetic addresses", Oldest: 1, Newest: fileFormat}

// ErrCorrupt is in the error of Load when the file is not a table of ours.
var ErrCorrupt = errors.New("not a table of synthetic addresses, or a damaged one")

// Changed reports whether the table differs from what the last Save or Load saw.
func (t *Table) Changed() bool {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.version != t.saved
}

// Save writes the table to path: mode 0600, whole or not at all.
func (t *Table) Save(path string) error {
	content, version := t.encode()
	if err := atomicfile.WriteBytes(path, 0o600, content); err != nil {
		return fmt.Errorf("save synthetic addresses: %w", err)
	}
	t.mu.Lock()
	t.saved = version
	t.mu.Unlock()
	return nil
}

func (t *Table) encode() (content []byte, version uint64) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	b := make([]byte, 0, len(fileMagic)+len(t.byName)*(recordSize+32)+4)
	b = append(b, fileMagic...)
	for _, q := range t.queue {
		for place := q.Front(); place != nil; place = place.Next() {
			e := place.Value.(*entry)
			used := e.used.Load()
			if e.pins.Load() > 0 {
				used = t.now().Unix()
			}
			b = binary.BigEndian.AppendUint16(b, uint16(e.index))
			b = binary.BigEndian.AppendUint64(b, uint64(used))
			name := e.name.String()
			b = append(b, byte(e.class), byte(len(name)))
			b = append(b, name...)
		}
	}
	return binary.BigEndian.AppendUint32(b, checksum(b)), t.version
}

func checksum(b []byte) uint32 { return crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)) }

// Load fills a new table from what Save wrote. A missing file is not an error. When
// the file cannot be used (the error then says why: ErrCorrupt, or a
// *format.UnknownError where another release wrote it) the table
// stays empty and gives out addresses from a random place on, so that one which
// an application still holds is not soon another name's.
func (t *Table) Load(path string) error {
	_ = atomicfile.Sweep(path) // of a process that was killed; what cannot be removed harms nothing
	records, err := readFile(path)
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.byName) > 0 {
		return errors.New("load synthetic addresses: the table is in use")
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		t.next = 1 + rand.IntN(MaxNames)
		return fmt.Errorf("load synthetic addresses from %s: %w", path, err)
	}
	now, last := t.now().Unix(), 0
	for _, r := range records {
		if r.class == unruled && t.queue[unruled].Len() >= MaxUnruled || r.class != spelled && t.unspelled() >= MaxUnspelled {
			continue
		}
		t.put(r.index, r.name, r.class, now)
		t.slot(r.index).used.Store(min(r.used, now)) // a clock that was ahead must not keep it for ever
		last = max(last, r.index)
	}
	t.next = (last+skipAfterLoad)%MaxNames + 1
	t.saved = t.version
	return nil
}

type record struct {
	index int
	used  int64
	class class
	name  names.Name
}

func readFile(path string) ([]record, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() || info.Size() > maxFileSize {
		return nil, ErrCorrupt
	}
	content, err := io.ReadAll(io.LimitReader(bufio.NewReader(f), maxFileSize+1))
	if err != nil {
		return nil, err
	}
	return decode(content)
}

func decode(content []byte) ([]record, error) {
	if said, ours := bytes.CutPrefix(content[:min(len(content), len(fileWord)+maxDigits+1)], []byte(fileWord)); ours {
		number, _, whole := bytes.Cut(said, []byte("\n"))
		if version, err := strconv.Atoi(string(number)); err == nil && whole && version > 0 {
			if err := tableFiles.Check(version); err != nil {
				return nil, err
			}
		}
	}
	head, _, whole := bytes.Cut(content[:min(len(content), len(fileWord)+maxDigits+1)], []byte("\n"))
	if len(content) < len(fileMagic)+4 || int64(len(content)) > maxFileSize || !whole || !bytes.HasPrefix(head, []byte(fileWord)) {
		return nil, ErrCorrupt
	}
	if number := string(head[len(fileWord):]); number != "1" && number != strconv.Itoa(fileFormat) {
		return nil, ErrCorrupt
	}
	body, sum := content[:len(content)-4], content[len(content)-4:]
	if binary.BigEndian.Uint32(sum) != checksum(body) {
		return nil, ErrCorrupt
	}
	var (
		records []record
		indexes = make(map[int]bool)
		known   = make(map[names.Name]bool)
	)
	for b := body[len(head)+1:]; len(b) > 0; {
		if len(b) < recordSize || len(b) < recordSize+int(b[recordSize-1]) {
			return nil, ErrCorrupt
		}
		end := recordSize + int(b[recordSize-1])
		r := record{
			index: int(binary.BigEndian.Uint16(b)),
			used:  int64(binary.BigEndian.Uint64(b[2:])),
			class: class(b[10]),
		}
		var err error
		if r.name, err = names.Parse(string(b[recordSize:end])); err != nil {
			return nil, ErrCorrupt
		}
		if r.index < 1 || r.index > MaxNames || r.class >= classes || indexes[r.index] || known[r.name] {
			return nil, ErrCorrupt
		}
		indexes[r.index], known[r.name] = true, true
		records = append(records, r)
		b = b[end:]
	}
	return records, nil
}
