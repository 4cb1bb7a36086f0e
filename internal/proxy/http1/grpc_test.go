package http1

import (
	"strings"
	"testing"
	"unicode/utf8"

	"sluice.dev/sluice/internal/proxy/exchange"
)

// A client that reads UTF-8 or nothing, as grpc-js, shows every escape of a text that ends
// within a character.
func TestAMessageOfGRPCIsCutBetweenCharacters(t *testing.T) {
	for pad := range 3 {
		text := grpcText(&exchange.Reply{Message: strings.Repeat("a", pad) + strings.Repeat("€", maxGRPCMessage)}, 0)
		if !utf8.ValidString(text) || len(text) > maxGRPCMessage || len(text) < maxGRPCMessage-2 {
			t.Errorf("behind %d bytes: %d bytes, the last are %q", pad, len(text), text[len(text)-4:])
		}
	}
}
