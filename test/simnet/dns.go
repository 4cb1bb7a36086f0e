package simnet

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

// dnsServer is the authority for everything. It tells the truth of the zone, but
// for the names about which it was told to lie.
type dnsServer struct {
	log       *log
	published *published

	mu   sync.Mutex
	lies map[string][]string
}

// Lies that are no address.
const (
	LieNXDOMAIN = "NXDOMAIN"
	LieSERVFAIL = "SERVFAIL"
	LieSilence  = "SILENCE" // no answer at all
)

// SilentZone is a zone whose servers never answer.
const SilentZone = "silent.example.org"

// AnyZone is a zone of which every name leads to the hostile server, which serves any.
const AnyZone = "any.example.net"

const dnsTTL = 30 // seconds

func (s *dnsServer) lie(name string, texts []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.lies == nil {
		s.lies = make(map[string][]string)
	}
	s.lies[strings.ToLower(strings.TrimSuffix(name, "."))] = texts
}

func (s *dnsServer) stopLying() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lies = nil
}

func (s *dnsServer) about(name string) ([]string, bool) {
	s.mu.Lock()
	lie, lying := s.lies[name]
	s.mu.Unlock()
	if lying {
		return lie, true
	}
	if strings.HasSuffix(name, "."+SilentZone) {
		return []string{LieSilence}, true
	}
	if strings.HasSuffix(name, "."+AnyZone) {
		return []string{"45.33.32.156"}, true
	}
	if addr, ok := s.published.addressOf(name); ok {
		return []string{addr}, true
	}
	return records(name)
}

func (s *dnsServer) serveUDP(conn net.PacketConn) {
	in := make([]byte, 4096)
	for {
		n, from, err := conn.ReadFrom(in)
		if err != nil {
			return
		}
		if reply := s.answer(in[:n], 0, conn.LocalAddr(), from); reply != nil {
			conn.WriteTo(reply, from)
		}
	}
}

func (s *dnsServer) serveTCP(conn net.Conn) {
	defer conn.Close()
	var length [2]byte
	for {
		conn.SetDeadline(time.Now().Add(10 * time.Second))
		if _, err := io.ReadFull(conn, length[:]); err != nil {
			return
		}
		in := make([]byte, binary.BigEndian.Uint16(length[:]))
		if _, err := io.ReadFull(conn, in); err != nil {
			return
		}
		reply := s.answer(in, 0xffff, conn.LocalAddr(), conn.RemoteAddr())
		if reply == nil {
			return
		}
		if _, err := conn.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(reply))), reply...)); err != nil {
			return
		}
	}
}

// answer replies to one question in at most limit bytes; limit 0 means what the
// question's OPT record says, else 512.
func (s *dnsServer) answer(message []byte, limit int, local, peer net.Addr) []byte {
	var p dnsmessage.Parser
	h, err := p.Start(message)
	if err != nil || h.Response {
		return nil
	}
	q, err := p.Question()
	if err != nil {
		return nil
	}
	if limit == 0 {
		limit = sizeOf(&p)
	}
	name := strings.ToLower(strings.TrimSuffix(q.Name.String(), "."))
	s.log.add(Record{Kind: Question, Server: "dns", Local: local.String(), Peer: peer.String(),
		Question: name + " " + strings.TrimPrefix(q.Type.String(), "Type")})
	h.Response, h.RecursionAvailable, h.Authoritative = true, true, true
	texts, ok := s.about(name)
	switch {
	case len(texts) == 1 && texts[0] == LieSilence:
		return nil
	case len(texts) == 1 && texts[0] == LieSERVFAIL:
		h.RCode, texts = dnsmessage.RCodeServerFailure, nil
	case len(texts) == 1 && texts[0] == LieNXDOMAIN, !ok:
		h.RCode, texts = dnsmessage.RCodeNameError, nil
	}
	reply, err := s.pack(h, q, texts)
	if err == nil && len(reply) > limit {
		h.Truncated = true
		reply, err = s.pack(h, q, nil)
	}
	if err != nil {
		return nil
	}
	return reply
}

// sizeOf returns what a question's OPT record says that its asker takes.
func sizeOf(p *dnsmessage.Parser) int {
	if p.SkipAllQuestions() != nil || p.SkipAllAnswers() != nil || p.SkipAllAuthorities() != nil {
		return 512
	}
	for {
		h, err := p.AdditionalHeader()
		if err != nil {
			return 512
		}
		if h.Type == dnsmessage.TypeOPT {
			return max(512, int(h.Class))
		}
		if p.SkipAdditional() != nil {
			return 512
		}
	}
}

// packRecord adds a record "SRV PRIORITY WEIGHT PORT TARGET" or "TXT WORD" where it is of
// the type that was asked for.
func packRecord(b *dnsmessage.Builder, owner dnsmessage.ResourceHeader, typ dnsmessage.Type, of []string) error {
	switch {
	case of[0] == "TXT" && typ == dnsmessage.TypeTXT:
		return b.TXTResource(owner, dnsmessage.TXTResource{TXT: of[1:]})
	case of[0] == "SRV" && typ == dnsmessage.TypeSRV && len(of) == 5:
		var srv dnsmessage.SRVResource
		if _, err := fmt.Sscan(strings.Join(of[1:4], " "), &srv.Priority, &srv.Weight, &srv.Port); err != nil {
			return err
		}
		target, err := dnsmessage.NewName(of[4] + ".")
		if err != nil {
			return err
		}
		srv.Target = target
		return b.SRVResource(owner, srv)
	}
	return nil
}

// maxAliases bounds the CNAME chain that one answer holds.
const maxAliases = 20

func (s *dnsServer) pack(h dnsmessage.Header, q dnsmessage.Question, texts []string) ([]byte, error) {
	b := dnsmessage.NewBuilder(nil, h)
	b.EnableCompression()
	if err := errors.Join(b.StartQuestions(), b.Question(q), b.StartAnswers()); err != nil {
		return nil, err
	}
	owner := dnsmessage.ResourceHeader{Name: q.Name, Class: dnsmessage.ClassINET, TTL: dnsTTL}
	for range maxAliases {
		if len(texts) != 1 || !strings.HasPrefix(texts[0], "CNAME ") {
			break
		}
		target := strings.TrimPrefix(texts[0], "CNAME ")
		name, err := dnsmessage.NewName(target + ".")
		if err != nil {
			return nil, err
		}
		if err := b.CNAMEResource(owner, dnsmessage.CNAMEResource{CNAME: name}); err != nil {
			return nil, err
		}
		owner.Name = name
		texts, _ = s.about(target)
	}
	for _, text := range texts {
		if of := strings.Fields(text); len(of) > 0 && (of[0] == "SRV" || of[0] == "TXT") {
			if err := packRecord(&b, owner, q.Type, of); err != nil {
				return nil, err
			}
			continue
		}
		a, err := netip.ParseAddr(text)
		switch {
		case err != nil:
		case a.Is4() && q.Type == dnsmessage.TypeA:
			err = b.AResource(owner, dnsmessage.AResource{A: a.As4()})
		case a.Is6() && q.Type == dnsmessage.TypeAAAA:
			err = b.AAAAResource(owner, dnsmessage.AAAAResource{AAAA: a.As16()})
		}
		if err != nil {
			return nil, err
		}
	}
	return b.Finish()
}
