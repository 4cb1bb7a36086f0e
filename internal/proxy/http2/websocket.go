package http2

import (
	"crypto/rand"
	"crypto/sha1"
	"encoding/base64"
	"strings"
)

// WebSocket's opening handshake proves to a client of HTTP/1.1 that its server speaks it (RFC
// 6455, section 1.3). Extended CONNECT has no need of that (RFC 8441, section 5), so it is
// made, and checked, where one version meets the other.

// newKey returns a Sec-WebSocket-Key.
func newKey() string {
	var b [16]byte
	rand.Read(b[:]) // it never fails
	return base64.StdEncoding.EncodeToString(b[:])
}

// acceptOf returns the Sec-WebSocket-Accept that answers a key.
func acceptOf(key string) string {
	sum := sha1.Sum([]byte(key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	return base64.StdEncoding.EncodeToString(sum[:])
}

func isWebSocket(protocol string) bool { return strings.EqualFold(protocol, "websocket") }
