package resolve

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"net/netip"
	"strings"

	"golang.org/x/net/dns/dnsmessage"
)

const (
	// udpSize is what we say that we take over UDP, in bytes (RFC 9715).
	udpSize = 1232
	// maxRecords is how many records of an answer are looked at.
	maxRecords = 512
	// MaxAddresses is how many addresses of one name are kept.
	MaxAddresses = 64
	// maxLinks bounds a chain of CNAME records.
	maxLinks = 16
)

// request is one question as it is sent.
type request struct {
	id    uint16
	name  dnsmessage.Name // in mixed case
	typ   dnsmessage.Type
	bytes []byte
}

// newRequest packs a question with a random id and a random case of each letter
// (0x20: 1 bit more to guess for each), with or without EDNS.
func newRequest(name string, typ dnsmessage.Type, edns bool) (request, error) {
	var random [2 + 255/8 + 1]byte
	rand.Read(random[:]) // never fails
	r := request{id: binary.BigEndian.Uint16(random[:]), typ: typ}
	var err error
	if r.name, err = dnsmessage.NewName(name); err != nil {
		return request{}, err
	}
	for i, c := range r.name.Data[:r.name.Length] {
		if c >= 'a' && c <= 'z' && random[2+i/8]>>(i%8)&1 == 1 {
			r.name.Data[i] = c - 'a' + 'A'
		}
	}
	b := dnsmessage.NewBuilder(make([]byte, 0, 512), dnsmessage.Header{ID: r.id, RecursionDesired: true})
	err = errors.Join(
		b.StartQuestions(),
		b.Question(dnsmessage.Question{Name: r.name, Type: typ, Class: dnsmessage.ClassINET}),
	)
	if edns {
		var h dnsmessage.ResourceHeader
		err = errors.Join(err, h.SetEDNS0(udpSize, dnsmessage.RCodeSuccess, false),
			b.StartAdditionals(), b.OPTResource(h, dnsmessage.OPTResource{}))
	}
	if err != nil {
		return request{}, err
	}
	r.bytes, err = b.Finish()
	return r, err
}

// reply is what an answer says, of records of class IN.
type reply struct {
	rcode     dnsmessage.RCode
	truncated bool
	aliases   []alias
	addresses []address
	records   []ofRecord
	negative  uint32 // seconds that a negative answer may be kept (RFC 2308); 0: not said
}

type alias struct {
	owner, target string // lower case, with the trailing dot
	ttl           uint32
}

type address struct {
	owner string
	addr  netip.Addr
	ttl   uint32
}

// Why a message is not the answer to a request.
var (
	errOther = errors.New("not the answer to what was asked")
	errCase  = errors.New("the answer spells the question differently")
)

// parseReply reads the answer to r. errOther: somebody else's message, to be
// left alone. errCase: the server does not keep the case of a question, so ask
// it over TCP. Another error: the server's message is broken.
func parseReply(message []byte, r request) (reply, error) {
	var p dnsmessage.Parser
	h, err := p.Start(message)
	if err != nil || !h.Response || h.ID != r.id || h.OpCode != 0 {
		return reply{}, errOther
	}
	out := reply{rcode: h.RCode, truncated: h.Truncated}
	q, err := p.Question()
	if err == dnsmessage.ErrSectionDone && h.RCode != dnsmessage.RCodeSuccess && h.RCode != dnsmessage.RCodeNameError {
		return out, nil // some servers say that they cannot by a header alone
	}
	if err != nil || q.Type != r.typ || q.Class != dnsmessage.ClassINET {
		return reply{}, errOther
	}
	if q.Name != r.name {
		if strings.EqualFold(q.Name.String(), r.name.String()) {
			return reply{}, errCase
		}
		return reply{}, errOther
	}
	if h.Truncated {
		return out, nil
	}
	if err := p.SkipAllQuestions(); err != nil {
		return reply{}, err
	}
	if err := out.readAnswers(&p, r.typ); err != nil {
		return reply{}, err
	}
	return out, out.readNegative(&p)
}

