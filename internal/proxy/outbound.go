package proxy

import (
	"context"
	"net"
	"net/netip"
	"sync/atomic"
	"time"

	"sluice.dev/sluice/internal/capture"
	"sluice.dev/sluice/internal/policy"
	"sluice.dev/sluice/internal/proxy/relay"
	"sluice.dev/sluice/internal/proxy/snapshot"
	"sluice.dev/sluice/internal/proxy/sniff"
	"sluice.dev/sluice/internal/record"
	"sluice.dev/sluice/internal/refusal"
	"sluice.dev/sluice/internal/wire"
)

// deniedSilence is how long a client may say nothing where no rule could let it
// out, whatever it says: it is listened to only so that it is told in its own
// protocol. One that waits for its server to speak first is reset after it.
const deniedSilence = 250 * time.Millisecond

// connection is one captured connection of a workload on its way: what was seen
// of the name chain so far, and the account of it.
type connection struct {
	workload  *Workload
	down      *net.TCPConn
	snapshot  *snapshot.Snapshot // that decides; HTTP takes the one of the moment for each request
	chain     policy.Chain
	service   *wire.Service // a mesh service was dialled
	start     time.Time
	forwarded forwarded                      // headers that an ingress adds
	ingress   []IngressRoute                 // it came from outside the mesh
	grant     atomic.Pointer[grant]          // what lets it live; nil before a verdict
	withdrawn atomic.Pointer[refusal.Reason] // why a new snapshot ended it; nil where none did
	cancel    context.CancelFunc             // ends all that is done for it
	requests  requests
}

// carry carries one connection of the workload to its end, and closes it.
func (w *Workload) carry(down *net.TCPConn, destination netip.AddrPort) {
	defer down.Close()
	if capture.Local(destination) { // the proxy's own port was dialled: it is no way out
		reset(down)
		return
	}
	ctx, cancel := context.WithCancel(w.ctx)
	defer cancel()
	c := &connection{workload: w, down: down, snapshot: w.config.Holder.Load(), start: w.proxy.config.Now(), cancel: cancel}
	if !w.admit(c) {
		return
	}
	defer w.leave(c)
	if destination.Port() == 53 {
		w.dns.ServeTCP(ctx, down)
		return
	}
	c.chain.Port = destination.Port()
	name, synthetic := w.config.Names.Pin(destination.Addr())
	if synthetic {
		defer w.config.Names.Unpin(destination.Addr())
		c.chain.Dialled = name
		c.service = c.snapshot.Service(name)
	} else {
		c.chain.Addr = destination.Addr()
	}
	if c.service != nil {
		c.inside(ctx)
		return
	}
	c.outside(ctx)
}

// outside is the way out of the mesh: ConnGate, sniff, RequestGate, and then the
// treatment that the verdict names.
func (c *connection) outside(ctx context.Context) {
	if c.snapshot.Policy.AtConnect(policy.TCP, c.chain.Port, c.chain.Dialled, c.chain.Addr).ServerFirst {
		c.serverFirst(ctx)
		return
	}
	buffer := c.workload.proxy.buffers.NewBuffer()
	defer buffer.Release()
	seen, prefix, err := c.sniff(ctx, buffer, sniff.Limits{Silence: c.silence()})
	if err != nil || seen.Silent && seen.Ended {
		return // the client left before it said anything: there is nothing to decide
	}
	if seen.Kind == policy.HTTP {
		c.workload.http.Serve(ctx, c.down, prefix, c)
		return
	}
	c.decide(ctx, prefix, seen, buffer.Release)
}

// silence is how long the client may say nothing.
func (c *connection) silence() time.Duration {
	rules := c.snapshot.Policy
	if rules.DeniesAll() != "" || c.service == nil && !rules.AtConnect(policy.TCP, c.chain.Port, c.chain.Dialled, c.chain.Addr).Possible {
		return deniedSilence
	}
	return sniff.DefaultSilence
}

// sniff reads what the client says first and brings it into the chain. What is
// decided then is decided by the rules of that moment: the client may have taken
// its time.
func (c *connection) sniff(ctx context.Context, buffer *sniff.Buffer, limits sniff.Limits) (sniff.Result, []byte, error) {
	stop := context.AfterFunc(ctx, func() { reset(c.down) })
	defer stop()
	seen, prefix, err := sniff.Read(c.down, buffer, limits)
	c.chain.Sniffed = seen.Kind
	if seen.Kind == policy.ClientHello {
		c.chain.SNI, c.chain.SNIBad, c.chain.ECH = seen.Name, seen.SNIBad, seen.ECH
	}
	c.snapshot = c.workload.config.Holder.Load()
	return seen, prefix, err
}

// decide decides about a connection as a whole and carries its bytes: TLS that is
// passed through, or TCP.
func (c *connection) decide(ctx context.Context, prefix []byte, seen sniff.Result, release func()) {
	verdict := c.snapshot.Policy.Decide(&c.chain)
	account := c.account(verdict)
	defer c.workload.close(account)
	account.SNI = cut(seen.SNI)
	if seen.Err != nil {
		account.Detail = seen.Err.Error()
	}
	if !verdict.Passes() {
		c.deny(account, verdict, seen)
		return
	}
	defer c.noteWithdrawal(account)
	c.hold(grant{chain: c.chain}, c.snapshot)
	up, address, err := c.dial(ctx, verdict, seen)
	if err != nil {
		c.fail(account, err)
		return
	}
	c.hold(grant{chain: c.chain, address: address.Addr()}, c.snapshot)
	account.Upstream = address.String()
	c.relay(ctx, up, prefix, release, account)
}

// relay carries bytes until both sides have ended, and accounts for them. release
// is called when prefix is no longer needed.
func (c *connection) relay(ctx context.Context, up *net.TCPConn, prefix []byte, release func(), account *record.Record) {
	result := relay.New(relay.Config{Down: c.down, Up: up, Prefix: prefix, PrefixDone: release, Memory: &c.workload.proxy.memory}).Run(ctx)
	account.Sent, account.Received = result.Sent, result.Received
	if result.Err != nil {
		account.Detail = cut(result.Err.Error())
	}
}
