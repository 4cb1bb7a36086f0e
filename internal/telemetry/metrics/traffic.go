package metrics

import (
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"sluice.dev/sluice/internal/record"
	"sluice.dev/sluice/internal/telemetry/attribute"
)

// Other is the value of every label of what found no series any more.
const Other = "other"

// path is who went where by which rule: what all series of traffic are labelled with. A
// destination outside the mesh is known by its rule alone, for strangers choose its name.
type path struct {
	source, destination record.End
	direction           string
	rule                string
	protocol            string
}

// outcome is a path and what came of it.
type outcome struct {
	path
	code int
	flag string
}

// denial is who was denied and why.
type denial struct {
	source    record.End
	direction string
	rule      string
	reason    string
}

// counter is the requests of one outcome.
type counter struct {
	count atomic.Uint64
	sizes *sizes
}

// sizes is what requests of one path took.
type sizes struct {
	mu                       sync.Mutex
	duration, sent, received histogram
}

// bytes is the connections of one outcome whose bytes were carried.
type bytes struct{ connections, sent, received atomic.Uint64 }

// traffic is the series that records make. There are as many as there was traffic of, and
// at most room for.
type traffic struct {
	mu          sync.RWMutex
	left        int // series that may still be made
	requests    map[outcome]*counter
	sizes       map[path]*sizes
	connections map[outcome]*bytes
	denials     map[denial]*atomic.Uint64

	overflow atomic.Uint64 // how often something was counted as Other
}

var others = record.NewEnd(record.Party{Workload: Other, Service: Other, Namespace: Other, Version: Other, Account: Other})

var (
	otherPath    = path{others, others, Other, Other, Other}
	otherOutcome = outcome{otherPath, otherCode, Other}
	otherDenial  = denial{others, Other, Other, Other}
)

// otherCode stands for a status that HTTP does not know: a server chooses it.
const otherCode = -1

// Series that one of each makes.
var (
	perSizes       = seconds.series() + 2*octets.series()
	perConnections = 3
	perOthers      = 1 + perSizes + perConnections + 1
)

func newTraffic(most int) *traffic {
	t := &traffic{
		left: max(most, perOthers), requests: make(map[outcome]*counter), sizes: make(map[path]*sizes),
		connections: make(map[outcome]*bytes), denials: make(map[denial]*atomic.Uint64),
	}
	t.left -= perOthers // what finds no series is counted, whatever comes
	return t
}

// closed counts a record.
func (t *traffic) closed(r *record.Record) {
	if r.Question != "" {
		return // counted where it was answered
	}
	rule := path{r.Source, r.Destination, r.Direction.String(), r.Rule, attribute.Protocol(r)}
	o := outcome{rule, code(r.Status), r.Reason.Flag()}
	if attribute.IsRequest(r) {
		c := t.counter(&o)
		c.count.Add(1)
		s := c.sizes
		s.mu.Lock()
		s.duration.observe(&seconds, r.Duration.Seconds())
		s.sent.observe(&octets, float64(r.Sent))
		s.received.observe(&octets, float64(r.Received))
		s.mu.Unlock()
	} else {
		b := t.bytes(&o)
		b.connections.Add(1)
		b.sent.Add(uint64(max(r.Sent, 0)))
		b.received.Add(uint64(max(r.Received, 0)))
	}
	if r.Verdict == record.Denied {
		t.denial(&denial{r.Source, rule.direction, r.Rule, string(r.Reason)}).Add(1)
	}
}

// code bounds the codes of a label to those that HTTP knows.
func code(status int) int {
	if status != 0 && http.StatusText(status) == "" && status != 499 {
		return otherCode
	}
	return status
}

// held returns the series of a key, nil where there is none yet.
func held[K comparable, V any](t *traffic, all map[K]*V, key *K) *V {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return all[*key]
}

// room takes off the series that a new key needs; it reports false where there are not as
// many left. The lock is held.
func (t *traffic) room(series int) bool {
	if series > t.left {
		t.overflow.Add(1)
		return false
	}
	t.left -= series
	return true
}

