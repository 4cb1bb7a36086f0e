package proxy

import (
	"math/rand/v2"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"unsafe"

	"sluice.dev/sluice/internal/names"
	"sluice.dev/sluice/internal/policy"
	"sluice.dev/sluice/internal/proxy/httpproxy"
	"sluice.dev/sluice/internal/proxy/snapshot"
	"sluice.dev/sluice/internal/proxy/upstream"
	"sluice.dev/sluice/internal/record"
	"sluice.dev/sluice/internal/refusal"
	"sluice.dev/sluice/internal/route"
)

// requests is what one connection remembers from one HTTP request to the next,
// so that a steady one neither parses, looks up nor allocates what the last one
// did already.
type requests struct {
	host   names.LastHost
	last   policy.Verdict // that led to pool
	grant  grantedBy
	pool   *upstream.Pool
	pooled *snapshot.Snapshot // that pool was found under: its roots count too

	exchange   *httpproxy.Exchange // of the request that is under way
	account    record.Record       // of the request that is under way
	upstream   netip.AddrPort
	upstreamAt string
	hostText   interned
	pathText   interned
}

// grantedBy says what the connection's grant was made from.
type grantedBy struct {
	snapshot *snapshot.Snapshot
	rule     *policy.Rule
	name     names.Name
}

// fields returns a look-up of the request's header fields, made once a connection.
func (r *requests) fields(x *httpproxy.Exchange) route.Fields {
	r.exchange = x
	return r
}

// Values implements route.Fields.
func (r *requests) Values(lower string, yield func(string) bool) {
	r.exchange.Values(lower, yield)
}

// upstreamText is the address of an outcome's upstream, made anew only where it changed.
func (r *requests) upstreamText(a netip.AddrPort) string {
	if a != r.upstream {
		r.upstream, r.upstreamAt = a, a.String()
	}
	return r.upstreamAt
}

// interned keeps the last text, cut at record.MaxText, for as long as it is the same.
type interned struct{ text string }

func (i *interned) of(s string) string {
	s = cut(s)
	if s != i.text {
		i.text = strings.Clone(s)
	}
	return i.text
}

// cut bounds a text that a stranger chose.
func cut(s string) string {
	if len(s) > record.MaxText {
		return s[:record.MaxText]
	}
	return s
}

// director decides about the HTTP requests of workloads.
type director struct{ workload *Workload }

// Direct implements httpproxy.Director.
func (d director) Direct(x *httpproxy.Exchange) httpproxy.Direction {
	c := x.Info.(*connection)
	c.snapshot = c.workload.config.Holder.Load()
	c.openRequest(x)
	switch {
	case c.ingress != nil:
		return c.directIngress(x)
	case c.service != nil:
		return c.directInside(x, c.chain.Port)
	}
	return c.directOutside(x)
}

// Done implements httpproxy.Director.
func (d director) Done(x *httpproxy.Exchange, o httpproxy.Outcome) {
	c := x.Info.(*connection)
	f := &c.requests.account
	f.Status, f.Sent, f.Received, f.Duration = o.Status, o.Sent, o.Received, o.Duration
	if o.Upstream.IsValid() && f.Upstream == "" {
		f.Upstream = c.requests.upstreamText(o.Upstream)
	}
	if o.Failure != httpproxy.None && f.Verdict == record.Allowed {
		f.Verdict, f.Reason = record.Failed, refusal.Reason(o.Reason)
		if f.Reason.Denied() {
			f.Verdict = record.Denied
		}
		if o.Err != nil {
			f.Detail = cut(o.Err.Error())
		}
		c.noteWithdrawal(f)
	}
	c.workload.proxy.config.Flows.Closed(f)
}

// Refused implements httpproxy.Director: a request that was none is a flow too.
func (d director) Refused(info any, failure httpproxy.Failure) {
	c := info.(*connection)
	if failure == httpproxy.ClientGone {
		return
	}
	c.openAccount()
	f := &c.requests.account
	f.Verdict, f.Reason, f.Status, f.Detail = record.Denied, refusal.Reason(failure.String()), failure.Status(), failure.Text()
	c.workload.proxy.config.Flows.Closed(f)
}

