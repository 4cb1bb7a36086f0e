package resolve

import (
	"context"
	"fmt"
	"strings"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"sluice.dev/sluice/internal/names"
	"sluice.dev/sluice/internal/proxy/share"
	"sluice.dev/sluice/internal/refusal"
)

// Bounds of records other than addresses.
const (
	// RecordsCacheSize is how many names with a type each a Resolver remembers records of.
	RecordsCacheSize = 1000
	// MaxServices is how many SRV records of one name are kept, MaxTexts how many TXT.
	MaxServices = 64
	MaxTexts    = 16
	// MaxText is how long one TXT record may be, in bytes; a longer one is left out.
	MaxText = 1024
)

// Service is one SRV record (RFC 2782).
type Service struct {
	Priority, Weight, Port uint16
	Host                   names.Name
}

// Records are the records of one name: of SRV or of TXT, as was asked. Nobody may change
// them.
type Records struct {
	Services []Service
	Texts    [][]byte // each as it is on the wire
	TTL      time.Duration
}

// ofRecord is one record of an answer.
type ofRecord struct {
	owner   string
	ttl     uint32
	service Service
	text    []byte
}

type recordKey struct {
	name string
	typ  dnsmessage.Type
}

type recordFlightKey struct {
	recordKey
	by *share.Member
}

type recordsFound struct {
	records Records
	err     *refusal.Error
}

func (f recordsFound) outcome() (Records, error) {
	if f.err != nil {
		return Records{}, f.err
	}
	return f.records, nil
}

type recordFlight struct {
	done  chan struct{}
	found recordsFound // to be read after done
}

// recordsKnown is what a Resolver knows, and asks, about records. Its mutex guards it.
type recordsKnown struct {
	cache   *cache[recordKey, recordsFound]
	flights map[recordFlightKey]*recordFlight
}

// Records returns the SRV or TXT records of a name in lower case, which need not be a host
// name: its labels may begin with "_". A name without such records has none, and no error.
// limit, where it is not nil, is taken from when DNS must be asked, and by, where it is not
// nil, is the workload's part of the look-ups. Errors are *refusal.Error.
func (r *Resolver) Records(ctx context.Context, name string, typ dnsmessage.Type, by *Share, limit *Limit) (Records, error) {
	known, f, err := r.knownOrRecordFlight(recordKey{name, typ}, by, limit)
	if err != nil {
		return Records{}, err
	}
	if f == nil {
		return known.outcome()
	}
	select {
	case <-f.done:
		return f.found.outcome()
	case <-ctx.Done():
		return Records{}, noRecords(refusal.ResolveFailed, recordKey{name, typ}, ctx.Err())
	}
}

func noRecords(reason refusal.Reason, k recordKey, err error) *refusal.Error {
	text := fmt.Sprintf("DNS gave no answer for the %s records of %s", strings.TrimPrefix(k.typ.String(), "Type"), k.name)
	switch reason {
	case refusal.NoSuchName:
		text = k.name + " does not exist in DNS"
	case refusal.TooManyNames:
		text = sentence(reason, names.Name{}, nil)
	}
	return &refusal.Error{Reason: reason, Text: text, Err: err}
}

func (r *Resolver) knownOrRecordFlight(k recordKey, by *Share, limit *Limit) (recordsFound, *recordFlight, *refusal.Error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.now()
	if known, ok := r.records.cache.get(k, now); ok {
		r.hits.Add(1)
		return known, nil, nil
	}
	if by == nil {
		by = r.anybody
	}
	what := recordFlightKey{k, by.member(limit)}
	if f := r.records.flights[what]; f != nil {
		return recordsFound{}, f, nil
	}
	turn, reason, err := r.queue(what.by, limit, now)
	if turn == nil {
		return recordsFound{}, nil, noRecords(reason, k, err)
	}
	f := &recordFlight{done: make(chan struct{})}
	r.records.flights[what] = f
	timeout := r.lookupTimeout
	r.running.Go(func() { r.flyForRecords(what, f, timeout, turn) })
	return recordsFound{}, f, nil
}

