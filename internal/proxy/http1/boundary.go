package http1

import (
	"bytes"

	"sluice.dev/sluice/internal/proxy/exchange"
)

// Outside returns a copy of a whole request, as it was written for an upstream, for a server
// outside the mesh: without what is the mesh's own affair, in its head and behind its body.
func Outside(out exchange.Message) exchange.Message {
	head, body, _ := bytes.Cut(out, []byte("\r\n\r\n"))
	left, chunked := make(exchange.Message, 0, len(out)), false
	for i, line := range bytes.Split(head, []byte("\r\n")) {
		name, _, _ := bytes.Cut(line, []byte(":"))
		if i > 0 && isOfMesh(name) {
			continue
		}
		chunked = chunked || i > 0 && foldsTo(name, "transfer-encoding")
		left = append(append(left, line...), "\r\n"...)
	}
	left = append(left, "\r\n"...)
	if !chunked {
		return append(left, body...)
	}
	decoder := chunkDecoder{boundary: true}
	data := bytes.Clone(body) // the request itself is still to be sent
	n, _, _ := decoder.decode(data)
	left, _ = appendChunk(left, data[:n], &decoder) // we wrote it: it is well formed
	return left
}

// dropOfMesh drops the fields that are the mesh's own affair: a server outside learns
// nothing of traces, of who called whom and of the proxies in between.
func (h *head) dropOfMesh() {
	for i := range h.fields[:h.count] {
		f := &h.fields[i]
		if !f.drop && f.kind == otherField && isOfMesh(f.name(h.raw)) {
			f.drop = true
			h.dropped++
		}
	}
}

// isOfMesh says whether a field is of a trace (W3C, B3, OpenTracing, Jaeger, and those of
// Google's, Amazon's and Datadog's), baggage, the id of a request, or what Envoy adds. It
// looks at the first byte: most fields end there. What begins with x-sluice is dropped
// always.
func isOfMesh(name []byte) bool {
	switch name[0] | 0x20 {
	case 't':
		return foldsTo(name, "traceparent") || foldsTo(name, "tracestate")
	case 'b':
		return foldsTo(name, "b3") || foldsTo(name, "baggage") || foldsFrom(name, "baggage-")
	case 'j':
		return foldsTo(name, "jaeger-baggage") || foldsTo(name, "jaeger-debug-id")
	case 'g':
		return foldsTo(name, "grpc-trace-bin")
	case 'u':
		return foldsTo(name, "uber-trace-id") || foldsFrom(name, "uberctx-")
	case 'o':
		return foldsFrom(name, "ot-tracer-") || foldsFrom(name, "ot-baggage-")
	case 'x':
		return foldsTo(name, "x-request-id") || foldsTo(name, "x-client-trace-id") || foldsFrom(name, "x-b3-") || foldsFrom(name, "x-envoy-") || foldsTo(name, "x-forwarded-client-cert") ||
			foldsTo(name, "x-ot-span-context") || foldsTo(name, "x-cloud-trace-context") || foldsTo(name, "x-amzn-trace-id") || foldsFrom(name, "x-datadog-")
	}
	return false
}
