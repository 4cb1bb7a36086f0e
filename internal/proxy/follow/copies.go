package follow

import (
	"bytes"
	"context"
	"strings"
	"sync"
	"time"
	"unsafe"

	"sluice.dev/sluice/internal/proxy/carry"
	"sluice.dev/sluice/internal/proxy/exchange"
	"sluice.dev/sluice/internal/proxy/http1"
	"sluice.dev/sluice/internal/refusal"
	"sluice.dev/sluice/internal/route"
)

// Bounds of the copies of one workload's requests.
const (
	maxCopies   = 64               // under way at a time; what comes beyond is not sent
	copyTimeout = 15 * time.Second // of one, to its answer's end
)

// copies is the copies of one workload's requests that are under way. They outlive the
// connections that their requests came by, and end with the ways.
type copies struct {
	ctx    context.Context // ends with the ways
	cancel context.CancelFunc

	mu     sync.Mutex
	under  int
	closed bool
	all    sync.WaitGroup
}

func (c *copies) init() { c.ctx, c.cancel = context.WithCancel(context.Background()) }

// begin reports whether one more may be sent; then end follows.
func (c *copies) begin() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed || c.under == maxCopies {
		return false
	}
	c.under++
	c.all.Add(1)
	return true
}

func (c *copies) end() {
	c.mu.Lock()
	c.under--
	c.mu.Unlock()
	c.all.Done()
}

// close ends those that are under way.
func (c *copies) close() {
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	c.cancel()
	c.all.Wait()
}

// SendCopy sends a copy of a request whose record is open, without waiting, and closes the
// record with what becomes of it. to returns where it is sent; over is called when it is over.
func (w *Ways) SendCopy(record *carry.Copied, to func() (exchange.Upstream, error), copied exchange.Message, over func()) {
	if !w.copies.begin() {
		over()
		record.Close(0, refusal.New(refusal.Overflow, "as many copies of requests are under way as one workload may have"))
		return
	}
	go func() {
		defer w.copies.end()
		defer over()
		ctx, cancel := context.WithTimeout(w.copies.ctx, copyTimeout)
		defer cancel()
		pool, err := to()
		status := 0
		if err == nil {
			status, _, err = http1.SendAway(ctx, pool, copied)
		}
		record.Close(status, err)
	}()
}

// Copy is a copy of a request that is to be sent elsewhere.
type Copy struct {
	To    route.Destination
	Port  uint16
	Rule  string // that says so
	HTTPS bool   // the target of the request was an https URL
	// PriorKnowledge is the request's.
	PriorKnowledge bool
}

// mirror sends a copy of the request of the moment elsewhere: an exchange.Mirror. It
// belongs to one connection.
type mirror struct {
	leader Leader
	copy   Copy
}

// Mirror implements exchange.Mirror. The rules of the moment decide about the copy as they
// would about a call.
func (m *mirror) Mirror(out exchange.Message) {
	m.leader.Copy(out, m.copy) // by value: m is the next request's soon
}

// Mirror returns who gets a copy of the request of the moment; nil: nobody does.
func (p *Plans) Mirror(x *exchange.Request, plan *route.Plan, port uint16) exchange.Mirror {
	to, ok := plan.Mirrored()
	if !ok {
		return nil
	}
	p.mirror = mirror{leader: p.leader(&to), copy: Copy{To: to, Port: port, Rule: plan.Rule, HTTPS: x.HTTPS, PriorKnowledge: x.PriorKnowledge}}
	return &p.mirror
}

// shadowed is what a mirror's Host has behind its name, as it had in Istio 0.5.
const shadowed = "-shadow"

// Shadow returns a copy of a request with another Host, and that.
func Shadow(out exchange.Message) (host string, copied exchange.Message) {
	return withHost(out, func(host string) string {
		end := len(host)
		if colon := strings.LastIndexByte(host, ':'); colon >= 0 && strings.IndexByte(host[colon:], ']') < 0 {
			end = colon
		}
		return host[:end] + shadowed + host[end:]
	})
}

// ForHost returns a copy of a request for a server outside the mesh, by its own name. traced
// lets it keep what is the mesh's own affair.
func ForHost(out exchange.Message, authority string, traced bool) exchange.Message {
	_, copied := withHost(out, func(string) string { return authority })
	if !traced {
		copied = http1.Outside(copied)
	}
	return copied
}

func withHost(out exchange.Message, change func(string) string) (host string, copied exchange.Message) {
	for name, value := range out.Fields {
		if !strings.EqualFold(name, "host") {
			continue
		}
		at := int(uintptr(unsafe.Pointer(unsafe.StringData(value))) - uintptr(unsafe.Pointer(unsafe.SliceData(out))))
		host = change(value)
		copied = make(exchange.Message, 0, len(out)-len(value)+len(host))
		return host, append(append(append(copied, out[:at]...), host...), out[at+len(value):]...)
	}
	return "", bytes.Clone(out)
}
