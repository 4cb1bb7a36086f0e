package dnsserver

import (
	"context"
	"errors"
	"strings"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"sluice.dev/sluice/internal/names"
)

// Bounds of what is asked of our own DNS before anybody dials.
const (
	// MaxWaiting is how many questions of one workload may wait for our own DNS; a further
	// one fails at once.
	MaxWaiting = 64
	// ExistsTimeout is how long it is waited for whether a name exists that looks like one
	// under a search suffix; without an answer it counts as none.
	ExistsTimeout = 2 * time.Second
	// maxTruncated bounds a reply over UDP, in bytes (RFC 9715).
	maxTruncated = 1232
)

// Upstream is our own DNS, for what rules allow. Its methods wait for an answer.
type Upstream interface {
	// Allows reports whether it may be asked about n: a rule allows it, "*" counts.
	Allows(n names.Name) bool
	// Exists reports whether n has addresses; where nobody knows, it does not.
	Exists(ctx context.Context, n names.Name) bool
	// Records returns the SRV records of a service at host, whose name is as RFC 2782 has
	// it, or the TXT records of host itself. The error is ErrNoSuchName, or says why nobody
	// knows.
	Records(ctx context.Context, name string, host names.Name, typ dnsmessage.Type) (Records, error)
}

// ErrNoSuchName is the error of Records for a name that does not exist.
var ErrNoSuchName = errors.New("the name does not exist")

// Records are those of one name: of SRV, or of TXT.
type Records struct {
	Services []Service
	Texts    [][]byte // each as it is on the wire
	TTL      uint32   // in seconds
}

// Service is one SRV record (RFC 2782).
type Service struct {
	Priority, Weight, Port uint16
	Host                   names.Name
}

// pending is what a question waits for.
type pending uint8

const (
	nothing  pending = iota
	exists           // whether the name does
	upstream         // its records
)

// hostOf is the host that a name belongs to: what is below the labels that begin with "_"
// (RFC 8552).
func hostOf(name string) (names.Name, error) {
	host := strings.TrimSuffix(strings.ToLower(name), ".")
	for strings.HasPrefix(host, "_") {
		_, host, _ = strings.Cut(host, ".")
	}
	return names.Parse(host)
}

// maxService bounds the name of a service (RFC 6335, section 5.1).
const maxService = 15

var errNoService = errors.New("not the name of a service")

// hostOfService is the host of "_service._proto.host" (RFC 2782). What a workload can write
// into such a name is small.
func hostOfService(name string) (names.Name, error) {
	service, rest, _ := strings.Cut(name, ".")
	proto, host, _ := strings.Cut(rest, ".")
	if !strings.HasPrefix(service, "_") || len(service) < 2 || len(service) > 1+maxService || strings.Trim(service[1:], "abcdefghijklmnopqrstuvwxyz0123456789-") != "" {
		return names.Name{}, errNoService
	}
	switch proto {
	case "_tcp", "_udp", "_tls", "_sctp":
		return names.Parse(host)
	}
	return names.Name{}, errNoService
}

// isSearched reports whether n looks like a name that an application asked for with a
// search suffix behind it that we do not know (LOCALDOMAIN, the search list of a Pod or of
// a container): it begins with one that rules or the mesh have.
func (s *Server) isSearched(n names.Name) bool {
	for beginning := range n.Beginnings {
		if s.named(beginning) || s.directory.Local(beginning) {
			return true
		}
	}
	return false
}

// hasRecords reports whether a question is one for records that our own DNS is asked for,
// and of which host.
func (s *Server) hasRecords(q *question) (names.Name, bool) {
	if s.upstream == nil || q.typ != dnsmessage.TypeSRV && q.typ != dnsmessage.TypeTXT {
		return names.Name{}, false
	}
	name := strings.TrimSuffix(strings.ToLower(string(q.name())), ".")
	host, err := names.Parse(name)
	if q.typ == dnsmessage.TypeSRV {
		host, err = hostOfService(name)
	}
	if err != nil || host.IsSingleLabel() || isLocalhost(host) || s.directory.Local(host) {
		return names.Name{}, false
	}
	// Nor is anybody outside asked about what we have addresses of ourselves.
	if _, service := s.directory.Service(host); service || !s.directory.Alias(host).IsZero() {
		return names.Name{}, false
	}
	if _, reverse := parseReverse(host); reverse {
		return names.Name{}, false
	}
	return host, s.upstream.Allows(host)
}

// mayWait takes one of the places of questions that wait, which await gives back.
func (s *Server) mayWait() bool {
	select {
	case s.waiting <- struct{}{}:
		return true
	default:
		return false
	}
}

var tooManyWait = failure("too many questions wait for DNS")

// await asks our own DNS for what an answer waits for, after mayWait. It must not run on
// the loop of a socket.
func (s *Server) await(ctx context.Context, q *question, a answer) answer {
	defer func() { <-s.waiting }()
	if a.pending == exists {
		ctx, cancel := context.WithTimeout(ctx, ExistsTimeout)
		defer cancel()
		if !s.upstream.Exists(ctx, a.name) {
			return answer{rcode: dnsmessage.RCodeNameError, outcome: unknown}
		}
		return s.synthetic(q, a.name, false)
	}
	name := strings.TrimSuffix(strings.ToLower(string(q.name())), ".")
	records, err := s.upstream.Records(ctx, name, a.name, q.typ)
	switch {
	case errors.Is(err, ErrNoSuchName):
		return answer{rcode: dnsmessage.RCodeNameError, outcome: unknown}
	case err != nil:
		return failure(err.Error())
	case len(records.Services) == 0 && len(records.Texts) == 0:
		return answer{outcome: empty}
	}
	s.targets.note(name, records.Services)
	return answer{outcome: answered, records: &records}
}

func failure(text string) answer {
	return answer{rcode: dnsmessage.RCodeServerFailure, outcome: failed, extended: other, text: "sluice: " + text}
}
