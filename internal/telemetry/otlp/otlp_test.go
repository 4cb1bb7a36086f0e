package otlp

import (
	"bytes"
	"compress/gzip"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	colmetrics "go.opentelemetry.io/proto/otlp/collector/metrics/v1"
	"google.golang.org/protobuf/proto"
)

// body is what a collector was sent.
func body(t *testing.T, r *http.Request) []byte {
	t.Helper()
	var from io.Reader = r.Body
	if r.Header.Get("Content-Encoding") == "gzip" {
		unpacked, err := gzip.NewReader(r.Body)
		if err != nil {
			t.Error(err)
			return nil
		}
		from = unpacked
	}
	data, err := io.ReadAll(from)
	if err != nil {
		t.Error(err)
	}
	return data
}

func gathered(t *testing.T) *prometheus.Registry {
	t.Helper()
	registry := prometheus.NewRegistry()
	c := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "things_total", Help: "Things."}, []string{"kind"})
	c.WithLabelValues("round").Add(3)
	registry.MustRegister(c)
	return registry
}

func TestACollectorGetsTheMetricsOfTheProgram(t *testing.T) {
	got := make(chan *colmetrics.ExportMetricsServiceRequest, 16)
	collector := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		message := new(colmetrics.ExportMetricsServiceRequest)
		if err := proto.Unmarshal(body(t, r), message); err != nil || r.URL.Path != "/base/v1/metrics" {
			t.Errorf("%s: %v", r.URL, err)
		}
		select {
		case got <- message:
		default:
		}
	}))
	defer collector.Close()
	e, err := New(Config{URL: collector.URL + "/base/", Service: "sluice-proxy", Instance: "one", Log: slog.New(slog.DiscardHandler), Every: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	end, err := e.Metrics(t.Context(), gathered(t))
	if err != nil {
		t.Fatal(err)
	}
	message := <-got
	end()
	of := message.ResourceMetrics[0]
	text := of.Resource.String()
	if !strings.Contains(text, "sluice-proxy") || !strings.Contains(text, "service.instance.id") {
		t.Errorf("the resource is %s", text)
	}
	m := of.ScopeMetrics[0].Metrics[0]
	if m.Name != "things_total" || m.GetSum().DataPoints[0].GetAsDouble() != 3 || m.GetSum().DataPoints[0].Attributes[0].Value.GetStringValue() != "round" {
		t.Errorf("the metric is %v", m)
	}
}

// A collector that takes and never answers holds up nobody, and not the program's end for
// long.
func TestACollectorThatHangsHoldsUpNobody(t *testing.T) {
	asked, hang := make(chan struct{}, 16), make(chan struct{})
	collector := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		asked <- struct{}{}
		<-hang
	}))
	defer collector.Close()
	defer close(hang)
	e, err := New(Config{URL: collector.URL, Service: "sluice-proxy", Log: slog.New(slog.DiscardHandler), Every: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	end, err := e.Metrics(t.Context(), gathered(t))
	if err != nil {
		t.Fatal(err)
	}
	<-asked
	ended := make(chan struct{})
	go func() { end(); close(ended) }()
	select {
	case <-ended:
	case <-time.After(ExportTimeout):
		t.Error("the end waits for the collector")
	}
}

func TestTheCollectorIsAURLOfHTTP(t *testing.T) {
	var said bytes.Buffer
	for _, bad := range []string{"127.0.0.1:4318", "grpc://a:4317", "http://", "http://u:secret@a:1", "http://a:1?x=y", "http://a:1#f", "%"} {
		_, err := New(Config{URL: bad, Log: slog.New(slog.DiscardHandler)})
		if err == nil {
			t.Errorf("%s is taken", bad)
			continue
		}
		said.WriteString(err.Error())
	}
	if strings.Contains(said.String(), "secret") {
		t.Error("a password is repeated")
	}
}
