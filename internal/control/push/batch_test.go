package push

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"sluice.dev/sluice/internal/control/inspect"
	"sluice.dev/sluice/internal/record"
	"sluice.dev/sluice/internal/telemetry/trace"
	"sluice.dev/sluice/internal/wire/stream"
)

// clientOfTally is a proxy that reports what is closed.
func (p *plane) clientOfTally(tally *record.Tally) {
	p.t.Helper()
	client, err := stream.NewClient(stream.Config{Dial: stream.DialUnix(p.path, nil), Proxy: "test", Flows: record.NewRing(), Tally: tally})
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(client.Close)
}

// What proxies closed is handed over in pieces, once, and again where it was not stored.
func TestWhatProxiesClosedIsCollectedUntilItIsStored(t *testing.T) {
	p := startPlane(t, "", newStore())
	tallies := []*record.Tally{record.NewTally(), record.NewTally()}
	for _, tally := range tallies {
		p.clientOfTally(tally)
	}
	p.client(record.NewRing()) // it sums nothing up, and holds nobody up
	eventually(t, "all proxies can be asked", func() bool { return len(p.server.Proxies()) == 3 })
	const many = 2*stream.MaxAnswerSums + 2 // several pieces of each
	for i := range 2 * many {
		tallies[i%2].Closed(&record.Record{ID: record.ID(i + 1), Start: time.Unix(3600, 0), Workload: "a-v1/1", Host: fmt.Sprintf("h%d", i), Verdict: record.Denied, Sent: 1})
	}
	full := errors.New("the disk is full")
	var refused []uint64
	if err := p.server.Collect(t.Context(), func(batches ...*record.Batch) error {
		for _, b := range batches {
			refused = append(refused, b.Number)
		}
		return full
	}); !errors.Is(err, full) {
		t.Fatal(err)
	}
	stored := make(map[uint64]*record.Batch)
	collect := func() {
		t.Helper()
		if err := p.server.Collect(t.Context(), func(batches ...*record.Batch) error {
			for _, b := range batches {
				copied := *b
				copied.Sums, copied.Flows = slices.Clone(b.Sums), slices.Clone(b.Flows)
				stored[b.Number] = &copied
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	}
	collect()
	if len(stored) != 2 || len(refused) == 0 || stored[refused[0]] == nil {
		t.Fatalf("%d batches were stored, %v refused before", len(stored), refused)
	}
	for _, b := range stored {
		if len(b.Sums) != many || len(b.Flows) != record.MaxKept || b.Lost != (record.Losses{NotKept: many - record.MaxKept}) {
			t.Errorf("%d sums, %d flows, %+v", len(b.Sums), len(b.Flows), b.Lost)
		}
	}
	eventually(t, "the proxies know that all is stored", func() bool { return tallies[0].Batch() == nil && tallies[1].Batch() == nil })
	before := len(stored)
	collect()
	if len(stored) != before {
		t.Error("what was stored came again, as another batch")
	}
	if open := questionsOpen(p.server); open != 0 {
		t.Errorf("%d questions are left open", open)
	}
}

// That a batch could not be stored is said beside that another proxy is silent.
func TestASilentProxyHidesNoErrorOfTheStore(t *testing.T) {
	p, tally := startPlane(t, "", newStore()), record.NewTally()
	p.clientOfTally(tally)
	mute := &observer{queries: make(chan *stream.Query, 2*stream.MaxQueries), stuck: func() {}}
	if err := p.server.proxies.reserve(mute); err != nil {
		t.Fatal(err)
	}
	p.server.proxies.connect(mute, "mute")
	eventually(t, "all proxies can be asked", func() bool { return len(p.server.Proxies()) == 2 })
	tally.Closed(&record.Record{ID: 1, Start: time.Unix(3600, 0), Workload: "a-v1/1", Host: "h"})
	ctx, tooLate := context.WithCancel(t.Context())
	defer tooLate()
	full := errors.New("the disk is full")
	err := p.server.Collect(ctx, func(...*record.Batch) error { tooLate(); return full })
	if !errors.Is(err, full) || !strings.Contains(err.Error(), "of 2 proxies did not report in time") {
		t.Errorf("%v", err)
	}
}

// What many proxies report at once is one change of the file, not one for each: the disk is
// waited for once.
func TestWhatManyProxiesReportIsStoredTogether(t *testing.T) {
	p := startPlane(t, "", newStore())
	p.server.patience = time.Minute // with a machine that stalls
	all := &p.server.proxies
	played := make([]*observer, 6)
	for i := range played {
		played[i] = &observer{queries: make(chan *stream.Query, 2*stream.MaxQueries), stuck: func() {}}
		if err := all.reserve(played[i]); err != nil {
			t.Fatal(err)
		}
		all.connect(played[i], fmt.Sprint("proxy ", i))
	}
	report := func(from ...*observer) {
		for _, o := range from {
			asked := <-o.queries
			all.mu.Lock()
			all.deliver(asked.ID, answer{&stream.Answer{Query: asked.ID, Batch: 1, Sums: make([]record.Sum, 1)}, o})
			all.deliver(asked.ID, answer{&stream.Answer{Query: asked.ID, Batch: 1, Whole: &stream.Whole{Sums: 1}}, o})
			all.deliver(asked.ID, answer{&stream.Answer{Query: asked.ID, End: true}, o})
			all.mu.Unlock()
		}
	}
	go report(played[0])
	var together []int
	if err := p.server.Collect(t.Context(), func(batches ...*record.Batch) error {
		if together = append(together, len(batches)); len(together) == 1 {
			report(played[1:]...) // while the disk is waited for
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(together, []int{1, len(played) - 1}) {
		t.Errorf("batches were stored %v at a time", together)
	}
}

func TestBatchesThatAreStoredTogetherAreBounded(t *testing.T) {
	var s shared
	large := &record.Batch{Sums: make([]record.Sum, 2*maxSharedSums), Flows: make([]record.Record, 2*maxSharedFlows)}
	if !s.fits(large) {
		t.Error("one alone is stored, whatever it has")
	}
	for range 2 {
		s.add(nil, &record.Batch{Flows: make([]record.Record, maxSharedFlows/2), Sums: make([]record.Sum, maxSharedSums/4)})
	}
	if s.fits(&record.Batch{Flows: make([]record.Record, 1)}) || s.fits(&record.Batch{Sums: make([]record.Sum, maxSharedSums/2+1)}) || !s.fits(&record.Batch{Sums: make([]record.Sum, 1)}) {
		t.Errorf("%d sums and %d flows are stored together", s.sums, s.flows)
	}
}

// Who follows flows and stays takes no place of the server's own.
func TestReadersWhoStayKeepTheServerFromNothing(t *testing.T) {
	p, tally := startPlane(t, "", newStore()), record.NewTally()
	p.clientOfTally(tally)
	eventually(t, "the proxy can be asked", func() bool { return len(p.server.Proxies()) == 1 })
	tally.Closed(&record.Record{ID: 1, Start: time.Unix(3600, 0), Workload: "a-v1/1", Host: "h"})
	for range maxQuestions {
		q, _, err := p.server.proxies.ask(stream.Query{Kind: stream.QueryFlows, Follow: true})
		if err != nil {
			t.Fatal(err)
		}
		defer p.server.proxies.withdraw(q)
	}
	if _, _, err := p.server.proxies.ask(stream.Query{Kind: stream.QueryFlows}); !errors.Is(err, errTooManyQuestions) {
		t.Errorf("one more reader: %v", err)
	}
	stored := 0
	p.server.patience = time.Minute // with a machine that stalls
	if err := p.server.Collect(t.Context(), func(batches ...*record.Batch) error { stored += len(batches); return nil }); err != nil || stored != 1 {
		t.Errorf("%d batches were stored: %v", stored, err)
	}
}

// A proxy of an older release reports flows of other traces too: they are not passed on.
func TestFlowsOfOtherTracesThanTheOneAskedForAreLeftOut(t *testing.T) {
	q := &question{query: stream.Query{Trace: trace.ID{7}}}
	reported := func() answer {
		return answer{&stream.Answer{Flows: []record.Record{{ID: 1}, {ID: 2, Context: trace.Context{Trace: trace.ID{7}}}, {ID: 3, Context: trace.Context{Trace: trace.ID{8}}}}}, nil}
	}
	piece := reported()
	q.sift(piece)
	if len(piece.Flows) != 1 || piece.Flows[0].ID != 2 {
		t.Errorf("%+v", piece.Flows)
	}
	piece, q.query.Trace = reported(), trace.ID{}
	if q.sift(piece); len(piece.Flows) != 3 {
		t.Errorf("of any trace: %+v", piece.Flows)
	}
}

// The server hands on what proxies keep of one trace, not the newest of any.
func TestATraceIsAskedForByItsID(t *testing.T) {
	p, ring, wanted := startPlane(t, "", newStore()), record.NewRing(), trace.ID{7}
	p.client(ring)
	eventually(t, "the proxy can be asked", func() bool { return len(p.server.Proxies()) == 1 })
	ring.Closed(&record.Record{ID: 1, Context: trace.Context{Trace: wanted}})
	for i := range 10 {
		ring.Closed(&record.Record{ID: record.ID(i + 2)})
	}
	var got []record.ID
	if err := p.server.Flows(t.Context(), inspect.FlowQuery{Last: 5, Trace: wanted}, func() {}, func(f record.Record) error { got = append(got, f.ID); return nil }); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(got, []record.ID{1}) {
		t.Errorf("%v", got)
	}
}
