// Package stream carries snapshots from the server to a proxy and answers from a
// proxy to the server. The push server uses its protocol half, the proxy its
// Client; the command line links neither (gRPC costs it too much to start). It
// never compiles and never decides: it moves parts and knows which are there.
//
// The protocol is Envoy's delta discovery on an aggregated stream
// (DeltaAggregatedResources), with resource types of our own and these rules:
//
//   - One stream is one workload. The first request's node is the join: id is
//     the base name of the workload, metadata holds the workload and the secret
//     of its session. Each says its format (of the node in format, of all else in
//     its type URL), and one that this build does not read is refused. A proxy that closes its half takes the workload away; at
//     any other end of the stream its name is kept for a while.
//   - Subscribing to the index subscribes to what it names. The first request
//     has the index's type URL, and initial_resource_versions of all parts that
//     the proxy holds already, whatever their type: names of parts are unique.
//     Those are not sent again while their content stays.
//   - A part is the JSON of its type in wire as the value of an Any; its version
//     is its content address. Parts come before the index that names them, each
//     response holding one type.
//   - The index is the last of a change, and names the instance that the server
//     gave the workload. The proxy acknowledges it by nonce once it runs that
//     snapshot, and refuses it with error_detail when it cannot be built. The
//     server sends no further change before it has heard, then the latest.
//   - A response that removes the index says that what the proxy runs is not
//     current and that the server cannot send what is: the proxy lets its age
//     grow. The next index ends that.
//   - Which ports of the workload are not ready is said anew, after the join, by
//     requests of the type URL ReadinessType whose node holds a Readiness. They are
//     not answered: what they change comes back as the endpoints of a snapshot.
//   - A part whose content does not match its hash, or an index that names
//     a part that is not there, ends the stream: the proxy opens another and
//     says what it holds.
//
// On the same connection a proxy opens Observe, by which the server asks it for
// flows.
package stream

import (
	"encoding/json"
	"errors"
	"fmt"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/structpb"

	"sluice.dev/sluice/internal/format"
	"sluice.dev/sluice/internal/wire"
)

// Bounds of the stream.
const (
	// MaxMessage bounds one message: a part of the largest size and its envelope.
	MaxMessage = wire.MaxPartBytes + 1<<20
	// MaxBatch is the size from which on a response takes no further part.
	MaxBatch = 1 << 20
	// MaxJoin bounds the metadata of a join, in bytes of JSON.
	MaxJoin = 64 << 10
	// maxSession bounds the secret of a session, in bytes.
	maxSession = 64
)

// How a proxy shows whose stream it is, where it is not on the machine of its server: in
// the metadata of each stream, as HTTP has it.
const (
	TokenHeader = "authorization"
	TokenScheme = "Bearer "
	// TokenAudience is for whom a token is made, so that one for another service is not
	// one for the mesh.
	TokenAudience = "sluice"
)

// JoinFormat is the format of a Join that this build writes.
//
//	1: the first
//	2: a workload lists the protocols of its ports, and those that are not ready
const JoinFormat = 2

var joins = format.Kind{Name: "the join of a workload", Oldest: 1, Newest: JoinFormat, Reader: "sluice-server"}

// Join is what the metadata of the first request says.
type Join struct {
	Format   int           `json:"format"`
	Workload wire.Workload `json:"workload"`
	Session  string        `json:"session"` // secret of this one membership, to take it over on another stream
}

// EncodeNode makes the node of a first request.
func EncodeNode(join Join) (*corev3.Node, error) {
	join.Format = JoinFormat
	b, err := json.Marshal(join)
	if err != nil {
		return nil, fmt.Errorf("encode join: %w", err)
	}
	metadata := new(structpb.Struct)
	if err := metadata.UnmarshalJSON(b); err != nil {
		return nil, fmt.Errorf("encode join: %w", err)
	}
	return &corev3.Node{Id: join.Workload.Base(), Metadata: metadata}, nil
}

// DecodeNode reads the node of a first request. The workload comes normalized.
func DecodeNode(node *corev3.Node) (Join, error) {
	if node.GetMetadata() == nil {
		return Join{}, errors.New("the first request has no node with metadata")
	}
	b, err := node.GetMetadata().MarshalJSON()
	if err != nil {
		return Join{}, fmt.Errorf("decode join: %w", err)
	}
	if len(b) > MaxJoin {
		return Join{}, fmt.Errorf("decode join: %d bytes are more than %d", len(b), MaxJoin)
	}
	if err := joins.CheckJSON(b); err != nil {
		return Join{}, err
	}
	var join Join
	if err := wire.DecodeStrict(b, &join); err != nil {
		return Join{}, fmt.Errorf("decode join: %w", err)
	}
	if len(join.Session) > maxSession {
		return Join{}, fmt.Errorf("decode join: a session of %d bytes", len(join.Session))
	}
	if join.Workload, err = join.Workload.Normalize(); err != nil {
		return Join{}, err
	}
	return join, nil
}

// EncodeResource puts a part, or the index, into the envelope.
func EncodeResource(name string, kind wire.Kind, version string, b []byte) *discoveryv3.Resource {
	return &discoveryv3.Resource{
		Name: name, Version: version,
		Resource: &anypb.Any{TypeUrl: kind.TypeURL(), Value: b},
	}
}