func (t *traffic) counter(o *outcome) *counter {
	if c := held(t, t.requests, o); c != nil {
		return c
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	key, cost := *o, 1
	if t.sizes[key.path] == nil {
		cost += perSizes
	}
	if t.requests[key] == nil && !t.room(cost) {
		key = otherOutcome // whose series were taken off at the start
	}
	if t.sizes[key.path] == nil {
		t.sizes[key.path] = &sizes{duration: newHistogram(&seconds), sent: newHistogram(&octets), received: newHistogram(&octets)}
	}
	if t.requests[key] == nil {
		t.requests[key] = &counter{sizes: t.sizes[key.path]}
	}
	return t.requests[key]
}

func (t *traffic) bytes(o *outcome) *bytes {
	if b := held(t, t.connections, o); b != nil {
		return b
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	key := *o
	if t.connections[key] == nil && !t.room(perConnections) {
		key = otherOutcome
	}
	if t.connections[key] == nil {
		t.connections[key] = new(bytes)
	}
	return t.connections[key]
}

func (t *traffic) denial(d *denial) *atomic.Uint64 {
	if n := held(t, t.denials, d); n != nil {
		return n
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	key := *d
	if t.denials[key] == nil && !t.room(1) {
		key = otherDenial
	}
	if t.denials[key] == nil {
		t.denials[key] = new(atomic.Uint64)
	}
	return t.denials[key]
}

var pathLabels = []string{
	"direction", "source_workload", "source_namespace", "source_version",
	"destination_workload", "destination_namespace", "destination_version", "rule", "protocol",
}

func (p *path) labels() []string {
	from, to := p.source.Party(), p.destination.Party()
	return []string{p.direction, from.Workload, from.Namespace, from.Version, to.Workload, to.Namespace, to.Version, p.rule, p.protocol}
}

func (o *outcome) labels() []string {
	code := strconv.Itoa(o.code)
	if o.code == otherCode {
		code = Other
	}
	return append(o.path.labels(), code, o.flag)
}

func (d *denial) labels() []string {
	from := d.source.Party()
	return []string{d.direction, from.Workload, from.Namespace, from.Version, d.rule, d.reason}
}

var outcomeLabels = append(append([]string(nil), pathLabels...), "code", "flags")

// What is said of traffic.
var (
	requestsDesc = prometheus.NewDesc("sluice_requests_total", "Requests of HTTP that have ended.", outcomeLabels, nil)
	durationDesc = prometheus.NewDesc("sluice_request_duration_seconds", "From the first byte of a request to the last of its answer.", pathLabels, nil)
	sentDesc     = prometheus.NewDesc("sluice_request_size_bytes", "Bytes of a request, head and body.", pathLabels, nil)
	receivedDesc = prometheus.NewDesc("sluice_response_size_bytes", "Bytes of an answer, head and body.", pathLabels, nil)

	connectionsDesc   = prometheus.NewDesc("sluice_connections_total", "Connections that were carried or refused as a whole and have ended.", outcomeLabels, nil)
	bytesSentDesc     = prometheus.NewDesc("sluice_connection_sent_bytes_total", "Bytes from workloads on such connections, counted at their end.", outcomeLabels, nil)
	bytesReceivedDesc = prometheus.NewDesc("sluice_connection_received_bytes_total", "Bytes to workloads on such connections, counted at their end.", outcomeLabels, nil)

	denialsDesc = prometheus.NewDesc("sluice_denials_total", "Denied connections and requests, by reason and the rule that came closest.",
		[]string{"direction", "source_workload", "source_namespace", "source_version", "rule", "reason"}, nil)
	overflowDesc = prometheus.NewDesc("sluice_metrics_overflow_total", "How often something was counted as \"other\", for want of a series.", nil, nil)
)

// Describe implements prometheus.Collector.
func (t *traffic) Describe(to chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{requestsDesc, durationDesc, sentDesc, receivedDesc, connectionsDesc, bytesSentDesc, bytesReceivedDesc, denialsDesc, overflowDesc} {
		to <- d
	}
}

// Collect implements prometheus.Collector.
func (t *traffic) Collect(to chan<- prometheus.Metric) {
	var all []prometheus.Metric // sent without the lock: who reads may be slow
	count := func(desc *prometheus.Desc, n uint64, labels []string) {
		all = append(all, prometheus.MustNewConstMetric(desc, prometheus.CounterValue, float64(n), labels...))
	}
	t.mu.RLock()
	for o, c := range t.requests {
		count(requestsDesc, c.count.Load(), o.labels())
	}
	for p, s := range t.sizes {
		labels := p.labels()
		s.mu.Lock()
		duration, sent, received := s.duration.copy(), s.sent.copy(), s.received.copy()
		s.mu.Unlock()
		all = append(all, observed{durationDesc, &seconds, duration, labels}, observed{sentDesc, &octets, sent, labels}, observed{receivedDesc, &octets, received, labels})
	}
	for o, b := range t.connections {
		labels := o.labels()
		count(connectionsDesc, b.connections.Load(), labels)
		count(bytesSentDesc, b.sent.Load(), labels)
		count(bytesReceivedDesc, b.received.Load(), labels)
	}
	for d, n := range t.denials {
		count(denialsDesc, n.Load(), d.labels())
	}
	t.mu.RUnlock()
	count(overflowDesc, t.overflow.Load(), nil)
	for _, m := range all {
		to <- m
	}
}

// observed is a histogram of a moment.
type observed struct {
	desc   *prometheus.Desc
	scale  *scale
	values histogram
	labels []string
}

// Desc implements prometheus.Metric.
func (o observed) Desc() *prometheus.Desc { return o.desc }

// Write implements prometheus.Metric.
func (o observed) Write(to *dto.Metric) error {
	to.Label = prometheus.MakeLabelPairs(o.desc, o.labels)
	o.values.write(o.scale, to)
	return nil
}
