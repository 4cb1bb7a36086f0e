package carry

import (
	"net"
	"net/netip"
	"strconv"
	"strings"

	"sluice.dev/sluice/internal/policy"
	"sluice.dev/sluice/internal/proxy/exchange"
	"sluice.dev/sluice/internal/proxy/gate"
	"sluice.dev/sluice/internal/proxy/snapshot"
	"sluice.dev/sluice/internal/record"
	"sluice.dev/sluice/internal/refusal"
)

// Requests is the records of the HTTP requests of one connection, one after the other
// in one entry, so that a steady request neither clones nor allocates what the last one
// did already. It must not be copied once it is used.
type Requests struct {
	kit   *Kit
	conn  *gate.Conn
	about About

	entry    record.Entry
	id       record.ID
	passes   bool   // the verdict lets the request of the moment pass
	entered  string // the rule of an ingress that let it in; "": none
	host     interned
	path     interned
	upgrade  interned
	remote   netip.AddrPort
	remoteAt string
	tracing  tracing
}

// Init says of which connection the requests are.
func (r *Requests) Init(k *Kit, c *gate.Conn, about About) {
	about.Sniffed = policy.HTTP
	r.kit, r.conn, r.about = k, c, about
}

// Kit returns what Init was given.
func (r *Requests) Kit() *Kit { return r.kit }

// Conn returns what Init was given.
func (r *Requests) Conn() *gate.Conn { return r.conn }

// About returns what Init was given.
func (r *Requests) About() About { return r.about }

// ID is of the request under way.
func (r *Requests) ID() record.ID { return r.id }

// Open opens the record of a request.
func (r *Requests) Open(x *exchange.Request, s *snapshot.Snapshot) {
	r.tracing.begin(x, &s.Telemetry, r.about.Direction == record.Ingress)
	r.begin(s, func(f *record.Record) {
		f.Context = r.tracing.at
		f.Method, f.Host, f.Path, f.Upgrade = method(x.Method), r.host.of(x.Host), r.path.of(x.Path), r.upgrade.of(x.Upgrade)
	})
}

func (r *Requests) begin(s *snapshot.Snapshot, fill func(*record.Record)) {
	r.id, r.passes, r.entered = record.NewID(), false, ""
	now := r.kit.Now()
	r.entry.Edit(func(f *record.Record) {
		*f = record.Record{
			ID: r.id, Start: now, Workload: r.kit.Instance(), Source: r.kit.Source, Direction: r.about.Direction, Dialled: r.about.Dialled,
			Port: r.about.Port, SNI: r.about.SNI, Sniffed: policy.HTTP, Snapshot: s.Version,
		}
		fill(f)
	})
	r.kit.Recorder.Open(&r.entry)
}

// Decide notes the verdict on the request.
func (r *Requests) Decide(v *policy.Verdict) {
	r.passes = v.Passes()
	r.entry.Edit(func(f *record.Record) { f.Decide(v) })
	if v.Reason == refusal.NoRule {
		r.entry.Edit(func(f *record.Record) { r.kit.explain(f, v) })
	}
}

// Via notes to which workload the request goes, and by which route rule; or through which
// proxy, and by which rule. to is the workload, where it is one of the mesh.
func (r *Requests) Via(upstream, rule string, to record.End) {
	if r.entered != "" {
		r.entry.Edit(func(f *record.Record) { f.Upstream, f.Rule, f.Route, f.Destination = upstream, r.entered, rule, to })
		return
	}
	r.entry.Edit(func(f *record.Record) { f.Upstream, f.Rule, f.Destination = upstream, rule, to })
}

// Enter notes the rule of an ingress that lets the request in: its route rule, if it has one,
// stands beside it.
func (r *Requests) Enter(rule string) {
	r.entered = rule
	r.entry.Edit(func(f *record.Record) { f.Rule = rule })
}

// Routed notes the route rule that the request follows, beside the rule that lets it out.
func (r *Requests) Routed(rule string) {
	r.entry.Edit(func(f *record.Record) { f.Route = rule })
}

