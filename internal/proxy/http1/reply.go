package http1

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"sluice.dev/sluice/internal/proxy/exchange"
	"sluice.dev/sluice/internal/refusal"
)

// failureReply is the answer to a failure, which says more with explain.
func failureReply(e *refusal.Error, explain bool) exchange.Reply {
	r := exchange.Reply{Status: e.Reason.Status(), Reason: e.Reason, Message: message(e, explain)}
	if e.Reason == refusal.TraceRefused {
		r.Header = allowedMethods
	}
	return r
}

// withEdits returns the fields of a Reply as a Direction changes them.
func withEdits(fields []exchange.Field, edits *exchange.AnswerEdits) []exchange.Field {
	if edits == nil {
		return fields
	}
	var out []exchange.Field
	for i := range fields {
		if !slices.ContainsFunc(edits.Set, func(set exchange.Field) bool { return set.Name == fields[i].Name }) {
			out = append(out, fields[i])
		}
	}
	return append(append(out, edits.Set...), edits.Append...)
}

var allowedMethods = []exchange.Field{{Name: "allow", Value: "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"}}

// unsendable says what is wrong with a Reply of a Director, or "".
func unsendable(r *exchange.Reply) string {
	if r.Status < 200 || r.Status > 599 {
		return fmt.Sprintf("a Reply with the status %d", r.Status)
	}
	for i := range r.Header {
		f := &r.Header[i]
		if !exchange.Editable(f.Name) || !all([]byte(f.Name), tokenByte) || !isValue([]byte(f.Value)) {
			return fmt.Sprintf("a Reply with the field %q", f.Name)
		}
	}
	return ""
}

// sendReply answers in the upstream's place. It returns false where the client
// is gone.
func (d *conn) sendReply(r *exchange.Reply, id uint64, closes bool) bool {
	head := d.head // nil: the request could not be read
	if d.isGRPC() {
		return d.write(grpcReply(r, id))
	}
	body, contentType := replyBody(r, id, head != nil && prefersJSON(head))
	out := make([]byte, 0, 512+len(body))
	out = append(out, "HTTP/1.1 "...)
	out = strconv.AppendInt(out, int64(r.Status), 10)
	out = append(out, ' ')
	out = append(out, statusText(r.Status)...)
	out = append(out, "\r\nserver: sluice"...)
	bodiless := r.Status == 204 || r.Status == 304 // RFC 9110 sections 15.3.5 and 15.4.5
	if !bodiless {
		out = append(out, "\r\ncontent-type: "...)
		out = append(out, contentType...)
		out = append(out, "\r\ncontent-length: "...)
		out = strconv.AppendInt(out, int64(len(body)), 10)
	}
	if r.Reason != "" {
		out = append(out, "\r\nx-sluice-reason: "...)
		out = append(out, r.Reason...)
	}
	if id != 0 {
		out = append(out, "\r\nx-sluice-id: "...)
		out = append(out, formatID(id)...)
	}
	switch {
	case closes:
		out = append(out, "\r\nconnection: close"...)
	case head != nil && head.http10:
		out = append(out, "\r\nconnection: keep-alive"...)
	}
	out = append(out, "\r\n"...)
	out = appendLines(out, r.Header)
	out = append(out, "\r\n"...)
	if !bodiless && (head == nil || head.text(head.method) != "HEAD") {
		out = append(out, body...)
	}
	return d.write(out)
}

// replyBody is what people or programs read, ending with a line end.
func replyBody(r *exchange.Reply, id uint64, asJSON bool) (body []byte, contentType string) {
	if asJSON {
		return jsonBody(r, id), "application/json"
	}
	return textBody(r, id), "text/plain; charset=utf-8"
}

// textBody is a Reply for people.
func textBody(r *exchange.Reply, id uint64) []byte {
	var b strings.Builder
	if r.Reason.Group() == refusal.ByRule {
		b.WriteString("Sluice denied this request: ")
	}
	b.WriteString(cmp.Or(r.Message, defaultMessage(r)) + "\n")
	if r.Closest != "" {
		b.WriteString("closest rule: " + r.Closest + "\n")
	}
	if r.Rule != "" {
		b.WriteString("This rule would allow it:\n\n" + strings.TrimRight(r.Rule, "\n") + "\n")
	} else if r.Remedy != "" {
		b.WriteString(r.Remedy + "\n")
	}
	if r.Reason != "" {
		b.WriteString("reason: " + string(r.Reason) + "\n")
	}
	if id != 0 {
		b.WriteString("id: " + formatID(id) + "\n")
	}
	return []byte(b.String())
}

