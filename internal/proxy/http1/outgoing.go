package http1

import "sluice.dev/sluice/internal/proxy/exchange"

// buildRequest writes the request as the upstream gets it: always HTTP/1.1,
// origin-form, without what is for one hop, and with the body that is in the
// buffer.
func (d *conn) buildRequest(dir *exchange.Direction) (_ exchange.Message, bad cause) {
	h, q := d.head, &d.request
	out := append(d.scratch.out[:0], d.x.Method...)
	out = append(out, ' ')
	out = append(out, dir.SetTarget...)
	out = append(out, d.x.Target[dir.CutTarget:]...)
	out = append(out, " HTTP/1.1\r\n"...)
	host := dir.SetHost
	if host == "" && h.hostAnew {
		host = d.x.Host // what was decided about is what is sent
	}
	if host != "" {
		h.dropNamed(hostName)
		out = append(out, "host: "...)
		out = append(out, host...)
		out = append(out, "\r\n"...)
	}
	if d.scratch.chunks.boundary = dir.Boundary; dir.Boundary {
		h.dropOfMesh()
	}
	for _, name := range dir.Remove {
		h.dropEditable(name)
	}
	for i := range dir.Set {
		h.dropEditable(dir.Set[i].Name)
	}
	out = h.appendFields(out)
	out = appendLines(out, dir.Set)
	out = appendLines(out, dir.Append)
	d.asked = ""
	if dir.AllowUpgrade && d.x.Upgrade != "" {
		d.asked = d.x.Upgrade
		out = append(out, "connection: upgrade\r\nupgrade: "...)
		out = append(out, d.asked...)
		out = append(out, "\r\n"...)
	}
	if h.expects && !h.http10 && !q.complete {
		out = append(out, "expect: 100-continue\r\n"...)
	}
	body := d.scratch.in[d.r+q.head : d.r+q.head+q.body]
	if !h.chunked {
		out = append(out, "\r\n"...)
		return append(out, body...), fine
	}
	out = append(out, "transfer-encoding: chunked\r\n\r\n"...)
	return appendChunk(out, body, &d.scratch.chunks)
}

var hostName = []byte("host")

// appendLines appends fields as lines.
func appendLines(out []byte, fields []exchange.Field) []byte {
	for i := range fields {
		out = append(out, fields[i].Name...)
		out = append(out, ": "...)
		out = append(out, fields[i].Value...)
		out = append(out, "\r\n"...)
	}
	return out
}

// appendChunk appends decoded data as one chunk, and the end of the body where
// the decoder has seen it.
func appendChunk(out, data []byte, chunks *chunkDecoder) (_ []byte, bad cause) {
	if len(data) > 0 {
		out = appendSize(out, len(data))
		out = append(out, data...)
		out = append(out, "\r\n"...)
	}
	if chunks.done() {
		return chunks.appendEnd(out)
	}
	return out, fine
}