// DeniedWhere notes that what is denied is not the request as it was asked, but what its route
// rule makes of it: whoever allows something is to allow that.
func (r *Requests) DeniedWhere(c *policy.Chain, v *policy.Verdict) {
	r.entry.Edit(func(f *record.Record) {
		f.Detail = record.Text(f.Route + " leads there from " + f.Dialled)
		f.Dialled, f.Path = c.Dialled.String(), r.path.of(c.Path) // a view of what is read next
		if c.Dialled.IsZero() {
			f.Dialled = c.Addr.String()
		}
		if f.Rule = ""; v.Rule != nil {
			f.Rule = v.Rule.ID
		}
		f.Host = f.Dialled
		if c.Host.Port != 0 {
			f.Host = net.JoinHostPort(f.Host, strconv.Itoa(int(c.Host.Port)))
		}
	})
}

// Reached notes to which workload the request goes; the rules stay.
func (r *Requests) Reached(upstream string, to record.End) {
	r.entry.Edit(func(f *record.Record) { f.Upstream, f.Destination = upstream, to })
}

// Fail notes why what was allowed does not come about, and answers the client with it.
func (r *Requests) Fail(why *refusal.Error) exchange.Direction {
	r.passes = false
	r.entry.Edit(func(f *record.Record) { f.Fail(why) })
	reply := r.Reply(why.Reason, why.Error())
	if why.Denied() {
		return r.kit.Denials.reply(reply)
	}
	return reply
}

// Reply answers the request ourselves; a text of "" is the reason's.
func (r *Requests) Reply(reason refusal.Reason, text string) exchange.Direction {
	return exchange.Direction{ID: uint64(r.id), Reply: &exchange.Reply{Reason: reason, Message: text}}
}

// Done implements exchange.Director: it closes the record of the request under way.
func (r *Requests) Done(_ *exchange.Request, o exchange.Outcome) {
	r.entry.Edit(func(f *record.Record) {
		f.Status, f.Sent, f.Received, f.Duration = o.Status, o.Sent, o.Received, o.Duration
		f.Timings = record.Timings{Queue: o.Waits.Queue, Connect: o.Waits.Connect, TLS: o.Waits.TLS, FirstByte: o.FirstByte}
		if o.Attempts > 1 {
			f.Attempts = o.Attempts
		}
		if o.Upstream.IsValid() && f.Upstream == "" {
			f.Upstream = r.remoteText(o.Upstream)
		}
		if o.Failure == nil || !r.passes {
			return
		}
		why := o.Failure
		if ended := r.conn.Ended(); ended != nil {
			why = ended // what the gate's end looked like from below says nothing
		}
		f.Fail(why)
	})
	r.kit.Recorder.Close(&r.entry)
}

// Refused implements exchange.Director: it keeps the record of a message that is not a
// request.
func (r *Requests) Refused(o exchange.Outcome) {
	if o.Failure.Reason == refusal.ClientGone && o.Sent == 0 {
		return // between two requests: it is how connections end
	}
	r.begin(r.conn.Snapshot(), func(f *record.Record) {
		f.Fail(o.Failure)
		f.Status, f.Sent, f.Received = o.Status, o.Sent, o.Received
	})
	r.kit.Recorder.Close(&r.entry)
}

// remoteText is the address of an upstream, made anew only where it changed.
func (r *Requests) remoteText(a netip.AddrPort) string {
	if a != r.remote {
		r.remote, r.remoteAt = a, a.String()
	}
	return r.remoteAt
}

// interned keeps the last text, cut at record.MaxText, for as long as it is the same.
type interned struct{ text string }

func (i *interned) of(s string) string {
	s = s[:min(len(s), record.MaxText)]
	if s != i.text {
		i.text = strings.Clone(s)
	}
	return i.text
}

// method returns a method that may be kept, without an allocation for the usual.
func method(m string) string {
	switch m {
	case "GET":
		return "GET"
	case "POST":
		return "POST"
	case "PUT":
		return "PUT"
	case "HEAD":
		return "HEAD"
	case "DELETE":
		return "DELETE"
	case "PATCH":
		return "PATCH"
	case "OPTIONS":
		return "OPTIONS"
	}
	return strings.Clone(m[:min(len(m), record.MaxText)])
}
