package wire

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"sluice.dev/sluice/internal/format"
)

// Kind is the kind of one part of a snapshot.
type Kind string

// The kinds. The index is not a part: it names them.
const (
	KindMesh      Kind = "Mesh"
	KindPolicy    Kind = "Policy"
	KindRoutes    Kind = "Routes"
	KindDirectory Kind = "Directory"
	KindEndpoints Kind = "Endpoints"
	KindIndex     Kind = "Index"
)

// Names of parts. The rules of one class of workloads come in many parts of a few small
// rules or one large one: a change resends and decodes only the part that it touches, and
// what selects many classes is compiled, sent and held once for all of them. Behind each
// prefix stands the ID of the part's first rule.
const (
	PartMesh            = "mesh"
	PartPolicyRoot      = "policy/root/"      // rules of the root namespace that select every workload
	PartPolicyNamespace = "policy/namespace/" // rules of the workload's namespace that select all of it
	PartPolicyOwn       = "policy/own/"       // rules whose selector the class satisfies
	PartRoutes          = "routes"
	PartDirectory       = "directory"
	PartEndpoints       = "endpoints/" // and the full name of the service
	NameIndex           = "index"      // of the index on the stream
)

// PolicyPartName names the part of rules whose first has this ID.
func PolicyPartName(prefix, first string) string {
	if len(prefix)+len(first) > MaxPartName {
		first = string(HashOf([]byte(first)))
	}
	return prefix + first
}

// Bounds of what crosses the stream. Past one of them a snapshot is not sent: the
// proxy is notified that it is not current, and goes on with what it has until that
// is stale.
const (
	MaxPartBytes     = 32 << 20 // JSON of one part, and of the index
	MaxParts         = 60_000   // named by one index
	MaxSnapshotBytes = 64 << 20 // JSON of all parts that one index names
)

// Format is the format of the parts and of the index that this build writes. It is
// raised with every change of a type in this package, or in what it holds of policy
// and route, after which an earlier build would read less than was written.
//
//	1: the first
//	2: a rule lists upgrades; the outbound default may be Audit
//	3: the mesh has limits
//	4: a rule's port has an idle time-out, its TLS an oldest version and a client
//	   certificate, and the rule a rate of new names; a port of a service may have no
//	   protocol: what a client says decides; an endpoint lists the ports that are not ready
//	5: a service may have addresses, be headless or another name for a host; an endpoint
//	   may have addresses, a name, and ports other than those of its service;
//	   a route rule redirects, rewrites, appends headers and injects faults,
//	   and has a time-out and retries, and is about hosts outside too; rules come in as many
//	   parts as are good for a change; a port of a rule may lead to another port outside;
//	   a destination may have a policy; an ingress has rules
const Format = 5

// onStream is what is read of a stream. Both of its ends are of one format: a
// snapshot of another one may restrict what this build does not know.
var onStream = format.Kind{Name: "a snapshot on the stream", Oldest: Format, Newest: Format}

// Kept is what is read of a snapshot that was kept on disk.
var Kept = format.Kind{Name: "the kept snapshot", Oldest: 1, Newest: Format}

// typePrefix and the format stand before a kind in its type URL. The types are
// ours: no message of Envoy can say a name chain.
const typePrefix = "type.sluice.dev/wire.v"

// TypeURL names the kind, in the format of this build, on the discovery stream.
func (k Kind) TypeURL() string { return typePrefix + strconv.Itoa(Format) + "." + string(k) }

// KindOfType reads a type URL. The error is a *format.UnknownError where it is of
// another format.
func KindOfType(url string) (Kind, error) {
	rest, ours := strings.CutPrefix(url, typePrefix)
	number, name, whole := strings.Cut(rest, ".")
	version, err := strconv.Atoi(number)
	if !ours || !whole || err != nil {
		return "", fmt.Errorf("type %.100q is not one of a snapshot", url)
	}
	if err := onStream.Check(version); err != nil {
		return "", err
	}
	switch kind := Kind(name); kind {
	case KindMesh, KindPolicy, KindRoutes, KindDirectory, KindEndpoints, KindIndex:
		return kind, nil
	}
	return "", fmt.Errorf("type %.100q is not one of a snapshot", url)
}