// flyForRecords is fly for records.
func (r *Resolver) flyForRecords(what recordFlightKey, f *recordFlight, timeout time.Duration, turn *share.Waiter) {
	out, keep := recordsFound{err: noRecords(refusal.ResolveFailed, what.recordKey, errBusy)}, time.Duration(0)
	r.inTurn(what.by, turn, timeout, func(ctx context.Context) { out, keep = r.lookupRecords(ctx, what.recordKey) })
	f.found = out
	r.mu.Lock()
	delete(r.records.flights, what)
	settle(r, r.records.cache, what.recordKey, out, out.err, keep)
	r.mu.Unlock()
	close(f.done)
}

// lookupRecords asks, follows aliases, and says how long the outcome holds.
func (r *Resolver) lookupRecords(ctx context.Context, k recordKey) (recordsFound, time.Duration) {
	servers, err := r.servers()
	if err != nil {
		return recordsFound{err: noRecords(refusal.ResolveFailed, k, err)}, MinTTL
	}
	servers = r.health.order(servers, r.now())
	name, links, ttl := k.name+".", 0, uint32(MaxTTL/time.Second)
	for range maxQuestions {
		out, err := r.ask(ctx, servers, name, k.typ)
		if err != nil {
			return recordsFound{err: noRecords(refusal.ResolveFailed, k, err)}, MinTTL
		}
		end, followed, _, shortest := out.follow(name, k.typ, ttl)
		ttl = shortest
		if links += followed; links >= maxLinks {
			break
		}
		found, some := out.recordsOf(end, &ttl)
		switch {
		case some:
			found.TTL = clamp(ttl, MaxTTL)
			return recordsFound{records: found}, found.TTL
		case out.rcode == dnsmessage.RCodeNameError:
			return recordsFound{err: noRecords(refusal.NoSuchName, k, nil)}, clamp(min(ttl, out.negative), MaxNegativeTTL)
		case followed == 0 || out.negative > 0:
			return recordsFound{}, clamp(min(ttl, out.negative), MaxNegativeTTL)
		}
		name = end
	}
	return recordsFound{err: noRecords(refusal.ResolveFailed, k, errQuestions)}, MinTTL
}

// recordsOf returns the records at the end of a chain, and lowers ttl to theirs. some says
// that there were any, be it none that can be kept.
func (out *reply) recordsOf(owner string, ttl *uint32) (found Records, some bool) {
	for i := range out.records {
		record := &out.records[i]
		if record.owner != owner {
			continue
		}
		some = true
		*ttl = min(*ttl, record.ttl)
		switch {
		case record.text != nil && len(found.Texts) < MaxTexts:
			found.Texts = append(found.Texts, record.text)
		case !record.service.Host.IsZero() && len(found.Services) < MaxServices:
			found.Services = append(found.Services, record.service)
		}
	}
	return found, some
}

// readRecord reads the data of a record of SRV or TXT. A target that is not a host name
// ("." says that there is no such service), and a text that is too long, are left out.
func (out *reply) readRecord(p *dnsmessage.Parser, owner string, h dnsmessage.ResourceHeader) error {
	record := ofRecord{owner: owner, ttl: h.TTL}
	if h.Type == dnsmessage.TypeSRV {
		srv, err := p.SRVResource()
		if err != nil {
			return err
		}
		if host, err := names.Parse(srv.Target.String()); err == nil {
			record.service = Service{Priority: srv.Priority, Weight: srv.Weight, Port: srv.Port, Host: host}
		}
	} else {
		text, err := p.UnknownResource()
		if err != nil {
			return err
		}
		if len(text.Data) > 0 && len(text.Data) <= MaxText {
			record.text = text.Data
		}
	}
	out.records = append(out.records, record)
	return nil
}
