package carry

import (
	"errors"
	"net"
	"syscall"
	"testing"
	"time"

	"sluice.dev/sluice/internal/policy"
	"sluice.dev/sluice/internal/proxy/gate"
	"sluice.dev/sluice/internal/proxy/relay"
	"sluice.dev/sluice/internal/proxy/share"
	"sluice.dev/sluice/internal/proxy/snapshot"
	"sluice.dev/sluice/internal/record"
	"sluice.dev/sluice/internal/refusal"
)

// kit is a Kit whose records are kept in a ring, and a connection that a gate let in.
func kit(t *testing.T) (*Kit, *record.Ring, *gate.Gate, *gate.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	up, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	down, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { up.Close(); down.Close() })
	g := gate.New(gate.Config{Holder: snapshot.NewHolder(snapshot.HolderConfig{}), Share: share.NewStock(share.Config{Units: 1, Alone: true}).Join(0, nil)})
	c, _, why := g.Admit(t.Context(), down.(*net.TCPConn))
	if why != nil {
		t.Fatal(why)
	}
	ring := record.NewRing()
	return &Kit{Instance: func() string { return "client/1" }, Recorder: record.NewBook(ring), Now: time.Now}, ring, g, c
}

// Many connections that were used to the end are ended by a reset. They have not failed.
func TestNotEveryResetIsAFailure(t *testing.T) {
	reset := func(side relay.Side, op string) error {
		return &relay.SideError{Side: side, Op: op, Err: syscall.ECONNRESET}
	}
	for _, x := range []struct {
		what     string
		err      error
		received int64
		want     refusal.Reason // "": it has not failed
	}{
		{"a client that resets before anything came", reset(relay.Downstream, "read"), 0, refusal.ClientGone},
		{"a client that resets after an answer", reset(relay.Downstream, "read"), 9, ""},
		{"an answer's last bytes that the client does not want", reset(relay.Downstream, "write"), 9, ""},
		{"a server that resets before anything came", reset(relay.Upstream, "read"), 0, refusal.UpstreamReset},
		{"a server that resets amid its answer", reset(relay.Upstream, "read"), 9, refusal.UpstreamReset},
		{"a close_notify to a server that has closed", reset(relay.Upstream, "write"), 9, ""},
		{"nothing for an hour", relay.ErrIdle, 9, refusal.UpstreamTimeout},
		{"a client's socket that fails", errors.New("read first bytes"), 0, refusal.ClientGone},
	} {
		k, ring, _, c := kit(t)
		f := k.Open(c, time.Now(), About{Direction: record.Egress}, "v1")
		f.Decide(&policy.Verdict{Action: policy.Allow, Treatment: policy.Relay})
		f.Broke(x.err, x.received)
		f.Close()
		got := ring.Recent(1, record.Filter{})[0]
		want := record.Allowed
		if x.want != "" {
			want = record.Failed
		}
		if got.Verdict != want || got.Reason != x.want || got.Detail == "" {
			t.Errorf("%s: %s %s %q, want %s %s", x.what, got.Verdict, got.Reason, got.Detail, want, x.want)
		}
	}
}

// What the gate ended is reported by what the gate says, whatever it looked like from below.
func TestWhatTheGateEndedIsToldByTheGate(t *testing.T) {
	broken := errors.New("use of closed network connection")
	for _, x := range []struct {
		what    string
		end     func(*gate.Gate, *gate.Conn)
		fail    bool
		verdict record.Verdict
		reason  refusal.Reason
	}{
		{"withdrawn while it was dialled", withdraw, true, record.Denied, refusal.NoSnapshot},
		{"withdrawn while it was relayed", withdraw, false, record.Denied, refusal.NoSnapshot},
		{"the proxy stops while it is dialled", stop, true, record.Failed, refusal.Stopping},
		{"the proxy stops after it was relayed", stop, false, record.Allowed, ""},
		{"nobody ended it", func(*gate.Gate, *gate.Conn) {}, true, record.Failed, refusal.Internal},
	} {
		k, ring, g, c := kit(t)
		f := k.Open(c, time.Now(), About{}, "v1")
		f.Decide(&policy.Verdict{Action: policy.Allow, Treatment: policy.Relay})
		x.end(g, c)
		if x.fail {
			f.Fail(broken)
		}
		f.Close()
		if got := ring.Recent(1, record.Filter{})[0]; got.Verdict != x.verdict || got.Reason != x.reason {
			t.Errorf("%s: %s %s, want %s %s", x.what, got.Verdict, got.Reason, x.verdict, x.reason)
		}
	}
}

func stop(g *gate.Gate, _ *gate.Conn) { g.Close() }

func withdraw(g *gate.Gate, c *gate.Conn) {
	c.Hold(anything{}, g.Snapshot())
	g.Recheck(g.Snapshot()) // there is none yet: it denies everything
}

type anything struct{}

func (anything) Recheck(*snapshot.Snapshot) gate.Objection { return gate.Objection{} }
