package dnsserver

import (
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

// Bounds of what is told about questions of types that are not supported.
const (
	// MaxUnanswered is how many names with a type each are kept apart; a further one is
	// counted alone until one of them is RetellUnanswered old.
	MaxUnanswered = 256
	// RetellUnanswered is how long nothing more is told of a name and type.
	RetellUnanswered = time.Minute
)

// Unanswered is a question that got an empty answer for want of support.
type Unanswered struct {
	Name  string // as it was asked, in lower case and without the last dot
	Type  string // "SRV", or "TYPE250"
	Named bool   // a rule names the host: what is below the labels that begin with "_"
}

// unanswered remembers what was told.
type unanswered struct {
	tell   func(Unanswered)
	now    func() time.Time
	untold atomic.Uint64

	mu   sync.Mutex
	told map[asked]time.Time
}

type asked struct {
	name string
	typ  dnsmessage.Type
}

// notSupported tells of a question of a type that we have no records of. Not of HTTPS
// and SVCB, which browsers ask beside A and do without, nor of names under a search
// suffix, with which a resolver only begins.
func (s *Server) notSupported(q *question) {
	if s.unanswered.tell == nil || q.typ == typeSVCB || q.typ == typeHTTPS || q.typ == dnsmessage.TypePTR {
		return
	}
	name := strings.TrimSuffix(strings.ToLower(string(q.name())), ".")
	n, err := hostOf(name)
	if err != nil || n.IsSingleLabel() || isLocalhost(n) || s.directory.Local(n) {
		return
	}
	if !s.unanswered.first(asked{name, q.typ}) {
		s.unanswered.untold.Add(1)
		return
	}
	s.unanswered.tell(Unanswered{Name: name, Type: typeName(q.typ), Named: s.named(n)})
}

// first reports whether a question is to be told of, and remembers it.
func (u *unanswered) first(a asked) bool {
	now := u.now()
	u.mu.Lock()
	defer u.mu.Unlock()
	if at, known := u.told[a]; known && now.Sub(at) < RetellUnanswered {
		return false
	}
	if len(u.told) >= MaxUnanswered {
		for old, at := range u.told {
			if now.Sub(at) >= RetellUnanswered {
				delete(u.told, old)
			}
		}
		if len(u.told) >= MaxUnanswered {
			return false
		}
	}
	if u.told == nil {
		u.told = make(map[asked]time.Time)
	}
	u.told[a] = now
	return true
}

// Types that dnsmessage has no names for.
const (
	typeNAPTR dnsmessage.Type = 35
	typeDS    dnsmessage.Type = 43
	typeSSHFP dnsmessage.Type = 44
	typeTLSA  dnsmessage.Type = 52
	typeSVCB  dnsmessage.Type = 64
	typeHTTPS dnsmessage.Type = 65
	typeURI   dnsmessage.Type = 256
	typeCAA   dnsmessage.Type = 257
)

// typeName returns a type as people write it (RFC 3597, section 5).
func typeName(t dnsmessage.Type) string {
	switch t {
	case dnsmessage.TypeNS:
		return "NS"
	case dnsmessage.TypeCNAME:
		return "CNAME"
	case dnsmessage.TypeSOA:
		return "SOA"
	case dnsmessage.TypeMX:
		return "MX"
	case dnsmessage.TypeTXT:
		return "TXT"
	case dnsmessage.TypeSRV:
		return "SRV"
	case typeNAPTR:
		return "NAPTR"
	case typeDS:
		return "DS"
	case typeSSHFP:
		return "SSHFP"
	case typeTLSA:
		return "TLSA"
	case typeURI:
		return "URI"
	case typeCAA:
		return "CAA"
	}
	return "TYPE" + strconv.Itoa(int(t))
}
