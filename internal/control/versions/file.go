package versions

import (
	"bufio"
	"bytes"
	"compress/flate"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"slices"
	"time"

	"sluice.dev/sluice/internal/atomicfile"
	"sluice.dev/sluice/internal/format"
	"sluice.dev/sluice/internal/wire"
)

// Format is the format of the file, and the only one that this build reads.
const Format = 1

var files = format.Kind{Name: "the file of versions", Oldest: Format, Newest: Format}

// maxLine bounds a line of the file, in bytes: a part has at most wire.MaxPartBytes, of which
// what cannot be compressed takes a third more in base64.
const maxLine = wire.MaxPartBytes/3*4 + 1<<20

// maxFile bounds what is read of a file: it is rewritten before it is larger.
const maxFile = 4*MaxBytes + maxLine

// slack is how many bytes of the file may be worth nothing before it is rewritten.
const slack = 1 << 20

// line is one line of the file. One of its members is set.
type line struct {
	Part    *partLine            `json:"part,omitempty"`
	Version *versionLine         `json:"version,omitempty"`
	Used    map[string]time.Time `json:"used,omitempty"` // versions, when they last were in force
	Ran     *ranLine             `json:"ran,omitempty"`
}

type partLine struct {
	Name   string    `json:"name"`
	Hash   wire.Hash `json:"hash"`
	Packed []byte    `json:"packed"` // of the part's JSON, by flate
}

// versionLine is a version, as what differs from the one whose line stands before it.
type versionLine struct {
	Name     string               `json:"name"`
	Revision int64                `json:"revision,omitempty"`
	Created  time.Time            `json:"created"`
	InForce  time.Time            `json:"inForce"`
	Base     string               `json:"base,omitempty"` // "": of none
	Set      map[string]wire.Hash `json:"set,omitempty"`
	Gone     []string             `json:"gone,omitempty"`
}

type ranLine struct {
	wire.Workload
	Seen time.Time `json:"seen"`
}

// begin reads the file, and makes it ours.
func (s *Store) begin() {
	s.writing.Lock()
	defer s.writing.Unlock()
	s.begun = true
	if s.config.Path == "" {
		return
	}
	s.mu.Lock()
	err := s.read()
	s.mu.Unlock()
	if err != nil {
		var unknown *format.UnknownError
		if errors.As(err, &unknown) && unknown.Newer() {
			s.left = true
			s.config.Log.Warn("the file of versions is left as it is: what is kept ends with this process", "file", s.config.Path, "error", err)
			return
		}
		s.config.Log.Warn("the file of versions cannot be read, and another begins", "file", s.config.Path, "error", err)
	}
	s.prune(s.config.Now(), true) // which writes it anew
}

