package dnsserver

import (
	"encoding/binary"
	"net/netip"

	"golang.org/x/net/dns/dnsmessage"

	"sluice.dev/sluice/internal/names"
)

const (
	headerSize = 12
	maxName    = 255 // on the wire (RFC 1035, section 2.3.4)
	// maxText bounds the words of an extended error, in bytes.
	maxText = 80
	// MaxReply bounds a reply: header, question, one record whose owner is a
	// pointer, and the OPT record. The longest record beside a question of full
	// length is an AAAA; a PTR's question is at most 75 bytes. So a reply fits
	// the 512 bytes of the oldest UDP client and is never truncated.
	MaxReply = headerSize + maxName + 4 + 2 + 10 + 16 + 11 + 4 + 2 + maxText
	// ourUDPSize is what our OPT record says that we take, in bytes.
	ourUDPSize = 1232
)

// The bits of a header's second word (RFC 1035, section 4.1.1; CD: RFC 4035).
const (
	bitResponse           = 1 << 15
	bitTruncated          = 1 << 9
	bitRecursionDesired   = 1 << 8
	bitRecursionAvailable = 1 << 7
	bitCheckingDisabled   = 1 << 4
	maskOpcode            = 0xf << 11
)

// rcodeBadVersion is an extended RCODE (RFC 6891, section 9).
const rcodeBadVersion dnsmessage.RCode = 16

// extendedError is an INFO-CODE (RFC 8914, section 4). The zero value is none.
type extendedError uint8

const (
	none extendedError = iota
	other
	blocked
	notSupported
)

// infoCodes are the registered numbers.
var infoCodes = [...]uint16{other: 0, blocked: 15, notSupported: 21}

// Types that ask for something other than data of a name.
const (
	firstMetaType dnsmessage.Type = 128 // RFC 6895, section 3.1: 128 to 255 are QTYPEs and meta types
	lastMetaType  dnsmessage.Type = 254
)

// question is what was read of a message: enough for every reply.
type question struct {
	id    uint16
	bits  uint16
	wire  []byte // the question section as it was sent; nil when it could not be read
	asked dnsmessage.Name
	typ   dnsmessage.Type
	edns  bool
	size  uint16 // that the OPT record says is taken over UDP
}

// limit is how long a reply over UDP may be.
func (q *question) limit() int { return max(512, min(int(q.size), maxTruncated)) }

// name returns the name that was asked, in the case in which it was.
func (q *question) name() []byte { return q.asked.Data[:q.asked.Length] }

// parsed is what is to be done with a message.
type parsed uint8

const (
	proceed parsed = iota
	silence
	formatError
	notImplemented
	refuse
	badVersion
)

// parse reads a message. What it cannot read it refuses; what no reply may be
// sent to (RFC 1035, section 7.3: a response, or not even a header) it leaves.
func parse(message []byte) (question, parsed) {
	var q question
	if len(message) < headerSize {
		return q, silence
	}
	q.id, q.bits = binary.BigEndian.Uint16(message), binary.BigEndian.Uint16(message[2:])
	if q.bits&bitResponse != 0 {
		return q, silence
	}
	if q.bits&maskOpcode != 0 {
		return q, notImplemented
	}
	var p dnsmessage.Parser
	if _, err := p.Start(message); err != nil {
		return q, formatError
	}
	if binary.BigEndian.Uint16(message[4:]) != 1 {
		return q, formatError // RFC 9619
	}
	asked, err := p.Question()
	if err != nil {
		return q, formatError
	}
	end, ok := questionEnd(message)
	if !ok {
		return q, formatError
	}
	q.wire, q.asked, q.typ = message[headerSize:end], asked.Name, asked.Type
	if err := q.readOptions(&p); err != nil {
		if err == errVersion {
			return q, badVersion
		}
		return q, formatError
	}
	switch {
	case asked.Class != dnsmessage.ClassINET,
		asked.Type >= firstMetaType && asked.Type <= lastMetaType:
		return q, refuse
	case asked.Type == dnsmessage.TypeOPT || asked.Type == 0:
		return q, formatError
	}
	return q, proceed
}

