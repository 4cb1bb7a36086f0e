package sniff

import (
	"sluice.dev/sluice/internal/names"
	"sluice.dev/sluice/internal/policy"
)

// Values of the wire (RFC 8446 §4, §5.1 and §B; RFC 6066 §3; RFC 9849 §5).
const (
	recordHandshake    = 0x16
	recordHeaderLen    = 5
	maxRecord          = 1 << 14
	messageClientHello = 1
	messageHeaderLen   = 4

	extensionServerName        = 0
	extensionSupportedGroups   = 10
	extensionALPN              = 16
	extensionPreSharedKey      = 41
	extensionSupportedVersions = 43
	extensionESNI              = 0xffce // the draft before encrypted_client_hello
	extensionECH               = 0xfe0d

	versionTLS10 = 0x0301
	versionTLS12 = 0x0303
	versionTLS13 = 0x0304
)

// Bounds inside one ClientHello.
const (
	maxExtensions  = 128
	maxListEntries = 64 // of ALPN, and of supported_groups
)

// parseTLS reads handshake records until they hold one whole ClientHello.
//
// The first record must look like one in type, major version, length and message
// type, else the connection is Opaque: there are binary protocols whose first
// byte is 0x16 too. From then on what does not fit is refused.
func parseTLS(b []byte) (Result, Need) {
	const first = recordHeaderLen + 1 // up to the message's type
	for i := range min(len(b), first) {
		if i == 1 && b[i] != 3 || i == first-1 && b[i] != messageClientHello {
			return opaque()
		}
	}
	if len(b) >= recordHeaderLen {
		if n := recordLength(b); n == 0 || n > maxRecord {
			return opaque()
		}
	}
	if len(b) < first {
		return Result{Kind: policy.ClientHello}, first
	}

	var (
		header [messageHeaderLen]byte
		got    int // bytes of the message in the records before pos
		total  int // bytes of the message with its header, once that was seen
	)
	for pos := 0; ; {
		// Here got < total, or total is not known: at least one record is missing.
		if len(b)-pos < recordHeaderLen {
			return needHello(pos + recordHeaderLen + remaining(got, total))
		}
		if b[pos] != recordHandshake || b[pos+1] != 3 {
			return refuse(ErrHelloRecord)
		}
		n := recordLength(b[pos:])
		if n == 0 || n > maxRecord {
			return refuse(ErrHelloRecord)
		}
		payload := b[pos+recordHeaderLen : min(pos+recordHeaderLen+n, len(b))]
		if got < messageHeaderLen {
			if filled := got + copy(header[got:], payload); filled == messageHeaderLen {
				total = messageHeaderLen + int(header[1])<<16 + int(header[2])<<8 + int(header[3])
			}
		}
		got += n
		pos += recordHeaderLen + n
		if total != 0 && got > total {
			return refuse(ErrHelloTrailing)
		}
		if pos > len(b) || got != total {
			need := pos
			if rest := total - got; total != 0 && rest > 0 {
				need += rest + recordHeaderLen*((rest+maxRecord-1)/maxRecord)
			}
			if len(b) < pos || need > MaxHello {
				return needHello(need)
			}
			continue
		}
		if pos > MaxHello {
			return refuse(ErrHelloTooLong)
		}
		return parseHello(joinRecords(b[:pos], total)[messageHeaderLen:], pos)
	}
}

// remaining is a lower bound on the payload that is still to come in further
// records, without the header of the next one.
func remaining(got, total int) int {
	if total == 0 {
		return 1
	}
	rest := total - got
	return rest + recordHeaderLen*((rest+maxRecord-1)/maxRecord-1)
}

func needHello(need int) (Result, Need) {
	if need > MaxHello {
		return refuse(ErrHelloTooLong)
	}
	return Result{Kind: policy.ClientHello}, Need(need)
}

// joinRecords returns the payload of the records in b, which is the message
// whole. One record, as nearly all clients send, is not copied.
func joinRecords(b []byte, total int) []byte {
	if len(b) == recordHeaderLen+total {
		return b[recordHeaderLen:]
	}
	message := make([]byte, 0, total)
	for len(b) > 0 {
		end := recordHeaderLen + recordLength(b)
		message = append(message, b[recordHeaderLen:end]...)
		b = b[end:]
	}
	return message
}

func recordLength(b []byte) int { return int(b[3])<<8 | int(b[4]) }

// parseHello reads the body of a ClientHello (RFC 8446 §4.1.2):
//
//	legacy_version 2, random 32, session_id<0..32>, cipher_suites<2..>,
//	compression_methods<1..>, extensions (absent before TLS 1.3, or to the end)
func parseHello(body []byte, wire int) (Result, Need) {
	r := Result{Kind: policy.ClientHello, HelloBytes: wire}
	s := cursor{rest: body}
	legacy := s.uint16()
	s.take(32)
	session := s.list8()
	suites := s.list16()
	compression := s.list8()
	if s.bad || len(session) > 32 || len(suites) < 2 || len(suites)%2 != 0 || len(compression) < 1 {
		return refuse(ErrHelloLength)
	}
	if legacy < versionTLS10 {
		return refuse(ErrOldHello)
	}
	r.MaxVersion = min(legacy, versionTLS12)
	if len(s.rest) == 0 {
		return r, 0
	}
	extensions := cursor{rest: s.list16()}
	if s.bad || len(s.rest) != 0 {
		return refuse(ErrHelloLength)
	}
	if err := r.readExtensions(&extensions); err != nil {
		return refuse(err)
	}
	return r, 0
}

