package http1

import (
	"cmp"
	"strconv"
	"strings"

	"sluice.dev/sluice/internal/proxy/exchange"
	"sluice.dev/sluice/internal/refusal"
)

// grpcReply is a Reply for a client of gRPC: an answer that is trailers alone ("Trailers-Only"
// of gRPC's protocol over HTTP/2), for its client makes UNAVAILABLE or UNKNOWN of any other
// and shows nothing of its body.
func grpcReply(r *exchange.Reply, id uint64) []byte {
	out := append(make([]byte, 0, 512), "HTTP/1.1 200 OK\r\nserver: sluice\r\ncontent-type: application/grpc\r\ngrpc-status: "...)
	out = strconv.AppendInt(out, int64(grpcStatus(r)), 10)
	out = append(out, "\r\ngrpc-message: "...)
	out = appendGRPCMessage(out, grpcText(r, id))
	if r.Reason != "" {
		out = append(append(out, "\r\nx-sluice-reason: "...), r.Reason...)
	}
	if id != 0 {
		out = append(append(out, "\r\nx-sluice-id: "...), formatID(id)...)
	}
	out = appendLines(append(out, "\r\n"...), r.Header)
	return append(out, "content-length: 0\r\n\r\n"...)
}

// Values of the status of gRPC: https://grpc.io/docs/guides/status-codes.
const (
	grpcDeadlineExceeded  = 4
	grpcPermissionDenied  = 7
	grpcResourceExhausted = 8
	grpcUnimplemented     = 12
	grpcInternal          = 13
	grpcUnavailable       = 14
	grpcUnauthenticated   = 16
	grpcUnknown           = 2
)

// grpcStatus is the code for a Reply. What a rule denies is PERMISSION_DENIED whatever status
// HTTP has for it; for the rest it is what gRPC's clients make of that.
func grpcStatus(r *exchange.Reply) int {
	switch {
	case r.Reason.Denied():
		return grpcPermissionDenied
	case r.Reason == refusal.UpstreamTimeout, r.Reason == refusal.ConnectTimeout, r.Reason == refusal.DecisionTimeout:
		return grpcDeadlineExceeded
	}
	switch r.Status {
	case 400:
		return grpcInternal
	case 401:
		return grpcUnauthenticated
	case 403:
		return grpcPermissionDenied
	case 404, 501, 505:
		return grpcUnimplemented
	case 413, 431:
		return grpcResourceExhausted
	case 429, 500, 502, 503, 504:
		return grpcUnavailable
	}
	return grpcUnknown
}

// maxGRPCMessage bounds what is said, before it is encoded: many clients take a head of 8 KiB.
const maxGRPCMessage = 1500

// grpcText is what people read: one paragraph, with the rule that would allow the call.
func grpcText(r *exchange.Reply, id uint64) string {
	text := cmp.Or(r.Message, defaultMessage(r))
	if r.Reason.Group() == refusal.ByRule {
		text = "Sluice denied this call: " + text
	}
	if r.Closest != "" {
		text += "\nclosest rule: " + r.Closest
	}
	if r.Rule != "" {
		text += "\nThis rule would allow it:\n" + strings.TrimRight(r.Rule, "\n")
	} else if r.Remedy != "" {
		text += "\n" + r.Remedy
	}
	if id != 0 {
		text += "\nid: " + formatID(id)
	}
	// Cut within a character it would be shown with all its escapes by clients that read
	// UTF-8 or nothing (grpc-js).
	return strings.ToValidUTF8(text[:min(len(text), maxGRPCMessage)], "")
}

// appendGRPCMessage percent-encodes a message.
func appendGRPCMessage(out []byte, text string) []byte {
	const hex = "0123456789ABCDEF"
	for i := range len(text) {
		if c := text[i]; c >= ' ' && c <= '~' && c != '%' {
			out = append(out, c)
		} else {
			out = append(out, '%', hex[c>>4], hex[c&15])
		}
	}
	return out
}
