package policy

import (
	"fmt"
	"strings"
)

// Protocol is a rule port's protocol.
type Protocol uint8

const (
	ProtocolNone Protocol = iota
	ProtocolHTTP
	ProtocolHTTPS
	ProtocolHTTP2
	ProtocolGRPC
	ProtocolTLS
	ProtocolTCP
	ProtocolMongo
	ProtocolUDP
	ProtocolQUIC
)

// protocolWords are the words of rules, by Protocol.
var protocolWords = [...]string{"", "http", "https", "http2", "grpc", "tls", "tcp", "mongo", "udp", "quic"}

// String returns the word of a rule: "https"; "" for ProtocolNone.
func (p Protocol) String() string {
	if int(p) < len(protocolWords) {
		return protocolWords[p]
	}
	return fmt.Sprintf("protocol(%d)", uint8(p))
}

// ParseProtocol reads a rule's word in any case.
func ParseProtocol(word string) (Protocol, error) {
	for i, w := range protocolWords {
		if w != "" && strings.EqualFold(w, word) {
			return Protocol(i), nil
		}
	}
	return ProtocolNone, fmt.Errorf("protocol %q is none of %s", word, strings.Join(protocolWords[1:], ", "))
}

// MarshalText implements encoding.TextMarshaler.
func (p Protocol) MarshalText() ([]byte, error) {
	if p == ProtocolNone || int(p) >= len(protocolWords) {
		return nil, fmt.Errorf("no word for %s", p)
	}
	return []byte(p.String()), nil
}

// UnmarshalText implements encoding.TextUnmarshaler.
func (p *Protocol) UnmarshalText(text []byte) (err error) {
	*p, err = ParseProtocol(string(text))
	return err
}

// Transport returns what carries p.
func (p Protocol) Transport() Transport {
	if p == ProtocolUDP || p == ProtocolQUIC {
		return UDP
	}
	return TCP
}

// isTCPFamily reports whether p relays any bytes.
func (p Protocol) isTCPFamily() bool { return p == ProtocolTCP || p == ProtocolMongo }

// SpeaksHTTP2 reports whether a server is spoken to in HTTP/2, whatever its client speaks.
func (p Protocol) SpeaksHTTP2() bool { return p == ProtocolHTTP2 || p == ProtocolGRPC }

// TakesPlainHTTP reports whether requests in the clear, and nothing else, are taken on a port.
func (p Protocol) TakesPlainHTTP() bool { return p == ProtocolHTTP || p.SpeaksHTTP2() }

// leadsTo reports whether requests of a port of p may go to a port outside where another
// protocol is spoken: a port of HTTP/2 stays one.
func (p Protocol) leadsTo(outside Protocol) bool {
	switch {
	case outside == ProtocolHTTPS:
		return p.TakesPlainHTTP()
	case p == ProtocolHTTP:
		return outside == ProtocolHTTP
	}
	return p.SpeaksHTTP2() && outside.SpeaksHTTP2()
}

// isBuilt reports whether the gate can carry p. The others are refused by NewSet.
func (p Protocol) isBuilt() bool {
	switch p {
	case ProtocolHTTP, ProtocolHTTPS, ProtocolHTTP2, ProtocolGRPC, ProtocolTLS, ProtocolTCP, ProtocolMongo:
		return true
	}
	return false
}

// protocols is a set of protocols.
type protocols uint16

func (s protocols) with(p Protocol) protocols  { return s | 1<<p }
func (s protocols) holdsAny(of protocols) bool { return s&of != 0 }

// only reports whether s holds nothing but what of holds; an empty set does.
func (s protocols) only(of protocols) bool { return s&^of == 0 }

const (
	tcpFamily  protocols = 1<<ProtocolTCP | 1<<ProtocolMongo
	takesHTTP  protocols = 1<<ProtocolHTTP | 1<<ProtocolHTTPS | 1<<ProtocolHTTP2 | 1<<ProtocolGRPC
	takesHello protocols = 1<<ProtocolHTTPS | 1<<ProtocolTLS
)