func (r *Result) readExtensions(s *cursor) *HelloError {
	var seen [maxExtensions]uint16
	for count := 0; len(s.rest) > 0; count++ {
		if count == maxExtensions {
			return ErrTooManyExtensions
		}
		kind := s.uint16()
		data := cursor{rest: s.list16()}
		if s.bad {
			return ErrHelloLength
		}
		for _, before := range seen[:count] {
			if before == kind {
				return ErrDuplicateExtension
			}
		}
		seen[count] = kind
		if err := r.readExtension(kind, &data); err != nil {
			return err
		}
		if kind == extensionPreSharedKey && len(s.rest) != 0 {
			return ErrHelloLength // it must be the last one (RFC 8446 §4.2.11)
		}
	}
	return nil
}

func (r *Result) readExtension(kind uint16, data *cursor) *HelloError {
	switch kind {
	case extensionServerName:
		return r.readServerName(data)
	case extensionECH, extensionESNI:
		r.ECH = true
	case extensionALPN:
		return r.readALPN(data)
	case extensionSupportedGroups:
		return r.readGroups(data)
	case extensionSupportedVersions:
		return r.readVersions(data)
	}
	return nil
}

// readServerName takes exactly one entry of type host_name (RFC 6066 §3): no
// other type was ever defined, and servers differ in what they make of a second
// entry.
func (r *Result) readServerName(data *cursor) *HelloError {
	list := cursor{rest: data.list16()}
	if data.bad || len(data.rest) != 0 {
		return ErrHelloLength
	}
	kind := list.uint8()
	host := list.list16()
	if list.bad || kind != 0 || len(host) == 0 || len(list.rest) != 0 {
		return ErrServerNames
	}
	if len(host) > MaxSNIText {
		r.SNI, r.SNIBad = string(host[:MaxSNIText]), true
		return nil
	}
	r.SNI = string(host)
	name, err := names.Parse(r.SNI)
	if err != nil {
		r.SNIBad = true
		return nil
	}
	r.Name = name
	return nil
}

func (r *Result) readALPN(data *cursor) *HelloError {
	list := cursor{rest: data.list16()}
	if data.bad || len(data.rest) != 0 || len(list.rest) == 0 {
		return ErrHelloLength
	}
	r.ALPN = make([]string, 0, 2)
	for len(list.rest) > 0 {
		protocol := list.list8()
		if list.bad || len(protocol) == 0 {
			return ErrHelloLength
		}
		if len(r.ALPN) == maxListEntries {
			return ErrTooManyExtensions
		}
		switch string(protocol) { // the two of nearly all clients cost no allocation
		case "h2":
			r.ALPN = append(r.ALPN, "h2")
		case "http/1.1":
			r.ALPN = append(r.ALPN, "http/1.1")
		default:
			r.ALPN = append(r.ALPN, string(protocol))
		}
	}
	return nil
}

func (r *Result) readGroups(data *cursor) *HelloError {
	list := cursor{rest: data.list16()}
	if data.bad || len(data.rest) != 0 || len(list.rest) == 0 || len(list.rest)%2 != 0 {
		return ErrHelloLength
	}
	if len(list.rest)/2 > maxListEntries {
		return ErrTooManyExtensions
	}
	r.Groups = make([]uint16, 0, len(list.rest)/2)
	for len(list.rest) > 0 {
		r.Groups = append(r.Groups, list.uint16())
	}
	return nil
}

// readVersions keeps the newest version that is one: lists hold GREASE values
// (RFC 8701) too.
func (r *Result) readVersions(data *cursor) *HelloError {
	list := cursor{rest: data.list8()}
	if data.bad || len(data.rest) != 0 || len(list.rest) == 0 || len(list.rest)%2 != 0 {
		return ErrHelloLength
	}
	newest := uint16(0)
	for len(list.rest) > 0 {
		if v := list.uint16(); v <= versionTLS13 {
			newest = max(newest, v)
		}
	}
	if newest < versionTLS10 {
		return ErrOldHello
	}
	r.MaxVersion = newest
	return nil
}

// cursor reads the vectors of a TLS message (RFC 8446 §3.4). Once something is
// missing it is bad and stays so.
type cursor struct {
	rest []byte
	bad  bool
}

func (c *cursor) take(n int) []byte {
	if len(c.rest) < n {
		c.bad, c.rest = true, nil
		return nil
	}
	taken := c.rest[:n]
	c.rest = c.rest[n:]
	return taken
}

func (c *cursor) uint8() int {
	if b := c.take(1); b != nil {
		return int(b[0])
	}
	return 0
}

func (c *cursor) uint16() uint16 {
	if b := c.take(2); b != nil {
		return uint16(b[0])<<8 | uint16(b[1])
	}
	return 0
}

func (c *cursor) list8() []byte { return c.take(c.uint8()) }

func (c *cursor) list16() []byte { return c.take(int(c.uint16())) }
