package stream

import (
	"encoding/json"
	"errors"
	"fmt"

	"google.golang.org/grpc"
	"google.golang.org/grpc/encoding"
	_ "google.golang.org/grpc/encoding/proto" // the codec of the discovery stream
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/proto"

	"sluice.dev/sluice/internal/format"
	"sluice.dev/sluice/internal/record"
	"sluice.dev/sluice/internal/telemetry/trace"
)

// Bounds of what is asked and answered.
const (
	MaxQueries     = 64  // open questions to one proxy
	MaxAnswerFlows = 256 // flows in one answer
	MaxAnswerSums  = 512 // sums in one answer
)

// ObserveService and ObserveMethod name the service of questions.
const (
	ObserveService = "sluice.control.v1.Proxy"
	ObserveMethod  = "Observe"
)

// ObserveFormat is the format of a Query and of an Answer that this build writes,
// and the only one that it reads.
//
//	1: the first
//	2: verdict, protocol and treatment of a flow are said in other words
const ObserveFormat = 2

var observed = format.Kind{Name: "a question or an answer about flows", Oldest: ObserveFormat, Newest: ObserveFormat}

// QueryKind is what the server asks. A proxy that does not know the kind says so: what
// is new to ask is a kind of its own, and no field that an older proxy would pass over.
type QueryKind string

const (
	QueryFlows  QueryKind = "flows"  // past flows, and with Follow each new one
	QueryOpen   QueryKind = "open"   // those that are open now
	QueryFlow   QueryKind = "flow"   // the one with FlowID
	QueryBatch  QueryKind = "batch"  // what was closed since the batch that was stored last
	QueryStored QueryKind = "stored" // no question: the batch is stored
	QueryCancel QueryKind = "cancel" // the query with this ID is no longer wanted
)

// Query is a question of the server to a proxy.
type Query struct {
	Format   int       `json:"format"`
	ID       uint64    `json:"id"` // of the question, unique on the stream
	Kind     QueryKind `json:"kind"`
	Workload string    `json:"workload,omitempty"` // instance or service-version; "" for every one
	Last     int       `json:"last,omitempty"`     // flows at most, the newest; of Follow, past ones
	Follow   bool      `json:"follow,omitempty"`
	FlowID   record.ID `json:"flowID,omitempty"`
	// Trace is of which trace flows are wanted. An older proxy passes over it: who asks
	// looks at what comes again.
	Trace trace.ID `json:"trace,omitzero"`
	Batch uint64   `json:"batch,omitempty"` // of QueryStored
}

// Answer is a piece of an answer, or the proxy's greeting: the first message,
// which has a Proxy and no Query.
type Answer struct {
	Format  int             `json:"format"`
	Proxy   string          `json:"proxy,omitempty"`
	Query   uint64          `json:"query,omitempty"`
	Flows   []record.Record `json:"flows,omitempty"`
	Past    bool            `json:"past,omitempty"`    // all past flows, or all that are open, were sent
	End     bool            `json:"end,omitempty"`     // nothing follows
	Dropped uint64          `json:"dropped,omitempty"` // flows lost in all because this reader was slow
	Error   string          `json:"error,omitempty"`

	// Of a batch: each piece has some of its sums or flows, and the last one says how many
	// there are in all.
	Batch uint64       `json:"batch,omitempty"`
	Sums  []record.Sum `json:"sums,omitempty"`
	Whole *Whole       `json:"whole,omitempty"`
}

// Whole ends a batch.
type Whole struct {
	Sums  int           `json:"sums"`
	Flows int           `json:"flows"`
	Lost  record.Losses `json:"lost"`
}

func (q *Query) format() int  { return q.Format }
func (a *Answer) format() int { return a.Format }

// ObserveDesc describes the one bidirectional stream of the service.
func ObserveDesc() grpc.StreamDesc {
	return grpc.StreamDesc{StreamName: ObserveMethod, ServerStreams: true, ClientStreams: true}
}

// Codec writes the messages of the discovery stream as protobuf and all others
// as JSON: the questions have no .proto and need none.
type Codec struct{ protobuf encoding.CodecV2 }

// NewCodec returns the codec for both ends.
func NewCodec() Codec { return Codec{protobuf: encoding.GetCodecV2("proto")} }

// Name implements encoding.CodecV2.
func (Codec) Name() string { return "proto" }

// Marshal implements encoding.CodecV2.
func (c Codec) Marshal(v any) (mem.BufferSlice, error) {
	if message, ok := v.(proto.Message); ok {
		return c.protobuf.Marshal(message)
	}
	b, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("encode %T: %w", v, err)
	}
	return mem.BufferSlice{mem.SliceBuffer(b)}, nil
}

// Unmarshal implements encoding.CodecV2.
func (c Codec) Unmarshal(data mem.BufferSlice, v any) error {
	if message, ok := v.(proto.Message); ok {
		return c.protobuf.Unmarshal(data, message)
	}
	said, ok := v.(interface{ format() int })
	if !ok {
		return fmt.Errorf("decode %T: not a message of the stream", v)
	}
	b := data.Materialize()
	if err := json.Unmarshal(b, v); err != nil {
		var unknown *format.UnknownError
		if errors.As(observed.CheckJSON(b), &unknown) {
			return unknown // in which the fields may be of other types
		}
		return fmt.Errorf("decode %T: %w", v, err)
	}
	return observed.Check(said.format())
}
