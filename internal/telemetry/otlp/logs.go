package otlp

import (
	"context"
	"strings"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlplog/otlploghttp"
	otellog "go.opentelemetry.io/otel/log"
	"go.opentelemetry.io/otel/sdk/log"

	"sluice.dev/sluice/internal/record"
	seen "sluice.dev/sluice/internal/telemetry/attribute"
)

// MaxBatch is how many lines one message to the collector holds.
const MaxBatch = 512

// Logs is an accesslog.Output that sends records to the collector.
type Logs struct {
	exporter *otlploghttp.Exporter
	logger   otellog.Logger
	emitted  emitted
	scratch  []attribute.KeyValue
}

// emitted is a log.Processor that collects what the SDK made of records.
type emitted struct{ all []log.Record }

// OnEmit implements log.Processor.
func (e *emitted) OnEmit(_ context.Context, r *log.Record) error {
	e.all = append(e.all, r.Clone())
	return nil
}

// Shutdown implements log.Processor.
func (*emitted) Shutdown(context.Context) error { return nil }

// ForceFlush implements log.Processor.
func (*emitted) ForceFlush(context.Context) error { return nil }

// Enabled implements log.Processor.
func (*emitted) Enabled(context.Context, log.EnabledParameters) bool { return true }

// Logs opens the way for the access log.
func (e *Exporter) Logs(ctx context.Context) (*Logs, error) {
	exporter, err := otlploghttp.New(ctx, otlploghttp.WithEndpointURL(e.base+"/v1/logs"), otlploghttp.WithTimeout(ExportTimeout), otlploghttp.WithRetry(otlploghttp.RetryConfig{}))
	if err != nil {
		return nil, err
	}
	l := &Logs{exporter: exporter}
	provider := log.NewLoggerProvider(log.WithProcessor(&l.emitted), log.WithResource(e.resource), log.WithAttributeCountLimit(-1))
	l.logger = provider.Logger("sluice.dev/sluice/access")
	return l, nil
}

// Write implements accesslog.Output.
func (l *Logs) Write(batch []record.Record) (lost int, err error) {
	for len(batch) > 0 {
		part := batch[:min(len(batch), MaxBatch)]
		batch = batch[len(part):]
		l.emitted.all = l.emitted.all[:0]
		for i := range part {
			l.emit(&part[i])
		}
		ctx, cancel := context.WithTimeout(context.Background(), ExportTimeout)
		failed := l.exporter.Export(ctx, l.emitted.all)
		cancel()
		if failed != nil {
			lost += len(part)
			err = failed
		}
	}
	return lost, err
}

// Close implements accesslog.Output.
func (l *Logs) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), EndTimeout)
	defer cancel()
	return l.exporter.Shutdown(ctx)
}

func (l *Logs) emit(of *record.Record) {
	var r otellog.Record
	r.SetTimestamp(of.Start.Add(of.Duration))
	r.SetObservedTimestamp(time.Now())
	r.SetSeverity(severity(of.Verdict))
	r.SetEventName("sluice.access")
	l.scratch = attributes(l.scratch[:0], of)
	r.AddAttributes(l.scratch...)
	l.logger.Emit(context.Background(), r)
}

func severity(v record.Verdict) otellog.Severity {
	switch v {
	case record.Denied:
		return otellog.SeverityWarn
	case record.Failed:
		return otellog.SeverityError
	}
	return otellog.SeverityInfo
}

// attributes appends what a record has a value of.
func attributes(to []attribute.KeyValue, of *record.Record) []attribute.KeyValue {
	all := seen.All()
	for i := range all {
		a := &all[i]
		v := a.Of(of)
		if a.Secret() {
			v = v.Redacted()
		}
		switch v.Type {
		case seen.None:
		case seen.Int64:
			to = append(to, attribute.Int64(a.Name, v.Number()))
		case seen.Duration:
			to = append(to, attribute.Float64(a.Name, time.Duration(v.Number()).Seconds()))
		default: // a text that is not UTF-8, such as a server name of a client's, would spoil the whole message
			to = append(to, attribute.String(a.Name, strings.ToValidUTF8(string(v.Append(nil)), "\ufffd")))
		}
	}
	return to
}
