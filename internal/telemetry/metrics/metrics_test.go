package metrics

import (
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"sluice.dev/sluice/internal/policy"
	"sluice.dev/sluice/internal/record"
	"sluice.dev/sluice/internal/refusal"
)

func newProxy(t testing.TB, series int) *Proxy {
	t.Helper()
	m, err := NewProxy(series)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func source(i int) record.End {
	return record.NewEnd(record.Party{Workload: fmt.Sprintf("details-v%d", i), Service: "details", Namespace: "default", Version: fmt.Sprintf("v%d", i)})
}

func request(workload, rule int) *record.Record {
	return &record.Record{
		ID: 1, Start: time.Unix(1, 0), Duration: 3 * time.Millisecond, Workload: "details-v2/1", Source: source(workload), Direction: record.Egress,
		Dialled: "www.example.com", Port: 443, Host: "www.example.com", Method: "GET", Path: "/", Sniffed: policy.HTTP,
		Verdict: record.Allowed, Rule: fmt.Sprintf("egress-policy/default/rule-%d", rule), Treatment: policy.Originate, Status: 200, Sent: 120, Received: 4000,
	}
}

func connection(workload int) *record.Record {
	r := request(workload, 0)
	r.Method, r.Status, r.Sniffed, r.Treatment = "", 0, policy.ClientHello, policy.Passthrough
	return r
}

func denied(workload int, rule string) *record.Record {
	r := request(workload, 0)
	r.Verdict, r.Reason, r.Rule, r.Status, r.Treatment = record.Denied, refusal.NoRule, rule, 403, policy.Refuse
	return r
}

// exposed is the series that a scrape in the text format shows.
func exposed(t testing.TB, m *Proxy) (series int, text string) {
	t.Helper()
	answer := httptest.NewRecorder()
	m.Handler(slog.New(slog.DiscardHandler)).ServeHTTP(answer, httptest.NewRequest("GET", "/metrics", nil))
	if answer.Code != http.StatusOK {
		t.Fatalf("a scrape is answered with %d: %s", answer.Code, answer.Body)
	}
	for line := range strings.Lines(answer.Body.String()) {
		if !strings.HasPrefix(line, "#") {
			series++
		}
	}
	return series, answer.Body.String()
}

func TestSeriesExistOnlyOfWhatHadTraffic(t *testing.T) {
	m := newProxy(t, MaxSeries)
	for range 3 {
		for workload := range 3 {
			for rule := range 20 { // of 5,000: rules make no series
				m.Closed(request(workload, rule))
			}
		}
	}
	n, text := exposed(t, m)
	if n > 2000 {
		t.Errorf("20 rules and 3 workloads make %d series", n)
	}
	if want := `sluice_requests_total{code="200",destination_namespace="",destination_version="",destination_workload="",direction="egress",flags="",protocol="https",rule="egress-policy/default/rule-7",source_namespace="default",source_version="v2",source_workload="details-v2"} 3` + "\n"; !strings.Contains(text, want) {
		t.Errorf("this is missing:\n%s", want)
	}
	if !strings.Contains(text, "sluice_metrics_overflow_total 0\n") {
		t.Error("something was counted as other")
	}
}

func TestNoTrafficMakesMoreSeriesThanTheBound(t *testing.T) {
	for _, most := range []int{MinSeries, MaxSeries} {
		m := newProxy(t, most)
		sent := 0
		for workload := range 3 {
			for rule := range 5000 {
				m.Closed(request(workload, rule))
				m.Closed(denied(workload, fmt.Sprint("rule-", rule)))
				sent += 2
			}
			m.Closed(connection(workload))
		}
		for code := range 1000 { // whatever a server answers
			r := request(0, 0)
			r.Status = code + 1
			m.Closed(r)
			sent++
		}
		n, text := exposed(t, m)
		if n > most {
			t.Errorf("%d series are shown, more than %d", n, most)
		}
		if n < most/2 {
			t.Errorf("only %d of %d series are used", n, most)
		}
		if got := total(t, m, "sluice_requests_total"); got != float64(sent) {
			t.Errorf("%v requests were counted, not %d", got, sent)
		}
		if !strings.Contains(text, `source_workload="other"`) || strings.Contains(text, "sluice_metrics_overflow_total 0\n") {
			t.Error("nothing was counted as other")
		}
	}
}

func total(t *testing.T, m *Proxy, name string) (sum float64) {
	t.Helper()
	families, err := m.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		if family.GetName() == name {
			for _, metric := range family.Metric {
				sum += metric.GetCounter().GetValue()
			}
		}
	}
	return sum
}

// A destination that no rule names is no label, nor is what a client says.
func TestWhatStrangersChooseIsNoLabel(t *testing.T) {
	m := newProxy(t, MaxSeries)
	for i := range 1000 {
		for _, r := range []*record.Record{denied(1, ""), request(1, 1), connection(1)} {
			r.ID = record.ID(i + 1)
			name := fmt.Sprintf("stranger-%d", i)
			r.Dialled, r.Host, r.SNI, r.Method, r.Path, r.Upgrade, r.Detail, r.Upstream, r.Snapshot = name, name, name, name, name, name, name, name, name
			r.Port = uint16(i + 1)
			m.Closed(r)
		}
	}
	if n, text := exposed(t, m); n > 150 || strings.Contains(text, "stranger") {
		t.Errorf("strangers made series: %d", n)
	}
}

