package proxy

import (
	"context"
	"net/netip"
	"syscall"
	"time"

	"sluice.dev/sluice/internal/capture"
	"sluice.dev/sluice/internal/policy"
	"sluice.dev/sluice/internal/proxy/egress"
	"sluice.dev/sluice/internal/proxy/gate"
	"sluice.dev/sluice/internal/proxy/snapshot"
)

// ports of the web: what is denied there is answered in HTTP or TLS, for people read that.
// On others that speak TLS (policy.SpeaksTLS) a connect that is denied says so itself.
var webPorts = [...]uint16{80, 443}

func isWeb(port uint16) bool { return port == webPorts[0] || port == webPorts[1] }

// tellRules says to whoever performs the workload's connects which of them need no
// question by the rules of s.
func (w *Workload) tellRules(s *snapshot.Snapshot) {
	if w.config.Capture == nil || w.config.Capture.Questions == nil {
		return
	}
	var quiet []uint16
	for _, port := range webPorts {
		if !s.Policy.RelaysOn(policy.TCP, port) {
			quiet = append(quiet, port)
		}
	}
	w.config.Capture.Questions.Rules(quiet)
}

// foretell says what will become of a connect, by the rules that decide about the
// connection when it has come. What is denied whatever the client says has no connection,
// and its record at once.
func (w *Workload) foretell(asked capture.Connecting, say func(capture.Answer)) {
	to := asked.To
	unpin := func() {}
	name, synthetic := w.config.Names.Pin(to.Addr())
	if synthetic {
		unpin = func() { w.config.Names.Unpin(to.Addr()) }
	}
	now := w.config.Holder.Load()
	leads, within := w.leads(now, name, to)
	chain := leads.chain
	if within {
		unpin()
		say(capture.Answer{Always: true})
		return
	}
	at := now.Policy.AtConnect(chain.Transport, chain.Port, chain.Dialled, chain.Addr)
	denied := !at.Possible && !isWeb(chain.Port) && w.kit.Ask == nil // who is asked needs to know what is said
	if !denied && !at.ServerFirst || !w.begin() {
		unpin()
		say(capture.Answer{Always: true})
		return
	}
	go func() {
		defer w.work.Done()
		defer unpin()
		if denied {
			ctx, cancel := context.WithTimeout(w.ctx, capture.AnswerTimeout-time.Second)
			defer cancel()
			say(w.refuseConnect(ctx, chain, to))
			return
		}
		outcome := func(errno syscall.Errno) { say(capture.Answer{Errno: errno}) }
		if !w.egress.Ahead(w.ctx, w.gate, egress.Ends{From: asked.From, To: to}, chain, outcome) {
			say(capture.Answer{})
		}
	}()
}

// refuseConnect keeps the record of a connect that is denied, at the pace of the
// workload's denials, by the rules that are in force then. What nobody has read counts as
// anything but TLS and HTTP. One whose turn does not come while ctx lasts, and with it the
// wait of who asks, goes on, and is denied and has its record where it arrives.
func (w *Workload) refuseConnect(ctx context.Context, chain policy.Chain, to netip.AddrPort) capture.Answer {
	start := w.kit.Now()
	w.kit.Denials.Wait(ctx)
	if ctx.Err() != nil {
		return capture.Answer{}
	}
	s := w.config.Holder.Load()
	if s.Policy.AtConnect(chain.Transport, chain.Port, chain.Dialled, chain.Addr).Possible {
		return capture.Answer{}
	}
	chain.Sniffed = policy.Opaque
	about := w.aboutCaptured(to)
	about.Sniffed = chain.Sniffed
	verdict := gate.Decide(s, &chain)
	w.kit.Refused(start, about, s.Version, &verdict)
	return capture.Answer{Errno: syscall.ECONNREFUSED}
}
