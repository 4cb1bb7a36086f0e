package http1

import "sluice.dev/sluice/internal/proxy/exchange"

// describe shows a head to the Director: views into the connection's buffer.
func (d *conn) describe(h *head) {
	x := &d.x
	x.Method, x.Host = h.text(h.method), h.text(h.host)
	x.Target, x.Path = h.text(h.target), h.text(span{h.target.from, h.query})
	if h.query == h.target.from { // an absolute form without a path
		x.Target, x.Path = withoutPath(x.Method, x.Target)
	}
	x.HTTPS = h.https
	x.Upgrade, _ = h.upgradesTo()
	x.Version, x.GRPC = exchange.HTTP11, false
	switch {
	case d.stream != nil && d.stream.Version() == exchange.HTTP2:
		x.Version, x.GRPC = exchange.HTTP2, d.stream.GRPC()
	case h.http10:
		x.Version = exchange.HTTP10
	}
	x.PriorKnowledge = x.Version == exchange.HTTP2 && x.Upgrade == "" // a connection that changes its protocol is of HTTP/1.1
	x.Fields = h
	x.Bound = d.bound
}

// withoutPath is the origin form of a target that is a query at most,
// RFC 9112 §3.2.4.
func withoutPath(method, query string) (target, path string) {
	if query == "" && method == "OPTIONS" {
		return "*", "*"
	}
	return "/" + query, "/"
}

// Values implements exchange.Fields.
func (h *head) Values(lower string, yield func(value string) bool) {
	for i := range h.fields[:h.count] {
		f := &h.fields[i]
		if equalFold(f.name(h.raw), lower) && !yield(h.text(f.value)) {
			return
		}
	}
}
