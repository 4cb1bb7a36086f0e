package proxy

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"time"

	"sluice.dev/sluice/internal/proxy/relay"
	"sluice.dev/sluice/internal/proxy/sniff"
)

// serverFirst dials before the client has said anything, for the server may speak
// first. What the client then says is a link of the chain like any other, and is
// decided about before it goes on.
func (c *connection) serverFirst(ctx context.Context) {
	verdict := c.snapshot.Policy.Decide(&c.chain)
	account := c.account(verdict)
	defer c.workload.close(account)
	if !verdict.Passes() {
		c.deny(account, verdict, sniff.Result{})
		return
	}
	defer c.noteWithdrawal(account)
	c.hold(grant{chain: c.chain}, c.snapshot)
	up, address, err := c.dial(ctx, verdict, sniff.Result{})
	if err != nil {
		c.fail(account, err)
		return
	}
	defer up.Close()
	c.hold(grant{chain: c.chain, address: address.Addr()}, c.snapshot)
	account.Upstream = address.String()
	buffer := c.workload.proxy.buffers.NewBuffer()
	defer buffer.Release()
	greeted := greet(c.down, up)
	seen, prefix, err := c.sniff(ctx, buffer, sniff.Limits{OnlyTLS: true, Silence: relay.DefaultIdle})
	greeting, ok := greeted()
	account.Received = greeting
	if err != nil || !ok {
		return
	}
	account.Sniffed, account.SNI = c.chain.Sniffed, cut(seen.SNI)
	if verdict = c.snapshot.Policy.Decide(&c.chain); !verdict.Passes() {
		c.deny(account, verdict, seen)
		return
	}
	if toBeProved(verdict) {
		if err := c.prove(ctx, verdict, address, seen); err != nil {
			c.fail(account, err)
			return
		}
	}
	c.hold(grant{chain: c.chain, address: address.Addr()}, c.snapshot)
	c.relay(ctx, up, prefix, buffer.Release, account)
	account.Received += greeting
}

// greet carries what the server says first to the client until the function that
// it returns is called, which gives back the bytes carried and whether both sides
// are still there.
func greet(down, up *net.TCPConn) func() (int64, bool) {
	type result struct {
		n   int64
		err error
	}
	done := make(chan result, 1)
	go func() {
		n, err := io.Copy(onlyWriter{down}, onlyReader{up})
		switch {
		case err == nil:
			down.CloseWrite() // the server has said all
		case !errors.Is(err, os.ErrDeadlineExceeded):
			reset(down)
		}
		done <- result{n, err}
	}()
	return func() (int64, bool) {
		up.SetReadDeadline(time.Unix(1, 0))
		r := <-done
		up.SetReadDeadline(time.Time{})
		return r.n, r.err == nil || errors.Is(r.err, os.ErrDeadlineExceeded)
	}
}

// onlyReader and onlyWriter keep io.Copy from splicing, whose bytes in the pipe
// would be lost at the deadline.
type (
	onlyReader struct{ io.Reader }
	onlyWriter struct{ io.Writer }
)