// openAccount begins the account of the next request.
func (c *connection) openAccount() {
	f := &c.requests.account
	dialled := f.Dialled
	if dialled == "" {
		dialled = c.dialledText()
	}
	*f = record.Record{
		ID: record.NewID(), Start: c.workload.proxy.config.Now(), Workload: c.workload.Instance(),
		Dialled: dialled, Port: c.chain.Port, Sniffed: policy.HTTP, Verdict: record.Allowed, Snapshot: c.snapshot.Version,
	}
}

func (c *connection) openRequest(x *httpproxy.Exchange) {
	c.openAccount()
	f := &c.requests.account
	f.Method, f.Host, f.Path = method(x.Method()), c.requests.hostText.of(x.Host()), c.requests.pathText.of(x.Path())
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
	return strings.Clone(cut(m))
}

// directOutside is RequestGate for the way out: the name chain, the verdict, and
// the pool that the verdict leads to.
func (c *connection) directOutside(x *httpproxy.Exchange) httpproxy.Direction {
	c.readHost(x)
	c.chain.Method, c.chain.Path = x.Method(), x.Path()
	defer func() { c.chain.Method, c.chain.Path = "", "" }()
	verdict := c.snapshot.Policy.Decide(&c.chain)
	f := &c.requests.account
	if verdict.Rule != nil {
		f.Rule = verdict.Rule.ID
	}
	if !verdict.Passes() {
		f.Verdict, f.Reason = record.Denied, verdict.Reason
		return c.refuse(verdict)
	}
	f.Treatment = verdict.Treatment
	c.holdRequest(verdict)
	pool, err := c.poolFor(verdict)
	if err != nil {
		f.Verdict, f.Reason, f.Detail = record.Failed, "internal", cut(err.Error())
		return c.reply(500, "internal", "The proxy could not follow its own decision: "+err.Error())
	}
	direction := httpproxy.Direction{
		Upstream: pool, ID: uint64(f.ID), AllowUpgrade: true, Explain: c.workload.proxy.config.TellAll,
	}
	if c.chain.Host.IsZero() {
		direction.SetHost = authority(verdict)
	}
	return direction
}

// authority is the Host of a request that had none (HTTP/1.0): the name that was
// dialled, as its server knows it (RFC 9110, section 7.2).
func authority(v policy.Verdict) string {
	host := v.Name.String()
	if v.Name.IsZero() {
		host = v.Addr.String()
	}
	if v.Treatment == policy.Originate && v.Port == 443 || v.Treatment == policy.Forward && v.Port == 80 {
		return host
	}
	return net.JoinHostPort(host, strconv.Itoa(int(v.Port)))
}

// readHost brings the Host of a request into the chain.
func (c *connection) readHost(x *httpproxy.Exchange) {
	c.chain.Host, c.chain.HostBad = names.Host{}, false
	text := x.Host()
	if text == "" {
		return
	}
	host, err := c.requests.host.Parse(unsafe.Slice(unsafe.StringData(text), len(text))) // a view: Parse keeps none of it
	c.chain.Host, c.chain.HostBad = host, err != nil
}

// holdRequest renews the connection's grant where this request is allowed by
// something else than the last one.
func (c *connection) holdRequest(v policy.Verdict) {
	by := grantedBy{c.snapshot, v.Rule, v.Name}
	if c.requests.grant == by && (len(v.Rule.HTTP) == 0 || c.holdsSameRequest()) {
		return
	}
	c.requests.grant = by
	c.hold(grant{chain: keep(&c.chain)}, c.snapshot)
}

// holdsSameRequest reports whether the grant is for this very method and path.
func (c *connection) holdsSameRequest() bool {
	g := c.grant.Load()
	return g != nil && g.chain.Method == c.chain.Method && g.chain.Path == c.chain.Path
}

// poolFor returns the pool that a verdict leads to: the last one where the
// verdict says the same.
func (c *connection) poolFor(v policy.Verdict) (*upstream.Pool, error) {
	r := &c.requests
	if r.pool != nil && r.pooled == c.snapshot && r.last.Rule == v.Rule && r.last.Name == v.Name && r.last.Addr == v.Addr && r.last.Treatment == v.Treatment && !r.pool.Closed() {
		return r.pool, nil
	}
	pool, err := c.workload.egressPool(c.snapshot, v, &c.chain)
	if err == nil {
		r.last, r.pool, r.pooled = v, pool, c.snapshot
	}
	return pool, err
}

// random picks among routes.
func random() uint64 { return rand.Uint64() }
