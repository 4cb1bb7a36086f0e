package httpproxy

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// failureReply is the answer to a failure of this engine.
func failureReply(f Failure) Reply {
	r := Reply{Status: f.Status(), Reason: f.String(), Text: f.Text()}
	if f == TraceRefused {
		r.Header = []byte("allow: GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS\r\n")
	}
	return r
}

// sendReply answers in the upstream's place. It returns false where the client
// is gone.
func (d *conn) sendReply(r *Reply, id uint64, closes bool) bool {
	head := d.x.head // nil: the request could not be read
	body, contentType := r.body(id, head != nil && prefersJSON(head))
	out := make([]byte, 0, 512+len(body))
	out = append(out, "HTTP/1.1 "...)
	out = strconv.AppendInt(out, int64(r.Status), 10)
	out = append(out, ' ')
	out = append(out, statusText(r.Status)...)
	out = append(out, "\r\nserver: sluice\r\ncontent-type: "...)
	out = append(out, contentType...)
	out = append(out, "\r\ncontent-length: "...)
	out = strconv.AppendInt(out, int64(len(body)), 10)
	if r.Reason != "" && all([]byte(r.Reason), tokenByte) {
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
	out = append(out, r.Header...)
	out = append(out, "\r\n"...)
	if head == nil || head.text(head.method) != "HEAD" {
		out = append(out, body...)
	}
	return d.write(out)
}

// body is what people or programs read, each ending with a line end.
func (r *Reply) body(id uint64, asJSON bool) (body []byte, contentType string) {
	if !asJSON {
		text := strings.TrimRight(r.Text, "\n")
		if text == "" {
			text = statusText(r.Status)
		}
		if r.Reason != "" {
			text += "\nreason: " + r.Reason
		}
		if id != 0 {
			text += "\nid: " + formatID(id)
		}
		return append([]byte(text), '\n'), "text/plain; charset=utf-8"
	}
	if r.JSON != nil {
		return append(r.JSON[:len(r.JSON):len(r.JSON)], '\n'), "application/json"
	}
	told := struct {
		Status  int    `json:"status"`
		Reason  string `json:"reason,omitempty"`
		ID      string `json:"id,omitempty"`
		Message string `json:"message"`
	}{r.Status, r.Reason, "", r.Text}
	if id != 0 {
		told.ID = formatID(id)
	}
	body, err := json.Marshal(told)
	if err != nil {
		body = []byte("{}") // strings and numbers always marshal
	}
	return append(body, '\n'), "application/json"
}

func formatID(id uint64) string { return fmt.Sprintf("%016x", id) }

// prefersJSON says whether Accept names JSON before it names text.
func prefersJSON(h *head) bool {
	accept, _ := h.lookup("accept")
	accept = strings.ToLower(accept)
	asJSON := strings.Index(accept, "json")
	text := strings.Index(accept, "text/")
	return asJSON >= 0 && (text < 0 || asJSON < text)
}

// statusText is the reason phrase of a status that we send ourselves.
func statusText(status int) string {
	switch status {
	case 200:
		return "OK"
	case 302:
		return "Found"
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
	case 417:
		return "Expectation Failed"
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
	const why = "HTTP/2 by prior knowledge is not built yet; use HTTP/1.1"
	b := []byte{0, 0, 0, 4, 0, 0, 0, 0, 0}
	b = append(b, 0, 0, byte(8+len(why)), 7, 0, 0, 0, 0, 0)
	b = append(b, 0, 0, 0, 0, 0, 0, 0, 0xd)
	return append(b, why...)
}()

// turnAway answers a connection that is not served at all, without waiting for
// anything.
func (d *conn) turnAway(err error) {
	f := Overflow
	if errors.Is(err, ErrStopping) {
		f = Stopping
	}
	d.server.director.Refused(d.x.Info, f)
	d.tcp.SetWriteDeadline(time.Now().Add(stallTime))
	reply := failureReply(f)
	if errors.Is(err, ErrOverflow) {
		reply.Text = "This proxy serves as many connections as its limits allow."
	}
	if d.sendReply(&reply, 0, true) {
		d.tcp.CloseWrite()
	}
}
