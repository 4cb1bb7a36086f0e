// Package load is both ends of a measured proxy: clients that ask again as soon
// as they were answered and look at every byte of it, and the server that they
// ask. Sub-processes of bench run them. It never trusts an answer: one wrong byte
// ends the measurement.
package load

import (
	"bytes"
	"fmt"
	"strconv"
)

const (
	// BodySize is the length of an answer's body, in bytes.
	BodySize = 1024
	// Host is the name that everything asks for.
	Host = "api.example.com"
	// MaxConns is how many connections one load has at most; each asks for a path
	// of its own.
	MaxConns = 256
)

// path is what connection number i asks for.
func path(i int) string { return "/item/" + string([]byte{hex(i >> 4), hex(i)}) }

func hex(n int) byte { return "0123456789abcdef"[n&15] }

// body is the answer's body for path number i. Every number has another, so that
// an answer that was meant for another connection is noticed.
func body(i int) []byte {
	b := make([]byte, BodySize)
	state := uint32(i)*2654435761 + 12345
	for k := range b {
		state = state*1664525 + 1013904223
		b[k] = ' ' + byte(state>>24)%95
	}
	return b
}

// request is what connection number i sends: seven fields, two of which are for
// the proxy alone.
func request(i int) []byte {
	return fmt.Appendf(nil, "GET %s HTTP/1.1\r\nHost: %s\r\nUser-Agent: bench/1.0\r\nAccept: */*\r\nAccept-Encoding: gzip, deflate\r\n"+
		"Accept-Language: en\r\nConnection: keep-alive\r\nKeep-Alive: timeout=60\r\n\r\n", path(i), Host)
}

// hopByHop is how a field that a proxy must not forward would look (RFC 9110,
// section 7.6.1).
var hopByHop = [][]byte{[]byte("\nKeep-Alive:"), []byte("\nkeep-alive:")}

// answer is what the server answers to a request, of which head is the whole head.
func answer(head []byte, answers *[MaxConns][]byte) []byte {
	for _, field := range hopByHop {
		if bytes.Contains(head, field) {
			return []byte("HTTP/1.1 500 Hop-by-hop field forwarded\r\ncontent-length: 0\r\n\r\n")
		}
	}
	if !bytes.HasPrefix(head, []byte("GET /item/")) || len(head) < 12 {
		return notFound
	}
	i, err := strconv.ParseUint(string(head[10:12]), 16, 8)
	if err != nil {
		return notFound
	}
	return answers[i]
}

var notFound = []byte("HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n")

// allAnswers makes every answer, head and body.
func allAnswers() *[MaxConns][]byte {
	all := new([MaxConns][]byte)
	for i := range all {
		all[i] = fmt.Appendf(nil, "HTTP/1.1 200 OK\r\nServer: bench\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n"+
			"Cache-Control: no-store\r\n\r\n%s", BodySize, body(i))
	}
	return all
}
