package http1

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
