package snapshot

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"sluice.dev/sluice/internal/names"
	"sluice.dev/sluice/internal/policy"
	"sluice.dev/sluice/internal/wire"
)

// Beside a kept snapshot is a log of what changed since, so that one rule among thousands
// is written as one rule. The first line names the snapshot that it is about, by its sum;
// each further one is a change behind its own. A line without an end is of a process that
// was killed, and did not happen; a log of another snapshot is of one that was killed after
// it had written this one. While there is a log, it is the log whose time is when the snapshot
// was last known to be current: were it lost, what it withdrew would come back as if it were new.
const (
	logSuffix = ".snapshot.log"
	logWord   = "sluice-snapshot-log sha256:"
	// leastLog is how long a log becomes, in bytes, before the snapshot is written whole
	// again; a longer snapshot has a log as long as itself.
	leastLog = 1 << 20
)

// keptChange is one line of a log: what one snapshot has that the one before had not.
type keptChange struct {
	Before    string            `json:"before"` // version of the snapshot that it changes
	Version   string            `json:"version"`
	Revision  int64             `json:"revision"`
	Created   time.Time         `json:"created"`
	Gone      []string          `json:"gone,omitempty"` // rules, by ID
	Rules     []*policy.Rule    `json:"rules,omitempty"`
	Mesh      *wire.Mesh        `json:"mesh,omitempty"`
	Routes    *wire.Routes      `json:"routes,omitempty"`
	Directory *wire.Directory   `json:"directory,omitempty"`
	Left      []names.Name      `json:"left,omitempty"` // services without endpoints from now on
	Endpoints []*wire.Endpoints `json:"endpoints,omitempty"`
}

// keptState is what this process kept under one key.
type keptState struct {
	snapshot *wire.Snapshot
	sum      string // of the whole one that the log is about; "": of snapshot only the version is known
	whole    int64  // its bytes
	log      int64  // bytes of the log; 0: there is none
}

func logOf(path string) string { return strings.TrimSuffix(path, keptSuffix) + logSuffix }

// changeOf returns how one snapshot becomes another; false where that cannot be told.
func changeOf(before, after *wire.Snapshot) (*keptChange, bool) {
	if before.Version == "" || after.Version == "" {
		return nil, false
	}
	gone, rules, ok := difference(before.Policies, after.Policies)
	if !ok {
		return nil, false
	}
	slices.Sort(gone)
	change := &keptChange{
		Before: before.Version, Version: after.Version, Revision: after.Revision, Created: after.Created, Gone: gone, Rules: rules,
	}
	if after.Mesh != before.Mesh {
		change.Mesh = after.Mesh
	}
	if after.Routes != before.Routes {
		change.Routes = after.Routes
	}
	if after.Directory != before.Directory {
		change.Directory = after.Directory
	}
	left := make(map[names.Name]*wire.Endpoints, len(before.Endpoints))
	for _, of := range before.Endpoints {
		left[of.Service] = of
	}
	for _, of := range after.Endpoints {
		if left[of.Service] != of {
			change.Endpoints = append(change.Endpoints, of)
		}
		delete(left, of.Service)
	}
	for service := range left {
		change.Left = append(change.Left, service)
	}
	return change, true
}

// extend writes a change behind what is kept. It reports false where the snapshot is to be
// written whole.
func (s *Store) extend(key string, state *keptState, to *wire.Snapshot) (bool, error) {
	if state.sum == "" {
		return false, nil
	}
	change, ok := changeOf(state.snapshot, to)
	if !ok {
		return false, nil
	}
	line, err := json.Marshal(change)
	if err != nil {
		return false, err
	}
	sum := sha256.Sum256(line)
	line = slices.Concat([]byte(hex.EncodeToString(sum[:])+" "), line, []byte("\n"))
	if state.log == 0 {
		line = slices.Concat([]byte(logWord+state.sum+"\n"), line)
	}
	if state.log+int64(len(line)) > max(leastLog, state.whole) {
		return false, nil
	}
	path := s.path(key)
	if !state.isAt(path) {
		return false, nil // somebody removed it, or another process wrote it
	}
	flags := os.O_WRONLY | os.O_APPEND | unix.O_NOFOLLOW | unix.O_NONBLOCK
	if state.log == 0 {
		if err := os.Remove(logOf(path)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return false, err
		}
		flags |= os.O_CREATE | os.O_EXCL
	}
	file, err := os.OpenFile(logOf(path), flags, 0o600)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	info, err := file.Stat()
	if err == nil {
		err = oursAlone(info)
	}
	if err != nil || info.Size() != state.log {
		return false, errors.Join(err, file.Close())
	}
	_, err = file.Write(line)
	if err == nil {
		err = file.Sync()
	}
	if err = errors.Join(err, file.Close()); err != nil {
		return false, err
	}
	state.log += int64(len(line))
	state.snapshot = to
	return true, nil
}

