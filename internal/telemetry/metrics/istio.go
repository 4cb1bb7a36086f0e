package metrics

import (
	"cmp"
	"strings"

	"github.com/prometheus/client_golang/prometheus"

	"sluice.dev/sluice/internal/record"
)

// unknown is what Istio says of what it does not know.
const unknown = "unknown"

// istio shows traffic under the names and labels of Istio 1.0, which dashboards and alerts
// ask for: made out of our own series when somebody looks, and never while traffic is
// counted. A destination outside the mesh is known by its rule, as in our own.
type istio struct{ domain string }

// istioEnds are the labels of both ends, as a key.
type istioEnds struct {
	reporter                                                                                     string
	sourceApp, sourcePrincipal, sourceWorkload, sourceNamespace, sourceVersion                   string
	app, principal, workload, namespace, version, service, serviceName, serviceNamespace, secure string
}

var istioEndLabels = []string{
	"reporter", "source_app", "source_principal", "source_workload", "source_workload_namespace", "source_version",
	"destination_app", "destination_principal", "destination_workload", "destination_workload_namespace", "destination_version",
	"destination_service", "destination_service_name", "destination_service_namespace", "connection_mtls",
}

func (e *istioEnds) labels(more ...string) []string {
	return append([]string{
		e.reporter, e.sourceApp, e.sourcePrincipal, e.sourceWorkload, e.sourceNamespace, e.sourceVersion,
		e.app, e.principal, e.workload, e.namespace, e.version, e.service, e.serviceName, e.serviceNamespace, e.secure,
	}, more...)
}

func istioDesc(name, help string, more ...string) *prometheus.Desc {
	return prometheus.NewDesc(name, help, append(append([]string(nil), istioEndLabels...), more...), nil)
}

// What is said under the names of Istio.
var (
	istioRequestsDesc = istioDesc("istio_requests_total", "Requests of HTTP that have ended, as Istio 1.0 counts them.", "request_protocol", "response_code")
	istioDurationDesc = istioDesc("istio_request_duration_seconds", "From the first byte of a request to the last of its answer.", "request_protocol")
	istioSentDesc     = istioDesc("istio_request_bytes", "Bytes of a request, head and body.", "request_protocol")
	istioReceivedDesc = istioDesc("istio_response_bytes", "Bytes of an answer, head and body.", "request_protocol")

	istioTCPSentDesc     = istioDesc("istio_tcp_sent_bytes_total", "Bytes to the client of connections that were carried, counted at their end.")
	istioTCPReceivedDesc = istioDesc("istio_tcp_received_bytes_total", "Bytes from the client of connections that were carried, counted at their end.")
)

func istioDescs() []*prometheus.Desc {
	return []*prometheus.Desc{istioRequestsDesc, istioDurationDesc, istioSentDesc, istioReceivedDesc, istioTCPSentDesc, istioTCPReceivedDesc}
}

// ends are the labels of a path, once for each end that would report it in Istio: inside
// the mesh that of the caller and that of the called, outside that of the caller alone.
func (i *istio) ends(p *path) []istioEnds {
	from, to := p.source.Party(), p.destination.Party()
	e := istioEnds{
		sourceApp: cmp.Or(from.Service, unknown), sourcePrincipal: i.principal(&from), sourceWorkload: cmp.Or(from.Workload, unknown),
		sourceNamespace: cmp.Or(from.Namespace, unknown), sourceVersion: cmp.Or(from.Version, unknown),
		app: unknown, principal: i.principal(&to), workload: cmp.Or(to.Workload, unknown), namespace: cmp.Or(to.Namespace, unknown), version: cmp.Or(to.Version, unknown),
		service: cmp.Or(to.Service, unknown), serviceName: unknown, serviceNamespace: cmp.Or(to.Namespace, unknown), secure: "false",
	}
	if to.Service != "" {
		e.app, _, _ = strings.Cut(to.Service, ".")
		e.serviceName = e.app
	}
	if p.direction == record.Egress.String() {
		e.service, e.serviceName = cmp.Or(p.rule, unknown), cmp.Or(p.rule, unknown)
	}
	if p.direction == Other {
		e.secure = Other
	}
	source, destination := e, e
	source.reporter, destination.reporter = "source", "destination"
	if p.direction == record.Egress.String() {
		return []istioEnds{source}
	}
	return []istioEnds{source, destination}
}

func (i *istio) principal(p *record.Party) string {
	if p.Account == "" {
		return unknown
	}
	return i.domain + "/ns/" + p.Namespace + "/sa/" + p.Account
}

// istioProtocol is http for all whose requests are seen.
func istioProtocol(protocol string) string {
	if protocol == "https" {
		return "http" // whose TLS is ours
	}
	return protocol
}

// show adds what was counted: what differs only in what Istio has no label for is summed.
func (i *istio) show(to *shown, requests map[outcome]uint64, paths map[path]took, connections map[outcome]carried) {
	type request struct {
		istioEnds
		protocol, code string
	}
	counts, sums, bytes := make(map[request]uint64), make(map[request]took), make(map[istioEnds]carried)
	for o, n := range requests {
		for _, e := range i.ends(&o.path) {
			counts[request{e, istioProtocol(o.protocol), o.codeLabel()}] += n
		}
	}
	for p, s := range paths {
		for _, e := range i.ends(&p) {
			key := request{e, istioProtocol(p.protocol), ""}
			sum, there := sums[key]
			if !there {
				sum = took{newHistogram(&seconds), newHistogram(&octets), newHistogram(&octets)}
			}
			sum.duration.plus(&s.duration)
			sum.sent.plus(&s.sent)
			sum.received.plus(&s.received)
			sums[key] = sum
		}
	}
	for o, b := range connections {
		for _, e := range i.ends(&o.path) {
			sum := bytes[e]
			bytes[e] = carried{sum.connections + b.connections, sum.sent + b.sent, sum.received + b.received}
		}
	}
	for r, n := range counts {
		to.count(istioRequestsDesc, n, r.labels(r.protocol, r.code))
	}
	for r, s := range sums {
		labels := r.labels(r.protocol)
		*to = append(*to, observed{istioDurationDesc, &seconds, s.duration, labels}, observed{istioSentDesc, &octets, s.sent, labels}, observed{istioReceivedDesc, &octets, s.received, labels})
	}
	for e, b := range bytes {
		to.count(istioTCPSentDesc, b.received, e.labels())
		to.count(istioTCPReceivedDesc, b.sent, e.labels())
	}
}
