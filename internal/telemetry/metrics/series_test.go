package metrics

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"sluice.dev/sluice/internal/record"
)

// clocked is metrics whose clock is the test's.
func clocked(t *testing.T, series int) (m *Proxy, now *time.Time) {
	m = newProxy(t, series)
	at := time.Unix(1_000_000, 0)
	m.traffic.now = func() time.Time { return at }
	return m, &at
}

func TestSeriesOfWhatIsGoneForLongAreGivenBack(t *testing.T) {
	m, now := clocked(t, MaxSeries)
	m.Closed(request(1, 1))
	m.Closed(connection(1))
	m.Closed(denied(1, "old"))
	exposed(t, m)
	before := m.traffic.used.Load()
	for *now = now.Add(GoneAfter / 2); ; *now = now.Add(GoneAfter / 2) {
		m.Closed(request(2, 2)) // this one goes on
		_, text := exposed(t, m)
		if !strings.Contains(text, `rule="egress-policy/default/rule-2"`) {
			t.Fatal("a series with traffic is gone")
		}
		if !strings.Contains(text, `rule="egress-policy/default/rule-1"`) {
			break
		}
		if now.Sub(time.Unix(1_000_000, 0)) > 2*GoneAfter {
			t.Fatal("series of what is gone are still there")
		}
	}
	if _, text := exposed(t, m); strings.Contains(text, `rule="old"`) || strings.Contains(text, "sluice_connections_total{") {
		t.Error("something of what is gone is left")
	}
	if used := m.traffic.used.Load(); used >= before || used != perOthers+1+perSizes {
		t.Errorf("%d series are said to be used, %d before", used, before)
	}
}

// What finds no series takes that of something that had no traffic for an hour, at the
// next scrape.
func TestAFullTableGivesBackSooner(t *testing.T) {
	m, now := clocked(t, MinSeries)
	for rule := range 100 {
		m.Closed(request(1, rule))
	}
	exposed(t, m)
	*now = now.Add(GoneAfterWhenFull)
	m.Closed(request(1, 1000))
	exposed(t, m)
	m.Closed(request(1, 1000))
	if _, text := exposed(t, m); !strings.Contains(text, "rule-1000") {
		t.Error("nothing was given back to a new rule")
	}
}

// Where the table is full, nobody who counts waits for another one who does: the lock is
// shared, which a test sees by holding it so.
func TestAtTheBoundCountingTakesNoLockOfItsOwn(t *testing.T) {
	m := newProxy(t, MinSeries)
	for rule := range 100 {
		m.Closed(request(1, rule))
		m.Closed(denied(1, fmt.Sprint(rule)))
	}
	m.traffic.used.Store(m.traffic.most.Load()) // not even one more
	m.traffic.mu.RLock()
	defer m.traffic.mu.RUnlock()
	before := m.traffic.overflow.Load()
	counted := make(chan struct{})
	go func() {
		for rule := range 1000 {
			m.Closed(request(2, rule+1000))
			r := connection(2)
			r.Rule = fmt.Sprint("relay-", rule)
			m.Closed(r)
			m.Closed(denied(2, fmt.Sprint("none-", rule)))
		}
		close(counted)
	}()
	select {
	case <-counted:
	case <-time.After(time.Minute):
		t.Fatal("counting waits for a lock that is held shared")
	}
	if n := m.traffic.overflow.Load() - before; n < 3000 {
		t.Errorf("%d of 3000 were counted as other", n)
	}
}

// While series are given back and made anew, no request is lost or counted twice.
func TestNothingIsLostWhileSeriesAreGivenBack(t *testing.T) {
	m := newProxy(t, MinSeries)
	m.traffic.set(MaxSeries, nil)
	var work sync.WaitGroup
	const each = 2000
	for worker := range 4 {
		work.Go(func() {
			for i := range each {
				m.Closed(request(worker, i%7))
			}
		})
	}
	for i := range 200 {
		m.traffic.set(MinSeries+i%2*1000, nil)
		exposed(t, m)
	}
	work.Wait()
	if used := m.traffic.used.Load(); used < perOthers || used > m.traffic.most.Load() {
		t.Errorf("%d series are said to be used, of %d", used, m.traffic.most.Load())
	}
	left := perOthers
	for range m.traffic.requests {
		left++
	}
	left += int64(len(m.traffic.sizes)) * perSizes
	if left != m.traffic.used.Load() {
		t.Errorf("%d series are there, %d are said to be used", left, m.traffic.used.Load())
	}
}

