package http1

import (
	"bytes"
	"encoding/binary"
)

// fieldKind tells apart the header fields that this engine acts on.
type fieldKind uint8

const (
	otherField fieldKind = iota
	hostField
	contentLengthField
	transferEncodingField
	connectionField
	expectField
	upgradeField
	trailerField
	perHopField     // dropped whatever it says
	bodyField       // Content-Type and the like: for every recipient
	ownField        // dropped: x-sluice-*, which we alone say
	serverField     // of an answer, dropped where it says that we are the server
	signInField     // Authorization and WWW-Authenticate: they may be about the connection
	mistakableField // refused: what CGI and the like take for one that says where the body ends
)

// kindOf looks at the length first: most fields end there.
func kindOf(name []byte) fieldKind {
	switch len(name) {
	case 2:
		if equalFold(name, "te") {
			return perHopField
		}
	case 4:
		if equalFold(name, "host") {
			return hostField
		}
	case 6:
		if equalFold(name, "expect") {
			return expectField
		}
		if equalFold(name, "server") {
			return serverField
		}
	case 7:
		if equalFold(name, "upgrade") {
			return upgradeField
		}
		if equalFold(name, "trailer") {
			return trailerField
		}
	case 10:
		if equalFold(name, "connection") {
			return connectionField
		}
		if equalFold(name, "keep-alive") {
			return perHopField
		}
	case 12:
		if equalFold(name, "content-type") {
			return bodyField
		}
	case 13:
		if equalFold(name, "authorization") {
			return signInField
		}
		if equalFold(name, "content-range") {
			return bodyField
		}
	case 14:
		if equalFold(name, "content-length") {
			return contentLengthField
		}
		if equalFold(name, "http2-settings") {
			return perHopField
		}
	case 16:
		if equalFold(name, "www-authenticate") {
			return signInField
		}
		if equalFold(name, "proxy-connection") {
			return perHopField
		}
		if equalFold(name, "content-encoding") {
			return bodyField
		}
	case 17:
		if equalFold(name, "transfer-encoding") {
			return transferEncodingField
		}
	case 18:
		if equalFold(name, "proxy-authenticate") {
			return perHopField
		}
	case 19:
		if equalFold(name, "proxy-authorization") {
			return perHopField
		}
	}
	switch {
	case isMistakable(name):
		return mistakableField
	case isOwn(name):
		return ownField
	}
	return otherField
}

// isOwn says whether a name begins with x-sluice, or may be taken for one that does.
func isOwn(name []byte) bool {
	const own = "x-sluice"
	if len(name) < len(own) || name[0]|0x20 != 'x' || name[1] != '-' && name[1] != '_' {
		return false
	}
	rest := bytes.TrimLeft(name[2:], "-_")
	const word = len(own) - 2
	return len(rest) >= word && equalFold(rest[:word], own[2:]) && (len(rest) == word || rest[word] == '-' || rest[word] == '_')
}

// isOwnServer says whether a Server field begins with our name.
func isOwnServer(value []byte) bool {
	const own = "sluice"
	return len(value) >= len(own) && equalFold(value[:len(own)], own) && (len(value) == len(own) || class[value[len(own)]]&tokenByte == 0)
}

// isMistakable says whether a name is that of a field which says where the body ends,
// but for where its separators are and which: CGI and the like make one of "-" and "_",
// and some readers one of several.
func isMistakable(name []byte) bool {
	if len(name) < len("contentlength") {
		return false
	}
	switch name[0] {
	case 'c', 'C', 't', 'T', '-', '_':
		return isWithoutSeparators(name, "contentlength") || isWithoutSeparators(name, "transferencoding")
	}
	return false
}

// isWithoutSeparators compares a name with lower, which has no separators.
func isWithoutSeparators(name []byte, lower string) bool {
	at := 0
	for _, c := range name {
		switch {
		case c == '-' || c == '_':
			continue
		case at == len(lower) || c|0x20 != lower[at]:
			return false
		}
		at++
	}
	return at == len(lower)
}

// foldsTo says whether a name is lower to a reader who takes "_" for "-", and several of
// them for one: who sends X_Forwarded_For wants it taken for the real field.
func foldsTo(name []byte, lower string) bool {
	begins, more := folded(name, lower)
	return begins && !more
}

