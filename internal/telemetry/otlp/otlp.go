// Package otlp sends what a program sees of itself to a collector of OpenTelemetry, by OTLP
// over HTTP. The programs call it. It never blocks the data path: what the collector does
// not take in time is dropped.
package otlp

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	bridge "go.opentelemetry.io/contrib/bridges/prometheus"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlpmetric/otlpmetrichttp"
	"go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/resource"
	"golang.org/x/time/rate"

	"sluice.dev/sluice/internal/version"
)

// Bounds of what is sent.
const (
	MetricsEvery  = 15 * time.Second // how often metrics are sent
	ExportTimeout = 10 * time.Second // of one message to the collector
	EndTimeout    = time.Second      // for what waits when the program ends
)

// Config says where to and who sends.
type Config struct {
	URL      string // of the collector: http://127.0.0.1:4318; paths of signals come behind it
	Service  string // the program
	Instance string // which of them
	Log      *slog.Logger
	Every    time.Duration // MetricsEvery where 0
}

// Exporter sends to one collector.
type Exporter struct {
	config   Config
	base     string
	resource *resource.Resource
}

// New checks where to. Nothing is sent yet.
func New(c Config) (*Exporter, error) {
	u, err := url.Parse(c.URL)
	switch {
	case err != nil:
		return nil, fmt.Errorf("%q is not a URL such as http://127.0.0.1:4318", c.URL)
	case u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.RawQuery != "" || u.Fragment != "" || u.User != nil:
		return nil, fmt.Errorf("%q must be http or https, a host and a port, as in http://127.0.0.1:4318", u.Redacted())
	}
	if c.Every <= 0 {
		c.Every = MetricsEvery
	}
	told := rate.Sometimes{First: 1, Interval: time.Minute}
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) {
		told.Do(func() { c.Log.Warn("the collector of --otlp does not take what is sent", "error", err) })
	}))
	return &Exporter{config: c, base: strings.TrimSuffix(u.String(), "/"), resource: resource.NewSchemaless(
		attribute.String("service.name", c.Service), attribute.String("service.instance.id", c.Instance), attribute.String("service.version", version.String()),
	)}, nil
}

// Metrics sends what is gathered, again and again, until end is called, which sends it once
// more and waits for EndTimeout at most.
func (e *Exporter) Metrics(ctx context.Context, from prometheus.Gatherer) (end func(), err error) {
	exporter, err := otlpmetrichttp.New(ctx, otlpmetrichttp.WithEndpointURL(e.base+"/v1/metrics"), otlpmetrichttp.WithTimeout(ExportTimeout))
	if err != nil {
		return nil, err
	}
	reader := metric.NewPeriodicReader(exporter, metric.WithInterval(e.config.Every), metric.WithTimeout(ExportTimeout), metric.WithProducer(bridge.NewMetricProducer(bridge.WithGatherer(from))))
	provider := metric.NewMeterProvider(metric.WithReader(reader), metric.WithResource(e.resource))
	return func() { e.end(provider.Shutdown) }, nil
}

func (e *Exporter) end(shutdown func(context.Context) error) {
	ctx, cancel := context.WithTimeout(context.Background(), EndTimeout)
	defer cancel()
	if err := shutdown(ctx); err != nil && !errors.Is(err, context.DeadlineExceeded) {
		e.config.Log.Warn("the collector of --otlp did not take the last of what was to be sent", "error", err)
	}
}
