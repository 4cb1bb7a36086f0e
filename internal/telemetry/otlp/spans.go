package otlp

import (
	"context"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	oteltrace "go.opentelemetry.io/otel/trace"
	"golang.org/x/time/rate"

	"sluice.dev/sluice/internal/record"
)

// MaxWaitingSpans is how many spans wait to be sent.
const MaxWaitingSpans = 4096

// Spans is a record.Sink that sends the span of each record whose trace is sampled.
type Spans struct {
	exporter  sdk.SpanExporter
	tracer    oteltrace.Tracer
	made      made
	feed      *record.Feed
	done      chan struct{}
	endOnce   sync.Once
	warn      func(error)
	stop      context.CancelFunc
	exporting context.Context
	scratch   []attribute.KeyValue

	sent, lost atomic.Uint64
}

// made gives spans the ids that their requests went on with, and collects them. One
// goroutine uses it.
type made struct {
	trace oteltrace.TraceID
	span  oteltrace.SpanID
	all   []sdk.ReadOnlySpan
}

// NewIDs implements sdk.IDGenerator.
func (m *made) NewIDs(context.Context) (oteltrace.TraceID, oteltrace.SpanID) { return m.trace, m.span }

// NewSpanID implements sdk.IDGenerator.
func (m *made) NewSpanID(context.Context, oteltrace.TraceID) oteltrace.SpanID { return m.span }

// OnStart implements sdk.SpanProcessor.
func (*made) OnStart(context.Context, sdk.ReadWriteSpan) {}

// OnEnd implements sdk.SpanProcessor.
func (m *made) OnEnd(s sdk.ReadOnlySpan) { m.all = append(m.all, s) }

// Shutdown implements sdk.SpanProcessor.
func (*made) Shutdown(context.Context) error { return nil }

// ForceFlush implements sdk.SpanProcessor.
func (*made) ForceFlush(context.Context) error { return nil }

// Spans begins to send spans, until End.
func (e *Exporter) Spans(ctx context.Context) (*Spans, error) {
	exporter, err := otlptracehttp.New(ctx, otlptracehttp.WithEndpointURL(e.base+"/v1/traces"), otlptracehttp.WithTimeout(ExportTimeout), otlptracehttp.WithRetry(otlptracehttp.RetryConfig{}))
	if err != nil {
		return nil, err
	}
	told := rate.Sometimes{First: 1, Interval: time.Minute}
	s := &Spans{exporter: exporter, feed: record.NewFeed(MaxWaitingSpans), done: make(chan struct{})}
	s.exporting, s.stop = context.WithCancel(context.Background())
	s.warn = func(err error) {
		told.Do(func() { e.config.Log.Warn("spans are lost", "error", err, "lost so far", s.lost.Load()) })
	}
	provider := sdk.NewTracerProvider(sdk.WithIDGenerator(&s.made), sdk.WithSampler(sdk.AlwaysSample()), sdk.WithSpanProcessor(&s.made), sdk.WithResource(e.resource))
	s.tracer = provider.Tracer("sluice.dev/sluice/proxy")
	go func() {
		defer close(s.done)
		s.feed.Batches(s.send) //nolint:errcheck // it returns none
	}()
	return s, nil
}

// Closed implements record.Sink.
func (s *Spans) Closed(r *record.Record) {
	if r.Sampled {
		s.feed.Closed(r)
	}
}

// Dropped implements record.Sink.
func (s *Spans) Dropped() uint64 { return s.feed.Dropped() }

// SpanCounts is what became of spans.
type SpanCounts struct{ Sent, Lost, Dropped uint64 }

// Counts returns them.
func (s *Spans) Counts() SpanCounts {
	return SpanCounts{s.sent.Load(), s.lost.Load(), s.Dropped()}
}

// End sends what waits, for EndTimeout at most.
func (s *Spans) End() {
	s.endOnce.Do(func() {
		s.feed.End()
		select {
		case <-s.done:
		case <-time.After(EndTimeout):
		}
		s.stop()
		ctx, cancel := context.WithTimeout(context.Background(), EndTimeout)
		defer cancel()
		if err := s.exporter.Shutdown(ctx); err != nil {
			s.warn(err)
		}
	})
}

func (s *Spans) send(batch []record.Record) error {
	for len(batch) > 0 {
		part := batch[:min(len(batch), MaxBatch)]
		batch = batch[len(part):]
		clear(s.made.all)
		s.made.all = s.made.all[:0]
		for i := range part {
			s.make(&part[i])
		}
		ctx, cancel := context.WithTimeout(s.exporting, ExportTimeout)
		err := s.exporter.ExportSpans(ctx, s.made.all)
		cancel()
		if err != nil {
			s.lost.Add(uint64(len(part)))
			s.warn(err)
			continue
		}
		s.sent.Add(uint64(len(part)))
	}
	return nil
}

// make makes the span of a record: it has ended, so that nothing of it is kept open.
func (s *Spans) make(r *record.Record) {
	ctx := context.Background()
	s.made.trace, s.made.span = oteltrace.TraceID(r.Trace), oteltrace.SpanID(r.Span)
	if parent := oteltrace.SpanID(r.Parent); parent.IsValid() {
		ctx = oteltrace.ContextWithRemoteSpanContext(ctx, oteltrace.NewSpanContext(oteltrace.SpanContextConfig{
			TraceID: s.made.trace, SpanID: parent, TraceFlags: oteltrace.FlagsSampled, Remote: true,
		}))
	}
	kind := oteltrace.SpanKindClient
	if r.Direction == record.Ingress {
		kind = oteltrace.SpanKindServer
	}
	s.scratch = attributes(s.scratch[:0], r)
	_, span := s.tracer.Start(ctx, name(r), oteltrace.WithTimestamp(r.Start), oteltrace.WithSpanKind(kind), oteltrace.WithAttributes(s.scratch...))
	if r.Verdict == record.Denied || r.Verdict == record.Failed {
		span.SetStatus(codes.Error, string(r.Reason))
	}
	span.End(oteltrace.WithTimestamp(r.Start.Add(r.Duration)))
}

// name is what a span is called: by what the mesh knows, for strangers choose paths and methods.
func name(r *record.Record) string {
	to := r.Destination.Party().Service
	if to == "" {
		to = r.Dialled
	}
	what := r.Method
	switch what {
	case "GET", "POST", "PUT", "HEAD", "DELETE", "PATCH", "OPTIONS":
	case "":
		what = strings.ToUpper(r.Transport.String())
	default:
		what = "HTTP" // strangers choose it; it is in request.method
	}
	return what + " " + to
}
