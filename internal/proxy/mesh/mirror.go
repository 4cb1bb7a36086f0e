package mesh

import (
	"bytes"
	"context"
	"strings"
	"sync"
	"time"
	"unsafe"

	"sluice.dev/sluice/internal/proxy/exchange"
	"sluice.dev/sluice/internal/proxy/gate"
	"sluice.dev/sluice/internal/proxy/http1"
	"sluice.dev/sluice/internal/refusal"
	"sluice.dev/sluice/internal/route"
)

// Bounds of the copies of one workload's requests.
const (
	maxCopies   = 64               // under way at a time; what comes beyond is not sent
	copyTimeout = 15 * time.Second // of one, to its answer's end
)

// shadowed is what a mirror's Host has behind its name, as it had in Istio 0.5.
const shadowed = "-shadow"

// copies is the copies of one workload's requests that are under way. They outlive the
// connections that their requests came by, and end with the way.
type copies struct {
	ctx    context.Context // ends with the way
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

// mirror sends a copy of the request of the moment elsewhere: an exchange.Mirror. It
// belongs to one connection.
type mirror struct {
	requests *Requests
	to       route.Destination
	port     uint16
	rule     string
}

// Mirror implements exchange.Mirror. The rules of the moment decide about the copy as they
// would about a call.
func (m *mirror) Mirror(out exchange.Message) {
	w, s := m.requests.way, m.requests.Conn().Snapshot()
	host, copied := shadow(out)
	record := m.requests.Copy(s, m.rule, host)
	d := Decision{Verdict: gate.DecideService(s, m.to.Service, m.port), Snapshot: s, Rule: m.rule}
	record.Decide(&d.Verdict, m.rule)
	if !d.Verdict.Passes() {
		record.Close(0, nil)
		return
	}
	w.pick(&d, m.to, m.port)
	if d.Why == nil && !w.copies.begin() {
		d.Why = refusal.New(refusal.Overflow, "as many copies of requests are under way as one workload may have")
	}
	if d.Why != nil {
		record.Close(0, d.Why)
		return
	}
	record.Via(d.Endpoint.Instance, w.ends.of(s, d.Endpoint, m.to.Service))
	at, port := d.Endpoint, m.port // m is the next request's then
	go func() {
		defer w.copies.end()
		ctx, cancel := context.WithTimeout(w.copies.ctx, copyTimeout)
		defer cancel()
		pool, err := w.pool(at, port)
		status := 0
		if err == nil {
			status, _, err = http1.SendAway(ctx, pool, copied)
		}
		record.Close(status, err)
	}()
}

// shadow returns a copy of a request with another Host, and that.
func shadow(out exchange.Message) (host string, copied exchange.Message) {
	copied = make(exchange.Message, 0, len(out)+len(shadowed))
	for name, value := range out.Fields {
		if !strings.EqualFold(name, "host") {
			continue
		}
		at := int(uintptr(unsafe.Pointer(unsafe.StringData(value))) - uintptr(unsafe.Pointer(unsafe.SliceData(out))))
		end := at + len(value)
		if colon := bytes.LastIndexByte(out[at:end], ':'); colon >= 0 && bytes.IndexByte(out[at+colon:end], ']') < 0 {
			end = at + colon
		}
		copied = append(append(append(copied, out[:end]...), shadowed...), out[end:]...)
		return value[:end-at] + shadowed + value[end-at:], copied
	}
	return "", append(copied, out...)
}

// mirrors returns who gets a copy of the request of the moment; nil: nobody does.
func (r *Requests) mirrors(d *Decision, port uint16) exchange.Mirror {
	to, ok := d.Plan.Mirrored()
	if !ok {
		return nil
	}
	r.mirror = mirror{requests: r, to: to, port: port, rule: d.Rule}
	return &r.mirror
}