func TestTheBoundMayChangeWhileTheProxyRuns(t *testing.T) {
	m := newProxy(t, MaxSeries)
	for rule := range 200 {
		m.Closed(request(1, rule))
	}
	if err := m.Set(Settings{Series: MinSeries}); err != nil {
		t.Fatal(err)
	}
	if n, _ := exposed(t, m); n > MinSeries {
		t.Errorf("%d series are shown, more than %d", n, MinSeries)
	}
	if err := m.Set(Settings{Series: MinSeries - 1}); err == nil {
		t.Error("fewer than the least are taken")
	}
}

func inside(workload int) *record.Record {
	r := request(workload, 0)
	r.Direction, r.Rule = record.Mesh, "route-rule/default/reviews"
	r.Destination = record.NewEnd(record.Party{Workload: "reviews-v3", Service: "reviews.default.svc.cluster.local", Namespace: "default", Version: "v3", Account: "reviews"})
	return r
}

func TestDashboardsOfIstioFindWhatTheyAskFor(t *testing.T) {
	m := newProxy(t, MaxSeries)
	m.Closed(request(1, 1))
	m.Closed(inside(1))
	other := inside(1) // by another rule, which is no label of Istio's
	other.Rule = "route-rule/default/other"
	m.Closed(other)
	m.Closed(connection(1))
	if _, text := exposed(t, m); strings.Contains(text, "istio_") {
		t.Fatal("names of Istio are shown though nobody asked")
	}
	if err := m.Set(Settings{Series: MaxSeries, Istio: true, Domain: "cluster.local"}); err != nil {
		t.Fatal(err)
	}
	_, text := exposed(t, m)
	const reviews = `connection_mtls="false",destination_app="reviews",destination_principal="cluster.local/ns/default/sa/reviews",destination_service="reviews.default.svc.cluster.local",` +
		`destination_service_name="reviews",destination_service_namespace="default",destination_version="v3",destination_workload="reviews-v3",destination_workload_namespace="default",`
	const from = `source_app="details",source_principal="unknown",source_version="v1",source_workload="details-v1",source_workload_namespace="default"} `
	for _, want := range []string{
		`istio_requests_total{` + reviews + `reporter="destination",request_protocol="http",response_code="200",` + from + "2\n",
		`istio_requests_total{` + reviews + `reporter="source",request_protocol="http",response_code="200",` + from + "2\n",
		`istio_request_duration_seconds_count{` + reviews + `reporter="destination",request_protocol="http",` + from + "2\n",
		`istio_request_bytes_sum{` + reviews, `istio_response_bytes_sum{` + reviews,
		`destination_service="egress-policy/default/rule-1",destination_service_name="egress-policy/default/rule-1",destination_service_namespace="unknown",destination_version="unknown",destination_workload="unknown",destination_workload_namespace="unknown",reporter="source",`,
		`istio_tcp_sent_bytes_total{`, `istio_tcp_received_bytes_total{`, "sluice_requests_total{",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("this is missing: %s in\n%s", want, text)
		}
	}
	if strings.Contains(text, `destination_service="egress-policy/default/rule-1",`) && strings.Contains(text, `destination_workload_namespace="unknown",reporter="destination"`) {
		t.Error("a destination outside the mesh reports")
	}
	promtoolFindsNothing(t, text)
}

func TestNamesOfIstioCountTowardsTheBound(t *testing.T) {
	for _, most := range []int{MinSeries, MaxSeries} {
		m := newProxy(t, most)
		if err := m.Set(Settings{Series: most, Istio: true}); err != nil {
			t.Fatal(err)
		}
		for rule := range 2000 {
			r := inside(rule)
			r.Rule = fmt.Sprint(rule)
			m.Closed(r)
			m.Closed(denied(rule, fmt.Sprint(rule)))
			m.Closed(connection(rule))
		}
		if n, _ := exposed(t, m); n > most || n < most/3 {
			t.Errorf("%d series are shown of %d", n, most)
		}
	}
}

func BenchmarkMetricsPastTheBound(b *testing.B) {
	m := newProxy(b, MinSeries)
	for rule := range 100 {
		m.Closed(request(1, rule))
	}
	r := request(2, 1000)
	b.ReportAllocs()
	before := processor(b)
	for b.Loop() {
		m.Closed(r)
	}
	b.ReportMetric(float64(processor(b)-before)/float64(b.N), "cpu-ns/op")
}
