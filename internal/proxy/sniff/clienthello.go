package sniff

import (
	"sluice.dev/sluice/internal/names"
	"sluice.dev/sluice/internal/policy"
)

// Values of the wire (RFC 8446 §4, §5.1 and §B; RFC 6066 §3; RFC 9849 §5).
const (
	recordLowest       = 0x14 // of the content types that there are, up to
	recordHighest      = 0x18
	recordChangeCipher = 0x14
	recordAlert        = 0x15
	recordHandshake    = 0x16
	recordData         = 0x17
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
	maxListEntries = 64      // of ALPN, and of supported_groups
	maxSkipped     = 1 << 10 // bytes of records before it
)

// Bounds of what a server may take for a ClientHello's body, however lax it is: version,
// random, session_id and one cipher suite at the least, and what the one that can be set
// to take most does (Erlang's max_handshake_size).
const (
	minHello       = 2 + 32 + 1 + 2 + 2
	maxServerHello = 1<<23 - 1
)

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
	suitesBad := s.bad
	compression := s.list8()
	if suitesBad || len(suites) < 2 {
		return notTLS(ErrHelloLength)
	}
	if s.bad || len(session) > 32 || len(suites)%2 != 0 || len(compression) < 1 {
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