// foldsFrom says whether a name begins with lower, to such a reader.
func foldsFrom(name []byte, lower string) bool {
	begins, _ := folded(name, lower)
	return begins
}

// folded says whether a name begins with lower to such a reader, and whether more comes.
func folded(name []byte, lower string) (begins, more bool) {
	if len(name) < len(lower) {
		return false, false
	}
	at := 0
	for i, c := range name {
		if c == '_' {
			c = '-'
		}
		if c == '-' && i > 0 && (name[i-1] == '-' || name[i-1] == '_') {
			continue
		}
		if at == len(lower) {
			return true, true
		}
		if 'A' <= c && c <= 'Z' {
			c |= 0x20
		}
		if c != lower[at] {
			return false, false
		}
		at++
	}
	return at == len(lower), false
}

// equalFold compares b with lower, which is lower case ASCII.
func equalFold(b []byte, lower string) bool {
	if len(b) != len(lower) {
		return false
	}
	for i := range b {
		c := b[i]
		if 'A' <= c && c <= 'Z' {
			c |= 0x20
		}
		if c != lower[i] {
			return false
		}
	}
	return true
}

// equalFoldBytes compares two spellings of one thing.
func equalFoldBytes(a, b []byte) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		x, y := a[i], b[i]
		if 'A' <= x && x <= 'Z' {
			x |= 0x20
		}
		if 'A' <= y && y <= 'Z' {
			y |= 0x20
		}
		if x != y {
			return false
		}
	}
	return true
}

// Classes of bytes, one table for all of them.
const (
	tokenByte  = 1 << iota // RFC 9110 §5.6.2
	valueByte              // in a field value: RFC 9110 §5.5 without other controls
	targetByte             // visible ASCII without "#": RFC 9112 §3.2
	hostByte               // uri-host and port of RFC 9110 §7.2
	digitByte
	hexByte
)

var class = func() (t [256]uint8) {
	for c := range 256 {
		letter := 'a' <= c|0x20 && c|0x20 <= 'z' && c < 128
		digit := '0' <= c && c <= '9'
		if letter || digit {
			t[c] |= tokenByte | hostByte
		}
		if digit {
			t[c] |= digitByte | hexByte
		}
		if letter && c|0x20 <= 'f' {
			t[c] |= hexByte
		}
		if c >= 0x20 && c != 0x7f || c == '\t' {
			t[c] |= valueByte
		}
		if c > 0x20 && c < 0x7f && c != '#' {
			t[c] |= targetByte
		}
	}
	for _, c := range []byte("!#$%&'*+-.^_`|~") {
		t[c] |= tokenByte
	}
	for _, c := range []byte("-._~!$%&'()*+,;=:[]") {
		t[c] |= hostByte
	}
	return t
}()

// all says whether every byte of b is of one of the classes.
func all(b []byte, classes uint8) bool {
	for _, c := range b {
		if class[c]&classes == 0 {
			return false
		}
	}
	return true
}

// isValue says whether b may be the value of a field. It looks at eight bytes at
// once: cookies and tokens are long.
func isValue(b []byte) bool {
	const each = 0x0101010101010101
	for len(b) >= 8 {
		word := binary.LittleEndian.Uint64(b)
		del := word ^ 0x7f*each
		controls := ((word-0x20*each)&^word | (del-each)&^del) & (0x80 * each)
		if controls != 0 && !all(b[:8], valueByte) { // it may be a tab
			return false
		}
		b = b[8:]
	}
	return all(b, valueByte)
}

// trimSpace removes optional whitespace of RFC 9110 §5.6.3 at both ends.
func trimSpace(b []byte) []byte {
	for len(b) > 0 && (b[0] == ' ' || b[0] == '\t') {
		b = b[1:]
	}
	for len(b) > 0 && (b[len(b)-1] == ' ' || b[len(b)-1] == '\t') {
		b = b[:len(b)-1]
	}
	return b
}

// nextInList cuts the first element off a comma-separated list.
func nextInList(b []byte) (element, rest []byte, more bool) {
	for i, c := range b {
		if c == ',' {
			return trimSpace(b[:i]), b[i+1:], true
		}
	}
	return trimSpace(b), nil, false
}