func TestDenialsAreCountedByRuleAndReason(t *testing.T) {
	m := newProxy(t, MaxSeries)
	m.Closed(denied(1, "egress-rule/default/googleapis"))
	failed := request(1, 1)
	failed.Verdict, failed.Reason, failed.Status = record.Failed, refusal.ConnectRefused, 502
	m.Closed(failed)
	_, text := exposed(t, m)
	for _, want := range []string{
		`sluice_denials_total{direction="egress",reason="no-rule",rule="egress-rule/default/googleapis",source_namespace="default",source_version="v1",source_workload="details-v1"} 1`,
		`flags="UF",protocol="https"`,
	} {
		if !strings.Contains(text, want) {
			t.Errorf("%s is missing in\n%s", want, text)
		}
	}
	if got := total(t, m, "sluice_denials_total"); got != 1 {
		t.Errorf("%v denials", got)
	}
}

func TestBytesOfConnectionsAreCounted(t *testing.T) {
	m := newProxy(t, MaxSeries)
	for range 3 {
		m.Closed(connection(1))
	}
	for name, want := range map[string]float64{"sluice_connections_total": 3, "sluice_connection_sent_bytes_total": 360, "sluice_connection_received_bytes_total": 12000, "sluice_requests_total": 0} {
		if got := total(t, m, name); got != want {
			t.Errorf("%s is %v, not %v", name, got, want)
		}
	}
}

// One histogram is shown in two ways; both say the same.
func TestAHistogramIsClassicAndNative(t *testing.T) {
	library := prometheus.NewHistogram(prometheus.HistogramOpts{
		Name: "x", Buckets: seconds.bounds, NativeHistogramBucketFactor: 1.1, NativeHistogramZeroThreshold: 1.0 / (1 << 24),
	})
	own := newHistogram(&seconds)
	for _, v := range []float64{0, 1e-9, 1e-6, 0.001, 0.0011, 0.5, 0.5, 1, 2, 3, 9.99, 10, 10.01, 3600} {
		library.Observe(v)
		own.observe(&seconds, v)
	}
	var want, got dto.Metric
	if err := library.Write(&want); err != nil {
		t.Fatal(err)
	}
	own.write(&seconds, &got)
	want.Histogram.CreatedTimestamp = nil
	if w, g := want.Histogram.String(), got.Histogram.String(); strings.ReplaceAll(w, "  ", " ") != strings.ReplaceAll(g, "  ", " ") {
		t.Errorf("the library says\n%s\nand ours\n%s", w, g)
	}
	own.observe(&seconds, 1e300)
	own.observe(&seconds, -1)
	if own.count != 16 {
		t.Errorf("count is %d", own.count)
	}
}

func TestPromtoolFindsNothing(t *testing.T) {
	m := newProxy(t, MaxSeries)
	m.Closed(request(1, 1))
	m.Closed(connection(1))
	m.Closed(denied(1, ""))
	_, text := exposed(t, m)
	promtoolFindsNothing(t, text)
}

func promtoolFindsNothing(t *testing.T, text string) {
	t.Helper()
	promtool, err := exec.LookPath("promtool")
	if err != nil {
		t.Skip("promtool is not installed (Debian's package prometheus has it)")
	}
	cmd := exec.Command(promtool, "check", "metrics")
	cmd.Stdin = strings.NewReader(text)
	if out, err := cmd.CombinedOutput(); err != nil || len(strings.TrimSpace(string(out))) > 0 {
		t.Errorf("promtool: %v\n%s", err, out)
	}
}

func TestCountingARecordAllocatesNothing(t *testing.T) {
	m, ring := newProxy(t, MaxSeries), record.NewRing()
	for name, r := range map[string]*record.Record{"request": request(1, 1), "connection": connection(1), "denial": denied(1, "rule")} {
		m.Closed(r)
		ring.Closed(r)
		if n := testing.AllocsPerRun(1000, func() { m.Closed(r); ring.Closed(r) }); n != 0 {
			t.Errorf("a %s allocates %v times", name, n)
		}
	}
}

func BenchmarkMetricsAndRing(b *testing.B) {
	m, ring, r := newProxy(b, MaxSeries), record.NewRing(), request(1, 1)
	for rule := range 100 {
		m.Closed(request(1, rule))
	}
	b.ReportAllocs()
	before := processor(b)
	for b.Loop() {
		m.Closed(r)
		ring.Closed(r)
	}
	b.ReportMetric(float64(processor(b)-before)/float64(b.N), "cpu-ns/op")
}

// processor is the time that this process had of a processor: what counts where others
// use the machine too.
func processor(b *testing.B) time.Duration {
	var used syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
		b.Fatal(err)
	}
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}

func BenchmarkMetrics(b *testing.B) {
	m, r := newProxy(b, MaxSeries), request(1, 1)
	for rule := range 100 {
		m.Closed(request(1, rule))
	}
	b.ReportAllocs()
	before := processor(b)
	for b.Loop() {
		m.Closed(r)
	}
	b.ReportMetric(float64(processor(b)-before)/float64(b.N), "cpu-ns/op")
}

func BenchmarkScrape(b *testing.B) {
	m := newProxy(b, MaxSeries)
	for rule := range 5000 {
		m.Closed(request(1, rule))
	}
	handler := m.Handler(slog.New(slog.DiscardHandler))
	for b.Loop() {
		answer := httptest.NewRecorder()
		handler.ServeHTTP(answer, httptest.NewRequest("GET", "/metrics", nil))
		io.Copy(io.Discard, answer.Body)
	}
}
