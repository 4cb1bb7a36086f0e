package wire

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"maps"
	"slices"
	"time"
)

// Index names every part of one workload's snapshot by its content. A proxy
// swaps only when it holds all of them, and acknowledges Version.
type Index struct {
	Version  string          `json:"version"`  // hex, over the names and hashes in Parts
	Revision int64           `json:"revision"` // of the store
	Created  time.Time       `json:"created"`
	Instance string          `json:"instance"` // the name that the server gave the workload
	Parts    map[string]Hash `json:"parts"`
}

// VersionOf is the version of an index that names these parts: it depends on
// nothing else, so equal content has equal versions on every server.
func VersionOf(parts map[string]Hash) string {
	return versionOf(slices.Sorted(maps.Keys(parts)), parts)
}

// versionOf is VersionOf with the names in order.
func versionOf(names []string, parts map[string]Hash) string {
	sum, line := sha256.New(), make([]byte, 0, MaxPartName+HashLength+2)
	for _, name := range names {
		line = append(append(append(append(line[:0], name...), ' '), parts[name]...), '\n')
		sum.Write(line)
	}
	return hex.EncodeToString(sum.Sum(nil)[:16])
}

// DecodeIndex reads an index and checks that its version is that of its parts
// and that no part is missing that every snapshot has.
func DecodeIndex(b []byte) (*Index, error) {
	if len(b) > MaxPartBytes {
		return nil, fmt.Errorf("index: %d bytes are more than %d", len(b), MaxPartBytes)
	}
	index := new(Index)
	if err := DecodeStrict(b, index); err != nil {
		return nil, fmt.Errorf("index: %w", err)
	}
	if len(index.Parts) > MaxParts {
		return nil, fmt.Errorf("index: %d parts are more than %d", len(index.Parts), MaxParts)
	}
	for name := range index.Parts {
		if _, ok := KindOf(name); !ok {
			return nil, fmt.Errorf("index: %q is not the name of a part", name)
		}
	}
	for _, name := range []string{PartMesh, PartRoutes, PartDirectory} {
		if _, ok := index.Parts[name]; !ok {
			return nil, fmt.Errorf("index: part %s is missing", name)
		}
	}
	if index.Version != VersionOf(index.Parts) {
		return nil, fmt.Errorf("index %s: %w", index.Version, ErrHash)
	}
	return index, nil
}

// Assemble makes the snapshot that the index names. part returns the decoded
// value of a part, a pointer to its kind's type, or nil where it is not held:
// then the snapshot is incomplete and an error.
func (x *Index) Assemble(part func(name string, hash Hash) any) (*Snapshot, error) {
	snapshot := &Snapshot{Version: x.Version, Revision: x.Revision, Created: x.Created, Parts: x.Parts}
	policies := sha256.New()
	for _, name := range slices.Sorted(maps.Keys(x.Parts)) {
		value := part(name, x.Parts[name])
		fits := false
		switch kind, _ := KindOf(name); kind {
		case KindMesh:
			snapshot.Mesh, fits = value.(*Mesh)
		case KindPolicy:
			var policy *Policy
			policy, fits = value.(*Policy)
			snapshot.Policies = append(snapshot.Policies, policy)
			io.WriteString(policies, string(x.Parts[name]))
		case KindRoutes:
			snapshot.Routes, fits = value.(*Routes)
		case KindDirectory:
			snapshot.Directory, fits = value.(*Directory)
		case KindEndpoints:
			var endpoints *Endpoints
			endpoints, fits = value.(*Endpoints)
			snapshot.Endpoints = append(snapshot.Endpoints, endpoints)
		}
		if !fits {
			return nil, fmt.Errorf("snapshot %s: part %s is missing", x.Version, name)
		}
	}
	snapshot.policyKey = string(policies.Sum(nil))
	return snapshot, nil
}
