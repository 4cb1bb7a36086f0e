package egress

import (
	"cmp"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"time"

	"sluice.dev/sluice/internal/policy"
	"sluice.dev/sluice/internal/proxy/gate"
	"sluice.dev/sluice/internal/proxy/relay"
	"sluice.dev/sluice/internal/proxy/sniff"
	"sluice.dev/sluice/internal/record"
	"sluice.dev/sluice/internal/refusal"
)

// serverFirst dials before the client has said anything, for the server may speak
// first. What the client then says is a link of the chain like any other, and is
// decided about before it goes on. Unless only TLS is looked for, a client that turns out
// to speak HTTP or TLS to a server that said nothing is given back, to be carried like
// one that was never silent: what it says may lead elsewhere.
func (c *connection) serverFirst(ctx context.Context, buffer *sniff.Buffer, limits sniff.Limits) (seen sniff.Result, said []byte, again bool) {
	d := decide(c.conn.Snapshot(), &c.chain)
	flow := c.open(sniff.Result{}, d.Snapshot)
	defer flow.Close()
	flow.Decide(&d.Verdict)
	if !d.Verdict.Passes() {
		c.refuse(&d.Verdict, sniff.Result{})
		return seen, nil, false
	}
	c.conn.Hold(allowed{c.chain}, d.Snapshot)
	up, address, err := c.dial(ctx, &d, sniff.Result{})
	if err != nil {
		c.fail(flow, err)
		return seen, nil, false
	}
	defer up.Close()
	c.conn.Hold(dialled{allowed{c.chain}, address.Addr()}, d.Snapshot)
	flow.Edit(func(r *record.Record) { r.Upstream = address.String() })
	var greeting int64
	var broken error
	for more := true; more; {
		greeted := greet(c.conn.Down(), up)
		seen, said, err = c.sniff(ctx, buffer, limits)
		var n int64
		n, broken = greeted()
		greeting += n
		more = seen.Silent && !seen.Ended && n > 0 && cmp.Or(broken, err) == nil // a server that goes on speaking may
	}
	flow.Edit(func(r *record.Record) {
		r.Received, r.Sniffed, r.SNI = greeting, c.chain.Sniffed, record.Text(seen.SNI)
	})
	if broken := cmp.Or(broken, err); broken != nil {
		flow.Broke(broken, greeting)
		return seen, nil, false
	}
	isHTTP := seen.Kind == policy.HTTP || seen.Kind == policy.Opaque && seen.Cut
	switch {
	case seen.Silent && !seen.Ended: // nobody would look at what it may say yet
		flow.Broke(relay.ErrIdle, greeting)
		gate.Reset(c.conn.Down())
		return seen, nil, false
	case limits.OnlyTLS:
	case greeting == 0 && (isHTTP || seen.Kind == policy.ClientHello):
		return seen, said, true
	case isHTTP: // a server of HTTP greets nobody
		denied := d.Verdict.Denied(refusal.ProtocolMismatch)
		flow.Decide(&denied)
		c.refuse(&denied, seen)
		return seen, nil, false
	}
	d = decide(c.conn.Snapshot(), &c.chain)
	if reason := d.Verdict.Consent.Judge(address.Addr()); reason != "" && d.Verdict.Passes() {
		d.Verdict = d.Verdict.Denied(reason) // what the client named must not lead to where it is
	}
	flow.Decide(&d.Verdict)
	if !d.Verdict.Passes() {
		c.refuse(&d.Verdict, seen)
		return seen, nil, false
	}
	if toBeProved(&d.Verdict) {
		if err := c.prove(ctx, &d, address, seen, nil); err != nil {
			c.fail(flow, err)
			return seen, nil, false
		}
	}
	c.conn.Hold(dialled{allowed{c.chain}, address.Addr()}, d.Snapshot)
	flow.Relay(ctx, up, said, buffer.Release, greeting)
	return seen, nil, false
}

// greet carries what the server says first to the client until the function that it
// returns is called, which gives back the bytes carried, and an error where one side is
// gone.
func greet(down, up *net.TCPConn) func() (int64, error) {
	type result struct {
		n   int64
		err error
	}
	done := make(chan result, 1)
	go func() {
		n, err := io.Copy(onlyWriter{down}, onlyReader{up})
		var failed *net.OpError
		switch {
		case err == nil:
			down.CloseWrite() // the server has said all
		case errors.Is(err, os.ErrDeadlineExceeded):
			err = nil
		case errors.As(err, &failed) && failed.Op == "read":
			gate.Reset(down)
			err = &relay.SideError{Side: relay.Upstream, Op: failed.Op, Err: failed.Err}
		default:
			gate.Reset(down)
		}
		done <- result{n, err}
	}()
	return func() (int64, error) {
		up.SetReadDeadline(time.Unix(1, 0))
		r := <-done
		up.SetReadDeadline(time.Time{})
		return r.n, r.err
	}
}

// onlyReader and onlyWriter keep io.Copy from splicing, whose bytes in the pipe
// would be lost at the deadline.
type (
	onlyReader struct{ io.Reader }
	onlyWriter struct{ io.Writer }
)