// KindOf says of what kind the part of this name is; false where it is not the
// name of a part.
func KindOf(name string) (Kind, bool) {
	switch name {
	case PartMesh:
		return KindMesh, true
	case PartRoutes:
		return KindRoutes, true
	case PartDirectory:
		return KindDirectory, true
	}
	if service, ok := strings.CutPrefix(name, PartEndpoints); ok && service != "" {
		return KindEndpoints, true
	}
	for _, prefix := range []string{PartPolicyRoot, PartPolicyNamespace, PartPolicyOwn} {
		if first, ok := strings.CutPrefix(name, prefix); ok && first != "" {
			return KindPolicy, true
		}
	}
	return "", false
}

// Hash is the content address of a part: the first 128 bits of SHA-256 over its
// bytes, as 32 hex digits.
type Hash string

// HashLength is the length of every Hash.
const HashLength = 32

// MaxPartName bounds the name of a part, in bytes: a service has a name of at most 253,
// and so have the name of a rule and its namespace together with its kind.
const MaxPartName = 400

// HashOf returns the content address of b.
func HashOf(b []byte) Hash {
	sum := sha256.Sum256(b)
	return Hash(hex.EncodeToString(sum[:16]))
}

// Part is one content-addressed piece of a snapshot. It never changes once made
// and is shared between all snapshots that hold it.
type Part struct {
	Name  string
	Kind  Kind
	Hash  Hash
	Bytes []byte // JSON of the kind's type
}

// NewPart addresses the JSON of a part. The caller gives b away.
func NewPart(name string, b []byte) (*Part, error) {
	kind, ok := KindOf(name)
	if !ok {
		return nil, fmt.Errorf("%q is not the name of a part of a snapshot", name)
	}
	if len(b) > MaxPartBytes {
		return nil, fmt.Errorf("part %s: %d bytes are more than the %d that one part may have", name, len(b), MaxPartBytes)
	}
	return &Part{Name: name, Kind: kind, Hash: HashOf(b), Bytes: b}, nil
}

// EncodePart makes a part of its value.
func EncodePart(name string, value any) (*Part, error) {
	b, err := json.Marshal(value)
	if err != nil {
		return nil, fmt.Errorf("encode part %s: %w", name, err)
	}
	return NewPart(name, b)
}

// ErrHash says that the bytes of a part are not those that its hash names.
var ErrHash = errors.New("the content does not match its hash")

// decodePart checks b against its hash and reads it. Fields that this release
// does not know are an error: a part from a newer server may hold a restriction
// in them, and a proxy must not drop one silently.
func decodePart(name string, hash Hash, b []byte) (any, error) {
	kind, ok := KindOf(name)
	if !ok {
		return nil, fmt.Errorf("%q is not the name of a part of a snapshot", name)
	}
	if len(b) > MaxPartBytes {
		return nil, fmt.Errorf("part %s: %d bytes are more than the %d that one part may have", name, len(b), MaxPartBytes)
	}
	if HashOf(b) != hash {
		return nil, fmt.Errorf("part %s: %w", name, ErrHash)
	}
	var value any
	switch kind {
	case KindMesh:
		value = new(Mesh)
	case KindPolicy:
		value = new(Policy)
	case KindRoutes:
		value = new(Routes)
	case KindDirectory:
		value = new(Directory)
	case KindEndpoints:
		value = new(Endpoints)
	}
	if err := DecodeStrict(b, value); err != nil {
		return nil, fmt.Errorf("part %s: %w", name, err)
	}
	return value, nil
}

// DecodeStrict reads one JSON value that is the whole of b and has no field that
// value does not know.
func DecodeStrict(b []byte, value any) error {
	decoder := json.NewDecoder(bytes.NewReader(b))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(value); err != nil {
		return err
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return errors.New("there is more after the JSON value")
	}
	return nil
}