// questionEnd returns where the first question ends. Its name must be spelled
// out: there is nothing before it that a pointer could point to.
func questionEnd(message []byte) (int, bool) {
	at := headerSize
	for at < len(message) && message[at] != 0 {
		if message[at] > 63 {
			return 0, false
		}
		at += 1 + int(message[at])
	}
	end := at + 1 + 4
	return end, end <= len(message)
}

type optionError string

func (e optionError) Error() string { return string(e) }

const (
	errVersion    optionError = "an EDNS version that we do not know"
	errTwoOptions optionError = "two OPT records"
)

// readOptions looks for the OPT record (RFC 6891, section 6.1.1).
func (q *question) readOptions(p *dnsmessage.Parser) error {
	if err := p.SkipAllQuestions(); err != nil {
		return err
	}
	if err := p.SkipAllAnswers(); err != nil {
		return err
	}
	if err := p.SkipAllAuthorities(); err != nil {
		return err
	}
	var version error
	for {
		h, err := p.AdditionalHeader()
		if err == dnsmessage.ErrSectionDone {
			return version
		}
		if err != nil {
			return err
		}
		if h.Type == dnsmessage.TypeOPT {
			if q.edns {
				return errTwoOptions
			}
			q.edns, q.size = true, uint16(h.Class)
			if h.TTL>>16&0xff != 0 {
				version = errVersion
			}
		}
		if err := p.SkipAdditional(); err != nil {
			return err
		}
	}
}

// answer is what a question is answered with. At most one of address, pointer, hinfo and
// records is set. One that is pending is none yet.
type answer struct {
	pending  pending
	name     names.Name // what it is pending about
	rcode    dnsmessage.RCode
	outcome  outcome
	address  netip.Addr
	pointer  names.Name
	hinfo    bool
	records  *Records
	extended extendedError
	text     string // at most maxText bytes
}

// refusal is the answer to a message that did not get past parse.
func (q *question) refusal(p parsed) answer {
	switch p {
	case notImplemented:
		return answer{rcode: dnsmessage.RCodeNotImplemented, outcome: refused}
	case refuse:
		return answer{rcode: dnsmessage.RCodeRefused, outcome: refused, extended: notSupported}
	case badVersion:
		return answer{rcode: rcodeBadVersion, outcome: refused}
	}
	return answer{rcode: dnsmessage.RCodeFormatError, outcome: malformed}
}

// reply appends the message to b, which is empty. The question is echoed byte by byte, so that a
// client that mixed its case (0x20) finds it again. There is no SOA beside a
// negative answer: it must not be cached, for rules change (RFC 2308, section 5).
//
// A reply that would be longer than the limit is truncated: it has no records.
func (q *question) reply(b []byte, a answer, limit int) []byte {
	bits := bitResponse | bitRecursionAvailable | q.bits&(maskOpcode|bitRecursionDesired|bitCheckingDisabled) | uint16(a.rcode)&0xf
	b = binary.BigEndian.AppendUint16(b, q.id)
	b = binary.BigEndian.AppendUint16(b, bits)
	b = append(b, 0, 0, 0, 0, 0, 0, 0, 0) // the four counts
	if q.wire != nil {
		b = append(b, q.wire...)
		b[5] = 1
	}
	start := len(b)
	if a.records != nil {
		var count uint16
		b, count = appendRecords(b, a.records)
		if len(b)+sizeOptions > limit {
			b, count = b[:start], 0
			b[2] |= bitTruncated >> 8
		}
		binary.BigEndian.PutUint16(b[6:], count)
	} else if b = appendRecord(b, a); len(b) > start {
		b[7] = 1
	}
	if q.edns {
		b = appendOptions(b, a)
		b[11] = 1
	}
	return b
}

