package otlp

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	collogs "go.opentelemetry.io/proto/otlp/collector/logs/v1"
	"google.golang.org/protobuf/proto"

	"sluice.dev/sluice/internal/policy"
	"sluice.dev/sluice/internal/record"
	"sluice.dev/sluice/internal/refusal"
)

func recorded() *record.Record {
	return &record.Record{
		ID: 7, Start: time.Unix(1_700_000_000, 0), Duration: time.Second, Workload: "details-v2/1", Direction: record.Egress, Dialled: "www.example.com", Port: 443,
		Host: "www.example.com", Method: "GET", Path: "/a;key=s3cret", Sniffed: policy.HTTP, Verdict: record.Denied, Reason: refusal.NoRule, Status: 403,
	}
}

func TestTheAccessLogGoesToTheCollectorAsAttributes(t *testing.T) {
	got := make(chan *collogs.ExportLogsServiceRequest, 16)
	refuse := false
	collector := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		message := new(collogs.ExportLogsServiceRequest)
		if err := proto.Unmarshal(body(t, r), message); err != nil || r.URL.Path != "/v1/logs" {
			t.Errorf("%s: %v", r.URL, err)
		}
		if refuse {
			http.Error(w, "full", http.StatusServiceUnavailable)
			return
		}
		got <- message
	}))
	defer collector.Close()
	e, err := New(Config{URL: collector.URL, Service: "sluice-proxy", Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	l, err := e.Logs(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	batch := []record.Record{*recorded(), *recorded()}
	batch[1].SNI = "\xff.example.com" // a client says what it likes, and may not hide a batch by that
	if lost, err := l.Write(batch); lost != 0 || err != nil {
		t.Fatal(lost, err)
	}
	lines := (<-got).ResourceLogs[0].ScopeLogs[0].LogRecords
	values := make(map[string]string)
	for _, a := range lines[0].Attributes {
		values[a.Key] = a.Value.GetStringValue()
	}
	if len(lines) != 2 || values["check.id"] != "0000000000000007" || values["request.path"] != "/a;key=*" || values["check.error_code"] != "no-rule" || len(values) < 15 {
		t.Errorf("%v", lines)
	}
	for _, a := range lines[1].Attributes {
		values[a.Key] = a.Value.GetStringValue()
	}
	if values["connection.requested_server_name"] != "\ufffd.example.com" {
		t.Errorf("%v", lines[1])
	}
	refuse = true
	if lost, err := l.Write(batch); lost != 2 || err == nil {
		t.Errorf("%d are lost where the collector refuses: %v", lost, err)
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
}
