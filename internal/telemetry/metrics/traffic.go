package metrics

import (
	"net/http"
	"strconv"

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

var others = record.NewEnd(record.Party{Workload: Other, Service: Other, Namespace: Other, Version: Other, Account: Other})

var (
	otherPath    = path{others, others, Other, Other, Other}
	otherOutcome = outcome{otherPath, otherCode, Other}
	otherDenial  = denial{others, Other, Other, Other}
)

// otherCode stands for a status that HTTP does not know: a server chooses it.
const otherCode = -1

// closed counts a record.
func (t *traffic) closed(r *record.Record) {
	if r.Question != "" {
		return // counted where it was answered
	}
	o := outcome{path{r.Source, r.Destination, r.Direction.String(), r.Rule, attribute.Protocol(r)}, code(r.Status), r.Reason.Flag()}
	if attribute.IsRequest(r) {
		t.request(&o, r)
	} else {
		t.connection(&o, r)
	}
	if r.Verdict == record.Denied {
		t.denied(&denial{r.Source, o.direction, r.Rule, string(r.Reason)})
	}
}

// code bounds the codes of a label to those that HTTP knows.
func code(status int) int {
	if status != 0 && http.StatusText(status) == "" && status != 499 {
		return otherCode
	}
	return status
}

var pathLabels = []string{
	"direction", "source_workload", "source_namespace", "source_version",
	"destination_workload", "destination_namespace", "destination_version", "rule", "protocol",
}

func (p *path) labels() []string {
	from, to := p.source.Party(), p.destination.Party()
	return []string{p.direction, from.Workload, from.Namespace, from.Version, to.Workload, to.Namespace, to.Version, p.rule, p.protocol}
}

func (o *outcome) codeLabel() string {
	if o.code == otherCode {
		return Other
	}
	return strconv.Itoa(o.code)
}

func (o *outcome) labels() []string { return append(o.path.labels(), o.codeLabel(), o.flag) }

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
	for _, d := range append([]*prometheus.Desc{requestsDesc, durationDesc, sentDesc, receivedDesc, connectionsDesc, bytesSentDesc, bytesReceivedDesc, denialsDesc, overflowDesc}, istioDescs()...) {
		to <- d
	}
}

// shown collects what is sent; each sends it without the lock, for who reads may be slow.
type shown []prometheus.Metric

func (s *shown) count(desc *prometheus.Desc, n uint64, labels []string) {
	*s = append(*s, prometheus.MustNewConstMetric(desc, prometheus.CounterValue, float64(n), labels...))
}

// Collect implements prometheus.Collector.
func (t *traffic) Collect(to chan<- prometheus.Metric) {
	t.giveBack()
	var all shown
	t.mu.RLock()
	requests, paths, connections := t.moment()
	istio := t.istio
	for d, n := range t.denials {
		all.count(denialsDesc, n.count.Load(), d.labels())
	}
	t.mu.RUnlock()
	for o, n := range requests {
		all.count(requestsDesc, n, o.labels())
	}
	for p, s := range paths {
		labels := p.labels()
		all = append(all, observed{durationDesc, &seconds, s.duration, labels}, observed{sentDesc, &octets, s.sent, labels}, observed{receivedDesc, &octets, s.received, labels})
	}
	for o, b := range connections {
		labels := o.labels()
		all.count(connectionsDesc, b.connections, labels)
		all.count(bytesSentDesc, b.sent, labels)
		all.count(bytesReceivedDesc, b.received, labels)
	}
	if n := t.otherDenials.count.Load(); n > 0 {
		all.count(denialsDesc, n, otherDenial.labels())
	}
	all.count(overflowDesc, t.overflow.Load(), nil)
	if istio != nil {
		istio.show(&all, requests, paths, connections)
	}
	for _, m := range all {
		to <- m
	}
}

// took is sizes of a moment, carried is bytes of one.
type (
	took    struct{ duration, sent, received histogram }
	carried struct{ connections, sent, received uint64 }
)

func (s *sizes) now() took {
	s.mu.Lock()
	defer s.mu.Unlock()
	return took{s.duration.copy(), s.sent.copy(), s.received.copy()}
}

func (b *bytes) now() carried {
	return carried{b.connections.Load(), b.sent.Load(), b.received.Load()}
}

// moment is the requests, what they took and the connections of this moment. The lock is held.
func (t *traffic) moment() (map[outcome]uint64, map[path]took, map[outcome]carried) {
	requests, paths, connections := make(map[outcome]uint64, len(t.requests)+1), make(map[path]took, len(t.sizes)+1), make(map[outcome]carried, len(t.connections)+1)
	for o, c := range t.requests {
		requests[o] = c.count.Load()
	}
	for p, s := range t.sizes {
		paths[p] = s.now()
	}
	for o, b := range t.connections {
		connections[o] = b.now()
	}
	if n := t.otherRequests.count.Load(); n > 0 {
		requests[otherOutcome], paths[otherPath] = n, t.otherRequests.sizes.now()
	}
	if b := t.otherConnections.now(); b.connections > 0 {
		connections[otherOutcome] = b
	}
	return requests, paths, connections
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
