package stream

import (
	"encoding/json"
	"errors"
	"fmt"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/protobuf/types/known/structpb"

	"sluice.dev/sluice/internal/format"
	"sluice.dev/sluice/internal/wire"
)

// ReadinessType is the type URL of a request that says which ports are not ready.
const ReadinessType = "type.sluice.dev/readiness"

// ReadinessFormat is the format of a Readiness that this build writes.
const ReadinessFormat = 1

var readinesses = format.Kind{Name: "the readiness of a workload", Oldest: 1, Newest: ReadinessFormat, Reader: "sluice-server"}

// Readiness is all ports of a workload that are not ready; none of them where all are.
type Readiness struct {
	Format  int            `json:"format"`
	Unready []wire.Unready `json:"unready"`
}

// encodeReadiness makes the request that says which ports are not ready.
func encodeReadiness(unready []wire.Unready) (*discoveryv3.DeltaDiscoveryRequest, error) {
	b, err := json.Marshal(Readiness{Format: ReadinessFormat, Unready: unready})
	if err != nil {
		return nil, fmt.Errorf("encode readiness: %w", err)
	}
	metadata := new(structpb.Struct)
	if err := metadata.UnmarshalJSON(b); err != nil {
		return nil, fmt.Errorf("encode readiness: %w", err)
	}
	return &discoveryv3.DeltaDiscoveryRequest{TypeUrl: ReadinessType, Node: &corev3.Node{Metadata: metadata}}, nil
}

// DecodeReadiness reads what a request of ReadinessType says of a workload that serves
// on these ports.
func DecodeReadiness(node *corev3.Node, ports []uint16) ([]wire.Unready, error) {
	if node.GetMetadata() == nil {
		return nil, errors.New("decode readiness: the request has no node with metadata")
	}
	b, err := node.GetMetadata().MarshalJSON()
	if err != nil {
		return nil, fmt.Errorf("decode readiness: %w", err)
	}
	if len(b) > MaxJoin {
		return nil, fmt.Errorf("decode readiness: %d bytes are more than %d", len(b), MaxJoin)
	}
	if err := readinesses.CheckJSON(b); err != nil {
		return nil, err
	}
	var said Readiness
	if err := wire.DecodeStrict(b, &said); err != nil {
		return nil, fmt.Errorf("decode readiness: %w", err)
	}
	unready, err := wire.NormalizeUnready(said.Unready, ports)
	if err != nil {
		return nil, fmt.Errorf("decode readiness: %w", err)
	}
	return unready, nil
}