// isAt says that the file at path is the one that the log is about.
func (s *keptState) isAt(path string) bool {
	file, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return false
	}
	defer file.Close()
	first := make([]byte, len(firstLine(s.sum)))
	info, err := file.Stat()
	if err != nil || info.Size() != s.whole {
		return false
	}
	_, err = io.ReadFull(file, first)
	return err == nil && string(first) == firstLine(s.sum)
}

// readLog reads the changes of the snapshot with this sum, and when the last was known to be
// current; none where there is no log of it.
func readLog(path, sum string) (changes []keptChange, confirmed time.Time, err error) {
	file, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, confirmed, nil
	}
	if err != nil {
		return nil, confirmed, err
	}
	defer file.Close()
	info, err := file.Stat()
	if err == nil {
		err = oursAlone(info)
	}
	if err != nil {
		return nil, confirmed, fmt.Errorf("%s: %w", path, err)
	}
	b, err := io.ReadAll(io.LimitReader(file, MaxKeptBytes+1))
	if err != nil {
		return nil, confirmed, err
	}
	if len(b) > MaxKeptBytes {
		return nil, confirmed, fmt.Errorf("%s: more than %d bytes", path, MaxKeptBytes)
	}
	changes, err = parseLog(b, sum)
	if err != nil {
		return nil, confirmed, fmt.Errorf("%s: %w", path, err)
	}
	return changes, info.ModTime(), nil
}

func parseLog(b []byte, sum string) (changes []keptChange, err error) {
	first, rest, whole := bytes.Cut(b, []byte("\n"))
	if !whole || string(first) != logWord+sum {
		return nil, nil
	}
	for number := 2; ; number++ {
		line, after, whole := bytes.Cut(rest, []byte("\n"))
		if !whole {
			return changes, nil
		}
		said, content, _ := bytes.Cut(line, []byte(" "))
		if sum := sha256.Sum256(content); hex.EncodeToString(sum[:]) != string(said) {
			return nil, fmt.Errorf("line %d: %w", number, wire.ErrHash)
		}
		var change keptChange
		if err := wire.DecodeStrict(content, &change); err != nil {
			return nil, fmt.Errorf("line %d: %w", number, err)
		}
		changes, rest = append(changes, change), after
	}
}

// replay makes the snapshot after the changes.
func replay(kept *wire.Snapshot, changes []keptChange) error {
	if len(changes) == 0 {
		return nil
	}
	rules := make(map[string]policy.Rule)
	for _, rule := range kept.Rules() {
		rules[rule.ID] = rule
	}
	if len(rules) != len(kept.Rules()) {
		return errors.New("two rules have one ID, and changes of rules follow")
	}
	endpoints := make(map[names.Name]*wire.Endpoints)
	for _, of := range kept.Endpoints {
		endpoints[of.Service] = of
	}
	for i := range changes {
		change := &changes[i]
		if change.Before != kept.Version {
			return fmt.Errorf("a change of snapshot %s follows snapshot %s", change.Before, kept.Version)
		}
		kept.Version, kept.Revision, kept.Created = change.Version, change.Revision, change.Created
		for _, id := range change.Gone {
			if _, there := rules[id]; !there {
				return fmt.Errorf("rule %s goes and is not there", id)
			}
			delete(rules, id)
		}
		for _, rule := range change.Rules {
			if rule == nil {
				return errors.New("a change has an empty rule")
			}
			if _, there := rules[rule.ID]; there {
				return fmt.Errorf("rule %s comes and is there", rule.ID)
			}
			rules[rule.ID] = *rule
		}
		if change.Mesh != nil {
			kept.Mesh = change.Mesh
		}
		if change.Routes != nil {
			kept.Routes = change.Routes
		}
		if change.Directory != nil {
			kept.Directory = change.Directory
		}
		for _, service := range change.Left {
			delete(endpoints, service)
		}
		for _, of := range change.Endpoints {
			if of == nil {
				return errors.New("a change has empty endpoints")
			}
			endpoints[of.Service] = of
		}
	}
	all := &wire.Policy{Rules: make([]policy.Rule, 0, len(rules))}
	for _, rule := range rules {
		all.Rules = append(all.Rules, rule)
	}
	slices.SortFunc(all.Rules, func(a, b policy.Rule) int { return strings.Compare(a.ID, b.ID) })
	kept.Policies, kept.Endpoints = []*wire.Policy{all}, kept.Endpoints[:0:0]
	for _, of := range endpoints {
		kept.Endpoints = append(kept.Endpoints, of)
	}
	slices.SortFunc(kept.Endpoints, func(a, b *wire.Endpoints) int { return strings.Compare(a.Service.String(), b.Service.String()) })
	return nil
}