// jsonBody is a Reply for programs: one form for denials and failures.
func jsonBody(r *exchange.Reply, id uint64) []byte {
	shown := struct {
		Error   string         `json:"error,omitempty"`
		Status  int            `json:"status"`
		Reason  refusal.Reason `json:"reason,omitempty"`
		ID      string         `json:"id,omitempty"`
		Message string         `json:"message"`
		Closest string         `json:"closest,omitempty"`
		Remedy  string         `json:"remedy,omitempty"`
		Allow   string         `json:"allow,omitempty"`
		Rule    string         `json:"rule,omitempty"`
	}{
		Status: r.Status, Reason: r.Reason, Message: cmp.Or(r.Message, defaultMessage(r)),
		Closest: r.Closest, Remedy: r.Remedy, Allow: r.Allow, Rule: r.Rule,
	}
	switch {
	case r.Reason.Denied():
		shown.Error = "denied"
	case r.Reason != "":
		shown.Error = "failed"
	}
	if id != 0 {
		shown.ID = formatID(id)
	}
	body, err := json.Marshal(shown)
	if err != nil {
		body = []byte("{}") // strings and numbers always marshal
	}
	return append(body, '\n')
}

func defaultMessage(r *exchange.Reply) string {
	if r.Reason != "" {
		return r.Reason.Text()
	}
	return statusText(r.Status)
}

func formatID(id uint64) string { return fmt.Sprintf("%016x", id) }

// prefersJSON says whether Accept names JSON before it names text.
func prefersJSON(h *head) bool {
	accept := ""
	h.Values("accept", func(value string) bool {
		accept += "," + strings.ToLower(value)
		return true
	})
	asJSON := strings.Index(accept, "json")
	text := strings.Index(accept, "text/")
	return asJSON >= 0 && (text < 0 || asJSON < text)
}

// statusText is the reason phrase of a status that we send ourselves.
func statusText(status int) string {
	switch status {
	case 200:
		return "OK"
	case 204:
		return "No Content"
	case 301:
		return "Moved Permanently"
	case 302:
		return "Found"
	case 304:
		return "Not Modified"
	case 400:
		return "Bad Request"
	case 401:
		return "Unauthorized"
	case 403:
		return "Forbidden"
	case 404:
		return "Not Found"
	case 405:
		return "Method Not Allowed"
	case 408:
		return "Request Timeout"
	case 413:
		return "Content Too Large"
	case 409:
		return "Conflict"
	case 410:
		return "Gone"
	case 417:
		return "Expectation Failed"
	case 418:
		return "I'm a teapot"
	case 421:
		return "Misdirected Request"
	case 429:
		return "Too Many Requests"
	case 431:
		return "Request Header Fields Too Large"
	case 500:
		return "Internal Server Error"
	case 501:
		return "Not Implemented"
	case 502:
		return "Bad Gateway"
	case 503:
		return "Service Unavailable"
	case 504:
		return "Gateway Timeout"
	case 505:
		return "HTTP Version Not Supported"
	}
	return "Status"
}

// http2Refusal is what a client of HTTP/2 by prior knowledge understands: our
// (empty) SETTINGS, then GOAWAY with HTTP_1_1_REQUIRED, RFC 9113 §6.8 and §7.
var http2Refusal = func() []byte {
	why := refusal.HTTP2NotSupported.Text()
	b := []byte{0, 0, 0, 4, 0, 0, 0, 0, 0}
	b = append(b, 0, 0, byte(8+len(why)), 7, 0, 0, 0, 0, 0)
	b = append(b, 0, 0, 0, 0, 0, 0, 0, 0xd)
	return append(b, why...)
}()

// turnAway answers a connection that is not served at all, without waiting for
// anything.
func (d *conn) turnAway(e *refusal.Error) {
	d.tcp.SetWriteDeadline(time.Now().Add(stallTime))
	reply := failureReply(e, true)
	o := exchange.Outcome{Failure: e}
	if d.sendReply(&reply, 0, true) {
		o.Status = reply.Status
		d.tcp.CloseWrite()
	}
	o.Received = d.received
	d.director.Refused(o)
}
