package stream

import (
	"context"
	"strings"
	"testing"

	"google.golang.org/grpc"

	"sluice.dev/sluice/internal/record"
	"sluice.dev/sluice/internal/telemetry/trace"
)

// heard is a stream that keeps what was sent on it.
type heard struct {
	grpc.ClientStream
	sent []*Answer
}

func (h *heard) SendMsg(m any) error {
	answer := *m.(*Answer)
	h.sent = append(h.sent, &answer)
	return nil
}

// told is all that a proxy answers to a question.
func told(t *testing.T, live func(int, record.Filter) []record.Record, query *Query) []*Answer {
	t.Helper()
	h := new(heard)
	a := &answers{stream: h, ring: record.NewRing(), live: live, open: make(map[uint64]context.CancelFunc)}
	if err := a.take(t.Context(), query); err != nil {
		t.Fatal(err)
	}
	a.work.Wait()
	return h.sent
}

func TestWhatIsOpenIsToldInPiecesAndThenThatItWasAll(t *testing.T) {
	var n int
	var filter record.Filter
	live := func(most int, f record.Filter) []record.Record {
		n, filter = most, f
		return make([]record.Record, MaxAnswerFlows+3)
	}
	sent := told(t, live, &Query{ID: 5, Kind: QueryOpen, Workload: "details", Last: 700})
	if n != 700 || filter != (record.Filter{Workload: "details"}) {
		t.Errorf("it was asked for %d of %+v", n, filter)
	}
	if len(sent) != 4 || len(sent[0].Flows) != MaxAnswerFlows || len(sent[1].Flows) != 3 || !sent[2].Past || !sent[3].End || sent[3].Error != "" {
		t.Fatalf("it told %+v", sent)
	}
	for _, piece := range sent {
		if piece.Query != 5 || piece.Format != ObserveFormat {
			t.Errorf("a piece says %+v", piece)
		}
	}
	for last, want := range map[int]int{-1: 0, record.RingSize + 1: record.RingSize} {
		if told(t, live, &Query{ID: 5, Kind: QueryOpen, Last: last}); n != want {
			t.Errorf("of last=%d it was asked for %d", last, n)
		}
	}
}

// A proxy that does not know what it is asked must not answer something else.
func TestAQuestionThatCannotBeAnsweredIsRefusedWithTheReason(t *testing.T) {
	for want, query := range map[string]*Query{
		"does not list what is open":    {ID: 5, Kind: QueryOpen, Last: 10},
		`question "asked" is not known`: {ID: 5, Kind: "asked", Last: 10},
	} {
		sent := told(t, nil, query)
		if len(sent) != 1 || !sent[0].End || len(sent[0].Flows) > 0 || !strings.Contains(sent[0].Error, want) {
			t.Errorf("%s: %+v", query.Kind, sent)
		}
	}
}

// A trace is found in all of the ring, however much was closed since.
func TestAQuestionAboutATraceIsAnsweredWithItsFlowsAlone(t *testing.T) {
	h, ring, wanted := new(heard), record.NewRing(), trace.Context{Trace: trace.ID{7}, Span: trace.SpanID{1}}
	ring.Closed(&record.Record{ID: 1, Context: wanted})
	for i := range record.RingSize - 2 {
		ring.Closed(&record.Record{ID: record.ID(i + 2), Context: trace.Context{Trace: trace.ID{8}}})
	}
	ring.Closed(&record.Record{ID: record.RingSize, Context: wanted})
	a := &answers{stream: h, ring: ring, open: make(map[uint64]context.CancelFunc)}
	if err := a.take(t.Context(), &Query{ID: 5, Kind: QueryFlows, Last: 2, Trace: wanted.Trace}); err != nil {
		t.Fatal(err)
	}
	a.work.Wait()
	if len(h.sent) != 3 || len(h.sent[0].Flows) != 2 || h.sent[0].Flows[0].ID != 1 || h.sent[0].Flows[1].ID != record.RingSize || !h.sent[1].Past || !h.sent[2].End {
		t.Errorf("%+v", h.sent)
	}
}
