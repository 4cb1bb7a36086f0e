package attribute

import (
	"encoding/binary"
	"net/netip"
	"time"

	"sluice.dev/sluice/internal/policy"
	"sluice.dev/sluice/internal/record"
	"sluice.dev/sluice/internal/telemetry/trace"
)

// IsRequest reports whether a record is of a request of HTTP; else it is of a connection
// whose bytes are carried, or of a question to DNS.
func IsRequest(r *record.Record) bool { return r.Method != "" || r.Status != 0 }

// Protocol is what the client speaks, and for plain HTTP whether TLS is ours: "http",
// "https", "tls", "tcp" or "dns".
func Protocol(r *record.Record) string {
	switch {
	case r.Question != "":
		return "dns"
	case r.Treatment == policy.Originate:
		return "https"
	case IsRequest(r) || r.Sniffed == policy.HTTP:
		return "http"
	case r.Sniffed == policy.ClientHello:
		return "tls"
	}
	return r.Transport.String()
}

// table is every attribute, in the order of the reference.
var table = []Attribute{
	{"source.uid", String, AtConnect, Mesh, "instance of the calling workload",
		func(r *record.Record) Value { return text(r.Workload) }},
	{"source.name", String, AtConnect, Mesh, "calling workload: the service and its version",
		func(r *record.Record) Value { return text(r.Source.Party().Workload) }},
	{"source.service", String, AtConnect, Mesh, "service of the calling workload",
		func(r *record.Record) Value { return text(r.Source.Party().Service) }},
	{"source.namespace", String, AtConnect, Mesh, "namespace of the calling workload",
		func(r *record.Record) Value { return text(r.Source.Party().Namespace) }},
	{"source.version", String, AtConnect, Mesh, "its label version (Istio 0.5: source.labels[\"version\"])",
		func(r *record.Record) Value { return text(r.Source.Party().Version) }},
	{"source.user", String, AtConnect, Mesh, "its service account",
		func(r *record.Record) Value { return text(r.Source.Party().Account) }},

	{"destination.uid", String, AtAnswer, Mesh, "instance of the mesh that was called",
		func(r *record.Record) Value {
			if r.Destination == (record.End{}) {
				return Value{}
			}
			return text(r.Upstream)
		}},
	{"destination.name", String, AtAnswer, Mesh, "workload of the mesh that was called",
		func(r *record.Record) Value { return text(r.Destination.Party().Workload) }},
	{"destination.service", String, AtVerdict, Mesh, "service of the mesh that was called, by its full name",
		func(r *record.Record) Value {
			if service := r.Destination.Party().Service; service != "" || r.Direction != record.Mesh {
				return text(service)
			}
			return text(r.Dialled)
		}},
	{"destination.namespace", String, AtAnswer, Mesh, "namespace of that service",
		func(r *record.Record) Value { return text(r.Destination.Party().Namespace) }},
	{"destination.version", String, AtAnswer, Mesh, "label version of the workload that was called (Istio 0.5: destination.labels[\"version\"])",
		func(r *record.Record) Value { return text(r.Destination.Party().Version) }},
	{"destination.host", String, AtConnect, Unbounded, "name behind the address that was dialled, or that address",
		func(r *record.Record) Value { return text(r.Dialled) }},
	{"destination.port", Int64, AtConnect, Unbounded, "port that was dialled",
		func(r *record.Record) Value { return positive(int64(r.Port)) }},
	{"destination.ip", String, AtAnswer, Unbounded, "address and port outside the mesh that was dialled; of a denial the address that was refused",
		func(r *record.Record) Value {
			if _, err := netip.ParseAddrPort(r.Upstream); err != nil {
				if _, err := netip.ParseAddr(r.Upstream); err != nil {
					return Value{}
				}
			}
			return text(r.Upstream)
		}},

	{"request.host", String, AtRequest, Unbounded, "Host of the request",
		func(r *record.Record) Value { return text(r.Host) }},
	{"request.method", String, AtRequest, Unbounded, "method of the request",
		func(r *record.Record) Value { return text(r.Method) }},
	{"request.path", String, AtRequest, Unbounded, "path of the request, without its query",
		func(r *record.Record) Value { return text(r.Path) }},
	{"request.upgrade", String, AtRequest, Unbounded, "protocol that the request asks to change to",
		func(r *record.Record) Value { return text(r.Upgrade) }},
	{"request.time", Timestamp, AtRequest, Unbounded, "when the request began",
		func(r *record.Record) Value { return ofRequest(r, moment(r.Start)) }},
	{"request.size", Int64, AtEnd, Unbounded, "bytes of the request, head and body",
		func(r *record.Record) Value { return ofRequest(r, number(r.Sent)) }},
	{"request.attempts", Int64, AtAnswer, Few, "how often it was sent to an upstream, where a route rule repeats it",
		func(r *record.Record) Value { return positive(int64(r.Attempts)) }},
	{"response.code", Int64, AtAnswer, Few, "HTTP status towards the client",
		func(r *record.Record) Value { return positive(int64(r.Status)) }},
	{"response.size", Int64, AtEnd, Unbounded, "bytes of the answer, head and body",
		func(r *record.Record) Value { return ofRequest(r, number(r.Received)) }},
	{"response.duration", Duration, AtEnd, Unbounded, "from the request's first byte to the answer's last",
		func(r *record.Record) Value { return ofRequest(r, duration(r.Duration)) }},

	{"connection.requested_server_name", String, AtRequest, Unbounded, "server name of the ClientHello (SNI)",
		func(r *record.Record) Value { return text(r.SNI) }},
	{"connection.received.bytes_total", Int64, AtEnd, Unbounded, "bytes from the client",
		func(r *record.Record) Value { return ofConnection(r, number(r.Sent)) }},
	{"connection.sent.bytes_total", Int64, AtEnd, Unbounded, "bytes to the client",
		func(r *record.Record) Value { return ofConnection(r, number(r.Received)) }},
	{"connection.duration", Duration, AtEnd, Unbounded, "from the accept to the end",
		func(r *record.Record) Value { return ofConnection(r, duration(r.Duration)) }},
	{"timing.queue", Duration, AtAnswer, Unbounded, "wait for a connection that the workload may open",
		func(r *record.Record) Value { return waited(r.Queue) }},
	{"timing.connect", Duration, AtAnswer, Unbounded, "wait for the addresses of a name and for the connection",
		func(r *record.Record) Value { return waited(r.Connect) }},
	{"timing.tls", Duration, AtAnswer, Unbounded, "wait for TLS handshakes of ours: for the request, or to prove the server",
		func(r *record.Record) Value { return waited(r.TLS) }},
	{"timing.first_byte", Duration, AtAnswer, Unbounded, "from the start to the first byte of the answer, of a request",
		func(r *record.Record) Value { return waited(r.FirstByte) }},
	{"dns.question", String, AtRequest, Few, "type that DNS was asked for, where it was answered empty for want of support",
		func(r *record.Record) Value { return text(r.Question) }},

	{"trace.id", TraceID, AtRequest, Unbounded, "trace that it is part of, where the mesh traces",
		func(r *record.Record) Value {
			if r.Trace == (trace.ID{}) {
				return Value{}
			}
			return Value{Type: TraceID, high: int64(binary.BigEndian.Uint64(r.Trace[:8])), number: int64(binary.BigEndian.Uint64(r.Trace[8:]))}
		}},
	{"trace.span", ID, AtRequest, Unbounded, "its span in that trace", func(r *record.Record) Value { return spanID(r.Span) }},
	{"trace.parent", ID, AtRequest, Unbounded, "span that it was made in", func(r *record.Record) Value { return spanID(r.Parent) }},

	{"context.time", Timestamp, AtConnect, Unbounded, "when the connection or request began",
		func(r *record.Record) Value { return moment(r.Start) }},
	{"context.protocol", String, AtRequest, Few, "http, https (http whose TLS we originate), tls, tcp, udp or dns",
		func(r *record.Record) Value { return text(Protocol(r)) }},
	{"context.direction", String, AtConnect, Few, "egress, mesh or ingress",
		func(r *record.Record) Value { return text(r.Direction.String()) }},
	{"check.verdict", String, AtVerdict, Few, "allow, audit, deny, or error: allowed, and not reached",
		func(r *record.Record) Value { return text(r.Verdict.String()) }},
	{"check.id", ID, AtConnect, Unbounded, "id of the decision, as in x-sluice-id and sluice why",
		func(r *record.Record) Value { return Value{Type: ID, number: int64(r.ID)} }},
	{"check.rule", String, AtVerdict, Mesh, "rule that allowed or came closest, or the route rule that chose",
		func(r *record.Record) Value { return text(r.Rule) }},
	{"check.route", String, AtVerdict, Mesh, "route rule that a request out of the mesh followed",
		func(r *record.Record) Value { return text(r.Route) }},
	{"check.treatment", String, AtVerdict, Few, "how it is carried: forward, originate, passthrough, relay or mesh",
		func(r *record.Record) Value { return text(r.Treatment.String()) }},
	{"check.error_code", String, AtEnd, Few, "reason of a denial or failure",
		func(r *record.Record) Value { return text(string(r.Reason)) }},
	{"check.error_message", String, AtEnd, Unbounded, "more about it, for people",
		func(r *record.Record) Value { return text(r.Detail) }},
	{"check.flags", String, AtEnd, Few, "short word of a denial or failure, Envoy's response flag where one means the same",
		func(r *record.Record) Value { return text(r.Reason.Flag()) }},
	{"check.snapshot", String, AtVerdict, Mesh, "version of the rules that decided",
		func(r *record.Record) Value { return text(r.Snapshot) }},
}

func spanID(id trace.SpanID) Value {
	if id == (trace.SpanID{}) {
		return Value{}
	}
	return Value{Type: ID, number: int64(binary.BigEndian.Uint64(id[:]))}
}

// waited is a wait that there was.
func waited(d time.Duration) Value {
	if d == 0 {
		return Value{}
	}
	return duration(d)
}

func ofRequest(r *record.Record, v Value) Value {
	if !IsRequest(r) {
		return Value{}
	}
	return v
}

func ofConnection(r *record.Record, v Value) Value {
	if IsRequest(r) {
		return Value{}
	}
	return v
}

// All returns every attribute, in the order of the reference. Nobody may change it.
func All() []Attribute { return table }

// Find returns the attribute of that name.
func Find(name string) (Attribute, bool) {
	for i := range table {
		if table[i].Name == name {
			return table[i], true
		}
	}
	return Attribute{}, false
}