func (out *reply) readAnswers(p *dnsmessage.Parser, typ dnsmessage.Type) error {
	for range maxRecords {
		h, err := p.AnswerHeader()
		if err == dnsmessage.ErrSectionDone {
			return nil
		}
		if err != nil {
			return err
		}
		owner := strings.ToLower(h.Name.String())
		switch {
		case h.Class != dnsmessage.ClassINET:
			err = p.SkipAnswer()
		case h.Type == dnsmessage.TypeA:
			var a dnsmessage.AResource
			if a, err = p.AResource(); err == nil {
				out.addresses = append(out.addresses, address{owner, netip.AddrFrom4(a.A), h.TTL})
			}
		case h.Type == dnsmessage.TypeAAAA:
			var a dnsmessage.AAAAResource
			if a, err = p.AAAAResource(); err == nil {
				out.addresses = append(out.addresses, address{owner, netip.AddrFrom16(a.AAAA), h.TTL})
			}
		case h.Type == dnsmessage.TypeCNAME:
			var c dnsmessage.CNAMEResource
			if c, err = p.CNAMEResource(); err == nil {
				out.aliases = append(out.aliases, alias{owner, strings.ToLower(c.CNAME.String()), h.TTL})
			}
		case h.Type == typ && (typ == dnsmessage.TypeSRV || typ == dnsmessage.TypeTXT):
			err = out.readRecord(p, owner, h)
		default:
			err = p.SkipAnswer()
		}
		if err != nil {
			return err
		}
	}
	return p.SkipAllAnswers()
}

// readNegative looks for the SOA that says how long a negative answer holds.
func (out *reply) readNegative(p *dnsmessage.Parser) error {
	if len(out.addresses) > 0 {
		return nil
	}
	for range maxRecords {
		h, err := p.AuthorityHeader()
		if err == dnsmessage.ErrSectionDone {
			return nil
		}
		if err != nil {
			return err
		}
		if h.Type == dnsmessage.TypeSOA && h.Class == dnsmessage.ClassINET {
			minimum, err := readMinimum(p)
			if err != nil {
				return err
			}
			out.negative = min(h.TTL, minimum)
			return nil
		}
		if err := p.SkipAuthority(); err != nil {
			return err
		}
	}
	return nil
}

// minSOA is the least size of a SOA's data: two names, each at least the root, and
// five numbers (RFC 1035 section 3.3.13).
const minSOA = 2 + 5*4

// readMinimum returns the last number of a SOA. The names before it are not read: a
// mailbox may have a dot in its first label (RFC 1035 section 8), which dnsmessage
// takes for a broken name (golang.org/issue/76049), and the answer with it.
func readMinimum(p *dnsmessage.Parser) (uint32, error) {
	soa, err := p.UnknownResource()
	if err != nil {
		return 0, err
	}
	if len(soa.Data) < minSOA {
		return 0, errShortSOA
	}
	return binary.BigEndian.Uint32(soa.Data[len(soa.Data)-4:]), nil
}

var errShortSOA = errors.New("a SOA is too short")

// follow walks the aliases from a name and returns where they end, how many
// links that took, and the addresses of the right family that stand there.
// Records of any other owner are not looked at: nobody asked for them.
func (out *reply) follow(name string, typ dnsmessage.Type, ttl uint32) (end string, links int, addrs []netip.Addr, shortest uint32) {
	end, shortest = name, ttl
	for links < maxLinks {
		next, ok := out.aliasOf(end)
		if !ok {
			break
		}
		links++
		end, shortest = next.target, min(shortest, next.ttl)
	}
	for _, a := range out.addresses {
		if a.owner == end && a.addr.Is4() == (typ == dnsmessage.TypeA) && len(addrs) < MaxAddresses {
			addrs, shortest = append(addrs, a.addr), min(shortest, a.ttl)
		}
	}
	return end, links, addrs, shortest
}

func (out *reply) aliasOf(owner string) (alias, bool) {
	for _, a := range out.aliases {
		if a.owner == owner {
			return a, true
		}
	}
	return alias{}, false
}
