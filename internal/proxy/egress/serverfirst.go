package egress

import (
	"cmp"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"time"

	"sluice.dev/sluice/internal/proxy/gate"
	"sluice.dev/sluice/internal/proxy/relay"
	"sluice.dev/sluice/internal/proxy/sniff"
	"sluice.dev/sluice/internal/record"
)

// serverFirst dials before the client has said anything, for the server may speak
// first. What the client then says is a link of the chain like any other, and is
// decided about before it goes on.
func (c *connection) serverFirst(ctx context.Context) {
	d := decide(c.conn.Snapshot(), &c.chain)
	flow := c.open(sniff.Result{}, d.Snapshot)
	defer flow.Close()
	flow.Decide(&d.Verdict)
	if !d.Verdict.Passes() {
		c.refuse(&d.Verdict, sniff.Result{})
		return
	}
	c.conn.Hold(allowed{c.chain}, d.Snapshot)
	up, address, err := c.dial(ctx, &d, sniff.Result{})
	if err != nil {
		c.fail(flow, err)
		return
	}
	defer up.Close()
	c.conn.Hold(dialled{allowed{c.chain}, address.Addr()}, d.Snapshot)
	flow.Edit(func(r *record.Record) { r.Upstream = address.String() })
	buffer := c.way.kit.Buffers.NewBuffer()
	defer buffer.Release()
	greeted := greet(c.conn.Down(), up)
	seen, prefix, err := c.sniff(ctx, buffer, sniff.Limits{OnlyTLS: true, Silence: relay.DefaultIdle})
	greeting, broken := greeted()
	flow.Edit(func(r *record.Record) {
		r.Received, r.Sniffed, r.SNI = greeting, c.chain.Sniffed, record.Text(seen.SNI)
	})
	if broken := cmp.Or(broken, err); broken != nil {
		flow.Broke(broken, greeting)
		return
	}
	d = decide(c.conn.Snapshot(), &c.chain)
	flow.Decide(&d.Verdict)
	if !d.Verdict.Passes() {
		c.refuse(&d.Verdict, seen)
		return
	}
	if toBeProved(&d.Verdict) {
		if err := c.prove(ctx, &d, address, seen); err != nil {
			c.fail(flow, err)
			return
		}
	}
	c.conn.Hold(dialled{allowed{c.chain}, address.Addr()}, d.Snapshot)
	flow.Relay(ctx, up, prefix, buffer.Release, greeting)
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