// appendRecord appends the one record that an answer has, if any. Its owner is a
// pointer to the question.
func appendRecord(b []byte, a answer) []byte {
	var typ dnsmessage.Type
	switch {
	case a.address.Is4():
		typ = dnsmessage.TypeA
	case a.address.IsValid():
		typ = dnsmessage.TypeAAAA
	case !a.pointer.IsZero():
		typ = dnsmessage.TypePTR
	case a.hinfo:
		typ = dnsmessage.TypeHINFO
	default:
		return b
	}
	b = append(b, 0xc0, headerSize)
	b = binary.BigEndian.AppendUint16(b, uint16(typ))
	b = binary.BigEndian.AppendUint16(b, uint16(dnsmessage.ClassINET))
	b = binary.BigEndian.AppendUint32(b, TTL)
	b = append(b, 0, 0)
	data := len(b)
	switch typ {
	case dnsmessage.TypeA:
		v4 := a.address.As4()
		b = append(b, v4[:]...)
	case dnsmessage.TypeAAAA:
		v6 := a.address.As16()
		b = append(b, v6[:]...)
	case dnsmessage.TypePTR:
		b = appendName(b, a.pointer)
	case dnsmessage.TypeHINFO: // RFC 8482, section 4.2
		b = append(b, "\x07RFC8482\x00"...)
	}
	binary.BigEndian.PutUint16(b[data-2:], uint16(len(b)-data))
	return b
}

// sizeOptions is the size of an OPT record without options.
const sizeOptions = 11

// appendRecords appends the records of upstream. Targets are not compressed (RFC 2782).
func appendRecords(b []byte, r *Records) ([]byte, uint16) {
	head := func(typ dnsmessage.Type) {
		b = append(b, 0xc0, headerSize)
		b = binary.BigEndian.AppendUint16(b, uint16(typ))
		b = binary.BigEndian.AppendUint16(b, uint16(dnsmessage.ClassINET))
		b = binary.BigEndian.AppendUint32(b, r.TTL)
	}
	for i := range r.Services {
		service := &r.Services[i]
		head(dnsmessage.TypeSRV)
		b = binary.BigEndian.AppendUint16(b, uint16(3*2+len(service.Host.String())+2))
		b = binary.BigEndian.AppendUint16(b, service.Priority)
		b = binary.BigEndian.AppendUint16(b, service.Weight)
		b = binary.BigEndian.AppendUint16(b, service.Port)
		b = appendName(b, service.Host)
	}
	for _, text := range r.Texts {
		head(dnsmessage.TypeTXT)
		b = binary.BigEndian.AppendUint16(b, uint16(len(text)))
		b = append(b, text...)
	}
	return b, uint16(len(r.Services) + len(r.Texts))
}

func appendName(b []byte, n names.Name) []byte {
	length := len(b)
	b = append(b, 0)
	for _, c := range []byte(n.String()) {
		if c == '.' {
			length = len(b)
			b = append(b, 0)
			continue
		}
		b[length]++
		b = append(b, c)
	}
	return append(b, 0)
}

// appendOptions appends the OPT record with the extended error, if any.
func appendOptions(b []byte, a answer) []byte {
	b = append(b, 0, 0, byte(dnsmessage.TypeOPT))
	b = binary.BigEndian.AppendUint16(b, ourUDPSize)
	b = append(b, byte(a.rcode>>4), 0, 0, 0) // extended RCODE, version, flags
	if a.extended == none {
		return append(b, 0, 0)
	}
	const optionExtendedError = 15
	text := a.text[:min(len(a.text), maxText)]
	b = binary.BigEndian.AppendUint16(b, uint16(4+2+len(text)))
	b = binary.BigEndian.AppendUint16(b, optionExtendedError)
	b = binary.BigEndian.AppendUint16(b, uint16(2+len(text)))
	b = binary.BigEndian.AppendUint16(b, infoCodes[a.extended])
	return append(b, text...)
}
