package dnsserver

import (
	"context"
	"log/slog"
	"net/netip"
	"sync/atomic"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"sluice.dev/sluice/internal/names"
)

// Config is what a Server needs. Names and Directory are required.
type Config struct {
	Names     *Table
	Directory Directory
	// Named reports whether a rule more specific than "*" names n: such a name
	// is answered even under a search suffix, and counts against the half of
	// the table that is kept for them. Nil: none is.
	Named func(n names.Name) bool
	// NamedExactly reports whether a rule names n without a wildcard: such a
	// name, like a service, is exempt from the rate of new names. Nil: none is.
	NamedExactly func(n names.Name) bool
	// OnlyV4 reports whether our own look-up of n found IPv4 addresses and no IPv6
	// address, and that still holds: then AAAA is answered with NODATA. It must not
	// wait for anybody. It is asked about names that a rule names. Nil: none is known.
	OnlyV4 func(n names.Name) bool
	// Upstream is our own DNS. Nil: nobody is asked, SRV and TXT have empty answers, and a
	// name that looks like one under a search suffix is taken at its word.
	Upstream Upstream
	// Unanswered takes a question that got an empty answer because we have no records
	// of its type, or because no rule allows the host, the first time and then at most once in RetellUnanswered. Nil: none.
	Unanswered func(u Unanswered)
	Now        func() time.Time // time.Now where nil
	// WithoutV6 answers AAAA with NODATA, for a workload without IPv6.
	WithoutV6 bool
	Log       *slog.Logger // slog.Default() where nil
}

// TTL of every answer, in seconds. An address stays with its name for
// KeepAnswered, so the value only says how soon a change of rules is seen.
const TTL = 60

// Server answers the questions of one workload.
type Server struct {
	table        *Table
	directory    Directory
	named        func(names.Name) bool
	namedExactly func(names.Name) bool
	onlyV4       func(names.Name) bool
	withoutV6    bool
	log          *slog.Logger
	upstream     Upstream
	unanswered   unanswered
	spelled      spellings
	targets      targets
	waiting      chan struct{} // holds one for each question that waits for upstream

	counts   [outcomes]atomic.Uint64
	fullSaid atomic.Bool // that the table is full was logged
}

