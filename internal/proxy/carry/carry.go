// Package carry is what the ways do with a client's connection alike: accept it, read
// its first bytes, relay it, refuse it in its own protocol, and keep the record of it.
// Egress, mesh and ingress call it with what they decided. It never decides and never
// dials.
package carry

import (
	"context"
	"errors"
	"net"
	"time"

	"sluice.dev/sluice/internal/advice"
	"sluice.dev/sluice/internal/names"
	"sluice.dev/sluice/internal/policy"
	"sluice.dev/sluice/internal/proxy/gate"
	"sluice.dev/sluice/internal/proxy/http1"
	"sluice.dev/sluice/internal/proxy/http2"
	"sluice.dev/sluice/internal/proxy/relay"
	"sluice.dev/sluice/internal/proxy/share"
	"sluice.dev/sluice/internal/proxy/sniff"
	"sluice.dev/sluice/internal/proxy/upstream"
	"sluice.dev/sluice/internal/record"
	"sluice.dev/sluice/internal/refusal"
)

// Kit is what the connections of one workload are carried with. All but TellAll must
// be set.
type Kit struct {
	Instance func() string // the workload's name of the moment: "details-v2/1"
	Source   record.End    // the same without its instance, for records
	For      advice.Options
	TellAll  bool // says everything to a denied workload, not the reason and the id alone
	Recorder record.Recorder
	// TargetOf returns the name whose SRV records brought the workload a name; "" where
	// none did. Nil: nobody knows.
	TargetOf func(n names.Name) string
	Denials  *Denials // their pace; nil: none is held up
	// Ask is asked before a denial is answered, and reports whether there are rules now by
	// which it is to be decided anew; nil: nobody is asked.
	Ask      func(ctx context.Context, denied *record.Record) bool
	HTTP     *http1.Server
	HTTP2    *http2.Server // of connections whose clients chose it by ALPN
	Buffers  *sniff.Buffers
	Hellos   *share.Member // of the memory of first bytes
	Memory   *relay.Memory
	Pipes    *share.Member // of its pipes
	Upstream upstream.Allowance
	Now      func() time.Time
}

// DeniedSilence is how long a client may say nothing where no rule could let it out,
// whatever it says: it is listened to only so that it is answered in its own protocol. One
// that waits for its server to speak first is reset after it. See Silence for the ports
// on which none does.
const DeniedSilence = 250 * time.Millisecond

// Silence is how long a client may say nothing to a port, where anything that it says
// may be allowed, and where nothing is. On the ports of HTTP and HTTPS a client speaks
// first, and one that is slow, as a Java program is between its connect and its first
// TLS handshake, is to be answered in its protocol as well.
func Silence(possible bool, port uint16) time.Duration {
	if !possible && port != 80 && !policy.SpeaksTLS(port) {
		return DeniedSilence
	}
	return sniff.DefaultSilence
}

// Sniff reads what the client says first. What is decided then must be decided by the
// rules of that moment: the client may have taken its time.
func Sniff(ctx context.Context, c *gate.Conn, buffer *sniff.Buffer, limits sniff.Limits) (sniff.Result, []byte, error) {
	stop := context.AfterFunc(ctx, func() { gate.Reset(c.Down()) })
	defer stop()
	seen, prefix, err := sniff.Read(ctx, c.Down(), buffer, limits)
	if errors.Is(err, share.ErrWait) || errors.Is(err, share.ErrQueue) {
		gate.Reset(c.Down())
		err = &refusal.Error{Reason: refusal.Overflow, Text: "this workload has said half a thing on as many connections as it may", Err: err}
	}
	return seen, prefix, err
}

// Overflowed reports whether an error of Sniff says that the workload had no memory left
// for what the client says first.
func Overflowed(err error) bool {
	var why *refusal.Error
	return errors.As(err, &why) && why.Reason == refusal.Overflow
}

// HangUp ends a connection for a reason in a way that its client understands: an alert
// on TLS, a reset elsewhere.
func HangUp(c *gate.Conn, said policy.Sniffed, reason refusal.Reason) {
	if said != policy.ClientHello {
		gate.Reset(c.Down())
		return
	}
	sniff.Refuse(c.Down(), sniff.AlertCode(reason.Alert()))
}

// NoDescriptor is why a connection that an event loop had could not be carried on.
func NoDescriptor(err error) *refusal.Error {
	return &refusal.Error{Reason: refusal.Overflow, Text: "this proxy has no descriptor left for the connection", Err: err}
}

// Accept hands each connection of a listener to take, until the listener closes or ctx
// ends. A failed accept, such as for a lack of descriptors, is reported and tried again.
func Accept(ctx context.Context, listener *net.TCPListener, failed func(error), take func(*net.TCPConn)) {
	for {
		conn, err := listener.AcceptTCP()
		switch {
		case err == nil:
			take(conn)
			continue
		case errors.Is(err, net.ErrClosed):
			return
		}
		failed(err)
		select {
		case <-ctx.Done():
			return
		case <-time.After(50 * time.Millisecond):
		}
	}
}