// read reads the file; what of it makes no sense is passed over, and said. mu is held.
func (s *Store) read() error {
	file, err := os.Open(s.config.Path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer file.Close()
	scanner := bufio.NewScanner(io.LimitReader(file, maxFile))
	scanner.Buffer(nil, maxLine)
	if !scanner.Scan() {
		return scanner.Err()
	}
	if err := files.CheckJSON(scanner.Bytes()); err != nil {
		return err
	}
	unread := 0
	loose := make(map[wire.Hash]*part) // of which no version was read yet
	var before *version
	for scanner.Scan() {
		var l line
		if err := wire.DecodeStrict(scanner.Bytes(), &l); err != nil {
			unread++
			continue
		}
		switch {
		case l.Part != nil:
			loose[l.Part.Hash] = &part{name: l.Part.Name, hash: l.Part.Hash, packed: l.Part.Packed}
		case l.Version != nil:
			v := s.rebuild(l.Version, before, loose)
			if v == nil {
				unread++
				continue // the next says how it differs from the last that could be read, or is unread too
			}
			before = v
		case l.Ran != nil:
			s.ran[l.Ran.Instance] = &ran{l.Ran.Workload, l.Ran.Seen}
		default:
			for name, at := range l.Used {
				if v := s.versions[name]; v != nil {
					v.inForce = later(v.inForce, at)
				}
			}
		}
	}
	if scanner.Err() != nil {
		unread++
	}
	if unread > 0 {
		s.config.Log.Warn("lines of the file of versions cannot be read: they are dropped", "file", s.config.Path, "lines", unread)
	}
	return nil
}

// rebuild makes a version of its line; nil where a part or the version before is missing.
func (s *Store) rebuild(l *versionLine, before *version, loose map[wire.Hash]*part) *version {
	hashes := make(map[string]wire.Hash)
	if l.Base != "" {
		if before == nil || before.name != l.Base {
			return nil
		}
		for _, p := range before.parts {
			hashes[p.name] = p.hash
		}
	}
	for _, name := range l.Gone {
		delete(hashes, name)
	}
	maps.Copy(hashes, l.Set)
	if l.Name != wire.VersionOf(hashes) {
		return nil
	}
	if again := s.versions[l.Name]; again != nil { // it was forgotten and came again
		again.inForce = later(again.inForce, l.InForce)
		return again
	}
	v := &version{name: l.Name, revision: l.Revision, created: l.Created, inForce: l.InForce}
	var parts []*part
	for _, name := range slices.Sorted(maps.Keys(hashes)) {
		hash := hashes[name]
		held := s.parts[hash]
		if held == nil {
			held = loose[hash]
		}
		if held == nil {
			return nil
		}
		if held.name != name {
			held = &part{name: name, hash: hash, packed: held.packed}
		}
		parts = append(parts, held)
	}
	for _, p := range parts {
		s.hold(v, p)
	}
	s.versions[v.name] = v
	return v
}

// append writes a version and its new parts, where there is one. writing is held.
func (s *Store) append(v *version, fresh []*part) {
	if s.file == nil || v == nil {
		return
	}
	var b bytes.Buffer
	for _, p := range fresh {
		encode(&b, &line{Part: &partLine{p.name, p.hash, p.packed}})
	}
	encode(&b, &line{Version: differing(v, s.last)})
	s.last = v
	s.write(b.Bytes(), true)
}

// appendRan writes what workloads are. writing is held.
func (s *Store) appendRan(news []*ran) {
	if s.file == nil {
		return
	}
	var b bytes.Buffer
	for _, r := range news {
		encode(&b, &line{Ran: &ranLine{r.workload, r.seen}})
	}
	s.write(b.Bytes(), false)
}

// noteUse writes what was in force now, once an hour for each version. writing is held.
func (s *Store) noteUse(used []string, now time.Time) {
	if s.file == nil || len(used) == 0 {
		return
	}
	if now.Sub(s.usedAt) < time.Hour {
		return
	}
	s.usedAt = now
	l := line{Used: make(map[string]time.Time, len(used))}
	for _, name := range used {
		l.Used[name] = now
	}
	var b bytes.Buffer
	encode(&b, &l)
	s.write(b.Bytes(), false)
}

// write writes behind the file. lasting says that a rewrite would leave it: what workloads ran
// and what was in force comes again and again, and each line takes the place of one before it.
// writing is held.
func (s *Store) write(b []byte, lasting bool) {
	if s.stale || len(b) == 0 {
		return // a part of it is missing: what is kept is written with the next rewrite
	}
	n, err := s.file.Write(b)
	s.written += int64(n)
	if lasting {
		s.live += int64(n)
	}
	if err != nil {
		s.config.Log.Warn("a version is not in the file of versions: it is written anew later", "file", s.config.Path, "error", err)
		s.stale = true
	}
}

// tidy writes the file anew where it lacks something, or holds much that was forgotten.
// writing is held.
func (s *Store) tidy(gone, again bool) {
	if s.config.Path == "" || s.left {
		return
	}
	if gone {
		s.mu.Lock()
		s.live = int64(s.bytes) * 3 / 2
		s.mu.Unlock()
	}
	switch waste := s.written - s.live; {
	case s.file == nil || s.stale:
		if again {
			s.rewrite()
		}
	case waste > s.live+slack, waste > slack && s.written > s.limits.file:
		s.rewrite()
	}
}

// rewrite writes the file anew, with what is kept. writing is held.
func (s *Store) rewrite() {
	s.mu.Lock()
	order := slices.SortedFunc(maps.Values(s.versions), func(a, b *version) int { return a.created.Compare(b.created) })
	lines := make([]line, 0, len(s.ran)+1)
	used := make(map[string]time.Time, len(order))
	for _, v := range order {
		used[v.name] = v.inForce
	}
	for _, r := range s.ran {
		lines = append(lines, line{Ran: &ranLine{r.workload, r.seen}})
	}
	s.mu.Unlock()
	if s.file != nil {
		_ = s.file.Close() // what it holds is written again
		s.file = nil
	}
	var size int64
	var last *version
	err := atomicfile.Write(s.config.Path, 0o600, func(w io.Writer) error {
		out := bufio.NewWriter(w)
		counted := &counter{to: out}
		encode(counted, &format.Version{Format: Format})
		there := make(map[wire.Hash]bool)
		for _, v := range order {
			for _, p := range v.parts {
				if !there[p.hash] {
					there[p.hash] = true
					encode(counted, &line{Part: &partLine{p.name, p.hash, p.packed}})
				}
			}
			encode(counted, &line{Version: differing(v, last)})
			last = v
		}
		for i := range lines {
			encode(counted, &lines[i])
		}
		if len(used) > 0 {
			encode(counted, &line{Used: used})
		}
		size = counted.n
		return out.Flush() // it returns the first error of all writes
	})
	if err == nil {
		s.file, err = os.OpenFile(s.config.Path, os.O_WRONLY|os.O_APPEND, 0)
	}
	if err != nil {
		if !s.stale {
			s.config.Log.Warn("the file of versions cannot be written: what is kept ends with this process until it can", "file", s.config.Path, "error", err)
		}
		s.stale = true
		return
	}
	s.written, s.live, s.last, s.stale = size, size, last, false
}

// Close writes what is kept; it is for after Run.
func (s *Store) Close() error {
	s.writing.Lock()
	begun := s.begun
	s.writing.Unlock()
	if !begun {
		return nil // what a former process kept was not read
	}
	s.take()
	s.writing.Lock()
	defer s.writing.Unlock()
	if s.config.Path == "" || s.left {
		return nil
	}
	s.rewrite()
	if s.file == nil {
		return fmt.Errorf("the versions of the last %d hours are not kept: see the log", int(KeepFor.Hours()))
	}
	err := s.file.Close()
	s.file, s.left = nil, true
	return err
}

// differing is the line of a version behind that of last.
func differing(v, last *version) *versionLine {
	l := &versionLine{Name: v.name, Revision: v.revision, Created: v.created, InForce: v.inForce, Set: make(map[string]wire.Hash)}
	var before []*part
	if last != nil {
		l.Base, before = last.name, last.parts
	}
	for _, p := range v.parts { // both are sorted by name
		for len(before) > 0 && before[0].name < p.name {
			l.Gone, before = append(l.Gone, before[0].name), before[1:]
		}
		if len(before) > 0 && before[0].name == p.name {
			if before[0].hash != p.hash {
				l.Set[p.name] = p.hash
			}
			before = before[1:]
			continue
		}
		l.Set[p.name] = p.hash
	}
	for _, p := range before {
		l.Gone = append(l.Gone, p.name)
	}
	return l
}

// encode writes a value as a line. What it writes to keeps its first error.
func encode(w io.Writer, value any) {
	if b, err := json.Marshal(value); err == nil { // all have a JSON but times far outside the calendar
		_, _ = w.Write(append(b, '\n'))
	}
}

// counter counts what is written.
type counter struct {
	to io.Writer
	n  int64
}

func (c *counter) Write(b []byte) (int, error) {
	c.n += int64(len(b))
	return c.to.Write(b)
}

// pack compresses a part. writing is held.
func (s *Store) pack(b []byte) ([]byte, error) {
	var packed bytes.Buffer
	if s.packer == nil {
		var err error
		if s.packer, err = flate.NewWriter(&packed, flate.BestSpeed); err != nil {
			return nil, err
		}
	}
	s.packer.Reset(&packed)
	_, err := s.packer.Write(b)
	if err := errors.Join(err, s.packer.Close()); err != nil {
		return nil, err
	}
	return slices.Clone(packed.Bytes()), nil
}

func unpack(packed []byte) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(flate.NewReader(bytes.NewReader(packed)), wire.MaxPartBytes+1))
	if err == nil && len(b) > wire.MaxPartBytes {
		err = errors.New("it is larger than a part may be")
	}
	return b, err
}