// New makes a Server.
func New(c Config) *Server {
	nothing := func(names.Name) bool { return false }
	if c.Named == nil {
		c.Named = nothing
	}
	if c.NamedExactly == nil {
		c.NamedExactly = nothing
	}
	if c.OnlyV4 == nil {
		c.OnlyV4 = nothing
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Log == nil {
		c.Log = slog.Default()
	}
	return &Server{
		table:        c.Names,
		directory:    c.Directory,
		named:        c.Named,
		namedExactly: c.NamedExactly,
		onlyV4:       c.OnlyV4,
		upstream:     c.Upstream,
		waiting:      make(chan struct{}, MaxWaiting),
		unanswered:   unanswered{tell: c.Unanswered, now: c.Now},
		withoutV6:    c.WithoutV6,
		log:          c.Log,
	}
}

// outcome is what came of one message.
type outcome uint8

const (
	ignored   outcome = iota // no reply: too short, or a response
	malformed                // FORMERR
	refused                  // REFUSED, NOTIMP, BADVERS
	answered                 // an address, a name, HINFO
	empty                    // NODATA
	unknown                  // NXDOMAIN
	failed                   // SERVFAIL
	outcomes
)

// Stats counts messages by what came of them.
type Stats struct {
	Ignored, Malformed, Refused, Answered, Empty, Unknown, Failed uint64

	Untold uint64 // of Empty those for want of support that Unanswered did not take again
}

// Plus is the sum of both.
func (s Stats) Plus(t Stats) Stats {
	return Stats{
		s.Ignored + t.Ignored, s.Malformed + t.Malformed, s.Refused + t.Refused, s.Answered + t.Answered,
		s.Empty + t.Empty, s.Unknown + t.Unknown, s.Failed + t.Failed, s.Untold + t.Untold,
	}
}

// Stats returns the counts since the start.
func (s *Server) Stats() Stats {
	return Stats{
		Ignored:   s.counts[ignored].Load(),
		Malformed: s.counts[malformed].Load(),
		Refused:   s.counts[refused].Load(),
		Answered:  s.counts[answered].Load(),
		Empty:     s.counts[empty].Load(),
		Unknown:   s.counts[unknown].Load(),
		Failed:    s.counts[failed].Load(),
		Untold:    s.unanswered.untold.Load(),
	}
}

// Answer returns the reply over UDP to one message of the workload, appended to into[:0],
// or nil when there is to be none, and waits for our own DNS where that is asked. But for
// the records of upstream a reply is at most MaxReply bytes, so that it is never truncated
// on UDP. message and into must not overlap.
func (s *Server) Answer(message, into []byte) []byte {
	return s.answerWithin(context.Background(), message, into, 0)
}

// answerWithin is Answer within a limit in bytes; 0 is what the question says of UDP.
func (s *Server) answerWithin(ctx context.Context, message, into []byte, limit int) []byte {
	q, a, ok := s.begin(message)
	if !ok {
		return nil
	}
	switch {
	case a.pending == nothing:
	case s.mayWait():
		a = s.await(ctx, &q, a)
	default:
		a = tooManyWait
	}
	return s.finish(&q, a, into, limit)
}

// begin reads a message and answers it as far as nobody else must be asked: an answer that
// is pending is for await. ok is false where there is to be none.
func (s *Server) begin(message []byte) (q question, a answer, ok bool) {
	q, verdict := parse(message)
	switch verdict {
	case silence:
		s.counts[ignored].Add(1)
		return q, a, false
	case proceed:
		return q, s.answer(&q), true
	}
	return q, q.refusal(verdict), true
}

// finish counts an answer and returns the reply.
func (s *Server) finish(q *question, a answer, into []byte, limit int) []byte {
	s.counts[a.outcome].Add(1)
	if limit == 0 {
		limit = q.limit()
	}
	return q.reply(into[:0], a, limit)
}

// answer decides what a well-formed question is answered with.
func (s *Server) answer(q *question) answer {
	n, err := s.spelled.parse(q.name())
	if err != nil {
		// No host name (an address literal, "_x._y", more than 253 bytes): no
		// rule can name it, so it does not exist.
		return s.unnameable(q)
	}
	if reverse, ok := parseReverse(n); ok {
		return s.answerReverse(q, reverse)
	}
	if isLocalhost(n) {
		return s.addresses(q, Addresses{netip.AddrFrom4([4]byte{127, 0, 0, 1}), netip.IPv6Loopback()})
	}
	if host := s.directory.Alias(n); !host.IsZero() {
		n = host // it is what is dialled: a rule must allow it
	}
	full, service := s.directory.Service(n)
	switch {
	case service:
		n = full
	case n.IsSingleLabel(), s.directory.Local(n) && !s.named(n):
		return answer{rcode: dnsmessage.RCodeNameError, outcome: unknown}
	}
	if !service && !s.namedExactly(n) && s.isSearched(n) {
		allowed := s.upstream != nil && s.upstream.Allows(n)
		switch {
		case !allowed && !s.named(n):
			return answer{rcode: dnsmessage.RCodeNameError, outcome: unknown}
		case allowed && (q.typ == dnsmessage.TypeA || q.typ == dnsmessage.TypeAAAA):
			return answer{pending: exists, name: n}
		}
	}
	return s.synthetic(q, n, service)
}

// synthetic answers with the addresses that stand for n.
func (s *Server) synthetic(q *question, n names.Name, service bool) answer {
	if q.typ != dnsmessage.TypeA && (q.typ != dnsmessage.TypeAAAA || s.withoutV6) {
		return s.withoutAddress(q)
	}
	naming := s.naming(n, service)
	told, err := s.table.Tell(n, naming)
	if err != nil {
		return s.tableRefused(err)
	}
	if q.typ == dnsmessage.TypeAAAA && !service && naming != Unnamed && s.onlyV4(n) {
		return answer{outcome: empty}
	}
	return s.addresses(q, told)
}

func (s *Server) naming(n names.Name, service bool) Naming {
	switch {
	case service, s.namedExactly(n):
		return Exactly
	case s.named(n):
		return UnderWildcard
	}
	return Unnamed
}

// unnameable answers for a question that is not a valid host name. Names of services
// under "_" labels (SRV, TXT) lead nowhere else than names do: to NODATA.
func (s *Server) unnameable(q *question) answer {
	switch q.typ {
	case dnsmessage.TypeA, dnsmessage.TypeAAAA, dnsmessage.TypeALL, dnsmessage.TypePTR:
		return answer{rcode: dnsmessage.RCodeNameError, outcome: unknown}
	}
	return s.withoutAddress(q)
}

// addresses answers A and AAAA out of told, and everything else as a name that
// has nothing else.
func (s *Server) addresses(q *question, told Addresses) answer {
	switch {
	case q.typ == dnsmessage.TypeA:
		return answer{outcome: answered, address: told.V4}
	case q.typ == dnsmessage.TypeAAAA && !s.withoutV6:
		return answer{outcome: answered, address: told.V6}
	}
	return s.withoutAddress(q)
}

// withoutAddress answers types that we never have records of.
func (s *Server) withoutAddress(q *question) answer {
	switch q.typ {
	case dnsmessage.TypeALL:
		return answer{outcome: answered, hinfo: true}
	case dnsmessage.TypeAAAA:
		return answer{outcome: empty}
	}
	if host, allowed := s.hasRecords(q); allowed {
		return answer{pending: upstream, name: host}
	}
	s.notSupported(q)
	switch q.typ {
	case dnsmessage.TypeSRV, dnsmessage.TypeTXT:
		return answer{outcome: empty, extended: blocked, text: "sluice answers this for hosts that a rule allows"}
	}
	return answer{outcome: empty, extended: blocked, text: "sluice answers A, AAAA, PTR, SRV and TXT only"}
}

func (s *Server) answerReverse(q *question, a netip.Addr) answer {
	n, ok := s.table.Lookup(a)
	switch {
	case !ok:
		return answer{rcode: dnsmessage.RCodeNameError, outcome: unknown}
	case q.typ == dnsmessage.TypePTR:
		return answer{outcome: answered, pointer: n}
	}
	return s.withoutAddress(q)
}

func (s *Server) tableRefused(err error) answer {
	if err == ErrTableFull && s.fullSaid.CompareAndSwap(false, true) {
		s.log.Warn("a workload asked for more names than its table holds; new ones get SERVFAIL until one was not asked for in a day", "names", MaxNames)
	}
	return answer{rcode: dnsmessage.RCodeServerFailure, outcome: failed, extended: other, text: "sluice: " + err.Error()}
}
