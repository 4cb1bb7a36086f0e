package otlp

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	coltrace "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	"google.golang.org/protobuf/proto"

	"sluice.dev/sluice/internal/record"
	"sluice.dev/sluice/internal/telemetry/trace"
)

func traced(sampled bool) *record.Record {
	r := recorded()
	r.Context = trace.Context{Trace: trace.ID{1}, Span: trace.SpanID{2}, Parent: trace.SpanID{3}, Sampled: sampled}
	return r
}

func TestTheSpanOfASampledRecordIsSentUnderTheIDsThatItWentOnWith(t *testing.T) {
	got := make(chan *coltrace.ExportTraceServiceRequest, 16)
	collector := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		message := new(coltrace.ExportTraceServiceRequest)
		if err := proto.Unmarshal(body(t, r), message); err != nil || r.URL.Path != "/v1/traces" {
			t.Errorf("%s: %v", r.URL, err)
		}
		got <- message
	}))
	defer collector.Close()
	e, err := New(Config{URL: collector.URL, Service: "sluice-proxy", Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	s, err := e.Spans(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	s.Closed(traced(false))
	s.Closed(traced(true))
	s.feed.End()
	<-s.done // sent, however long it takes
	s.End()
	all := (<-got).ResourceSpans[0].ScopeSpans[0].Spans
	want := traced(true)
	if len(all) != 1 || trace.ID(all[0].TraceId) != want.Trace || trace.SpanID(all[0].SpanId) != want.Span || trace.SpanID(all[0].ParentSpanId) != want.Parent {
		t.Fatalf("%v", all)
	}
	one := all[0]
	if one.Name != "GET www.example.com" || one.Status.Message != "no-rule" || one.EndTimeUnixNano-one.StartTimeUnixNano != uint64(time.Second) {
		t.Errorf("%v", one)
	}
	for _, a := range one.Attributes {
		if a.Key == "request.path" && a.Value.GetStringValue() != "/a;key=*" {
			t.Errorf("the path is %v", a.Value)
		}
	}
	if c := s.Counts(); c != (SpanCounts{Sent: 1}) {
		t.Errorf("%+v", c)
	}
}

// A collector that takes and never answers costs spans, which are counted, and no request
// anything.
func TestSpansThatNobodyTakesAreDroppedAndCounted(t *testing.T) {
	asked, hang := make(chan struct{}), make(chan struct{})
	var once sync.Once
	collector := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		once.Do(func() { close(asked) })
		<-hang
	}))
	defer collector.Close()
	defer close(hang)
	e, err := New(Config{URL: collector.URL, Service: "sluice-proxy", Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	s, err := e.Spans(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	s.Closed(traced(true))
	<-asked
	for range MaxWaitingSpans + 100 {
		s.Closed(traced(true))
	}
	if s.Dropped() != 100 {
		t.Errorf("%d were dropped", s.Dropped())
	}
	s.End()
	<-s.done // it gives up what it was sending
	if c := s.Counts(); c.Lost == 0 || c.Sent != 0 {
		t.Errorf("%+v", c)
	}
}

func TestASpanIsNotNamedByAMethodThatAStrangerMadeUp(t *testing.T) {
	r := traced(true)
	r.Method = "AAAA1"
	if got := name(r); got != "HTTP www.example.com" {
		t.Errorf("it is named %q", got)
	}
}
